//! What a callback costs: CPU time summed over its polls, read at each tick.
//!
//! Reading a thread's CPU clock is a system call, so it is read only once a tick has hit. The
//! rule: a poll that no tick hits is charged its wall time, at most one tick. The poll that the
//! first tick hits is charged the same way. From then on each poll begins with a reading of the
//! thread's CPU clock, and each tick charges what the thread has used since. A guest that loops is
//! therefore stopped within its budget and two ticks of CPU, and one that the machine did not let
//! run is not charged for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::ticker::TICK;

/// The meter of one VM; it is reset for each callback.
pub(crate) struct Meter {
    epoch: Instant,
    /// Nanoseconds since `epoch` at which the callback, and its current poll, began.
    call_began: AtomicU64,
    poll_began: AtomicU64,
    /// When the last poll returned.
    poll_ended: AtomicU64,
    /// The thread's CPU clock when the poll began or the last tick hit; `UNREAD` before a tick.
    cpu_read: AtomicU64,
    /// Ticks that have hit in this callback.
    ticks: AtomicU64,
    charged: AtomicU64,
}

const UNREAD: u64 = u64::MAX;
const TICK_NS: u64 = 1_000_000;
const _: () = assert!(TICK.as_nanos() == TICK_NS as u128);

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            call_began: AtomicU64::new(0),
            poll_began: AtomicU64::new(0),
            poll_ended: AtomicU64::new(0),
            cpu_read: AtomicU64::new(UNREAD),
            ticks: AtomicU64::new(0),
            charged: AtomicU64::new(0),
        }
    }

    fn begin_call(&self, now: Instant) {
        let now = self.since_epoch(now);
        self.call_began.store(now, Relaxed);
        self.poll_ended.store(now, Relaxed);
        self.ticks.store(0, Relaxed);
        self.charged.store(0, Relaxed);
    }

    fn begin_poll(&self) {
        if self.ticks.load(Relaxed) == 0 {
            // The first poll follows the call's beginning at once, and no other comes before a
            // tick: a guest waits for nothing else.
            self.poll_began.store(self.poll_ended.load(Relaxed), Relaxed);
            self.cpu_read.store(UNREAD, Relaxed);
        } else {
            self.poll_began.store(self.now(), Relaxed);
            self.cpu_read.store(thread_cpu_ns(), Relaxed);
        }
    }

    /// What followed the last tick, or the whole poll, is short: its wall time stands for it.
    fn end_poll(&self) {
        let now = self.now();
        self.poll_ended.store(now, Relaxed);
        self.charge_wall_of_poll(now);
    }

    /// Called from the guest at a tick.
    pub(crate) fn tick(&self) {
        let (cpu, now) = (thread_cpu_ns(), self.now());
        match self.cpu_read.swap(cpu, Relaxed) {
            UNREAD => self.charge_wall_of_poll(now),
            before => {
                self.charged.fetch_add(cpu.saturating_sub(before), Relaxed);
            }
        }
        self.ticks.fetch_add(1, Relaxed);
        self.poll_began.store(now, Relaxed);
    }

    /// What the callback was charged so far.
    pub(crate) fn charged(&self) -> Duration {
        Duration::from_nanos(self.charged.load(Relaxed))
    }

    /// How long the callback has taken by now, waiting for the CPU included.
    pub(crate) fn wall(&self) -> Duration {
        self.since_call(self.now())
    }

    /// When the callback returned, and how long it took.
    pub(crate) fn ended(&self) -> (Instant, Duration) {
        let ended = self.poll_ended.load(Relaxed);
        (self.epoch + Duration::from_nanos(ended), self.since_call(ended))
    }

    fn since_call(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.call_began.load(Relaxed)))
    }

    fn charge_wall_of_poll(&self, now: u64) {
        let wall = now.saturating_sub(self.poll_began.load(Relaxed));
        self.charged.fetch_add(wall.min(TICK_NS), Relaxed);
    }

    fn now(&self) -> u64 {
        self.since_epoch(Instant::now())
    }

    fn since_epoch(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(UNREAD)
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

pin_project_lite::pin_project! {
    /// A callback whose polls are metered.
    pub(crate) struct Metered<F> {
        #[pin]
        call: F,
        meter: Arc<Meter>,
    }
}

impl<F> Metered<F> {
    pub(crate) fn new(meter: &Arc<Meter>, now: Instant, call: F) -> Self {
        meter.begin_call(now);
        Self { call, meter: Arc::clone(meter) }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.meter.begin_poll();
        let polled = this.call.poll(cx);
        this.meter.end_poll();
        polled
    }
}

/// How full a full bucket may still be when work that waits for room goes on.
const PACED_LEVEL: f64 = 0.8;

/// A bucket that fills with use and leaks with time: "so much in any second".
pub(crate) struct Bucket {
    level: Mutex<Level>,
    capacity_ns: f64,
    leak_per_second_ns: f64,
}

struct Level {
    ns: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(now: Instant, capacity: Duration, leak_per_second: Duration) -> Self {
        Self {
            level: Mutex::new(Level { ns: 0.0, at: now }),
            capacity_ns: capacity.as_secs_f64() * 1e9,
            leak_per_second_ns: leak_per_second.as_secs_f64() * 1e9,
        }
    }

    pub(crate) fn charge(&self, now: Instant, used: Duration) {
        let mut level = self.level.lock();
        self.leak(&mut level, now);
        level.ns += used.as_secs_f64() * 1e9;
    }

    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.room(now).is_zero()
    }

    /// What may still be used before the bucket is full.
    pub(crate) fn room(&self, now: Instant) -> Duration {
        let mut level = self.level.lock();
        self.leak(&mut level, now);
        Duration::from_secs_f64((self.capacity_ns - level.ns).max(0.0) / 1e9)
    }

    /// Resolves when some of the bucket is free again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub(crate) async fn until_room(&self) {
        let now = Instant::now();
        let room = self.room(now).as_secs_f64() * 1e9;
        if room > 0.0 {
            return;
        }
        let level = self.level.lock().ns;
        let excess = level - self.capacity_ns * PACED_LEVEL;
        tokio::time::sleep_until(now + Duration::from_secs_f64(excess / self.leak_per_second_ns))
            .await;
    }

    fn leak(&self, level: &mut Level, now: Instant) {
        let since = now.saturating_duration_since(level.at).as_secs_f64();
        level.ns = (level.ns - since * self.leak_per_second_ns).max(0.0);
        level.at = level.at.max(now);
    }
}
