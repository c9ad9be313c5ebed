//! The process's memory budget: near its end new requests are shed, so that those that run finish.
//!
//! Every buffer has a bound of its own, but their sum over all connections has not. A sampler reads
//! what the process has resident; from [`SHED_PERCENT`] of the budget on, each new request is answered
//! 503 before its body is read or a route chosen. Running ones go on. What they leave is given back by
//! the allocator within a second or two (docs/decisions/0028), and then new ones are taken again.
//!
//! # Source
//!
//! proc_pid_statm(5): the second field is resident pages. Control Group v2, `memory.max`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::drain::{Closing, unless};

/// From this share of the budget on, new requests are shed.
pub const SHED_PERCENT: u64 = 95;
/// How often the resident memory is read.
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// What the process may have resident, and whether it is near it.
pub struct MemoryBudget {
    bytes: Option<u64>,
    short: AtomicBool,
}

impl MemoryBudget {
    /// A budget in bytes; `None` is that of the process's control group, if it has one.
    pub fn new(bytes: Option<u64>) -> Arc<Self> {
        let bytes = bytes.or_else(control_group_bytes);
        let budget = Arc::new(Self { bytes, short: AtomicBool::new(false) });
        budget.sample();
        budget
    }

    /// Whether new requests are to be shed.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Reads the resident memory again and again, until `ending` closes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the last reading stays.
    pub async fn follow(self: Arc<Self>, ending: Closing) {
        while self.bytes.is_some() && unless(ending.closing(), sleep(SAMPLE_PERIOD)).await.is_some()
        {
            self.sample();
        }
    }

    fn sample(&self) {
        let (Some(budget), Some(resident)) = (self.bytes, resident_bytes()) else { return };
        let short = budget / 100 * SHED_PERCENT <= resident;
        if short && !self.short.swap(true, Ordering::Relaxed) {
            tracing::warn!(resident, budget, "near the memory budget: new requests are shed");
        } else if !short && self.short.swap(false, Ordering::Relaxed) {
            tracing::info!(resident, budget, "memory is free again");
        }
    }
}

/// Begins the allocator's own thread, which gives back what has been free for a second.
///
/// The proxy begins it, not the process: a node agent drops its privileges while it has one thread.
pub fn begin_giving_back() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "free memory is given back late");
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// The limit of the process's own control group; `None` without one.
fn control_group_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mount = Path::new(mount.split(' ').nth(4)?);
    let limit = std::fs::read_to_string(mount.join(group).join("memory.max")).ok()?;
    limit.trim().parse().ok()
}
