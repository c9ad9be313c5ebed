//! What a generation counts about itself.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::outcome::{FaultKind, Flow};

/// A reading of a generation's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How often the guest was entered. The creation of a context is made with its request's head,
    /// and its end (`log`, `done`, `delete`) in one go.
    pub calls: u64,
    /// CPU time of the callbacks, as it was charged.
    pub guest_time: Duration,
    /// VMs that ended by a trap.
    pub traps: u64,
    /// VMs that ended at a CPU deadline.
    pub deadlines: u64,
    /// VMs that ended at a stream's time limit.
    pub stream_walls: u64,
    /// Streams or calls refused, by [`FaultKind::name`] `busy`.
    pub busy: u64,
    /// Calls refused because the stream was over its CPU limit.
    pub stream_cpu: u64,
    /// Streams refused because the filter was over its CPU share.
    pub cpu_share: u64,
    /// Streams refused because no VM was there.
    pub no_vm: u64,
    /// Streams that held back too much body.
    pub body_too_large: u64,
    /// VMs started since the generation began.
    pub vm_starts: u64,
    /// VMs alive.
    pub vms: u32,
    /// Linear memory of the VMs alive, in bytes.
    pub memory_bytes: u64,
    /// Streams open.
    pub streams: u32,
    /// HTTP callouts made.
    pub callouts: u64,
    /// What calls on streams came to.
    pub verdicts: Verdicts,
}

/// How often calls on streams came to which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// [`Flow::Continue`].
    pub continued: u64,
    /// [`Flow::Buffer`] and [`Flow::Hold`].
    pub paused: u64,
    /// [`Flow::Reply`].
    pub replied: u64,
    /// [`Flow::Reset`].
    pub reset: u64,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) guest_ns: AtomicU64,
    pub(crate) vm_starts: AtomicU64,
    pub(crate) vms: AtomicU32,
    pub(crate) memory_bytes: AtomicU64,
    pub(crate) streams: AtomicU32,
    pub(crate) callouts: AtomicU64,
    traps: AtomicU64,
    deadlines: AtomicU64,
    stream_walls: AtomicU64,
    busy: AtomicU64,
    stream_cpu: AtomicU64,
    cpu_share: AtomicU64,
    no_vm: AtomicU64,
    body_too_large: AtomicU64,
    continued: AtomicU64,
    paused: AtomicU64,
    replied: AtomicU64,
    reset: AtomicU64,
}

impl Counters {
    pub(crate) fn verdict(&self, flow: &Flow) {
        let counter = match flow {
            Flow::Continue => &self.continued,
            Flow::Buffer | Flow::Hold => &self.paused,
            Flow::Reply(_) => &self.replied,
            Flow::Reset => &self.reset,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts a fault where it happens: once per VM that ended, once per refusal.
    pub(crate) fn fault(&self, kind: &FaultKind) {
        let counter = match kind {
            FaultKind::Trap { .. } => &self.traps,
            FaultKind::Deadline => &self.deadlines,
            FaultKind::StreamWall => &self.stream_walls,
            FaultKind::StreamCpu => &self.stream_cpu,
            FaultKind::Busy => &self.busy,
            FaultKind::CpuShare => &self.cpu_share,
            FaultKind::NoVm => &self.no_vm,
            FaultKind::BodyTooLarge { .. } => &self.body_too_large,
            FaultKind::Closed => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            calls: self.calls.load(Relaxed),
            guest_time: Duration::from_nanos(self.guest_ns.load(Relaxed)),
            traps: self.traps.load(Relaxed),
            deadlines: self.deadlines.load(Relaxed),
            stream_walls: self.stream_walls.load(Relaxed),
            busy: self.busy.load(Relaxed),
            stream_cpu: self.stream_cpu.load(Relaxed),
            cpu_share: self.cpu_share.load(Relaxed),
            no_vm: self.no_vm.load(Relaxed),
            body_too_large: self.body_too_large.load(Relaxed),
            vm_starts: self.vm_starts.load(Relaxed),
            vms: self.vms.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            streams: self.streams.load(Relaxed),
            callouts: self.callouts.load(Relaxed),
            verdicts: Verdicts {
                continued: self.continued.load(Relaxed),
                paused: self.paused.load(Relaxed),
                replied: self.replied.load(Relaxed),
                reset: self.reset.load(Relaxed),
            },
        }
    }
}
