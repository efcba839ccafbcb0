//! Following jobs: many listeners, few questions to the database, and nothing lost on the way.

use std::time::Duration;

use futures::future::join_all;
use rag_emulator::Emulator;
use rag_tests::{Stack, eventually};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::fixtures::indexes::index_with;

const LIMIT: Duration = Duration::from_mins(1);
const LISTENERS: usize = 300;

#[derive(Debug, Clone)]
struct Event {
    name: String,
    id: String,
    job: Value,
}

/// A connection to a job's events.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(stack: &Stack, job: &str, last: Option<&str>) -> Self {
        let mut request = stack.client.request(Method::GET, &format!("/jobs/{job}/events"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event; `None`: the server has ended the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
                continue;
            }
            let bytes = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// `None`: a comment.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(str::to_owned)
    };
    Some(Event {
        name: field("event")?,
        id: field("id")?,
        job: serde_json::from_str(&field("data")?).unwrap(),
    })
}

fn over(event: &Event) -> bool {
    event.name == "state" && matches!(event.job["state"].as_str(), Some("done" | "failed" | "cancelled"))
}

fn look_ups(stack: &Stack) -> usize {
    stack.api.log().matches("FROM queue_jobs WHERE id IN (").count()
}

#[tokio::test]
async fn many_listeners_cost_what_one_costs_and_hear_everything() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(1500, 0.0))
        .setting("RUST_LOG", "warn,sqlx::query=debug")
        .start()
        .await;
    let (index, _) = index_with(&stack, 3).await;
    let (other, _) = index_with(&stack, 1).await;
    let jobs = [stack.client.build(&index).await, stack.client.build(&other).await];
    let streams = join_all((0..LISTENERS).map(|n| Stream::open(&stack, &jobs[n % 2], None))).await;
    assert!(
        streams
            .iter()
            .all(|stream| stream.response.headers()["content-type"] == "text/event-stream")
    );
    let (before, began) = (look_ups(&stack), tokio::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (asked, ticks) = (
        look_ups(&stack) - before,
        began.elapsed().as_millis() as usize / 250,
    );
    assert!(
        asked >= 2 && asked <= ticks + 1,
        "{asked} questions for {LISTENERS} listeners in {ticks} ticks"
    );

    let _worker = stack.worker("worker");
    let heard = join_all(streams.into_iter().map(Stream::rest)).await;
    for (n, events) in heard.iter().enumerate() {
        assert_eq!(events[0].job["state"], "ready", "listener {n}");
        assert!(over(events.last().unwrap()), "listener {n}: {events:?}");
        assert_eq!(events.iter().filter(|event| over(event)).count(), 1);
        assert!(events.windows(2).all(|pair| pair[0].id != pair[1].id));
        assert!(
            events
                .iter()
                .any(|event| event.job["progress"]["step"] == "await_indexing"),
            "listener {n}: {events:?}"
        );
    }

    // Nobody listens: nobody asks.
    eventually("the poller to rest", LIMIT, || async {
        let before = look_ups(&stack);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        (look_ups(&stack) == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reconnect_loses_nothing_and_repeats_nothing() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(1500, 0.0))
        .start()
        .await;
    let (index, _) = index_with(&stack, 2).await;
    let job = stack.client.build(&index).await;
    let first = Stream::open(&stack, &job, None).await.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), &first.job["state"]),
        ("state", &Value::from("ready"))
    );

    // Nothing new: silence. What happens while nobody listens is told afterwards.
    let mut again = Stream::open(&stack, &job, Some(&first.id)).await;
    let silence = tokio::time::timeout(Duration::from_millis(1200), again.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    drop(again);
    let _worker = stack.worker("worker");
    stack.client.finished(&job, LIMIT).await;
    let rest = Stream::open(&stack, &job, Some(&first.id)).await.rest().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(over(&rest[0]), "{rest:?}");
    assert_eq!(rest[0].job, stack.client.job(&job).await);

    let end = Stream::open(&stack, &job, Some(&rest[0].id)).await;
    assert_eq!(end.response.status(), 204, "a client that knows the end may stop");
    let stranger = stack.client.in_domain("other");
    stranger.get(&format!("/jobs/{job}/events")).await.expect(404);
}

#[tokio::test]
async fn listeners_do_not_keep_a_process_that_is_asked_to_end() {
    let mut stack = Stack::builder().setting("API_GRACE_SECONDS", "30").start().await;
    let (index, _) = index_with(&stack, 1).await;
    let job = stack.client.build(&index).await;
    let mut stream = Stream::open(&stack, &job, None).await;
    stream.next().await.unwrap();
    stack.api.signal("TERM").await;
    assert!(stream.next().await.is_none());
    assert!(stack.api.wait(Duration::from_secs(5)).await.success());
}
