//! Calls that fail, by every adapter.

use rag_emulator::{Action, Loss, Profile, RetryAfter, Rule, When};
use rag_providers::{Disposition, Effect, ErrorKind, NewVectorStore, ProviderExt};

use super::{Fixture, connect};

pub(super) async fn a_lost_answer_is_an_unknown_effect(profile: Profile) {
    let f = Fixture::start(profile).await;
    for (how, kind) in [
        (Loss::Reset, ErrorKind::Unavailable),
        (Loss::Close, ErrorKind::Unavailable),
        (Loss::Hang, ErrorKind::Timeout),
    ] {
        f.emulator.control().reset();
        f.fault("vector_stores.create", Action::LoseAnswer { how });
        let error = f
            .provider
            .create_vector_store(NewVectorStore::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (kind, Effect::Unknown),
            "{how:?}: {error}"
        );
        assert_eq!(
            f.provider.all_vector_stores().await.unwrap().len(),
            1,
            "it can be adopted"
        );
    }
}

pub(super) async fn faults_of_a_listing_never_shorten_it(profile: Profile) {
    let f = Fixture::start(profile).await;
    let store_id = f.store().await;
    f.upload("a.txt", "text").await;
    for (then, kind) in [
        (Action::EmptyPage { has_more: true }, ErrorKind::Protocol),
        (Action::RepeatCursor, ErrorKind::Protocol),
        (Action::TruncateJson, ErrorKind::Protocol),
        (Action::ResetMidBody, ErrorKind::Unavailable),
        (Action::Html { status: 200 }, ErrorKind::Protocol),
        (Action::Html { status: 404 }, ErrorKind::Protocol),
        (Action::Quota, ErrorKind::QuotaExceeded),
        (
            Action::RateLimit {
                retry_after: Some(RetryAfter::HttpDate(60)),
            },
            ErrorKind::RateLimited,
        ),
        (
            Action::Grpc {
                status: 503,
                message: "away".to_owned(),
            },
            ErrorKind::Unavailable,
        ),
    ] {
        f.emulator.control().clear_faults();
        f.fault("vector_stores.list", then.clone());
        let error = f.provider.all_vector_stores().await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (kind, Effect::None),
            "{then:?}: {error}"
        );
    }
    f.emulator.control().clear_faults();
    assert_eq!(f.provider.all_vector_stores().await.unwrap()[0].id, store_id);
}

pub(super) async fn passing_faults_of_safe_calls_pass_unnoticed(profile: Profile) {
    let f = Fixture::start(profile).await;
    let store_id = f.store().await;
    for then in [
        Action::RateLimit {
            retry_after: Some(RetryAfter::Milliseconds(20)),
        },
        Action::LoseAnswer { how: Loss::Reset },
        Action::TruncateJson,
        Action::CloseAfterAnswer,
    ] {
        f.emulator.control().clear_faults();
        let when = When {
            operation: Some("vector_stores.retrieve".to_owned()),
            times: Some(1),
            ..When::default()
        };
        f.emulator.control().add_fault(Rule { when, then }).unwrap();
        assert_eq!(f.provider.get_vector_store(&store_id).await.unwrap().id, store_id);
    }
}

pub(super) async fn a_wrong_key_is_for_the_operator(profile: Profile) {
    let f = Fixture::start(profile).await;
    f.provider.health().await.unwrap();
    let error = connect(&f.emulator, profile, "sk-wrong-c4n4ry-key")
        .health()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.disposition()),
        (ErrorKind::Unauthorized, Disposition::WaitForOperator)
    );
    assert!(!format!("{error} {error:?}").contains("c4n4ry"));
}
