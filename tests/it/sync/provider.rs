//! Syncs of a provider: what others did at the provider behind our back.

use std::time::Duration;

use rag_emulator::{Action, Effect, Emulator, Profile, Rule, When};
use rag_tests::{Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use crate::build::basic::{fixed, index_with, prose};
use crate::fixtures::external_changes::Other;
use crate::sync::index::built;

const LIMIT: Duration = Duration::from_mins(1);

fn generous() -> rag_emulator::Builder {
    Emulator::builder().indexing(5, 0.0).allow_content()
}

async fn ask(stack: &Stack, query: &str) -> Value {
    let path = format!("/admin/providers/openai/sync?{query}");
    let request = stack
        .admin
        .request(Method::POST, &path)
        .header("Prefer", "wait=25");
    let job = stack.admin.send(request.json(&json!({}))).await.expect(200);
    assert_eq!(job["state"], "done", "{job}");
    job
}

/// Syncs; answers the result.
pub(crate) async fn sync(stack: &Stack, query: &str) -> Value {
    ask(stack, query).await["output"].clone()
}

const COUNTERS: [&str; 9] = [
    "indexes_created",
    "indexes_updated",
    "indexes_detached",
    "files_created",
    "files_kept",
    "index_files_created",
    "index_files_deleted",
    "provider_uploads_created",
    "provider_uploads_deleted",
];

fn counters(result: &Value) -> [u64; 9] {
    COUNTERS.map(|name| {
        result[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {result}"))
    })
}

/// Everything that a sync may write, but for the syncs' own rows.
async fn dump(stack: &Stack) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT CONCAT_WS('|', id, domain_id, name, IFNULL(description, '-'), IFNULL(external_id, '-'), IFNULL(metadata, '-'), \
             indexing_status, IFNULL(indexed_at, '-'), IFNULL(last_error, '-'), updated_at) FROM rag_indexes ORDER BY id",
        "SELECT CONCAT_WS('|', id, domain_id, file_name, sha256, local_path, IFNULL(external_file_id, '-'), updated_at) \
             FROM rag_files ORDER BY id",
        "SELECT CONCAT_WS('|', index_id, file_id, include_order, IFNULL(chunking_strategy, '-')) FROM rag_index_files ORDER BY 1",
        "SELECT CONCAT_WS('|', id, local_file_id, IFNULL(external_file_id, '-'), content_sha256, status, updated_at) \
             FROM rag_provider_file_uploads ORDER BY id",
        "SELECT CONCAT_WS('|', id, index_id, local_file_id, external_file_id, content_sha256, state, updated_at) \
             FROM rag_index_attachments ORDER BY id",
    ] {
        all.extend(
            sqlx::query_scalar::<_, String>(sql)
                .fetch_all(&stack.database.pool)
                .await
                .unwrap(),
        );
    }
    all
}

async fn copy_of(stack: &Stack, file: &str) -> String {
    sqlx::query_scalar("SELECT external_file_id FROM rag_provider_file_uploads WHERE local_file_id = ?")
        .bind(file)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap()
}

fn strings(list: &Value, field: &str) -> Vec<String> {
    let mut all: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item[field].as_str().unwrap_or_default().to_owned())
        .collect();
    all.sort();
    all
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one story, told from its beginning to its end"
)]
async fn drift_is_reported_then_mended_then_gone() {
    let stack = Stack::builder()
        .emulator(generous())
        .setting("DEFAULT_DOMAIN_ID", "found")
        .start()
        .await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    // Three indexes of ours: one to be changed in every way, one to lose its store, one to be left alone.
    let (changed, files) = index_with(&stack, 5).await;
    let changed_store = built(client, &changed).await;
    let lost = client.create_index("lost", "openai").await;
    let only_there = client.upload("only.md", &prose("only", 30), None).await;
    client.link(&lost, &only_there).await;
    client.link(&lost, &files[0]).await;
    let lost_store = built(client, &lost).await;
    let calm = client.create_index("calm", "openai").await;
    client.link(&calm, &files[1]).await;
    built(client, &calm).await;

    // What others do.
    let before = stack
        .control()
        .ledger(&rag_emulator::LedgerQuery::default())
        .len() as u64;
    let new_settings = json!({"name": "renamed", "metadata": {"owner": "them"}, "expires_after": {"anchor": "last_active_at", "days": 9}});
    other.update_store(&changed_store, &new_settings).await;
    other
        .replace(&copy_of(&stack, &files[2]).await, b"other bytes by now")
        .await;
    other
        .detach(&changed_store, &copy_of(&stack, &files[3]).await)
        .await;
    let extra = other
        .create_file("extra.txt", b"a file that somebody else attached")
        .await;
    other.attach(&changed_store, &extra, Some(fixed(300, 100))).await;
    other.delete_store(&lost_store).await;
    let foreign = other
        .create_store(&json!({"name": "theirs", "description": "made elsewhere", "metadata": {"a": "b"}}))
        .await;
    let first = other.create_file("first.html", b"1;2;3").await;
    let second = other.create_file("second.txt", b"the second file").await;
    for file in [&first, &second, &extra] {
        other.attach(&foreign, file, None).await;
    }
    // The ledger tells what there is to be found.
    let ledger = stack.control().ledger(&rag_emulator::LedgerQuery {
        since: before,
        ..Default::default()
    });
    let done = |effect: Effect| {
        let by_them = ledger.iter().filter(|entry| entry.external && entry.changed);
        by_them.filter(|entry| entry.effect == effect).count() as u64
    };
    assert_eq!(
        (
            done(Effect::StoreCreated),
            done(Effect::StoreDeleted),
            done(Effect::StoreUpdated)
        ),
        (1, 1, 1)
    );
    let rows = dump(&stack).await;

    // The report.
    let report = sync(&stack, "dry_run=true").await;
    assert_eq!(dump(&stack).await, rows, "a report writes nothing");
    assert_eq!(
        strings(&report["stores_missing"], "external_id"),
        [lost_store.as_str()]
    );
    assert_eq!(
        strings(&report["stores_extra"], "external_id"),
        [foreign.as_str()]
    );
    assert_eq!(
        report["settings_differ"][0]["fields"]["name"]["store"], "renamed",
        "{report}"
    );
    assert_eq!(strings(&report["files_missing"], "file_id"), [files[3].as_str()]);
    assert_eq!(
        strings(&report["files_extra"], "external_file_id"),
        [extra.as_str()]
    );
    assert_eq!(
        strings(&report["files_byte_mismatches"], "file_id"),
        [files[2].as_str()]
    );

    // The sync does what the report said.
    let result = sync(&stack, "").await;
    assert_eq!(counters(&result), counters(&report), "{report}\n{result}");
    // `extra` is a file of the index's domain and, in the found store, one of the default domain.
    let imported = done(Effect::FileCreated) + 1;
    // Four of `changed`, and in `calm` one of them that has been dealt with.
    let kept = 4;
    let links = done(Effect::Attached);
    assert_eq!(
        counters(&result),
        [
            done(Effect::StoreCreated),
            done(Effect::StoreUpdated),
            done(Effect::StoreDeleted),
            imported,
            kept,
            links,
            0,
            imported,
            1,
        ],
        "{result}"
    );
    assert_eq!(result["errors"], json!([]), "{result}");
    assert_eq!(result["found"]["file_results"], json!(imported + kept));
    assert_eq!(
        strings(&result["files_byte_mismatches"], "file_id"),
        [files[2].as_str()]
    );

    // What came of it.
    let row = client.index(&changed).await;
    assert_eq!(
        (&row["name"], &row["metadata"]["owner"]),
        (&json!("renamed"), &json!("them")),
        "{row}"
    );
    assert_eq!(row["expires_after"]["days"], 9);
    let row = client.index(&lost).await;
    assert_eq!(
        (&row["external_id"], &row["indexing_status"]),
        (&Value::Null, &json!("not_indexed"))
    );
    let found = client.in_domain("found");
    let listed = found.get("/indexes").await.expect(200);
    let index = &listed["items"][0];
    assert_eq!(
        (
            &index["name"],
            &index["description"],
            &index["external_id"],
            &index["indexing_status"]
        ),
        (
            &json!("theirs"),
            &json!("made elsewhere"),
            &json!(foreign),
            &json!("done")
        ),
        "{listed}"
    );
    let index = index["id"].as_str().unwrap();
    let links = found.get(&format!("/indexes/{index}/files")).await.expect(200);
    let names: Vec<&str> = links["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["file"]["file_name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["first.html", "second.txt", "extra.txt"],
        "in the order of the listing"
    );
    let file = &links["items"][0]["file"];
    assert_eq!(
        (&file["file_type"], &file["size_bytes"]),
        (&json!("text/html"), &json!(5)),
        "{file}"
    );
    let path = format!("/files/{}/download", file["id"].as_str().unwrap());
    let content = found.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(content.text().await.unwrap(), "1;2;3");

    // A second sync changes nothing.
    let rows = dump(&stack).await;
    let again = sync(&stack, "").await;
    let mut nothing = [0; 9];
    nothing[4] = again["files_kept"].as_u64().unwrap();
    assert_eq!(counters(&again), nothing, "{again}");
    assert_eq!(dump(&stack).await, rows);

    // Imported or mended, a build finds nothing to do, but for what is still to be attached.
    let before = changes(&stack);
    let job = found.finished(&found.build(index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        changes(&stack),
        before,
        "a build after an import has nothing to do"
    );
    let job = client.finished(&client.build(&changed).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        changes(&stack),
        before + 1,
        "the file that was taken out is attached again"
    );
    let job = client.finished(&client.build(&lost).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
}

/// What we have changed at the provider.
fn changes(stack: &Stack) -> usize {
    let ledger = stack.control().ledger(&rag_emulator::LedgerQuery::default());
    let ours = ledger.iter().filter(|entry| {
        entry.changed && !entry.external && !matches!(entry.effect, Effect::Indexed | Effect::BatchCreated)
    });
    ours.count()
}

#[tokio::test]
async fn strict_mode_unlinks_what_is_gone_and_nothing_that_is_new() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let (index, files) = index_with(&stack, 3).await;
    let store = built(client, &index).await;
    other.detach(&store, &copy_of(&stack, &files[0]).await).await;
    let wished_for = client.upload("new.md", &prose("new", 20), None).await;
    client.link(&index, &wished_for).await;
    client.unlink(&index, &files[1]).await;

    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["index_files_deleted"], &result["index_files_created"]),
        (&json!(0), &json!(0))
    );
    let result = sync(&stack, "strict=true").await;
    assert_eq!(result["index_files_deleted"], 1, "{result}");
    let links = client.get(&format!("/indexes/{index}/files")).await.expect(200);
    let left = strings(&json!(links["items"]), "file_id");
    let mut expected = vec![files[2].clone(), wished_for];
    expected.sort();
    assert_eq!(
        left, expected,
        "what was unlinked here is not linked again: {links}"
    );
    client.get(&format!("/files/{}", files[0])).await.expect(200);
}

#[tokio::test]
async fn bytes_that_are_not_handed_out_are_a_result_and_no_failure() {
    // OpenAI as it is: files for assistants can't be downloaded.
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let other = Other::at(&stack);
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    let store = other.create_store(&json!({"name": "theirs"})).await;
    let file = other.create_file("secret.txt", b"not to be had").await;
    other.attach(&store, &file, None).await;
    let result = sync(&stack, "").await;
    assert_eq!(result["status"], "done");
    assert_eq!(
        (
            &result["files_unavailable"],
            &result["files_created"],
            &result["indexes_created"],
            &result["files_kept"]
        ),
        (&json!(2), &json!(0), &json!(1), &json!(1)),
        "{result}"
    );
    let statuses = strings(&result["file_results"], "status");
    assert_eq!(statuses, ["content_unavailable", "content_unavailable"]);
    assert_eq!(result["errors"], json!([]));
    let default = stack.client.in_domain("0");
    let listed = default.get("/indexes").await.expect(200);
    assert_eq!(
        listed["items"][0]["indexing_status"], "done",
        "the store is what it is: {listed}"
    );
    // Nothing is lost by a build: what we do not know is left in the store.
    let index = listed["items"][0]["id"].as_str().unwrap();
    let before = changes(&stack);
    default.finished(&default.build(index).await, LIMIT).await;
    assert_eq!(changes(&stack), before);
}

#[tokio::test]
async fn many_stores_gone_at_once_stop_the_sync_before_it_changes_anything() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let mut stores = Vec::new();
    for n in 0..6 {
        let index = client.create_index(&format!("index-{n}"), "openai").await;
        stores.push(built(client, &index).await);
    }
    for store in &stores[..4] {
        other.delete_store(store).await;
    }
    other.create_store(&json!({"name": "theirs"})).await;
    let rows = dump(&stack).await;
    let stopped = sync(&stack, "").await;
    assert_eq!(stopped["status"], "stopped", "{stopped}");
    assert!(
        stopped["errors"][0].as_str().unwrap().contains("force=true"),
        "{stopped}"
    );
    assert_eq!(counters(&stopped), [0; 9]);
    assert_eq!(dump(&stack).await, rows);
    let forced = sync(&stack, "force=true").await;
    assert_eq!(
        (&forced["indexes_detached"], &forced["indexes_created"]),
        (&json!(4), &json!(1)),
        "{forced}"
    );
}

#[tokio::test]
async fn many_files_gone_at_once_stop_the_sync_too() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let (index, files) = index_with(&stack, 10).await;
    let store = built(client, &index).await;
    for file in &files[..5] {
        other.detach(&store, &copy_of(&stack, file).await).await;
    }
    let rows = dump(&stack).await;
    let stopped = sync(&stack, "strict=true").await;
    assert_eq!(stopped["status"], "stopped", "{stopped}");
    assert_eq!(dump(&stack).await, rows);
    let forced = sync(&stack, "strict=true&force=true").await;
    assert_eq!(forced["index_files_deleted"], 5, "{forced}");
}

#[tokio::test]
async fn a_listing_that_breaks_off_detaches_nothing_and_is_gone_on_with() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    stack.control().seed(rag_emulator::Seed {
        stores: 150,
        files_per_store: 0,
    });
    // The second page fails, again and again.
    let rule = |nth| Rule {
        when: When {
            operation: Some("vector_stores.list".to_owned()),
            nth: Some(nth),
            ..When::default()
        },
        then: Action::EmptyPage { has_more: true },
    };
    stack.control().add_fault(rule(2)).unwrap();
    let answer = stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(202);
    let path = format!("/admin/providers/openai/syncs/{}", answer["id"].as_str().unwrap());
    eventually("a failed listing", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["attempts"].as_u64() > Some(0)).then_some(())
    })
    .await;
    let job = stack.admin.get(&path).await.expect(200);
    assert_eq!(
        job["sync_progress"]["items_total"], 100,
        "the first page is kept: {job}"
    );
    assert!(stack.client.index(&index).await["external_id"].is_string());
    stack.control().clear_faults();
    let job = eventually("the end of the sync", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!(job["output"]["stores_total"], 151, "{job}");
    assert_eq!(job["output"]["indexes_created"], 150);
    assert_eq!(job["output"]["indexes_detached"], 0);

    // Long lists are paged.
    let page = stack
        .admin
        .get(&format!("{path}/findings?kind=stores_extra&limit=100"))
        .await
        .expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = stack
        .admin
        .get(&format!(
            "{path}/findings?kind=stores_extra&limit=100&cursor={cursor}"
        ))
        .await
        .expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 100);
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["next_cursor"]),
        (50, &Value::Null)
    );
}

#[tokio::test]
async fn stores_of_our_own_making_are_never_taken_for_strangers() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let (index, _) = index_with(&stack, 1).await;
    built(client, &index).await;
    // A second store with the index's tag, as an attempt leaves it that was superseded, or whose answer is not in yet.
    let tagged = json!({"name": "handbook", "metadata": {"rag_index_id": index, "rag_intent": "x"}});
    other.create_store(&tagged).await;
    let result = sync(&stack, "").await;
    assert_eq!(result["indexes_created"], 0, "{result}");
    assert_eq!(result["found"]["stores_skipped"], 1, "{result}");
    // One whose index nobody knows (a database that was lost, say) is taken over.
    let unknown =
        json!({"name": "saved", "metadata": {"rag_index_id": "0c8a4a5e-5f0f-4a0e-8a44-0d2f6a0c1b11"}});
    other.create_store(&unknown).await;
    assert_eq!(sync(&stack, "").await["indexes_created"], 1);
}

#[tokio::test]
async fn an_index_that_is_being_built_is_left_to_its_build() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(2500, 0.0).allow_content())
        .start()
        .await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 3).await;
    let build = stack.client.build(&index).await;
    eventually("the store", LIMIT, || async {
        stack.client.index(&index).await["external_id"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    let result = sync(&stack, "").await;
    assert_eq!(result["found"]["stores_skipped"], 1, "{result}");
    let job = stack.client.finished(&build, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["files_kept"], &result["indexes_created"]),
        (&json!(3), &json!(0)),
        "{result}"
    );
}

#[tokio::test]
async fn a_provider_that_is_switched_off_is_not_asked_and_the_sync_goes_on_later() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let off = json!({"is_enabled": false});
    let connection = "/admin/providers/connections/openai";
    stack.admin.patch(connection, &off).await.expect(200);
    stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(409);
    stack
        .admin
        .patch(connection, &json!({"is_enabled": true}))
        .await
        .expect(200);
    // Switched off after it was asked for.
    stack.control().seed(rag_emulator::Seed {
        stores: 2,
        files_per_store: 1,
    });
    let answer = stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(202);
    let path = format!("/admin/providers/openai/syncs/{}", answer["id"].as_str().unwrap());
    stack.admin.patch(connection, &off).await.expect(200);
    let _worker = stack.worker("worker");
    let job = eventually("the sync to wait", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["state"] == "scheduled").then_some(job)
    })
    .await;
    assert!(
        job["waiting"]["reason"]
            .as_str()
            .unwrap()
            .contains("switched off"),
        "{job}"
    );
    assert_eq!(job["attempts"], 0);
    stack
        .admin
        .patch(connection, &json!({"is_enabled": true}))
        .await
        .expect(200);
    let job = eventually("the sync to go on by itself", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!(
        (&job["output"]["files_created"], &job["attempts"]),
        (&json!(2), &json!(0)),
        "{job}"
    );
}

#[tokio::test]
async fn a_sick_store_does_not_keep_the_others_from_being_synced() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let seeded = stack.control().seed(rag_emulator::Seed {
        stores: 5,
        files_per_store: 2,
    });
    let sick = Rule {
        when: When {
            path: Some(format!("^/v1/vector_stores/{}/files", seeded.stores[1].0)),
            ..When::default()
        },
        then: Action::EmptyPage { has_more: true },
    };
    stack.control().add_fault(sick).unwrap();
    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["indexes_created"], &result["files_created"]),
        (&json!(4), &json!(8)),
        "{result}"
    );
    assert_eq!(result["errors"].as_array().unwrap().len(), 1, "{result}");
    stack.control().clear_faults();
    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["indexes_created"], &result["files_created"]),
        (&json!(1), &json!(2)),
        "{result}"
    );
}

#[tokio::test]
async fn yandex_files_go_by_their_id_in_the_store() {
    let emulator = Emulator::builder()
        .indexing(5, 0.0)
        .profile(Profile::Yandex)
        .store_file_ids()
        .allow_content();
    let stack = Stack::builder().emulator(emulator).start().await;
    stack.connect("yandex").await;
    let _worker = stack.worker("worker");
    stack.control().seed(rag_emulator::Seed {
        stores: 1,
        files_per_store: 2,
    });
    let path = "/admin/providers/yandex/sync";
    let request = stack
        .admin
        .request(Method::POST, path)
        .header("Prefer", "wait=25");
    let job = stack.admin.send(request.json(&json!({}))).await.expect(200);
    assert_eq!(job["output"]["files_created"], 2, "{job}");
    //
    let different: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_provider_file_uploads WHERE files_api_id IS NOT NULL AND files_api_id <> external_file_id",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert_eq!(different, 2);
    let default = stack.client.in_domain("0");
    let index = default.get("/indexes").await.expect(200)["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = changes(&stack);
    let job = default.finished(&default.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        changes(&stack),
        before,
        "a build after an import has nothing to do"
    );
    let request = stack
        .admin
        .request(Method::POST, path)
        .header("Prefer", "wait=25");
    let job = stack.admin.send(request.json(&json!({}))).await.expect(200);
    assert_eq!(
        (&job["output"]["files_kept"], &job["output"]["files_created"]),
        (&json!(2), &json!(0)),
        "{job}"
    );
}
