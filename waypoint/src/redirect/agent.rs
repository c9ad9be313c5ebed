//! The node agent: follows the resources and the waypoints, and keeps the kernel's table as they want
//! it. What it has put in force stays when it ends, however it ends.

mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use waypoint_policies::ports::Acknowledgement;
use waypoint_policies::{Numbering, Problem, Redirection, ServicePortKey, render};
use waypoint_redirect as kernel;

use super::desired::{self, Alarm, Inputs, Seen};
use super::figures::{Figures, Health};
use super::folder::Folder;
use super::probe;
use crate::admin;
use crate::drain::Drain;
use crate::resources::{self, Desired, Sources};

pub use start::{AgentError, AgentSettings, run};

/// How long changes are gathered before they are followed: files are written in several steps.
const GATHER: Duration = Duration::from_millis(20);
/// How often the kernel is compared with what it should have, and waiting ports are looked at again;
/// a second more for each of [`COMPARED`] entries.
const TICK: Duration = Duration::from_secs(1);
const COMPARED: usize = 1_000;
/// How long a service port that needs L7 stays as it was while no waypoint publishes it: a change of the
/// resources reaches agents and waypoints one after the other. Past it, it is refused: fails closed.
const SETTLE: Duration = Duration::from_secs(5);
/// How long what serves the metrics may take to end.
const END: Duration = Duration::from_secs(1);

/// Reads the files: which service ports need L7, and how many mistakes there are. What is wrong is
/// told; its last good version counts.
fn read(desired: &mut Desired) -> (BTreeMap<ServicePortKey, Redirection>, usize) {
    let found = desired.read(&Numbering::default());
    let count = found.problems.iter().filter(|problem| Problem::is_error(problem)).count();
    if count > 0 {
        eprintln!("{}", render(&found.problems));
    }
    (found.checked.model.redirections, count)
}

struct Agent {
    settings: AgentSettings,
    folder: Folder,
    desired: Desired,
    redirect: kernel::Redirect,
    redirections: BTreeMap<ServicePortKey, Redirection>,
    /// The last good version of what each waypoint has published, and whether it is ready.
    waypoints: BTreeMap<String, Seen>,
    /// What is in force; `None` until the first table is.
    table: Option<kernel::Table>,
    /// Service ports that no waypoint has published yet, since when.
    waiting: BTreeMap<ServicePortKey, Instant>,
    acknowledged: Acknowledgement,
    alarms: BTreeSet<Alarm>,
    machine: String,
    /// The control group that is attached to, and those above it.
    attached: BTreeSet<u64>,
    figures: Arc<Figures>,
    /// Of this agent's name.
    _lock: std::fs::File,
}

impl Agent {
    async fn follow(mut self, listener: std::net::TcpListener) -> Result<(), AgentError> {
        let setup = AgentError::Setup;
        let mut terminate = signal(SignalKind::terminate()).map_err(setup)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(setup)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(setup)?;
        let (drain, tasks, closing) = Drain::new();
        listener.set_nonblocking(true).map_err(setup)?;
        let listener = TcpListener::from_std(listener).map_err(setup)?;
        let figures = Arc::clone(&self.figures);
        let answer = move |request| std::future::ready(figures.answer(&request));
        tasks.spawn(admin::serve(listener, answer, closing.clone(), tasks.clone()));

        let (files, _files) = watched(self.desired.sources())?;
        let (published, _published) = watched(&Sources(vec![self.folder.waypoints_path()]))?;
        let (ask, asked) = watch::channel(probe::Asked::new());
        let (answer, mut ready) = watch::channel(probe::Ready::new());
        tasks.spawn(probe::run(asked, answer, closing));

        // Once more: they may have changed before they were watched, which takes a thread, and so could
        // not begin before privileges were dropped.
        self.read_files();
        self.read_waypoints(&ask);
        // Before the first table: who is ready is asked once, or all would be refused for a moment.
        if !self.waypoints.is_empty() {
            // An error: nobody asks any more, and nobody is ready.
            let _ = ready.changed().await;
        }
        self.step(&ready.borrow_and_update());
        loop {
            let pause = TICK * u32::try_from(1 + self.entries() / COMPARED).unwrap_or(u32::MAX);
            // Cancel safe, all of them: what was not seen is seen next time.
            tokio::select! {
                () = files.notified() => {
                    sleep(GATHER).await;
                    self.read_files();
                }
                () = published.notified() => {
                    sleep(GATHER).await;
                    self.read_waypoints(&ask);
                }
                _ = hangup.recv() => {
                    self.read_files();
                    self.read_waypoints(&ask);
                }
                told = ready.changed() => if told.is_err() { break },
                () = sleep(pause) => self.compare(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            self.step(&ready.borrow_and_update());
        }
        drain.drain(END).await;
        tracing::info!("ended; what is in force stays so (`waypoint redirect detach` ends that)");
        Ok(())
    }

    fn entries(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.entries.len())
    }

    fn read_files(&mut self) {
        let (redirections, refused) = read(&mut self.desired);
        if refused > 0 {
            tracing::error!(refused, "mistakes in the resources; the last good ones count");
        }
        if redirections.is_empty() && !self.redirections.is_empty() && !self.settings.allow_empty {
            tracing::error!(
                "every Service is gone from the resources; those that were there count"
            );
            self.figures.refused_resources(refused.max(1));
        } else {
            self.redirections = redirections;
            self.figures.refused_resources(refused);
        }
    }

    /// Reads what waypoints have published. One whose file is wrong counts as it was.
    fn read_waypoints(&mut self, ask: &watch::Sender<probe::Asked>) {
        let all = match self.folder.waypoints() {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(%error, "waypoints cannot be read; those that are known count");
                return;
            }
        };
        self.waypoints.retain(|name, _| all.contains_key(name));
        for (name, read) in all {
            match read {
                Ok(published) => {
                    // Whether it is ready is known when the table is made.
                    self.waypoints.insert(name, Seen { published, ready: false });
                }
                Err(error) => tracing::error!(%error, "a waypoint's file; its last version counts"),
            }
        }
        let health = |(name, one): (&String, &Seen)| (name.clone(), one.published.health.clone());
        let wanted: probe::Asked = self.waypoints.iter().map(health).collect();
        ask.send_if_modified(|asked| {
            let changed = *asked != wanted;
            *asked = wanted;
            changed
        });
    }

    /// Makes the table, puts it in force if it is another one, and acknowledges.
    fn step(&mut self, ready: &probe::Ready) {
        for (name, seen) in &mut self.waypoints {
            seen.ready = ready.get(name).copied().unwrap_or_default();
        }
        let settling = |service: &ServicePortKey| {
            // At the start nothing is known of how it was.
            self.table.is_some()
                && self.waiting.get(service).is_none_or(|since| since.elapsed() < SETTLE)
        };
        let outcome = desired::outcome(&Inputs {
            redirections: &self.redirections,
            waypoints: &self.waypoints,
            current: self.table.as_ref(),
            settling: &settling,
            machine: &self.machine,
            exempt: &self.settings.exempt,
            attached: &self.attached,
        });
        let now = Instant::now();
        // What is refused from the start is not looked at as if it were new.
        let since =
            self.table.as_ref().map_or(now.checked_sub(SETTLE), |_| Some(now)).unwrap_or(now);
        self.waiting.retain(|service, _| outcome.unpublished.contains(service));
        for service in outcome.unpublished {
            self.waiting.entry(service).or_insert(since);
        }
        self.tell(outcome.alarms);
        let keeps_old = outcome.keeps_old;
        if self.table.as_ref() != Some(&outcome.table) && !self.apply(outcome.table) {
            return;
        }
        if !keeps_old {
            self.acknowledge();
        }
        self.figures.set(&self.waypoints, self.entries());
    }

    fn apply(&mut self, table: kernel::Table) -> bool {
        match self.redirect.apply(&table) {
            Ok(applied) => {
                tracing::info!(
                    entries = applied.entries,
                    left_out = applied.targets_left_out,
                    "table in force"
                );
                if applied.refused_table_full > 0 {
                    let refused = applied.refused_table_full;
                    tracing::error!(
                        refused,
                        "the table is full: connections to the rest are refused"
                    );
                }
                self.figures.applied(applied.refused_table_full);
                self.table = Some(table);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the table is not in force");
                self.figures.health(Health::ApplyFailed);
                false
            }
        }
    }

    /// Says which generation of each waypoint is in force.
    fn acknowledge(&mut self) {
        let applied =
            self.waypoints.iter().map(|(name, one)| (name.clone(), one.published.generation));
        let agent = self.settings.name.clone();
        let acknowledgement = Acknowledgement { agent, applied: applied.collect() };
        if acknowledgement == self.acknowledged {
            return;
        }
        match self.folder.acknowledge(&acknowledgement) {
            Ok(()) => self.acknowledged = acknowledgement,
            Err(error) => tracing::error!(%error, "what is in force cannot be acknowledged"),
        }
    }

    /// Logs what is new, and what is over.
    fn tell(&mut self, alarms: BTreeSet<Alarm>) {
        for alarm in alarms.difference(&self.alarms) {
            tracing::warn!(alarm = alarm.name(), "{alarm}");
        }
        for alarm in self.alarms.difference(&alarms) {
            tracing::info!(alarm = alarm.name(), "over: {alarm}");
        }
        self.figures.alarms(&alarms);
        self.alarms = alarms;
    }

    /// Compares the kernel with what it should have, and mends it.
    fn compare(&mut self) {
        let Some(table) = &self.table else { return };
        let differences = match self.redirect.drift(table) {
            Ok(differences) => differences,
            Err(error) => {
                tracing::error!(%error, "the kernel cannot be compared");
                self.figures.health(Health::NotCompared);
                return;
            }
        };
        self.figures.drift(differences.len());
        if differences.is_empty() {
            return;
        }
        for difference in &differences {
            tracing::error!(difference, "the kernel is not as it should be");
        }
        match self.redirect.repair(table) {
            Ok(_) => tracing::info!("mended"),
            Err(error) => {
                tracing::error!(%error, "it cannot be mended");
                self.figures.health(Health::NotCompared);
            }
        }
    }
}

/// Tells of changes until the watcher is dropped.
fn watched(sources: &Sources) -> notify::Result<(Arc<Notify>, notify::RecommendedWatcher)> {
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    let watcher = resources::watch(sources, move || notify.notify_one())?;
    Ok((changed, watcher))
}
