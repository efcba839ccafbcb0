//! The schema: what the check at a program's start tells, and that no migration is edited once landed.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rag_db::{MIGRATOR, SchemaError, check_schema, migrate};
use sha2::{Digest as _, Sha256};
use sqlx::MySqlPool;

/// Every migration with its SHA-256. A change to the schema adds a file and a line here.
const FROZEN: &[(&str, &str)] = &[
    (
        "shared/queue/migrations/20261201000000_queue.sql",
        "8b037d48ac13975e4ac4ebf9678b50575c0985e0bdaba1317c4037c542b01cae",
    ),
    (
        "migrations/20261201000001_domain.sql",
        "5382b3aefe756b0914a3e142da9f6299e59fd78e83e729e0ece28c6eeeccb49c",
    ),
    (
        "migrations/20261201000002_provider.sql",
        "2220629cc9b108a5e5efbb76687fec5fca021cc5ea86dcd0cdcbe22ca6a299dd",
    ),
    (
        "migrations/20261201000003_sync.sql",
        "ea7527a579bf65d3ac1f5013ef36422a676d4cbd9e01aebc3e8b8e7e99c1a2a5",
    ),
    (
        "migrations/20261201000004_api.sql",
        "7a639d8c2a4839c68bc7b6fcee13ea334df743ab60b8b7185204df053287add0",
    ),
    (
        "migrations/20261201000010_build_pages.sql",
        "673cb7283226c5e3abe730aedcf80f40a761e176092343db3f205bbd190e1b8c",
    ),
    (
        "migrations/20261201000116_compared_copies.sql",
        "ebdc00b2f36d830feba40ad10f4d7ee9ffc341863ce9c238c7b7c37e808a064a",
    ),
    (
        "shared/queue/migrations/20261201000020_queue_row_width.sql",
        "db53be3ed00489260010bd2d2a638bec31be770180f3a3ead086283e0c43a715",
    ),
];

const FOLDERS: [&str; 2] = ["shared/queue/migrations", "migrations"];

/// The migrations in the repository, by path, with their hashes.
fn on_disk() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut hashes = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            let contents = fs::read(entry.path()).unwrap();
            hashes.insert(path, hex::encode(Sha256::digest(contents)));
        }
    }
    hashes
}

#[test]
fn migrations_are_not_edited_once_landed() {
    let mut on_disk = on_disk();
    for (path, hash) in FROZEN {
        let Some(found) = on_disk.remove(*path) else {
            panic!("{path} is gone. Databases have it, and would be refused: restore the file");
        };
        assert_eq!(
            found, *hash,
            "{path} was edited. Databases have it as it was, and would be refused: restore the file, and put the change \
             into a new migration"
        );
    }
    assert!(
        on_disk.is_empty(),
        "migrations without a line in FROZEN; add one once they are ready to land: {on_disk:#?}"
    );
}

/// Two folders make one list, so a version could be there twice.
#[test]
fn programs_have_each_migration_once() {
    let mut on_disk: Vec<i64> = on_disk()
        .into_keys()
        .map(|path| {
            let name = path.rsplit('/').next().unwrap();
            name.split('_').next().unwrap().parse().unwrap()
        })
        .collect();
    on_disk.sort_unstable();
    let embedded: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
    assert_eq!(embedded, on_disk);
    on_disk.dedup();
    assert_eq!(embedded, on_disk, "two migrations have the same version");
}

#[sqlx::test(migrations = false)]
async fn the_schema_check_tells_what_is_wrong(pool: MySqlPool) {
    assert!(matches!(check_schema(&pool).await, Err(SchemaError::Empty)));
    let (one, two, three) = tokio::join!(migrate(&pool), migrate(&pool), migrate(&pool));
    assert!(
        one.is_ok() && two.is_ok() && three.is_ok(),
        "concurrent starts are safe"
    );
    check_schema(&pool).await.unwrap();
    sqlx::query(
        "UPDATE _sqlx_migrations SET version = version + 90000000000000 ORDER BY version DESC LIMIT 1",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert!(matches!(check_schema(&pool).await, Err(SchemaError::Ahead(_))));
    sqlx::query("DELETE FROM _sqlx_migrations")
        .execute(&pool)
        .await
        .unwrap();
    assert!(matches!(check_schema(&pool).await, Err(SchemaError::Behind(_))));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_database_of_before_the_first_release_is_told_from_a_newer_one(pool: MySqlPool) {
    sqlx::query("UPDATE _sqlx_migrations SET version = 20261121000001 ORDER BY version LIMIT 1")
        .execute(&pool)
        .await
        .unwrap();
    let refused = |result| matches!(result, Err(SchemaError::BeforeFirstRelease(20_261_121_000_001)));
    assert!(refused(check_schema(&pool).await));
    assert!(refused(migrate(&pool).await));
    // Nor if its last migration failed half-way.
    sqlx::query("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 20261121000001")
        .execute(&pool)
        .await
        .unwrap();
    assert!(refused(migrate(&pool).await));
    // One of ours that did is another matter.
    sqlx::query("UPDATE _sqlx_migrations SET version = 20261201000000 WHERE version = 20261121000001")
        .execute(&pool)
        .await
        .unwrap();
    assert!(matches!(migrate(&pool).await, Err(SchemaError::Migrate(_))));
}
