//! A clock that costs nothing until something waits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Limits how long something may make no progress.
///
/// ```text
/// quiet ──poll_expired──► armed ──its time passes──► expired
///   ▲                       │
///   └───────progress────────┘
/// ```
///
/// The timer is made when something first waits, and armed anew only when it waits again.
#[derive(Debug)]
pub(super) struct Stall {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

// === impl Stall ===

impl Stall {
    pub(super) const fn new() -> Self {
        Self { sleep: None, armed: false }
    }

    /// Something moved: the next wait starts afresh.
    pub(super) fn progress(&mut self) {
        self.armed = false;
    }

    /// Ready when the current wait has lasted for `limit`.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.armed {
            self.armed = true;
            sleep.as_mut().reset(Instant::now() + limit);
        }
        sleep.as_mut().poll(cx)
    }
}
