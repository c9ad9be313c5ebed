//! Files to snapshot: read, checked, built aside, swapped at once.
//!
//! A [`Reloader`] owns everything that building needs and runs in a task of its own. Triggers (a
//! changed file, SIGHUP, `POST /reload`) that pile up become one build. A resource that is refused
//! never takes another one down: its last good version keeps serving, and its status says why.
//! No compile, lock or allocation of a build is on a request's path.

mod build;
mod desired;
mod fetch;
pub mod files;
mod generations;
mod heard;
mod modules;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use waypoint_policies::{Note, Problem};

use crate::drain::Closing;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;

pub use build::{Builder, Built, Parts};
pub use desired::{Desired, Found};
pub use files::Sources;
pub use generations::Generations;
pub use modules::{ModuleError, Modules, engine};
pub use watch::watch;

/// Reload requests that may wait; past it, a trigger that asks for no answer is shed, because the
/// build that waits will see its change too.
const TRIGGERS_MAX: usize = 64;
/// How often services get other numbers in one build, because something else listens on theirs; past
/// it those that are left are refused, and the next build tries again.
const RENUMBERINGS_MAX: usize = 8;
/// How long triggers are gathered before a build begins: files are written in several steps.
const GATHER: Duration = Duration::from_millis(20);

/// What a build came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `applied`, `unchanged` or `refused`; `refused` means that something was, the rest may have
    /// been applied.
    pub result: ReloadResult,
    /// The snapshot in force afterwards.
    pub snapshot: u64,
    /// What was refused, and why.
    pub problems: Vec<Problem>,
    /// What was skipped or deserves a look.
    pub notes: Vec<Note>,
    /// How long the build took, in milliseconds.
    pub millis: u64,
    /// When it ended.
    pub time: String,
}

/// What a build came to, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadResult {
    /// Everything is in force.
    Applied,
    /// Nothing had changed.
    Unchanged,
    /// Something was refused; last good versions serve in its place.
    Refused,
}

impl ReloadResult {
    /// The value of the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Asks for builds.
#[derive(Clone)]
pub struct Trigger(mpsc::Sender<Option<oneshot::Sender<Report>>>);

impl Trigger {
    /// Asks for a build, and does not wait.
    pub fn pull(&self) {
        // Full: a build that waits already will read what changed.
        let _ = self.0.try_send(None);
    }

    /// Asks for a build and waits for its report; `None` while the process ends.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the build goes on without the caller.
    pub async fn reload(&self) -> Option<Report> {
        let (answer, report) = oneshot::channel();
        self.0.send(Some(answer)).await.ok()?;
        report.await.ok()
    }
}

/// The status of the last build, for `/config`.
pub type Status = Arc<RwLock<Option<Report>>>;

/// Runs builds, one at a time.
pub struct Reloader {
    builder: Builder,
    triggers: mpsc::Receiver<Option<oneshot::Sender<Report>>>,
    status: Status,
    metrics: Arc<Metrics>,
}

/// Whether it cannot be told what resource a problem is in. It may be one that protects others, so
/// no start passes over it: fails closed.
pub fn hides_a_resource(problem: &Problem) -> bool {
    problem.is_error() && problem.resource.is_none() && !problem.file.is_empty()
}

impl Reloader {
    /// A reloader and the way to trigger it.
    pub fn new(builder: Builder, status: Status, metrics: Arc<Metrics>) -> (Self, Trigger) {
        let (sender, triggers) = mpsc::channel(TRIGGERS_MAX);
        (Self { builder, triggers, status, metrics }, Trigger(sender))
    }

    /// Builds for the first time. Unless `partial`, a problem ends it before anything is bound:
    /// there is no last good version yet. One that [hides a resource](hides_a_resource) always does.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe, as [`Reloader::build`].
    pub async fn first(&mut self, listeners: &mut impl Listeners, partial: bool) -> Report {
        self.build_if(listeners, |built| {
            let serves = partial && !built.problems.iter().any(hides_a_resource);
            serves || built.result == ReloadResult::Applied
        })
        .await
    }

    /// Builds once, swaps, and reports.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped build leaves the snapshot in force as it is, or swapped.
    pub async fn build(&mut self, listeners: &mut impl Listeners) -> Report {
        self.build_if(listeners, |_| true).await
    }

    async fn build_if(
        &mut self,
        listeners: &mut impl Listeners,
        swap: impl Fn(&Built) -> bool,
    ) -> Report {
        let begun = Instant::now();
        let mut built = self.builder.build().await;
        if let Some(mut next) = built.snapshot.clone().filter(|_| swap(&built)) {
            let mut failed = listeners.before_swap(&next).await;
            for _ in 0..RENUMBERINGS_MAX {
                let taken = taken(&next, &failed);
                if taken.is_empty() {
                    break;
                }
                tracing::warn!(ports = ?taken, "something else listens here: services get others");
                self.builder.give_up(&taken);
                built = self.builder.build().await;
                let Some(other) = built.snapshot.clone() else { break };
                next = other;
                failed = listeners.before_swap(&next).await;
            }
            let next = &next;
            for (name, error) in failed {
                let message = format!("{name} cannot listen: {error}");
                built.problems.push(Problem::of_file("", &message));
                built.result = ReloadResult::Refused;
                self.builder.retry();
            }
            self.builder.swap(next);
            listeners.after_swap(next);
        }
        let report = Report {
            result: built.result,
            snapshot: self.builder.snapshot_number(),
            problems: built.problems,
            notes: built.notes,
            millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            time: crate::access_log::timestamp(SystemTime::now()),
        };
        self.publish(&report);
        report
    }

    fn publish(&self, report: &Report) {
        self.metrics.reloads.get_or_create(&[("result", report.result.name())]).inc();
        self.metrics.snapshot.set(i64::try_from(report.snapshot).unwrap_or(i64::MAX));
        let errors = report.problems.iter().filter(|problem| problem.is_error());
        let refused: BTreeSet<_> = errors.map(|one| (&one.resource, &one.file)).collect();
        self.metrics.refused_resources.set(i64::try_from(refused.len()).unwrap_or(i64::MAX));
        *self.status.write() = Some(report.clone());
        let (result, millis) = (report.result.name(), report.millis);
        match report.result {
            ReloadResult::Unchanged => tracing::debug!(millis, "reload: nothing changed"),
            ReloadResult::Applied => {
                tracing::info!(result, snapshot = report.snapshot, millis, "reload");
            }
            ReloadResult::Refused => {
                tracing::error!(result, snapshot = report.snapshot, millis, "reload");
                eprintln!("{}", waypoint_policies::render(&report.problems));
            }
        }
    }

    /// Builds at each trigger until the process closes.
    pub async fn run(mut self, mut listeners: impl Listeners, closing: Closing) {
        loop {
            let first = tokio::select! {
                // Cancel safe: a message that was not received stays in the channel.
                first = self.triggers.recv() => first,
                // Cancel safe: holds no state.
                () = closing.closing() => return,
            };
            let Some(first) = first else { return };
            tokio::time::sleep(GATHER).await;
            let mut waiting = vec![first];
            while let Ok(more) = self.triggers.try_recv() {
                waiting.push(more);
            }
            let report = self.build(&mut listeners).await;
            for answer in waiting.into_iter().flatten() {
                // A caller that went away does not want the report.
                let _ = answer.send(report.clone());
            }
        }
    }
}

/// Numbers of service ports that could not be bound because something else listens there.
fn taken(next: &Snapshot, failed: &[(String, std::io::Error)]) -> BTreeSet<u16> {
    let in_use = failed.iter().filter(|(_, error)| error.kind() == std::io::ErrorKind::AddrInUse);
    let number = |name: &str| next.ports.given.get(&name.strip_prefix("service/")?.parse().ok()?);
    in_use.filter_map(|(name, _)| number(name)).copied().collect()
}

/// What has to follow a swap: sockets.
pub trait Listeners: Send {
    /// Binds what the next snapshot wants; gives the entrances that could not be bound.
    fn before_swap(
        &mut self,
        next: &Arc<Snapshot>,
    ) -> impl Future<Output = Vec<(String, std::io::Error)>> + Send;
    /// Closes what the snapshot in force no longer wants.
    fn after_swap(&mut self, current: &Arc<Snapshot>);
}
