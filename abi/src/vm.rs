//! One VM: a store behind a first-come lock, and the only ways to call into it.
//!
//! A callback is made through a [`Guard`], which is the lock's. A guard that is dropped while a
//! callback runs ends the VM: whatever cut the callback short, no stream meets its half-written
//! memory.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, OwnedMutexGuard},
    time::Instant,
};
use wasmtime::{Store, TypedFunc, WasmBacktrace, WasmParams, WasmResults};

use crate::{
    context::{Context, Effect},
    core::Core,
    exports::Exports,
    host::HttpCallAnswer,
    meter::{Meter, Metered},
    outcome::FaultKind,
    pairs::PAIRS_MAX,
    pool::Pool,
    state::{Callback, Halt, Kind, ROOT, VmState},
    status::LogLevel,
    ticks::TickCell,
};

/// How long a context whose `on_done` answered false may put off its end.
pub(crate) const DONE_WAIT_MAX: Duration = Duration::from_secs(5);
/// CPU time of each callback of a start: a guest may build its tables there.
pub(crate) const START_CPU_MAX: Duration = Duration::from_secs(1);
/// The context id from which a VM is given up for a fresh one when it can be: ids are not reused.
const IDS_WORN: u32 = u32::MAX / 2;
/// Guest functions that a backtrace names.
const BACKTRACE_FRAMES_MAX: usize = 32;

pub(crate) struct Vm {
    pub(crate) core: Arc<Core>,
    pub(crate) pool: Weak<Pool>,
    pub(crate) ticks: Arc<TickCell>,
    pub(crate) death: OnceLock<FaultKind>,
    /// Open streams; a stream takes its place before it has the lock.
    pub(crate) streams: AtomicU32,
    /// It ends with its last stream.
    pub(crate) retired: AtomicBool,
    pub(crate) idle_since: parking_lot::Mutex<Instant>,
    /// The root called `proxy_done`.
    pub(crate) root_done: Notify,
    next_id: AtomicU32,
    waiting: AtomicU32,
    live: Arc<Mutex<Option<Live>>>,
}

/// What there is of a VM while it lives.
pub(crate) struct Live {
    pub(crate) store: Store<VmState>,
    pub(crate) exports: Exports,
}

/// The VM's lock.
pub(crate) struct Guard {
    live: OwnedMutexGuard<Option<Live>>,
    vm: Arc<Vm>,
    /// The callback that runs.
    running: Option<&'static str>,
}

/// Which callback to make, for whom.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) stream: Option<Arc<Context>>,
}

// === impl Vm ===

impl Vm {
    pub(crate) fn new(core: &Arc<Core>, pool: &Weak<Pool>) -> Arc<Self> {
        Arc::new(Self {
            core: Arc::clone(core),
            pool: Weak::clone(pool),
            ticks: Arc::default(),
            death: OnceLock::new(),
            streams: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            idle_since: parking_lot::Mutex::new(Instant::now()),
            root_done: Notify::new(),
            next_id: AtomicU32::new(ROOT + 1),
            waiting: AtomicU32::new(0),
            live: Arc::new(Mutex::new(None)),
        })
    }

    /// The id of the next stream's context.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// Whether the ids might come to their end, and with it to one that is still live.
    pub(crate) fn is_worn(&self) -> bool {
        IDS_WORN < self.next_id.load(Relaxed)
    }

    pub(crate) fn is_free(&self) -> bool {
        self.live.try_lock().is_ok()
    }

    /// Waits for the lock, first come first served.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping it leaves the queue.
    pub(crate) async fn lock(self: &Arc<Self>) -> Guard {
        let live = match Arc::clone(&self.live).try_lock_owned() {
            Ok(live) => live,
            Err(_) => Arc::clone(&self.live).lock_owned().await,
        };
        Guard { live, vm: Arc::clone(self), running: None }
    }

    /// As [`lock`](Self::lock), unless too many wait.
    pub(crate) async fn lock_bounded(self: &Arc<Self>) -> Result<Guard, FaultKind> {
        if let Ok(live) = Arc::clone(&self.live).try_lock_owned() {
            return Ok(Guard { live, vm: Arc::clone(self), running: None });
        }
        let _waiting = Waiting::enter(&self.waiting, self.core.spec.limits.queue_max)?;
        Ok(self.lock().await)
    }

    pub(crate) async fn tick(self: &Arc<Self>) {
        let mut guard = self.lock().await;
        let call = Call { name: "proxy_on_tick", kind: Kind::Root, stream: None };
        if guard.call(|exports| exports.tick.as_ref(), ROOT, call).await.is_ok() {
            guard.settle();
        }
    }

    /// Gives the answer of a callout to the guest, on its root context.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        token: u32,
        answer: HttpCallAnswer,
        settled: impl FnOnce(),
    ) {
        let mut guard = self.lock().await;
        // While the lock is held: no callback may find the callout over before its answer.
        settled();
        let Some(live) = guard.live() else { return };
        let lines =
            |headers: &crate::Headers| u32::try_from(headers.len().min(PAIRS_MAX)).unwrap_or(0);
        let body = u32::try_from(answer.body.len()).unwrap_or(u32::MAX);
        let params = (ROOT, token, lines(&answer.headers), body, lines(&answer.trailers));
        live.store.data_mut().answer = Some(answer);
        let call = Call { name: "proxy_on_http_call_response", kind: Kind::Root, stream: None };
        let called = guard.call(|exports| exports.http_call_response.as_ref(), params, call).await;
        if let Some(live) = guard.live() {
            live.store.data_mut().answer = None;
        }
        if called.is_ok() {
            guard.settle();
        }
    }

    /// Ends the VM in order: `on_done`, `on_delete` of its root.
    pub(crate) async fn end(self: Arc<Self>) {
        let mut guard = self.lock().await;
        let call = |name| Call { name, kind: Kind::Root, stream: None };
        let done = guard.call(|exports| exports.done.as_ref(), ROOT, call("proxy_on_done")).await;
        if matches!(done, Ok(Some(0))) {
            // Other callbacks, of ticks and callouts, bring the root to its end.
            drop(guard);
            let _ = tokio::time::timeout(DONE_WAIT_MAX, self.root_done.notified()).await;
            guard = self.lock().await;
        }
        let delete = call("proxy_on_delete");
        let _ = guard.call(|exports| exports.delete.as_ref(), ROOT, delete).await;
        guard.bury(FaultKind::Closed);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.ticks.end();
    }
}

/// One caller in the queue for a VM.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicU32, limit: u32) -> Result<Self, FaultKind> {
        let waiting = Self(count);
        if limit <= count.fetch_add(1, Relaxed) { Err(FaultKind::Busy) } else { Ok(waiting) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// === impl Guard ===

impl Guard {
    pub(crate) fn live(&mut self) -> Option<&mut Live> {
        self.live.as_mut()
    }

    pub(crate) fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    pub(crate) fn set_live(&mut self, live: Live) {
        *self.live = Some(live);
    }

    /// Why there is nothing to call any more.
    pub(crate) fn death(&self) -> FaultKind {
        self.vm.death.get().cloned().unwrap_or(FaultKind::Closed)
    }

    /// Makes one callback; `None` if the guest has none.
    ///
    /// # Errors
    ///
    /// The guest trapped or passed a bound, and the VM has ended.
    pub(crate) async fn call<P, R>(
        &mut self,
        select: impl FnOnce(&Exports) -> Option<&TypedFunc<P, R>>,
        params: P,
        call: Call,
    ) -> Result<Option<R>, FaultKind>
    where
        P: WasmParams + Sync,
        R: WasmResults + Sync,
    {
        let death = self.death();
        let Some(live) = self.live.as_mut() else { return Err(death) };
        let Some(func) = select(&live.exports) else { return Ok(None) };
        let core = Arc::clone(&self.vm.core);
        let limits = &core.spec.limits;
        let now = Instant::now();
        let callback = Callback {
            name: call.name,
            kind: call.kind,
            cpu: if call.kind.is_start() { START_CPU_MAX } else { limits.callback_cpu },
            wall: call.stream.as_ref().map(|context| context.wall.room(now)),
        };
        let stream = call.stream.clone();
        let meter = Arc::clone(&live.store.data().meter);
        live.store.data_mut().begin(callback, call.stream);
        live.store.set_epoch_deadline(1);
        self.running = Some(call.name);
        let ticking = core.module.engine().ticker().running();
        let called = Metered::new(&meter, now, func.call_async(&mut live.store, params)).await;
        drop(ticking);
        self.running = None;
        charge(&core, stream.as_deref(), &meter);
        called.map(Some).map_err(|error| {
            let kind = classify(&error);
            self.fail(call.name, kind.clone());
            kind
        })
    }

    /// Does what the guest asked for during the callback.
    pub(crate) fn settle(&mut self) {
        self.effects().into_iter().for_each(Effect::apply);
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        self.live()
            .map(|live| std::mem::take(&mut live.store.data_mut().effects))
            .unwrap_or_default()
    }

    /// Ends the VM in the middle of a callback, says so, and lets the pool replace it.
    fn fail(&mut self, callback: &str, kind: FaultKind) {
        let core = &self.vm.core;
        core.counters.fault(&kind);
        core.host_log(LogLevel::Error, &describe(callback, &kind));
        self.bury(kind);
        if let Some(pool) = self.vm.pool.upgrade() {
            pool.lost(&self.vm);
        }
    }

    /// Frees the VM's slot and tells the streams that still had a callback to come.
    fn bury(&mut self, kind: FaultKind) {
        self.vm.ticks.end();
        let kind = self.vm.death.get_or_init(|| kind).clone();
        if let Some(mut live) = self.live.take() {
            live.store.data_mut().flush_output();
            for context in live.store.data().streams.values() {
                context.die(&kind);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(callback) = self.running {
            let message = "the callback was cut short by the embedder".into();
            self.fail(callback, FaultKind::Trap { message, backtrace: Arc::new([]) });
        }
    }
}

fn charge(core: &Core, stream: Option<&Context>, meter: &Meter) {
    let (now, wall) = meter.ended();
    let cpu = meter.charged();
    core.share.charge(now, cpu);
    core.counters.calls.fetch_add(1, Relaxed);
    core.counters.guest_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(0), Relaxed);
    if let Some(context) = stream {
        context.cpu.charge(now, cpu);
        context.wall.charge(now, wall);
    }
}

/// Which fault an error of the engine or of a host function is.
pub(crate) fn classify(error: &wasmtime::Error) -> FaultKind {
    match error.downcast_ref::<Halt>() {
        Some(Halt::Deadline) => return FaultKind::Deadline,
        Some(Halt::StreamWall) => return FaultKind::StreamWall,
        Some(Halt::Hostcalls(_) | Halt::Exit(_) | Halt::InAllocator(_)) | None => {}
    }
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    FaultKind::Trap { message: error.root_cause().to_string().into(), backtrace: backtrace.into() }
}

/// The engine writes demangled names only in a backtrace's text: ` 0: module!function`.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let text = backtrace.to_string();
    let names = text.lines().filter_map(|line| Some(line.split_once('!')?.1));
    names.take(BACKTRACE_FRAMES_MAX).map(str::to_owned).collect()
}

fn describe(callback: &str, kind: &FaultKind) -> String {
    let FaultKind::Trap { backtrace, .. } = kind else { return format!("{callback}: {kind}") };
    format!("{callback}: {kind}; guest backtrace: {}", backtrace.join(" < "))
}
