//! `/_emulator/…`: inspecting and changing the emulator. No authentication, no faults, not in the ledger
//! (except for replaced bytes). The same is there for code, as [`Control`].

use crate::{
    app::App,
    body::{BodyWriter, Written},
    context::Context,
    error::ApiError,
    faults::{Faults, Rule, RuleError, RuleState},
    ledger::{Entry, LedgerQuery},
    rate::{RateMeter, Rates},
    seed::{Seed, Seeded},
    state::{Snapshot, State as AppState},
    view,
};
use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures::StreamExt as _;
use serde_json::json;
use std::sync::Arc;

/// A handle on a running emulator; cheap to clone.
#[derive(Debug, Clone)]
pub struct Control(pub(crate) Arc<App>);

impl Control {
    /// Entries in the order of their effects.
    pub fn ledger(&self, query: &LedgerQuery) -> Vec<Entry> {
        self.0.state.lock().ledger.list(query)
    }

    /// Everything that exists at this moment.
    pub fn state(&self) -> Snapshot {
        self.0.state.lock().snapshot()
    }

    /// Adds a fault after those there are; answers its id.
    pub fn add_fault(&self, rule: Rule) -> Result<u64, RuleError> {
        self.0.faults.lock().add(rule)
    }

    pub fn faults(&self) -> Vec<RuleState> {
        self.0.faults.lock().list()
    }

    pub fn clear_faults(&self) {
        self.0.faults.lock().clear();
    }

    /// Lets go on what `hold` and `hold_indexing` keep waiting at this gate.
    pub fn open_gate(&self, gate: &str) {
        self.0.faults.lock().open(gate);
    }

    pub fn rates(&self) -> Rates {
        self.0.rate.lock().rates()
    }

    /// Forgets objects, ledger, faults, rates and tokens.
    pub fn reset(&self) {
        // Dropped after the lock: with it go indexing tasks and files on disk.
        let new = AppState::new(self.0.deviations);
        let old: AppState = std::mem::replace(&mut *self.0.state.lock(), new);
        drop(old);
        *self.0.faults.lock() = Faults::default();
        *self.0.rate.lock() = RateMeter::default();
        self.revoke_tokens();
    }

    /// Makes every token issued so far invalid.
    pub fn revoke_tokens(&self) {
        if let Some(iam) = &self.0.iam {
            iam.revoke();
        }
    }
}

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/_emulator/ledger", get(ledger))
        .route("/_emulator/state", get(state))
        .route(
            "/_emulator/faults",
            get(faults).post(add_fault).delete(clear_faults),
        )
        .route("/_emulator/gates/{gate}/open", post(open_gate))
        .route("/_emulator/rate", get(rate))
        .route("/_emulator/reset", post(reset))
        .route("/_emulator/seed", post(seed))
        .route("/_emulator/iam/revoke", post(revoke))
        .route(
            "/_emulator/files/{file_id}/content",
            put(replace_content).layer(DefaultBodyLimit::disable()),
        )
}

async fn ledger(State(app): State<Arc<App>>, Query(query): Query<LedgerQuery>) -> Json<Vec<Entry>> {
    Json(Control(app).ledger(&query))
}

async fn state(State(app): State<Arc<App>>) -> Json<Snapshot> {
    Json(Control(app).state())
}

async fn faults(State(app): State<Arc<App>>) -> Json<Vec<RuleState>> {
    Json(Control(app).faults())
}

/// Takes one rule or a list of rules; a mistake in one refuses it and those after it.
async fn add_fault(State(app): State<Arc<App>>, body: String) -> Response {
    let parsed = if body.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Rule>>(&body)
    } else {
        serde_json::from_str::<Rule>(&body).map(|rule| vec![rule])
    };
    let refuse = |error: String| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    let rules = match parsed {
        Ok(rules) => rules,
        Err(error) => return refuse(error.to_string()),
    };
    let control = Control(app);
    let ids: Result<Vec<u64>, _> = rules.into_iter().map(|rule| control.add_fault(rule)).collect();
    match ids {
        Ok(ids) => (StatusCode::CREATED, Json(json!({ "ids": ids }))).into_response(),
        Err(error) => refuse(error.to_string()),
    }
}

async fn clear_faults(State(app): State<Arc<App>>) -> StatusCode {
    Control(app).clear_faults();
    StatusCode::NO_CONTENT
}

async fn open_gate(State(app): State<Arc<App>>, Path(gate): Path<String>) -> StatusCode {
    Control(app).open_gate(&gate);
    StatusCode::NO_CONTENT
}

async fn rate(State(app): State<Arc<App>>) -> Json<Rates> {
    Json(Control(app).rates())
}

async fn reset(State(app): State<Arc<App>>) -> StatusCode {
    Control(app).reset();
    StatusCode::NO_CONTENT
}

async fn seed(State(app): State<Arc<App>>, Json(seed): Json<Seed>) -> Json<Seeded> {
    Json(Control(app).seed(seed))
}

async fn revoke(State(app): State<Arc<App>>) -> StatusCode {
    Control(app).revoke_tokens();
    StatusCode::NO_CONTENT
}

async fn replace_content(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Response {
    let replaced = write(&app, body).await.and_then(|written| {
        let mut context = Context::new("files.replace");
        context.external = true;
        app.state.lock().replace_file(&context, &id, written)
    });
    match replaced {
        Ok(file) => Json(view::file(&file, &app.options)).into_response(),
        Err(error) => error.render(false, ""),
    }
}

async fn write(app: &App, body: Body) -> Result<Written, ApiError> {
    let mut writer = BodyWriter::new(app.directory());
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        writer
            .write(&piece.map_err(ApiError::internal)?)
            .await
            .map_err(ApiError::internal)?;
    }
    writer.finish().await.map_err(ApiError::internal)
}
