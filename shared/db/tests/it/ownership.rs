//! The ownership ledger.

use rag_db::ownership::{self, Kind};
use sqlx::MySqlPool;

use crate::fixtures::{OPENAI, declare};

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_ledger_tells_what_we_created(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let upload = declare(&mut db, "one").await;
    ownership::confirm(&mut db, OPENAI, Kind::File, upload.id, "file-1")
        .await
        .unwrap();
    // A second file of the same intent has a row of its own.
    ownership::confirm(&mut db, OPENAI, Kind::File, upload.id, "file-2")
        .await
        .unwrap();
    ownership::confirm(&mut db, OPENAI, Kind::File, upload.id, "file-2")
        .await
        .unwrap();
    let mut made = ownership::list_made(&mut db, OPENAI, Kind::File, &["file-1", "file-2", "file-3"])
        .await
        .unwrap();
    made.sort();
    assert_eq!(made, ["file-1", "file-2"]);
    let elsewhere = ownership::list_made(&mut db, "yandex", Kind::File, &["file-1"])
        .await
        .unwrap();
    assert!(elsewhere.is_empty());
    let age = ownership::find_age_seconds(&mut db, OPENAI, Kind::File, "file-1")
        .await
        .unwrap();
    assert!(age.unwrap() < 60, "{age:?}");

    ownership::mark_deleted(&mut db, OPENAI, Kind::File, "file-1")
        .await
        .unwrap();
    ownership::mark_deleted(&mut db, OPENAI, Kind::File, "never-made")
        .await
        .unwrap();
    for gone in ["file-1", "never-made"] {
        assert!(
            ownership::is_deleted(&mut db, OPENAI, Kind::File, gone)
                .await
                .unwrap()
        );
    }
    assert!(
        !ownership::is_deleted(&mut db, OPENAI, Kind::File, "file-2")
            .await
            .unwrap()
    );
    assert_eq!(
        ownership::find_age_seconds(&mut db, OPENAI, Kind::File, "file-1")
            .await
            .unwrap(),
        None
    );
    assert_eq!(ownership::prune(&mut db, 7, 9).await.unwrap(), 0, "not yet");
    sqlx::query("UPDATE rag_provider_ownership SET deleted_at = deleted_at - INTERVAL 8 DAY")
        .execute(&mut *db)
        .await
        .unwrap();
    assert_eq!(ownership::prune(&mut db, 7, 9).await.unwrap(), 2);

    let unconfirmed = declare(&mut db, "two").await;
    ownership::insert_unconfirmed(&mut db, &unconfirmed)
        .await
        .unwrap();
    let listed = ownership::list_unconfirmed(&mut db, OPENAI, 9).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].file_name.as_str(), listed[0].size_bytes), ("a.md", 3));
    // Its copy is found.
    ownership::confirm(&mut db, OPENAI, Kind::File, unconfirmed.id, "file-9")
        .await
        .unwrap();
    assert!(
        ownership::list_unconfirmed(&mut db, OPENAI, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        !ownership::delete_unconfirmed(&mut db, unconfirmed.id)
            .await
            .unwrap()
    );

    let tag = upload.id.to_string();
    assert!(
        !ownership::is_our_tag(&mut db, OPENAI, &tag).await.unwrap(),
        "of a file"
    );
    let store = rag_domain::IntentId::new();
    ownership::insert_store(&mut db, OPENAI, store).await.unwrap();
    assert!(
        ownership::is_our_tag(&mut db, OPENAI, &store.to_string())
            .await
            .unwrap()
    );
    assert!(
        !ownership::is_our_tag(&mut db, "yandex", &store.to_string())
            .await
            .unwrap()
    );
}
