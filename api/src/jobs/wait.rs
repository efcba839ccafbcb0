//! The answer of a call that has enqueued a job: 202 with the job's location or, if the caller waits, the result.
//!
//! The one place of `Prefer: wait` and of the installation's default for callers that send none. Handlers enqueue and
//! commit first, and hold no connection while they are here: a waiting request costs no more than a listener of
//! [`super::events`], which polls the database once for all of them.

use apalis_mariadb::JobId;
use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::Serialize;
use tokio::time::Instant;

use super::Jobs;
use super::view::JobOut;
use crate::http::auth;
use crate::http::extract::{Prefer, Wait};
use crate::http::problem::Problem;

/// Where a domain's job can be read.
fn location_of(job: JobId) -> String {
    format!("/api/v1/jobs/{job}")
}

impl Jobs {
    /// Answers a call that has enqueued `job`, or found it active: 200 with `result` of the job if the caller waits and the
    /// job ends in time, successfully or not; else 202 with the job and its `Location`.
    ///
    /// The caller has the right to see the job. Operations that answer so list [`crate::http::extract::PreferHeader`] among their
    /// parameters.
    pub(crate) async fn answer<T: Serialize, F: Future<Output = Result<T, Problem>>>(
        &self,
        prefer: Prefer,
        job: JobId,
        result: impl FnOnce(JobOut) -> F,
    ) -> Result<Response, Problem> {
        self.answer_at(prefer, job, location_of(job), result).await
    }

    /// As [`answer`](Self::answer), for a job with another location than its domain's jobs have.
    pub(crate) async fn answer_at<T: Serialize, F: Future<Output = Result<T, Problem>>>(
        &self,
        prefer: Prefer,
        job: JobId,
        location: String,
        result: impl FnOnce(JobOut) -> F,
    ) -> Result<Response, Problem> {
        let (wait, job) = self.wait_for(prefer, job).await?;
        respond(wait, location, job, JobOut::is_over, result).await
    }

    /// As [`answer`](Self::answer), for a deletion: 204 if the caller waits and the job is done in time.
    pub(crate) async fn answer_deleted(&self, prefer: Prefer, job: JobId) -> Result<Response, Problem> {
        let (wait, job) = self.wait_for(prefer, job).await?;
        match wait {
            Some(wait) if job.state() == "done" => {
                Ok((wait.applied(), StatusCode::NO_CONTENT).into_response())
            }
            wait => respond(wait, location_of(job.id()), job, |_| false, async |_| Ok(())).await,
        }
    }

    /// The job as it is when it has ended, or when the wait is over.
    async fn wait_for(&self, prefer: Prefer, job: JobId) -> Result<(Option<Wait>, JobOut), Problem> {
        let wait = prefer.wait(self.settings());
        if let Some(wait) = wait {
            prefer.permit().release();
            tokio::select! {
                // The job's state tells whether the wait was long enough.
                _in_time = tokio::time::timeout_at(Instant::now() + wait.time, self.events().over(job)) => {}
                () = self.authenticator().revoked(prefer.key()) => return Err(auth::revoked()),
            }
        }
        let job = self.find_many(&[job]).await?.remove(&job);
        Ok((wait, job.ok_or_else(|| Problem::not_found("job"))??))
    }
}

async fn respond<J: Serialize, T: Serialize, F: Future<Output = Result<T, Problem>>>(
    wait: Option<Wait>,
    location: String,
    jobs: J,
    are_over: impl FnOnce(&J) -> bool,
    result: impl FnOnce(J) -> F,
) -> Result<Response, Problem> {
    let Some(wait) = wait else {
        return Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(jobs)).into_response());
    };
    if are_over(&jobs) {
        return Ok((wait.applied(), Json(result(jobs).await?)).into_response());
    }
    let headers = (wait.applied(), [(header::LOCATION, location)]);
    Ok((StatusCode::ACCEPTED, headers.0, headers.1, Json(jobs)).into_response())
}
