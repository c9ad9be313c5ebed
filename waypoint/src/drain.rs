//! Ends the process' work in order.
//!
//! Takes the word that no new work shall begin, gives every task time to finish, and says whether
//! they did. Whoever accepts or reuses connections holds a [`Closing`]; whoever starts a task goes
//! through [`Tasks`], so that nothing runs unseen. Past the limit [`Closing::cut`] resolves and the
//! rest is cut.

use std::{future::Future, time::Duration};

use tokio::{runtime::Handle, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(test)]
mod tests;

/// How long tasks have to notice the cut, once the limit of a drain has passed.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The end of everything, held by whoever may call for it.
#[derive(Debug)]
pub struct Drain {
    tasks: Tasks,
    closing: Closing,
}

/// The only door to tasks, so that a drain can wait for all of them.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    workers: Handle,
}

/// Tells when new work must stop, and later when running work must too.
#[derive(Clone, Debug)]
pub struct Closing {
    closing: CancellationToken,
    cut: CancellationToken,
}

// === impl Drain ===

impl Drain {
    /// Makes the three handles of one drain, whose tasks run on the workers of the caller's runtime.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn new() -> (Self, Tasks, Closing) {
        let tasks = Tasks { tracker: TaskTracker::new(), workers: Handle::current() };
        let closing = Closing { closing: CancellationToken::new(), cut: CancellationToken::new() };
        (Self { tasks: tasks.clone(), closing: closing.clone() }, tasks, closing)
    }

    /// Says that new work must stop; running work goes on.
    pub fn close(&self) {
        self.closing.close();
    }

    /// Closes, then waits for every task to finish; `false` if some were still running at `limit`
    /// and were cut.
    pub async fn drain(self, limit: Duration) -> bool {
        self.close();
        self.tasks.tracker.close();
        if time::timeout(limit, self.tasks.tracker.wait()).await.is_ok() {
            return true;
        }
        self.closing.cut.cancel();
        // Cut tasks still say goodbye (GOAWAY, close_notify); one that does not is left behind.
        let _ = time::timeout(CUT_GRACE, self.tasks.tracker.wait()).await;
        false
    }
}

// === impl Tasks ===

impl Tasks {
    /// Runs `task` on any worker until it ends, also when a lane asks for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&self.workers, task);
    }

    /// As [`Self::spawn`], on another runtime.
    pub fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tracker.spawn_on(task, runtime));
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }
}

// === impl Closing ===

impl Closing {
    /// Resolves when new work must stop.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds no state between polls.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Whether new work must stop.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Resolves when running work must stop too: the drain's limit has passed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds no state between polls.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// A closing of its own for a part of the whole, such as one listener that a reload removes. It
    /// also closes with the whole.
    pub fn child(&self) -> Self {
        Self { closing: self.closing.child_token(), cut: self.cut.child_token() }
    }

    /// Closes this part and its children.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Closes this part, lets its work run for `limit`, then cuts what is left of it. Ends at once
    /// when the whole is cut first.
    pub async fn close_within(&self, limit: Duration) {
        self.close();
        if time::timeout(limit, self.cut()).await.is_err() {
            self.cut.cancel();
        }
    }
}

/// Runs `work` to its end, or drops it when `end` comes first.
///
/// # Cancel safety
///
/// As cancel safe as `work`.
pub async fn unless<T>(end: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        // Whichever comes first, the other future is dropped for good: nothing is polled again.
        finished = work => Some(finished),
        () = end => None,
    }
}
