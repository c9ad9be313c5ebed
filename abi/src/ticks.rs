//! `proxy_on_tick`: one task for each VM that asked for ticks.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time};

use crate::{host::Host, vm::Vm};

/// The shortest period that a guest gets, in milliseconds; a shorter one is lengthened.
pub(crate) const TICK_PERIOD_MIN_MS: u32 = 10;

/// A VM's tick period, shared with the task that keeps it.
#[derive(Default)]
pub(crate) struct TickCell {
    period_ms: AtomicU32,
    started: AtomicBool,
    ended: AtomicBool,
    changed: Notify,
}

impl TickCell {
    /// Sets the period; zero stops. The first call starts the task.
    pub(crate) fn set(self: &Arc<Self>, period_ms: u32, vm: &Weak<Vm>, host: &Arc<dyn Host>) {
        let period = if period_ms == 0 { 0 } else { period_ms.max(TICK_PERIOD_MIN_MS) };
        self.period_ms.store(period, SeqCst);
        if period != 0 && !self.started.swap(true, SeqCst) {
            host.spawn(Box::pin(run(Arc::clone(self), Weak::clone(vm))));
        }
        self.changed.notify_one();
    }

    /// The VM ended, and the task with it.
    pub(crate) fn end(&self) {
        self.ended.store(true, SeqCst);
        self.changed.notify_one();
    }
}

async fn run(cell: Arc<TickCell>, vm: Weak<Vm>) {
    while !cell.ended.load(SeqCst) {
        let period = cell.period_ms.load(SeqCst);
        if period == 0 {
            cell.changed.notified().await;
            continue;
        }
        let wait = Duration::from_millis(u64::from(period));
        if time::timeout(wait, cell.changed.notified()).await.is_ok() {
            continue;
        }
        let Some(vm) = vm.upgrade() else { return };
        vm.tick().await;
    }
}
