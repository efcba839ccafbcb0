//! Tokens of Yandex against the emulator, which checks the claim's signature, claims and times.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rag_emulator::{Effect as Happened, Emulator, LedgerQuery, Options, Profile};
use rag_providers::{
    ConnectionConfig, Credentials, Effect, ErrorKind, HookError, Operation, Provider, Registry, StoredToken,
    TokenStore,
};
use secrecy::SecretString;
use serde_json::{Value, json};

const SERVICE_ACCOUNT_KEY: &str = include_str!("service-account-key.json");

/// What the database is to the real store.
#[derive(Default)]
struct Shared {
    token: Mutex<Option<StoredToken>>,
    leased: Mutex<bool>,
    broken: bool,
}

#[async_trait]
impl TokenStore for Shared {
    async fn load(&self) -> Result<Option<StoredToken>, HookError> {
        self.answer(self.token.lock().unwrap().clone())
    }

    async fn save(&self, token: &StoredToken) -> Result<(), HookError> {
        *self.leased.lock().unwrap() = false;
        // As it goes through the database.
        let token = StoredToken::from_value(&token.to_value()).unwrap();
        *self.token.lock().unwrap() = Some(token);
        self.answer(())
    }

    async fn lease(&self, _ttl: Duration) -> Result<bool, HookError> {
        let free = !std::mem::replace(&mut *self.leased.lock().unwrap(), true);
        self.answer(free)
    }
}

impl Shared {
    fn answer<T>(&self, value: T) -> Result<T, HookError> {
        if self.broken {
            Err(HookError("the database is away".to_owned()))
        } else {
            Ok(value)
        }
    }
}

async fn emulator() -> Emulator {
    rag_canary::watch_logs();
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/service-account-key.pub.pem");
    let options = Options {
        profile: Profile::Yandex,
        iam_public_key: Some(key),
        iam_key_id: Some("ajeb4canarykeyid0000".to_owned()),
        iam_service_account_id: Some("ajeg3serviceaccount0".to_owned()),
        ..Options::default()
    };
    Emulator::builder().options(options).start().await.unwrap()
}

fn connection(emulator: &Emulator, tokens: Option<Arc<Shared>>) -> Arc<dyn Provider> {
    let mut config = ConnectionConfig::new("yandex", "service_account");
    config.base_url = Some(emulator.url());
    config.token_url = Some(format!("{}/iam/v1/tokens", emulator.origin()));
    config.network.allow_http_loopback = true;
    config.credentials = Some(Credentials::default().with("service_account_key", SERVICE_ACCOUNT_KEY));
    config.tokens = tokens.map(|tokens| tokens as Arc<dyn TokenStore>);
    Registry::builtin().open(config).unwrap()
}

fn tokens_issued(emulator: &Emulator) -> usize {
    let entries = emulator.control().ledger(&LedgerQuery::default());
    entries
        .iter()
        .filter(|entry| entry.effect == Happened::TokenIssued)
        .count()
}

async fn twenty_calls(providers: &[Arc<dyn Provider>]) {
    let calls = (0..20).map(|number| providers[number % providers.len()].health());
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn one_token_serves_all_calls_of_a_process() {
    let emulator = emulator().await;
    twenty_calls(&[connection(&emulator, None)]).await;
    assert_eq!(tokens_issued(&emulator), 1);
}

#[tokio::test]
async fn one_token_serves_all_processes() {
    let emulator = emulator().await;
    let shared = Arc::new(Shared::default());
    let processes = [0; 3].map(|_| connection(&emulator, Some(Arc::clone(&shared))));
    twenty_calls(&processes).await;
    assert_eq!(tokens_issued(&emulator), 1);
}

#[tokio::test]
async fn a_store_that_fails_is_done_without() {
    let emulator = emulator().await;
    let broken = Arc::new(Shared {
        broken: true,
        ..Shared::default()
    });
    twenty_calls(&[connection(&emulator, Some(broken))]).await;
    assert_eq!(tokens_issued(&emulator), 1);
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_not_taken_from_the_store_again() {
    let emulator = emulator().await;
    let shared = Arc::new(Shared::default());
    connection(&emulator, Some(Arc::clone(&shared)))
        .health()
        .await
        .unwrap();
    if let Some(token) = shared.token.lock().unwrap().as_mut() {
        token.issued_at -= chrono::Duration::minutes(30);
    }
    emulator.control().revoke_tokens();
    let provider = connection(&emulator, Some(Arc::clone(&shared)));
    // Not even a write is lost: a refused one had no effect.
    provider
        .create_vector_store(rag_providers::NewVectorStore::default())
        .await
        .unwrap();
    assert_eq!(tokens_issued(&emulator), 2);
    assert_eq!(emulator.control().state().stores.len(), 1);
}

#[tokio::test]
async fn a_token_that_is_due_is_refreshed_while_it_still_serves() {
    let emulator = emulator().await;
    let shared = Arc::new(Shared::default());
    connection(&emulator, Some(Arc::clone(&shared)))
        .health()
        .await
        .unwrap();
    if let Some(token) = shared.token.lock().unwrap().as_mut() {
        token.issued_at -= chrono::Duration::hours(2);
    }
    // Another process is at it: the old token serves.
    *shared.leased.lock().unwrap() = true;
    let provider = connection(&emulator, Some(Arc::clone(&shared)));
    provider.health().await.unwrap();
    assert_eq!(tokens_issued(&emulator), 1);
    // That process died: this one refreshes.
    *shared.leased.lock().unwrap() = false;
    provider.health().await.unwrap();
    provider.health().await.unwrap();
    assert_eq!(tokens_issued(&emulator), 2);
}

#[tokio::test]
async fn an_ended_token_is_waited_for_if_another_process_is_getting_one() {
    let emulator = emulator().await;
    let shared = Arc::new(Shared::default());
    connection(&emulator, Some(Arc::clone(&shared)))
        .health()
        .await
        .unwrap();
    let good = shared.token.lock().unwrap().replace(StoredToken {
        token: SecretString::from("t1.ended"),
        issued_at: chrono::Utc::now() - chrono::Duration::hours(12),
        expires_at: chrono::Utc::now(),
    });
    *shared.leased.lock().unwrap() = true;
    let provider = connection(&emulator, Some(Arc::clone(&shared)));
    let (result, ()) = tokio::join!(provider.health(), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        shared.save(&good.unwrap()).await.unwrap();
    });
    result.unwrap();
    assert_eq!(tokens_issued(&emulator), 1);
}

#[tokio::test]
async fn a_key_that_iam_does_not_know_is_unauthorized() {
    let emulator = emulator().await;
    let mut wrong: Value = serde_json::from_str(SERVICE_ACCOUNT_KEY).unwrap();
    wrong["id"] = json!("ajeunknownkeyid00000");
    let mut config = ConnectionConfig::new("yandex", "service_account");
    config.base_url = Some(emulator.url());
    config.token_url = Some(format!("{}/iam/v1/tokens", emulator.origin()));
    config.network.allow_http_loopback = true;
    config.credentials = Some(Credentials::from_value(&json!({"service_account_key": wrong})).unwrap());
    let provider = Registry::builtin().open(config).unwrap();
    let error = provider
        .create_vector_store(rag_providers::NewVectorStore::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.operation),
        (ErrorKind::Unauthorized, Operation::Authenticate),
        "{error}"
    );
    assert_eq!(error.effect, Effect::None);
}

#[test]
fn a_connection_names_what_its_key_lacks() {
    let mut config = ConnectionConfig::new("yandex", "service_account");
    config.credentials = Some(Credentials::default().with("service_account_key", "c4n4ry"));
    config.token_url = Some("http://169.254.169.254/".to_owned());
    let error = Registry::builtin().validate(&config).unwrap_err().to_string();
    assert!(
        error.contains("credentials.service_account_key") && error.contains("token_url"),
        "{error}"
    );
    assert!(!error.contains("c4n4ry"), "{error}");
}
