//! What all VMs of a generation share: the spec, the host, counters, the log's bounds.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::{
    host::Host,
    hostcalls::Allowed,
    meter::Bucket,
    module::{Hooks, Module},
    shared::Shared,
    spec::FilterSpec,
    stats::Counters,
    status::LogLevel,
};

/// The window over which `cpu_share` is averaged.
const SHARE_WINDOW: Duration = Duration::from_secs(1);

pub(crate) struct Core {
    pub(crate) spec: FilterSpec,
    pub(crate) module: Module,
    pub(crate) hooks: Hooks,
    pub(crate) allowed: Allowed,
    pub(crate) shared: Arc<Shared>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) counters: Counters,
    pub(crate) share: Bucket,
    pub(crate) callouts: AtomicU32,
    pub(crate) ready: watch::Sender<Readiness>,
    /// The guests' monotonic clock starts here.
    pub(crate) began: Instant,
    log: Mutex<LogWindow>,
    warned: Mutex<HashSet<&'static str>>,
}

/// What the guest said by `waypoint_ready`; once ready, it stays ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Unsaid,
    Waiting,
    Ready,
}

struct LogWindow {
    began: Instant,
    lines: u32,
    dropped: u64,
}

impl Core {
    pub(crate) fn new(
        module: Module,
        spec: FilterSpec,
        shared: Arc<Shared>,
        host: Arc<dyn Host>,
    ) -> Self {
        let began = Instant::now();
        let share = SHARE_WINDOW.mul_f64(spec.limits.cpu_share.clamp(0.001, 1_024.0));
        let allowed = Allowed::new(spec.capabilities.as_ref());
        let hooks = spec.capabilities.as_ref().map_or(module.hooks(), |names| {
            module.hooks().restricted(|callback| names.contains(callback))
        });
        Self {
            hooks,
            allowed,
            shared,
            host,
            counters: Counters::default(),
            share: Bucket::new(began, share, share),
            callouts: AtomicU32::new(0),
            ready: watch::Sender::new(Readiness::Unsaid),
            began,
            log: Mutex::new(LogWindow { began, lines: 0, dropped: 0 }),
            warned: Mutex::default(),
            module,
            spec,
        }
    }

    /// Whether the operator lets the guest have this callback.
    pub(crate) fn may_call(&self, callback: &str) -> bool {
        self.spec.capabilities.as_ref().is_none_or(|names| names.contains(callback))
    }

    /// A line of the guest, within the filter's bounds.
    pub(crate) fn guest_log(&self, level: LogLevel, message: &[u8]) {
        if level < self.host.log_level() {
            return;
        }
        let admitted = self.log.lock().admit(self.spec.limits.log_lines_per_second);
        match admitted {
            Admitted::No => return,
            Admitted::Yes { dropped: 0 } => {}
            Admitted::Yes { dropped } => {
                let line = format!("{dropped} lines were dropped: over log_lines_per_second");
                self.host.log(&self.spec, LogLevel::Warn, &line);
            }
        }
        let cut = &message[..message.len().min(self.spec.limits.log_line_bytes)];
        self.host.log(&self.spec, level, &String::from_utf8_lossy(cut));
    }

    /// A line of the host about the filter.
    pub(crate) fn host_log(&self, level: LogLevel, message: &str) {
        if self.host.log_level() <= level {
            self.host.log(&self.spec, level, message);
        }
    }

    /// A warning that is told once for the life of the generation. `what` is the key and the text.
    pub(crate) fn warn_once(&self, what: &'static str, callback: &str) {
        if self.warned.lock().insert(what) {
            let line = format!("{what} (in {callback}; told once)");
            self.host_log(LogLevel::Warn, &line);
        }
    }
}

enum Admitted {
    No,
    Yes { dropped: u64 },
}

impl LogWindow {
    fn admit(&mut self, lines_max: u32) -> Admitted {
        let now = Instant::now();
        if Duration::from_secs(1) <= now.duration_since(self.began) {
            let dropped = std::mem::take(&mut self.dropped);
            self.began = now;
            self.lines = 1;
            return Admitted::Yes { dropped };
        }
        if lines_max <= self.lines {
            self.dropped += 1;
            return Admitted::No;
        }
        self.lines += 1;
        Admitted::Yes { dropped: 0 }
    }
}
