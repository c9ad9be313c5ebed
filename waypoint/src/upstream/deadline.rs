//! How long a response is waited for: its head by one timer, its body by one that is armed only
//! when a byte has to be waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::Deadlines;
use crate::codec::body::BodyError;

/// Runs one attempt until its response head or until its time is over (`None`).
pub(super) async fn within_head_time<T>(
    deadlines: &Deadlines,
    attempt: impl Future<Output = T>,
) -> Option<T> {
    let per_try = deadlines.per_try.map(|limit| Instant::now() + limit);
    match earlier(deadlines.request, per_try) {
        Some(deadline) => timeout_at(deadline, attempt).await.ok(),
        None => Some(attempt.await),
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Watches a response body: the request's deadline and the idle time between two frames.
///
/// Only time spent waiting for upstream counts as idle; a slow reader downstream is not upstream's
/// fault.
pub(super) struct Patience {
    request: Option<Instant>,
    idle: Duration,
    waiting_since: Option<Instant>,
    /// Made at the first wait: most bodies are there before anybody has to wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(deadlines: &Deadlines) -> Self {
        Self {
            request: deadlines.request,
            idle: deadlines.body_idle,
            waiting_since: None,
            sleep: None,
        }
    }

    /// A frame came. It is too late when the request's deadline has passed.
    pub(super) fn on_frame(&mut self) -> Result<(), BodyError> {
        self.waiting_since = None;
        match self.request {
            Some(deadline) if deadline <= Instant::now() => Err(BodyError::Deadline),
            _ => Ok(()),
        }
    }

    /// No frame is there: resolves when it was waited for too long.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let waiting_since = *self.waiting_since.get_or_insert_with(Instant::now);
        let idle_end = waiting_since + self.idle;
        let end = self.request.map_or(idle_end, |deadline| deadline.min(idle_end));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(end)));
        // A timer that was set for an earlier wait fires early and is set again: cheaper than
        // setting it at each frame.
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.request.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(BodyError::Deadline);
            }
            if idle_end <= now {
                return Poll::Ready(BodyError::UpstreamIdle);
            }
            sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}
