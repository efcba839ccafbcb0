//! The cases. Each ends with an index that is as its links say; whoever runs it then has everything deleted.

use serde_json::json;

use super::site::{LIMIT, PROVIDER, Site};
use crate::fixtures::indexes::{fixed, prose};
use crate::fixtures::jobs::{self, waited};

/// Takes a server a moment to index, where indexing can be slowed down by the text.
fn slow(seed: &str, ms: u32) -> Vec<u8> {
    let mut text = format!("slow embedding {ms}\n").into_bytes();
    text.extend(prose(seed, 60));
    text
}

pub(crate) async fn mixed_strategies_end_right_and_a_rebuild_changes_nothing(site: &Site) {
    let _worker = site.worker();
    let index = site.stack.client.create_index("handbook", PROVIDER).await;
    let strategies = [
        Some(fixed(200, 50)),
        Some(fixed(200, 50)),
        Some(fixed(1000, 0)),
        Some(json!({"type": "auto"})),
        None,
        None,
    ];
    for (n, strategy) in strategies.into_iter().enumerate() {
        site.add(
            &index,
            &format!("page-{n}.md"),
            &prose(&format!("w{n}x"), 600),
            strategy,
        )
        .await;
    }
    site.built(&index).await;
    let mut sizes: Vec<u64> = Vec::new();
    for file in site.server.store_files(&site.store(&index).await).await {
        let strategy = &file["chunking_strategy"];
        let chosen = strategy["static"]["max_chunk_size_tokens"].as_u64();
        // Some servers say what it came to, some what was asked for.
        let chosen = chosen.or((strategy["type"] == "auto").then_some(800));
        sizes.push(chosen.unwrap_or_else(|| panic!("no strategy: {file}")));
    }
    sizes.sort_unstable();
    assert_eq!(
        sizes,
        [200, 200, 800, 800, 800, 1000],
        "each file with its own strategy"
    );

    let before = site.snapshot().await;
    site.built(&index).await;
    assert_eq!(site.snapshot().await, before, "a rebuild changes nothing");
}

pub(crate) async fn a_probe_tells_what_the_server_can_do(site: &Site) {
    let _worker = site.worker();
    let report = jobs::probe(&site.stack, PROVIDER).await;
    println!("{report:#}");
    assert_ne!(report["verdict"], "unusable", "{report:#}");
    assert_eq!(report["left_behind"], json!([]), "{report:#}");
    for check in [
        "upload_file",
        "attach_single",
        "list_store_files",
        "search",
        "delete_vector_store",
    ] {
        let result = crate::provider::probe::result(&report, check);
        assert!(["works", "differs"].contains(&result), "{check}: {report:#}");
    }
}

pub(crate) async fn changed_bytes_take_the_place_of_the_old_ones(site: &Site) {
    let _worker = site.worker();
    let index = site.stack.client.create_index("handbook", PROVIDER).await;
    let file = site.add(&index, "changing.md", &prose("old", 80), None).await;
    site.add(&index, "staying.md", &prose("same", 80), None).await;
    site.built(&index).await;
    let before = site.attached(&index).await;

    site.stack.client.replace(&file, &prose("new", 90)).await;
    site.built(&index).await;
    let after = site.attached(&index).await;
    assert_eq!(after.len(), 2);
    assert_eq!(
        after.intersection(&before).count(),
        1,
        "only the changed file was attached anew"
    );
    assert_eq!(site.server.files().await.len(), 2, "the old copy is deleted");
}

pub(crate) async fn an_unlinked_file_leaves(site: &Site) {
    let _worker = site.worker();
    let index = site.stack.client.create_index("handbook", PROVIDER).await;
    let file = site.add(&index, "leaving.md", &prose("going", 80), None).await;
    site.add(&index, "staying.md", &prose("same", 80), None).await;
    site.built(&index).await;
    site.stack.client.unlink(&index, &file).await;
    site.built(&index).await;
    assert_eq!(site.attached(&index).await.len(), 1);
}

pub(crate) async fn two_indexes_share_a_file(site: &Site) {
    let _worker = site.worker();
    let client = &site.stack.client;
    let first = client.create_index("first", PROVIDER).await;
    let second = client.create_index("second", PROVIDER).await;
    let shared = site.add(&first, "shared.md", &prose("both", 80), None).await;
    client.link(&second, &shared).await;
    site.add(&second, "own.md", &prose("own", 80), None).await;
    site.built(&first).await;
    site.built(&second).await;
    assert_eq!(site.server.files().await.len(), 2, "the shared file went up once");

    // Out of one index, and still in the other one.
    client.unlink(&first, &shared).await;
    site.built(&first).await;
    assert!(site.attached(&first).await.is_empty());
    assert_eq!(site.attached(&second).await.len(), 2);
    site.built(&second).await;
}

/// What a server can't read is told, and mended by another name.
pub(crate) async fn a_file_that_cannot_be_read_fails_with_its_reason(site: &Site) {
    let _worker = site.worker();
    let index = site.stack.client.create_index("handbook", PROVIDER).await;
    site.add(&index, "good.md", &prose("good", 80), None).await;
    let bad = site
        .add(&index, "bad.bin", &[0, 159, 146, 150, 255, 254].repeat(40), None)
        .await;
    let job = site.build(&index).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["output"]["indexing_status"], "failed", "{job}");
    let row = site.stack.client.index(&index).await;
    let told = row["last_error"].as_str().unwrap();
    assert!(told.contains("bad.bin") && !told.contains("no reason"), "{told}");
    site.stack.client.unlink(&index, &bad).await;
    site.built(&index).await;
    assert_eq!(site.attached(&index).await.len(), 1);
}

pub(crate) async fn search_finds_local_files(site: &Site) {
    let _worker = site.worker();
    let client = &site.stack.client;
    let index = client.create_index("handbook", PROVIDER).await;
    let refunds = b"Customers can return a product within fourteen days. Refunds go to the original card.";
    let wanted = site.add(&index, "refunds.md", refunds, None).await;
    site.add(
        &index,
        "parcels.md",
        b"Parcels to the islands take nine days by ship.",
        None,
    )
    .await;
    site.built(&index).await;
    for query in ["refunds card customers", std::str::from_utf8(refunds).unwrap()] {
        let asked = json!({"query": query, "max_num_results": 1});
        let found = client
            .post(&format!("/indexes/{index}/search"), &asked)
            .await
            .expect(200);
        let hit = &found["items"][0];
        assert_eq!(hit["file_id"], json!(wanted), "{query}: {found}");
        assert_eq!(hit["file_name"], "refunds.md", "{found}");
        assert!(
            hit["content"][0]["text"].as_str().unwrap().contains("fourteen"),
            "{found}"
        );
    }
}

pub(crate) async fn syncs_of_index_and_provider_see_no_drift(site: &Site) {
    let _worker = site.worker();
    let client = &site.stack.client;
    let index = client.create_index("handbook", PROVIDER).await;
    for n in 0..3 {
        site.add(
            &index,
            &format!("page-{n}.md"),
            &prose(&format!("s{n}"), 60),
            None,
        )
        .await;
    }
    site.built(&index).await;
    let before = site.snapshot().await;
    let synced = waited(client, &format!("/indexes/{index}/sync?force=true")).await;
    assert_eq!(synced["indexing_status"], "done", "{synced}");
    let report = &synced["sync_report"];
    for nothing in ["files_missing", "files_unknown"] {
        assert_eq!(report[nothing], 0, "{nothing}: {report}");
    }
    assert_eq!(report["file_counts"]["completed"], 3, "{report}");

    let synced = waited(&site.stack.admin, &format!("/admin/providers/{PROVIDER}/sync")).await;
    let result = &synced["output"];
    for nothing in [
        "indexes_created",
        "indexes_detached",
        "index_files_deleted",
        "provider_uploads_deleted",
    ] {
        assert_eq!(result[nothing], 0, "{nothing}: {result}");
    }
    let row = client.index(&index).await;
    assert_eq!(row["indexing_status"], "done", "{row}");
    assert_eq!(
        site.snapshot().await,
        before,
        "a sync changes nothing at the server"
    );
    site.built(&index).await;
}

pub(crate) async fn a_file_and_an_index_are_deleted(site: &Site) {
    let _worker = site.worker();
    let client = &site.stack.client;
    let index = client.create_index("handbook", PROVIDER).await;
    let file = site.add(&index, "deleted.md", &prose("deleted", 60), None).await;
    site.add(&index, "kept.md", &prose("kept", 60), None).await;
    site.built(&index).await;
    let job = client
        .delete(&format!("/files/{file}?force=true"))
        .await
        .expect(202);
    let job = client.finished(job["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(site.attached(&index).await.len(), 1);
    assert_eq!(site.server.files().await.len(), 1);

    let job = client.delete(&format!("/indexes/{index}")).await.expect(202);
    let job = client.finished(job["id"].as_str().unwrap(), LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
    assert!(site.server.stores().await.is_empty());
}

const FILES: usize = 6;

/// An index whose files take a while each.
async fn slow_index(site: &Site) -> String {
    let index = site.stack.client.create_index("handbook", PROVIDER).await;
    for n in 0..FILES {
        site.add(
            &index,
            &format!("page-{n}.md"),
            &slow(&format!("k{n}"), 1500),
            None,
        )
        .await;
    }
    index
}

pub(crate) async fn a_cancelled_build_goes_on_where_it_was(site: &Site) {
    let _worker = site.worker();
    let client = &site.stack.client;
    let index = slow_index(site).await;
    let job = client.build(&index).await;
    site.uploaded(FILES).await;
    let answer = client.post(&format!("/jobs/{job}/cancel"), &json!({})).await;
    assert!(answer.status.is_success(), "{answer:?}");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["state"], "cancelled", "{job}");
    // Cancelled while it waited, another job ends it at the provider.
    rag_tests::eventually("the end of the cancelled build", LIMIT, || async {
        (client.index(&index).await["indexing_status"] == "failed").then_some(())
    })
    .await;

    site.built(&index).await;
    assert_eq!(site.attached(&index).await.len(), FILES);
    assert_eq!(site.server.stores().await.len(), 1);
    assert_eq!(site.server.files().await.len(), FILES, "nothing went up twice");
}

pub(crate) async fn a_killed_worker_is_replaced(site: &Site) {
    let client = &site.stack.client;
    let worker = site.stack.worker("killed");
    let index = slow_index(site).await;
    let job = client.build(&index).await;
    site.uploaded(FILES).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    worker.kill().await;

    let _second = site.worker();
    let job = client.finished(&job, LIMIT).await;
    site.assert_built(&index, &job).await;
    assert_eq!(site.attached(&index).await.len(), FILES);
    assert_eq!(site.server.stores().await.len(), 1);
}

/// `kill` ends the server and answers when it is back.
pub(crate) async fn a_killed_server_is_waited_for(site: &Site, kill: impl AsyncFnOnce()) {
    let client = &site.stack.client;
    let _worker = site.worker();
    let index = slow_index(site).await;
    let job = client.build(&index).await;
    site.uploaded(FILES).await;
    kill().await;
    let job = client.finished(&job, LIMIT).await;
    site.assert_built(&index, &job).await;
    assert_eq!(site.attached(&index).await.len(), FILES);
    assert_eq!(site.server.stores().await.len(), 1);
}
