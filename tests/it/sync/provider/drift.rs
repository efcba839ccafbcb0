//! What a sync reports, what it mends, and what it leaves as it is.

use rag_emulator::Effect;
use rag_tests::Stack;
use reqwest::Method;
use serde_json::{Value, json};

use super::{LIMIT, changes, copy_of, counters, dump, generous, strings};
use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::{built, fixed, index_with, prose};
use crate::fixtures::jobs::provider_sync as sync;

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
    let unchanged = client.create_index("unchanged", "openai").await;
    client.link(&unchanged, &files[1]).await;
    built(client, &unchanged).await;

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
    // Four of `changed`, and in `unchanged` one of them that has been dealt with.
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
