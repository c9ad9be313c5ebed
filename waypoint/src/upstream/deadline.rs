//! How long a response is waited for: its head by one timer, its body by one that is armed only
//! when a byte has to be waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::Deadlines;
use crate::codec::body::{Body, BodyError};

/// Whose turn it is while a request with a body is sent: the endpoint's, since its body last gave
/// something or ended; or the client's (`None`), while the body is waited for.
#[derive(Clone)]
pub(super) struct Turn(Arc<Mutex<Option<Instant>>>);

/// Runs one attempt until its response head or until its time is over (`None`). `turn` is that of the
/// request's body, if it has one.
pub(super) async fn within_head_time<T>(
    deadlines: &Deadlines,
    turn: Option<&Turn>,
    mut attempt: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut silent_since = Instant::now();
    let per_try = deadlines.per_try.map(|limit| silent_since + limit);
    let fixed = earlier(deadlines.request, per_try);
    loop {
        let silence = deadlines.silence.map(|limit| silent_since + limit);
        let Some(deadline) = earlier(fixed, silence) else { return Some(attempt.await) };
        if let Ok(answer) = timeout_at(deadline, attempt.as_mut()).await {
            return Some(answer);
        }
        let since = turn.map_or(silent_since, Turn::endpoints_since);
        if fixed == Some(deadline) || since <= silent_since {
            return None;
        }
        silent_since = since;
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

// === impl Turn ===

impl Turn {
    /// Watches the request's body; `None` if it has none.
    pub(super) fn watch(request: &mut Request<Body>) -> Option<Self> {
        if request.body().is_end_stream() {
            return None;
        }
        let turn = Self(Arc::new(Mutex::new(Some(Instant::now()))));
        let bodys = turn.clone();
        Body::replace(request, |body| {
            body.observed(move |polled, _| *bodys.0.lock() = polled.is_ready().then(Instant::now))
        });
        Some(turn)
    }

    /// Whether nothing can be asked of the endpoint: the rest of the request is not there.
    pub(super) fn is_clients(&self) -> bool {
        self.0.lock().is_none()
    }

    /// Since when the endpoint is waited for; now, if it is not.
    fn endpoints_since(&self) -> Instant {
        self.0.lock().unwrap_or_else(Instant::now)
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
