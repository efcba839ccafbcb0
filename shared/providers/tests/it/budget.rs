//! The hook through which a fleet holds itself back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rag_providers::{
    BudgetRefused, Disposition, Effect, ErrorKind, NewVectorStore, Operation, Permit, Provider,
    ProviderError, Registry, RequestBudget,
};
use serde_json::json;

use crate::server::{Server, json, status};

#[derive(Default)]
struct Budget {
    left: Mutex<usize>,
    reported: Mutex<Vec<(Operation, Option<Duration>)>>,
    /// How calls ended that say something of the connection; `None`: well.
    ended: Mutex<Vec<Option<ErrorKind>>>,
}

#[async_trait]
impl RequestBudget for Budget {
    async fn acquire(&self, _operation: Operation) -> Result<Permit, BudgetRefused> {
        let mut left = self.left.lock().unwrap();
        *left = left
            .checked_sub(1)
            .ok_or(BudgetRefused::rate(Duration::from_secs(20)))?;
        Ok(Permit::free())
    }

    async fn rate_limited(&self, operation: Operation, retry_after: Option<Duration>) -> Option<Duration> {
        self.reported.lock().unwrap().push((operation, retry_after));
        retry_after.or(Some(Duration::from_secs(11)))
    }

    async fn refused(&self, error: &ProviderError) {
        self.ended.lock().unwrap().push(Some(error.kind));
    }

    async fn accepted(&self, _: Operation) {
        self.ended.lock().unwrap().push(None);
    }
}

fn with_budget(server: &Server, requests: usize) -> (Arc<dyn Provider>, Arc<Budget>) {
    let budget = Arc::new(Budget {
        left: Mutex::new(requests),
        ..Budget::default()
    });
    let mut config = server.config("openai");
    config.budget = Some(Arc::clone(&budget) as Arc<dyn RequestBudget>);
    (Registry::builtin().open(config).unwrap(), budget)
}

#[tokio::test]
async fn a_used_up_budget_sends_nothing() {
    let server = Server::start([]).await;
    let (provider, budget) = with_budget(&server, 0);
    let error = provider
        .create_vector_store(NewVectorStore::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::RateLimited, Effect::None));
    assert_eq!(
        error.disposition(),
        Disposition::Retry {
            after: Some(Duration::from_secs(20))
        }
    );
    assert!(server.requests().is_empty());
    assert!(
        budget.reported.lock().unwrap().is_empty(),
        "the provider has not complained"
    );
}

#[tokio::test]
async fn every_try_counts_and_every_complaint_is_passed_on() {
    let limited = status(429, &json!({"error": {"message": "slow down"}})).header("retry-after", "0.1");
    let done = json(&json!({"object": "list", "data": [], "has_more": false}));
    let server = Server::start([limited, done]).await;
    let (provider, budget) = with_budget(&server, 5);
    provider.health().await.unwrap();
    assert_eq!(*budget.left.lock().unwrap(), 3);
    assert_eq!(
        *budget.reported.lock().unwrap(),
        [(Operation::Health, Some(Duration::from_millis(100)))]
    );
}

#[tokio::test]
async fn who_is_not_let_in_is_reported_and_so_is_who_is() {
    let list = json(&json!({"object": "list", "data": [], "has_more": false}));
    let quota = json!({"error": {"message": "pay", "code": "insufficient_quota"}});
    let server = Server::start([
        status(401, &json!({})),
        status(404, &json!({})),
        status(429, &quota),
        list,
    ])
    .await;
    let (provider, budget) = with_budget(&server, 10);
    provider.health().await.unwrap_err();
    provider.get_file("file-1").await.unwrap_err();
    provider.health().await.unwrap_err();
    provider.health().await.unwrap();
    assert_eq!(
        *budget.ended.lock().unwrap(),
        [
            Some(ErrorKind::Unauthorized),
            Some(ErrorKind::QuotaExceeded),
            None
        ]
    );
}

#[tokio::test]
async fn a_rate_limit_without_a_hint_lasts_as_long_as_the_fleet_backs_off() {
    let limited = status(429, &json!({"error": {"message": "slow down"}}));
    let server = Server::start([limited]).await;
    let (provider, _) = with_budget(&server, 5);
    let error = provider
        .create_vector_store(NewVectorStore::default())
        .await
        .unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(11)));
}
