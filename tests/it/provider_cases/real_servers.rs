//! The cases of `provider_cases` at a server that others wrote, which the environment names: `cargo xtask providers` starts
//! one and runs these, one at a time. Ignored otherwise.

use rag_emulator::Profile;

use crate::provider_cases::{Probe, RealServer, Site, a_killed_server_is_waited_for, every_case, table};

async fn site() -> Site {
    Site::real(&RealServer::from_environment()).await
}

every_case! { site(), #[ignore = "needs a server; cargo xtask providers"] }

#[tokio::test]
#[ignore = "needs a server; cargo xtask providers"]
async fn a_killed_server_comes_back_to_a_finished_build() {
    let server = RealServer::from_environment();
    let site = Site::real(&server).await;
    a_killed_server_is_waited_for(&site, async || server.kill().await).await;
    site.leave_nothing().await;
}

/// The same plain calls at the server and at the emulator's profile of it; what came of them goes into the document.
#[tokio::test]
#[ignore = "needs a server; cargo xtask providers"]
async fn the_emulators_profile_answers_as_the_server_does() {
    let real = RealServer::from_environment();
    let site = Site::real(&real).await;
    let seen = Probe::new(&real.url, &real.key).ask().await;
    site.server.clear().await;
    let openai = Site::emulated(Profile::Openai).await.probe().ask().await;
    if let Ok(folder) = std::env::var("RAG_REAL_SERVER_RESULTS") {
        std::fs::write(format!("{folder}/{}.md", real.name), table(&openai, &seen)).unwrap();
    }
    let played = Site::emulated(real.profile()).await.probe().ask().await;
    let mut differing = Vec::new();
    for ((what, seen), (_, played)) in seen.iter().zip(&played) {
        if seen != played {
            differing.push(format!("{what}: the server: {seen}; the emulator: {played}"));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}
