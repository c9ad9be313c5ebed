//! Which VM a stream gets, and when VMs come and go.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Weak,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::{
    core::Core, outcome::FaultKind, run::RunToEnd, spec::Isolation, start, status::LogLevel, vm::Vm,
};

/// After this long without a loss the next one is again replaced at once.
const LOSS_MEMORY: Duration = Duration::from_secs(10);
/// The pause before the second replacement; it doubles with each further one.
const BACKOFF_BASE: Duration = Duration::from_millis(10);
/// The longest pause before a replacement.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long an extra VM stays without streams.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a stream waits for a VM that somebody else is starting.
const START_WAIT_MAX: Duration = Duration::from_millis(100);

pub(crate) struct Pool {
    core: Arc<Core>,
    state: Mutex<State>,
    /// A VM came, or one that was starting did not.
    changed: Notify,
    this: Weak<Self>,
}

struct State {
    vms: Vec<Arc<Vm>>,
    starting: u32,
    closed: bool,
    shrinking: bool,
    losses: u32,
    last_loss: Option<Instant>,
    not_before: Instant,
}

/// A stream's place on a VM, counted among the streams; dropping it gives the place back.
pub(crate) struct Place {
    vm: Arc<Vm>,
    pool: Arc<Pool>,
}

enum Choice {
    Take(Arc<Vm>),
    Start,
    Wait,
}

impl Pool {
    pub(crate) fn new(core: Arc<Core>) -> Arc<Self> {
        let state = State {
            vms: Vec::new(),
            starting: 0,
            closed: false,
            shrinking: false,
            losses: 0,
            last_loss: None,
            not_before: Instant::now(),
        };
        Arc::new_cyclic(|this| Self {
            core,
            state: Mutex::new(state),
            changed: Notify::new(),
            this: Weak::clone(this),
        })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.state.lock().vms.len()).unwrap_or(u32::MAX)
    }

    /// A place on a VM, which is started if need be.
    pub(crate) async fn place(self: &Arc<Self>) -> Result<Place, FaultKind> {
        let until = Instant::now() + START_WAIT_MAX;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            match self.choose(true)? {
                Choice::Take(vm) => return Ok(self.place_on(vm)),
                Choice::Start => {
                    let start = Arc::clone(self).start_for_stream();
                    return RunToEnd::new(&self.core.host, start).await;
                }
                Choice::Wait => {
                    if time::timeout_at(until, changed).await.is_err() {
                        return Err(FaultKind::NoVm);
                    }
                }
            }
        }
    }

    /// Counts the stream in under the lock, so that no two take the last place.
    fn choose(&self, grow: bool) -> Result<Choice, FaultKind> {
        let limits = &self.core.spec.limits;
        let mut state = self.state.lock();
        if state.closed {
            return Err(FaultKind::Closed);
        }
        let may_grow = grow && state.total() < limits.vms_max && state.not_before <= Instant::now();
        if self.core.spec.isolation == Isolation::PerRequest {
            return state.start_if(may_grow).ok_or(FaultKind::Busy);
        }
        let streams = |vm: &&Arc<Vm>| vm.streams.load(SeqCst);
        let serves =
            |vm: &&Arc<Vm>| streams(vm) < limits.streams_per_vm && !(may_grow && vm.is_worn());
        // Each thread begins its search elsewhere and ends it at the first free VM: a VM's memory
        // stays in one core's cache, threads rarely wait for each other, and what is not needed
        // stays idle until it is ended.
        let begin = thread_number() % state.vms.len().max(1);
        let from_here = || state.vms[begin..].iter().chain(&state.vms[..begin]).filter(serves);
        if let Some(vm) = from_here().find(|vm| vm.is_free()) {
            return Ok(Choice::take(vm));
        }
        if may_grow {
            return state.start_if(true).ok_or(FaultKind::Busy);
        }
        if let Some(vm) = from_here().min_by_key(streams) {
            return Ok(Choice::take(vm));
        }
        match (state.vms.is_empty(), state.starting) {
            (true, 0) => Err(FaultKind::NoVm),
            (true, _) => Ok(Choice::Wait),
            (false, _) => Err(FaultKind::Busy),
        }
    }

    fn place_on(self: &Arc<Self>, vm: Arc<Vm>) -> Place {
        self.core.counters.streams.fetch_add(1, Relaxed);
        Place { vm, pool: Arc::clone(self) }
    }

    /// Starts a VM. A stream that is given up meanwhile leaves it to others: clients that go away
    /// would otherwise keep the pool from ever growing.
    async fn start_for_stream(self: Arc<Self>) -> Result<Place, FaultKind> {
        let starting = Starting(&self);
        let started = start::start(&self.core, &self.this).await;
        let vm = match started {
            Ok(vm) => vm,
            Err(error) => {
                self.core.host_log(LogLevel::Error, &format!("no new VM: {error}"));
                self.state.lock().count_loss();
                drop(starting);
                return self.any_place();
            }
        };
        vm.streams.fetch_add(1, SeqCst);
        let place = self.place_on(Arc::clone(&vm));
        self.adopt(vm);
        Ok(place)
    }

    /// Growth failed: whatever VM is left serves.
    fn any_place(self: &Arc<Self>) -> Result<Place, FaultKind> {
        if !self.is_shared() {
            return Err(FaultKind::NoVm);
        }
        match self.choose(false)? {
            Choice::Take(vm) => Ok(self.place_on(vm)),
            Choice::Start | Choice::Wait => Err(FaultKind::NoVm),
        }
    }

    /// Takes a started VM into the pool.
    pub(crate) fn adopt(&self, vm: Arc<Vm>) {
        let mut state = self.state.lock();
        if state.closed && vm.streams.load(SeqCst) == 0 {
            drop(state);
            return self.retire(vm);
        }
        state.vms.push(vm);
        if 1 < state.vms.len() && !state.shrinking && self.is_shared() {
            state.shrinking = true;
            self.core.host.spawn(Box::pin(shrink(Weak::clone(&self.this))));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends a VM in order, in a task.
    pub(crate) fn retire(&self, vm: Arc<Vm>) {
        if !vm.retired.swap(true, SeqCst) {
            self.core.host.spawn(Box::pin(vm.end()));
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let idle = state.take_where(|vm| vm.streams.load(SeqCst) == 0);
        drop(state);
        idle.into_iter().for_each(|vm| self.retire(vm));
    }

    /// A VM ended by itself: it goes, and another one comes.
    pub(crate) fn lost(&self, vm: &Arc<Vm>) {
        let mut state = self.state.lock();
        if state.take_where(|other| Arc::ptr_eq(other, vm)).is_empty() {
            return;
        }
        state.count_loss();
        if state.vms.is_empty() && !state.closed && self.is_shared() {
            let replacement = replace(Weak::clone(&self.this), state.not_before);
            self.core.host.spawn(Box::pin(replacement));
        }
    }

    /// Whether a VM is still wanted where there was none.
    fn begin_replacement(&self) -> bool {
        let mut state = self.state.lock();
        let wanted = state.total() == 0 && !state.closed;
        if wanted {
            state.starting += 1;
        }
        wanted
    }

    fn release(&self, vm: &Arc<Vm>) {
        self.core.counters.streams.fetch_sub(1, Relaxed);
        let mut state = self.state.lock();
        if vm.streams.fetch_sub(1, SeqCst) != 1 {
            return;
        }
        *vm.idle_since.lock() = Instant::now();
        if state.closed || !self.is_shared() || vm.is_worn() {
            let taken = state.take_where(|other| Arc::ptr_eq(other, vm));
            drop(state);
            taken.into_iter().for_each(|vm| self.retire(vm));
        }
    }

    fn is_shared(&self) -> bool {
        self.core.spec.isolation == Isolation::Shared
    }
}

// === impl State ===

impl State {
    fn total(&self) -> u32 {
        u32::try_from(self.vms.len()).unwrap_or(u32::MAX).saturating_add(self.starting)
    }

    fn start_if(&mut self, may: bool) -> Option<Choice> {
        may.then(|| {
            self.starting += 1;
            Choice::Start
        })
    }

    fn take_where(&mut self, pick: impl Fn(&Arc<Vm>) -> bool) -> Vec<Arc<Vm>> {
        self.vms.extract_if(.., |vm| pick(vm)).collect()
    }

    fn count_loss(&mut self) {
        let now = Instant::now();
        if self.last_loss.is_none_or(|last| LOSS_MEMORY < now.duration_since(last)) {
            self.losses = 0;
        }
        self.not_before = now + backoff(self.losses).mul_f64(0.5 + 0.5 * random_unit());
        self.last_loss = Some(now);
        self.losses = self.losses.saturating_add(1);
    }
}

impl Choice {
    fn take(vm: &Arc<Vm>) -> Self {
        vm.streams.fetch_add(1, SeqCst);
        Self::Take(Arc::clone(vm))
    }
}

/// The pause after this many losses in a row: none, then doubling up to a bound.
fn backoff(losses: u32) -> Duration {
    match losses.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (BACKOFF_BASE * (1 << doublings.min(10))).min(BACKOFF_MAX),
    }
}

/// The calling thread's number: 0, 1, … in the order in which threads first asked.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// Not for secrets: it only keeps VMs from starting in step.
fn random_unit() -> f64 {
    f64::from(u16::try_from(RandomState::new().hash_one(0) & 0xffff).unwrap_or(0)) / 65_536.0
}

// === impl Place ===

impl Place {
    pub(crate) fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.pool.core
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.release(&self.vm);
    }
}

/// A VM that is starting, until it has started or failed.
struct Starting<'a>(&'a Pool);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().starting -= 1;
        self.0.changed.notify_waiters();
    }
}

/// Starts a VM where there is none, so that ticks and callouts of the filter go on.
async fn replace(pool: Weak<Pool>, mut not_before: Instant) {
    loop {
        time::sleep_until(not_before).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.begin_replacement() {
            return;
        }
        let _starting = Starting(&pool);
        match start::start(&pool.core, &pool.this).await {
            Ok(vm) => return pool.adopt(vm),
            Err(error) => {
                pool.core.host_log(LogLevel::Error, &format!("no new VM: {error}"));
                let mut state = pool.state.lock();
                state.count_loss();
                not_before = state.not_before;
            }
        }
    }
}

/// Ends VMs that have been idle, down to one.
async fn shrink(pool: Weak<Pool>) {
    loop {
        time::sleep(IDLE_MAX / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state.lock();
        let spare = state.vms.len().saturating_sub(1);
        let idle = |vm: &Arc<Vm>| {
            vm.streams.load(SeqCst) == 0 && IDLE_MAX <= vm.idle_since.lock().elapsed()
        };
        let mut ended = Vec::new();
        while ended.len() < spare {
            let Some(index) = state.vms.iter().rposition(idle) else { break };
            ended.push(state.vms.remove(index));
        }
        state.shrinking = 1 < state.vms.len();
        let go_on = state.shrinking;
        drop(state);
        ended.into_iter().for_each(|vm| pool.retire(vm));
        if !go_on {
            return;
        }
    }
}
