//! The cases of `provider_cases` at a server that others wrote, which the environment names: `cargo xtask providers` starts
//! one and runs these, one at a time. Ignored otherwise.

use crate::provider_cases::{RealServer, Site, a_killed_server_is_waited_for, every_case};

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
