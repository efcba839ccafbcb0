//! Opening connections: what is refused, and how.

use rag_providers::{ConnectionConfig, Credentials, OpenError, Registry};
use serde_json::json;

fn config(provider_type: &str) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(provider_type, "api_key");
    config.credentials = Some(Credentials::api_key("sk-c4n4ry-0123456789"));
    config.base_url = Some("https://api.example.com/v1".to_owned());
    config
}

fn fields(config: &ConnectionConfig) -> Vec<String> {
    match Registry::builtin().validate(config) {
        Ok(()) => Vec::new(),
        Err(OpenError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_unknown_type_is_named() {
    let error = Registry::builtin().open(config("azure")).unwrap_err();
    assert!(
        matches!(&error, OpenError::UnknownProvider(name) if name == "azure"),
        "{error}"
    );
    assert_eq!(error.to_string(), "unknown provider type \"azure\"");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let mut wrong = config("sentralix");
    wrong.base_url = Some("http://example.com".to_owned());
    wrong.credentials = Some(Credentials::default().with("api_kye", "x"));
    assert_eq!(
        fields(&wrong),
        ["base_url", "credentials.api_key", "credentials.api_kye"]
    );
    wrong.auth_type = "oauth".to_owned();
    assert_eq!(fields(&wrong), ["base_url", "auth_type"]);
}

#[test]
fn each_adapter_knows_what_it_needs() {
    for provider_type in ["openai", "sentralix"] {
        assert_eq!(fields(&config(provider_type)), [""; 0], "{provider_type}");
        let without = ConnectionConfig {
            credentials: None,
            ..config(provider_type)
        };
        assert_eq!(fields(&without), ["credentials.api_key"], "{provider_type}");
        let unsendable = ConnectionConfig {
            credentials: Some(Credentials::api_key("a b\nc")),
            ..config(provider_type)
        };
        assert_eq!(fields(&unsendable), ["credentials.api_key"], "{provider_type}");
    }
    let anywhere = |provider_type| ConnectionConfig {
        base_url: None,
        ..config(provider_type)
    };
    assert_eq!(fields(&anywhere("openai")), [""; 0]);
    assert_eq!(fields(&anywhere("sentralix")), ["base_url"]);
}

#[test]
fn nothing_printable_holds_a_secret() {
    let provider = Registry::builtin().open(config("openai")).unwrap();
    let printed = format!("{:?} {provider:?}", config("openai"));
    assert!(!printed.contains("c4n4ry"), "{printed}");
}

#[test]
fn credentials_are_an_object_of_strings() {
    let read = |value| {
        Credentials::from_value(&value).map(|own| own.fields().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(
        read(json!({"api_key": "k", "project": null, "organization": " "})).unwrap(),
        ["api_key"]
    );
    assert_eq!(
        read(json!({"service_account_key": {"id": "x"}})).unwrap(),
        ["service_account_key"]
    );
    assert_eq!(
        read(json!({"api_key": 5})).unwrap_err().field,
        "credentials.api_key"
    );
    assert_eq!(read(json!("sk-1")).unwrap_err().field, "credentials");
}
