//! The engine's clock: one thread that moves the epoch on every millisecond while guests run.
//!
//! It never catches up: a tick that the machine delayed is not made good, so that a busy machine
//! does not look like a slow guest. With no guest running for a while it sleeps, and the first
//! callback wakes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use wasmtime::EngineWeak;

/// The clock's period: the granularity of every CPU bound.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a callback after which the thread sleeps.
const IDLE_TICKS: u32 = 100;

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: thread::Thread,
}

#[derive(Default)]
struct Shared {
    calls: AtomicU64,
    running: AtomicU64,
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let clock = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("waypoint-abi-tick".to_owned())
            .spawn(move || run(&clock, &engine))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Says that a guest runs until the answer is dropped.
    pub(crate) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// A callback under way, as the ticker counts it.
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(shared: &Shared, engine: &EngineWeak) {
    let mut seen = 0;
    let mut idle = 0;
    while !shared.ended.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        let calls = shared.calls.load(Ordering::Relaxed);
        let quiet = calls == seen && shared.running.load(Ordering::SeqCst) == 0;
        seen = calls;
        idle = if quiet { idle + 1 } else { 0 };
        if IDLE_TICKS <= idle {
            drop(engine);
            sleep_until_called(shared);
            idle = 0;
        }
    }
}

/// A caller counts itself before it reads `asleep`, and this writes `asleep` before it reads the
/// count: one of the two sees the other.
fn sleep_until_called(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    while shared.running.load(Ordering::SeqCst) == 0 && !shared.ended.load(Ordering::SeqCst) {
        thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}
