//! `GET /jobs/{job_id}/events`: a job's life as server-sent events. The changes come from [`super::events`].

use std::convert::Infallible;
use std::time::Duration;

use apalis_mariadb::JobId;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use futures::Stream;
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Jobs;
use super::events::{Latest, Snapshot};
use crate::http::extract::{Domain, Id};
use crate::http::problem::Problem;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Comments that keep proxies from closing a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const RECONNECT: Duration = Duration::from_secs(1);

/// Follow a job
///
/// Server-sent events: `state` when the job's state changes (and at first), `progress` when anything else of it
/// changes. The data of each is the whole job, as `GET /jobs/{job_id}` answers it, so a client that reconnects has missed
/// nothing; with `Last-Event-ID` it does not get the same state twice. The stream ends after the event that says
/// `done`, `failed` or `cancelled`; a client that reconnects then is answered 204.
#[utoipa::path(get, path = "/jobs/{job_id}/events", tag = "jobs",
    params(
        ("job_id" = uuid::Uuid, Path, description = "The job"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received"),
    ),
    responses(
        (status = 200, description = "Events, until the job is over", content_type = "text/event-stream", body = String),
        (status = 204, description = "The job is over, and the caller knows"),
        (status = 404, description = "No such job in this domain"),
    ))]
pub(super) async fn follow_job(
    State(jobs): State<Jobs>,
    Domain(domain): Domain,
    Id(job_id): Id<JobId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = Snapshot::of(&jobs.get(&domain, job_id).await?)?;
    let seen = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    if job.is_over && seen == Some(&job.id) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let listener = Listener {
        latest: jobs.events().listen(job_id),
        closing: jobs.events().closing(),
        seen: seen.map(str::to_owned),
        state: None,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(listener.stream()).keep_alive(keep_alive).into_response())
}

struct Listener {
    latest: watch::Receiver<Latest>,
    closing: CancellationToken,
    /// Id of the event that was sent last.
    seen: Option<String>,
    state: Option<&'static str>,
}

impl Listener {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures::stream::unfold(Some(self), |listener| async {
            let mut listener = listener?;
            let snapshot = listener.next().await?;
            let name = if listener.state == Some(snapshot.state) {
                "progress"
            } else {
                "state"
            };
            let event = Event::default()
                .event(name)
                .id(&snapshot.id)
                .retry(RECONNECT)
                .data(&snapshot.json);
            listener.seen = Some(snapshot.id.clone());
            listener.state = Some(snapshot.state);
            let next = (!snapshot.is_over).then_some(listener);
            Some((Ok(event), next))
        })
    }

    /// The next snapshot that the listener has not sent. `None`: the stream ends.
    async fn next(&mut self) -> Option<std::sync::Arc<Snapshot>> {
        loop {
            let latest = self.latest.borrow_and_update().clone();
            if let Some(snapshot) = latest {
                if self.seen.as_ref() != Some(&snapshot.id) {
                    return Some(snapshot);
                }
                if snapshot.is_over {
                    return None;
                }
                self.state = Some(snapshot.state);
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                () = self.closing.cancelled() => return None,
            }
        }
    }
}
