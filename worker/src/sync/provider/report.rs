//! The end of a run: its result becomes the job's output. Lists are cut there; the findings have them whole.

use rag_db::connections;
use rag_db::syncs::{self, findings};
use rag_domain::FindingKind;
use serde_json::{Map, Value, json};

use super::run::{Sync, WHOLE_RUN, totals_of};
use crate::step_error::StepError;

/// Of one list in the output. The queue takes 256 KiB as a whole.
const LIST_BYTES: usize = 16 * 1024;
const LIST_ITEMS: u32 = 100;

pub(super) async fn finish(sync: &Sync<'_>) -> Result<(), StepError> {
    let mut db = sync.context.pool.acquire().await?;
    let (mut lists, mut found) = (Map::new(), Map::new());
    let mut truncated = Vec::new();
    for kind in FindingKind::ALL {
        let count = findings::count(&mut db, &sync.job_id, *kind).await?;
        let first = findings::list(&mut db, &sync.job_id, *kind, None, LIST_ITEMS).await?;
        let list = cut(first.into_iter().map(|finding| line(*kind, finding.detail)));
        if (list.len() as u64) < count {
            truncated.push(kind.as_str());
        }
        found.insert(kind.to_string(), json!(count));
        lists.insert(kind.to_string(), Value::Array(list));
    }
    drop(db);

    let mut tx = sync.write().await?;
    let run = sync.read_in(&mut tx).await?;
    let totals = totals_of(&run);
    let mut output = match serde_json::to_value(totals.counts) {
        Ok(Value::Object(counts)) => counts,
        _ => Map::new(),
    };
    let status = if totals.stopped.is_some() {
        "stopped"
    } else {
        "done"
    };
    output.extend(lists);
    output.extend([
        ("status".to_owned(), json!(status)),
        ("stopped".to_owned(), json!(totals.stopped)),
        ("provider_type".to_owned(), json!(sync.job.provider_type)),
        ("dry_run".to_owned(), json!(sync.job.dry_run)),
        ("strict".to_owned(), json!(sync.job.strict)),
        ("force".to_owned(), json!(sync.job.force)),
        ("compare".to_owned(), json!(sync.job.compare)),
        ("stores_total".to_owned(), json!(run.items_total)),
        ("found".to_owned(), Value::Object(found)),
        ("truncated".to_owned(), json!(truncated)),
    ]);
    syncs::finish(&mut tx, &sync.job_id).await?;
    connections::set_sync_error(&mut tx, &sync.job.provider_type, None).await?;
    sync.claim.complete(&mut tx, &Value::Object(output)).await?;
    tx.commit().await?;
    tracing::info!(status, counts = ?totals.counts, "the sync ends");
    Ok(())
}

/// wants errors as texts.
fn line(kind: FindingKind, detail: Value) -> Value {
    if kind != FindingKind::Errors {
        return detail;
    }
    let text = |field: &str| detail[field].as_str().unwrap_or_default().to_owned();
    match text("subject") {
        subject if subject == WHOLE_RUN => json!(text("error")),
        subject => json!(format!("{subject}: {}", text("error"))),
    }
}

fn cut(lines: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut bytes = 0;
    lines
        .take_while(|line| {
            bytes += line.to_string().len();
            bytes <= LIST_BYTES
        })
        .collect()
}
