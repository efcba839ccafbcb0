//! What must hold when it is quiet.

use std::collections::{BTreeMap, BTreeSet};

use rag_emulator::Effect;
use rag_tests::Stack;

use super::strangers::Strangers;
use super::world::World;
use crate::fixtures::ledger::effects;

/// Each of our stores holds the present version of each linked file once, and nothing else.
pub(super) async fn stores_are_exact(stack: &Stack, world: &World) {
    let state = stack.control().state();
    let sums: BTreeMap<String, String> = state
        .files
        .iter()
        .map(|file| (file.id.to_string(), file.sha256.to_string()))
        .collect();
    for tenant in &world.tenants {
        for (index, links) in &tenant.indexes {
            let row = tenant.client.index(index).await;
            let store = row["external_id"].as_str().expect("a store");
            let store = state
                .stores
                .iter()
                .find(|found| &*found.id == store)
                .expect("its store");
            let mut held: Vec<String> = Vec::new();
            for file in &store.files {
                assert_eq!(file.status, "completed", "{file:?}");
                held.push(sums[&file.file_id.to_string()].clone());
            }
            let mut wanted: Vec<String> = Vec::new();
            for file in links {
                let row = tenant.client.get(&format!("/files/{file}")).await.expect(200);
                wanted.push(row["sha256"].as_str().expect("a sum").to_owned());
            }
            held.sort();
            wanted.sort();
            assert_eq!(held, wanted, "store of index {index} of {}", tenant.name);
        }
    }
}

/// The copies that our rows name are there with their bytes, one for each file. Answers how many of our uploads left a copy
/// that no row names; there is one for a lost answer at most.
pub(super) async fn copies_are_exact(stack: &Stack, world: &World) -> usize {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT COALESCE(files_api_id, external_file_id), content_sha256 FROM rag_provider_file_uploads \
         WHERE status = 'uploaded'",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    let state = stack.control().state();
    let files: BTreeMap<String, String> = state
        .files
        .iter()
        .map(|file| (file.id.to_string(), file.sha256.to_string()))
        .collect();
    let mut named = BTreeSet::new();
    for (id, sha256) in rows {
        assert_eq!(files.get(&id), Some(&sha256), "the bytes of {id}");
        assert!(named.insert(id.clone()), "{id} serves two files");
    }
    // The copy of before a change whose upload was given up belongs to its file still: the next upload replaces it.
    let older: Vec<String> = sqlx::query_scalar(
        "SELECT COALESCE(files_api_id, external_file_id) FROM rag_provider_file_uploads \
         WHERE status IN ('pending', 'failed') AND external_file_id IS NOT NULL",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    named.extend(older);
    let ours = effects(stack, Effect::FileCreated)
        .into_iter()
        .filter(|entry| !entry.external);
    let ours = ours.map(|entry| entry.file_id.unwrap().to_string());
    let spare = ours
        .filter(|id| files.contains_key(id) && !named.contains(id))
        .count();
    let lost: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_provider_ownership WHERE kind = 'file' AND external_id IS NULL",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert!(
        spare <= usize::try_from(lost).unwrap(),
        "{spare} spare copies, {lost} lost answers"
    );
    let stores = world
        .tenants
        .iter()
        .map(|tenant| tenant.indexes.len())
        .sum::<usize>();
    let made = effects(stack, Effect::StoreCreated)
        .into_iter()
        .filter(|entry| !entry.external);
    let made: BTreeSet<String> = made
        .map(|entry| entry.vector_store_id.unwrap().to_string())
        .collect();
    let left = state
        .stores
        .iter()
        .filter(|store| made.contains(&*store.id))
        .count();
    assert_eq!(left, stores, "a store for each index, and no other of ours");
    spare
}

/// Every file and store of strangers is as they left it, and none of their files was ever put anywhere by us.
pub(super) fn nobody_was_touched(stack: &Stack, strangers: &Strangers) {
    let theirs = Strangers::belongings(stack);
    let state = stack.control().state();
    let files: BTreeMap<String, String> = state
        .files
        .iter()
        .map(|file| (file.id.to_string(), file.sha256.to_string()))
        .collect();
    assert!(theirs.files.len() >= 1000, "{}", theirs.files.len());
    for (id, sha256) in &theirs.files {
        assert_eq!(files.get(id), Some(sha256), "a stranger's file {id}");
    }
    let store = state
        .stores
        .iter()
        .find(|store| &*store.id == strangers.store())
        .expect("their store");
    let held: BTreeSet<String> = store.files.iter().map(|file| file.file_id.to_string()).collect();
    assert_eq!(held, theirs.attached, "the strangers' store");
    for effect in [
        Effect::FileDeleted,
        Effect::Attached,
        Effect::Detached,
        Effect::BatchCreated,
    ] {
        for entry in effects(stack, effect) {
            let about = entry
                .file_id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(entry.external || !theirs.files.contains_key(&about), "{entry:?}");
        }
    }
}

/// How often we uploaded anything.
pub(super) fn uploads(stack: &Stack) -> usize {
    effects(stack, Effect::FileCreated)
        .iter()
        .filter(|entry| !entry.external)
        .count()
}
