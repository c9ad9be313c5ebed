//! Every bound of a filter, in one place.

use std::time::Duration;

/// What one filter may consume before the host stops or refuses it.
///
/// Each field says its unit and what happens past it. `Default` is what the operator gets who
/// says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Linear memory of one VM, in bytes. Past it `memory.grow` fails in the guest.
    pub memory_bytes: usize,
    /// CPU time of one callback. Past it the VM is ended: [`FaultKind::Deadline`].
    ///
    /// [`FaultKind::Deadline`]: crate::FaultKind::Deadline
    pub callback_cpu: Duration,
    /// CPU time of one stream's callbacks in a second. Past it a body waits until there is room, so
    /// that it comes slower; a head is refused: [`FaultKind::StreamCpu`](crate::FaultKind::StreamCpu).
    pub stream_cpu_per_second: Duration,
    /// Wall time of one stream's callbacks, waiting for the CPU included; what was used comes
    /// back at twice `stream_cpu_per_second`. Past it the VM is ended:
    /// [`FaultKind::StreamWall`](crate::FaultKind::StreamWall).
    pub stream_wall: Duration,
    /// Body bytes that one direction of a stream may hold back. Past it:
    /// [`FaultKind::BodyTooLarge`](crate::FaultKind::BodyTooLarge).
    pub buffered_body_bytes: usize,
    /// Streams that share one VM. Past it the pool grows, or [`FaultKind::Busy`].
    ///
    /// [`FaultKind::Busy`]: crate::FaultKind::Busy
    pub streams_per_vm: u32,
    /// VMs of one generation. Past it streams wait for a VM that exists.
    pub vms_max: u32,
    /// Callers that wait for one VM. Past it: [`FaultKind::Busy`](crate::FaultKind::Busy).
    pub queue_max: u32,
    /// Share of one worker's CPU, averaged over a second. Over it new streams are refused:
    /// [`FaultKind::CpuShare`](crate::FaultKind::CpuShare).
    pub cpu_share: f64,
    /// HTTP callouts under way for one stream. Past it a callout answers `INTERNAL_FAILURE`.
    pub callouts_per_stream: u32,
    /// HTTP callouts under way for the filter. Past it a callout answers `INTERNAL_FAILURE`.
    pub callouts_max: u32,
    /// Keys and values in shared data, in bytes. Past it the entry written longest ago goes.
    pub shared_data_bytes: usize,
    /// Keys in shared data. Past it the entry written longest ago goes.
    pub shared_data_keys: usize,
    /// Metrics that the guest may define. Past it a definition is given a metric that nobody sees.
    pub metric_series: usize,
    /// Log lines in a second. Past it lines are dropped and counted.
    pub log_lines_per_second: u32,
    /// Bytes of a log line. Past it the line is cut.
    pub log_line_bytes: usize,
    /// Lines that a header map may grow to by the guest's hand. Past it the write is dropped.
    pub headers_max: usize,
    /// Bytes that a header map may grow to by the guest's hand. Past it the write is dropped.
    pub header_bytes_max: usize,
    /// Hostcalls in one callback. Past it the VM is ended: [`FaultKind::Trap`].
    ///
    /// [`FaultKind::Trap`]: crate::FaultKind::Trap
    pub hostcalls_per_callback: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 16 << 20,
            callback_cpu: Duration::from_millis(10),
            stream_cpu_per_second: Duration::from_millis(50),
            stream_wall: Duration::from_secs(1),
            buffered_body_bytes: 1 << 20,
            streams_per_vm: 64,
            vms_max: 8,
            queue_max: 256,
            cpu_share: 0.5,
            callouts_per_stream: 8,
            callouts_max: 64,
            shared_data_bytes: 1 << 20,
            shared_data_keys: 10_000,
            metric_series: 1_000,
            log_lines_per_second: 100,
            log_line_bytes: 8 << 10,
            headers_max: 100,
            header_bytes_max: 64 << 10,
            hostcalls_per_callback: 10_000,
        }
    }
}
