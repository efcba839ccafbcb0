//! A vector-store provider that speaks OpenAI's Files and Vector Stores protocol over real HTTP, indexes texts for real,
//! keeps a ledger of everything that took effect, and injects faults. It is the provider of the project's tests and of
//! its demo. `README.md` beside this crate tells how to drive it from outside; from code:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let emulator = rag_emulator::Emulator::builder().indexing(5, 0.0).start().await?;
//! println!("{}", emulator.url()); // http://127.0.0.1:40123/v1
//! let stores = emulator.control().state().stores;
//! # Ok(()) }
//! ```
//!
//! Objects live in memory, bodies of files in a temporary directory that goes with the emulator. It deliberately has no
//! embeddings, no parser for office formats or PDF, no projects and no users.

mod app;
mod auth;
mod body;
mod chunking;
mod collection;
mod context;

mod control;
mod deviations;
mod dialect;
mod error;
mod extract;
mod fault_layer;
mod faults;
mod filters;
mod http;
mod iam;
mod ids;
mod indexing;
mod ledger;
mod options;
mod rate;
mod routes;
mod search;
mod seed;
mod server;
mod state;
mod unread;
mod view;
mod yandex;

pub use chunking::ChunkSizes;
pub use control::Control;
pub use deviations::Deviations;
pub use faults::{Action, Loss, RetryAfter, Rule, RuleError, RuleState, When};
pub use ids::Id;
pub use ledger::{Effect, Entry, LedgerQuery};
pub use options::{Options, Profile};
pub use rate::{Rate, Rates};
pub use seed::{Seed, Seeded};
pub use state::{FileSnapshot, Snapshot, StoreFileSnapshot, StoreSnapshot};

use anyhow::Context as _;
use app::App;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpListener;

/// A running emulator; stops when dropped.
#[derive(Debug)]
pub struct Emulator {
    app: Arc<App>,
    address: SocketAddr,
}

/// Settings of an emulator to be started; [`Emulator::builder`].
#[derive(Debug)]
pub struct Builder {
    options: Options,
    listen: SocketAddr,
}

impl Emulator {
    /// Any free port of 127.0.0.1, default options.
    pub fn builder() -> Builder {
        Builder {
            options: Options::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    /// The base URL clients need: `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where the control API and the token endpoint are served: `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn control(&self) -> Control {
        Control(self.app.clone())
    }

    /// Drops connections and indexing work, waits until they are gone, removes the temporary directory.
    pub async fn stop(self) {
        self.app.stop.cancel();
        self.app.tasks.close();
        self.app.tasks.wait().await;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.app.stop.cancel();
    }
}

impl Builder {
    /// Port 0 takes any free one.
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> Self {
        Self {
            listen: address,
            ..self
        }
    }

    /// Replaces all options.
    #[must_use]
    pub fn options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.options.profile = profile;
        self
    }

    /// The only key that is let in.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.options.api_key = Some(key.into());
        self
    }

    /// Milliseconds of indexing per file, and per KiB of it.
    #[must_use]
    pub fn indexing(mut self, ms_base: u64, ms_per_kb: f64) -> Self {
        self.options.indexing_ms_base = ms_base;
        self.options.indexing_ms_per_kb = ms_per_kb;
        self
    }

    /// Takes longer over texts that say so: `slow embedding N` adds N milliseconds.
    #[must_use]
    pub fn embedding_delays(mut self) -> Self {
        self.options.embedding_delays = true;
        self
    }

    /// In the profile of Yandex, stores call files otherwise than the Files API does.
    #[must_use]
    pub fn store_file_ids(mut self) -> Self {
        self.options.yandex_store_file_ids = true;
        self
    }

    /// Changes further options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Writes reads into the ledger too.
    #[must_use]
    pub fn ledger_reads(mut self) -> Self {
        self.options.ledger_reads = true;
        self
    }

    /// Gives out the bytes of files with purpose `assistants` too.
    #[must_use]
    pub fn allow_content(mut self) -> Self {
        self.options.allow_content = true;
        self
    }

    /// Starts serving in the current Tokio runtime; fails if the address is taken or a file can't be read.
    pub async fn start(self) -> anyhow::Result<Emulator> {
        let app = Arc::new(App::new(self.options)?);
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("listening on {}", self.listen))?;
        let address = listener.local_addr()?;
        let router = http::router(app.clone());
        app.tasks.spawn(server::serve(
            listener,
            router,
            app.stop.clone(),
            app.tasks.clone(),
        ));
        Ok(Emulator { app, address })
    }
}
