//! What a dashboard that knows apalis's traits is shown.

use apalis_core::backend::{
    Expose, FetchById, Filter, ListAllTasks, ListQueues, ListTasks, ListWorkers, Metrics, TaskSink,
};
use apalis_core::task::status::Status;
use apalis_core::task::task_id::TaskId;
use apalis_mariadb::{NewJob, QueueView, State};
use serde_json::{Value, json};
use sqlx::MySqlPool;
use std::time::Duration;

use crate::support::{Step, TestWorker, enqueue, queue, task, until, until_state};

/// All that a dashboard asks of a backend.
fn assert_exposes(_: &impl Expose<Value, apalis_core::backend::finalize::Ephemeral>) {}

fn filter(status: Option<Status>, page: u32) -> Filter {
    Filter {
        status,
        page,
        page_size: Some(2),
    }
}

#[sqlx::test]
async fn a_view_shows_jobs_workers_and_numbers_and_takes_nothing(pool: MySqlPool) {
    let queue = queue(&pool);
    let mut view = QueueView::new(&queue, "task");
    assert_exposes(&view);
    let worker = TestWorker::start(&queue, 2);
    let done = enqueue(&queue, task("done", [])).await.id;
    let failed = enqueue(&queue, task("failed", [Step::Fail])).await.id;
    until_state(&queue, done, State::Done).await;
    until_state(&queue, failed, State::Failed).await;
    let other = enqueue(&queue, NewJob::new("other", &json!({ "n": 1 })).unwrap())
        .await
        .id;
    let mut later = Vec::new();
    for n in 0..3 {
        let job = task(&n.to_string(), []).delay(Duration::from_hours(1));
        later.push(enqueue(&queue, job).await.id.to_string());
    }

    let found = view
        .fetch_by_id(&TaskId::String(failed.to_string()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.args["name"], "failed");
    // Of another kind.
    let foreign = view.fetch_by_id(&TaskId::String(other.to_string())).await;
    assert!(foreign.unwrap().is_none());

    let names = |tasks: Vec<apalis_core::task::Task<Value>>| -> Vec<String> {
        tasks
            .iter()
            .map(|task| task.args["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let pages = [
        (filter(None, 1), vec!["2", "1"]),
        (filter(None, 2), vec!["0", "failed"]),
        (filter(None, 3), vec!["done"]),
        (filter(None, 4), vec![]),
        (filter(Some(Status::Pending), 2), vec!["0"]),
        (filter(Some(Status::Done), 1), vec!["done"]),
        (filter(Some(Status::Killed), 1), vec![]),
    ];
    for (filter, wanted) in pages {
        assert_eq!(
            names(view.list_tasks(&filter).await.unwrap()),
            wanted,
            "{filter:?}"
        );
    }
    let queued = view
        .list_all_tasks(&filter(Some(Status::Queued), 1))
        .await
        .unwrap();
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].args, json!({ "n": 1 }));

    until(Duration::from_secs(20), async || {
        let (workers, queues) = (
            view.list_workers().await.unwrap(),
            view.list_queues().await.unwrap(),
        );
        // Counted by a worker, now and then.
        let counted = queues.iter().any(|queue| queue.name == "task");
        if workers.len() == 1 && counted {
            Ok(())
        } else {
            Err(json!(queues.len()))
        }
    })
    .await;
    assert!(
        QueueView::new(&queue, "other")
            .list_workers()
            .await
            .unwrap()
            .is_empty()
    );
    for statistics in [view.global().await.unwrap(), view.fetch_by_queue().await.unwrap()] {
        assert!(statistics.iter().any(|one| one.title == "failed"));
    }

    assert!(view.push(json!({ "name": "pushed" })).await.is_err());
    assert_eq!(view.list_all_tasks(&filter(None, 1)).await.unwrap().len(), 2);
    let jobs: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(jobs, 6);
    worker.shut_down().await;
}
