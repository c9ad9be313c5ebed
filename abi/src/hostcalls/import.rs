//! The names of the imports, and which of them an operator allows.

use std::collections::BTreeSet;

/// Declares the imports once: variant, name, warning.
macro_rules! imports {
    ($($variant:ident = $name:literal,)*) => {
        /// A function that a guest may import.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Import { $($variant,)* }

        impl Import {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The warning when it is withheld.
            pub(crate) const fn restricted(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(
                        $name, " is withheld from the filter, or was called before its start"
                    ),)*
                }
            }
        }
    };
}

imports! {
    Log = "proxy_log",
    GetLogLevel = "proxy_get_log_level",
    GetTime = "proxy_get_current_time_nanoseconds",
    SetTick = "proxy_set_tick_period_milliseconds",
    SetEffectiveContext = "proxy_set_effective_context",
    Done = "proxy_done",
    GetBuffer = "proxy_get_buffer_bytes",
    GetBufferStatus = "proxy_get_buffer_status",
    SetBuffer = "proxy_set_buffer_bytes",
    MapSize = "proxy_get_header_map_size",
    GetPairs = "proxy_get_header_map_pairs",
    SetPairs = "proxy_set_header_map_pairs",
    GetValue = "proxy_get_header_map_value",
    ReplaceValue = "proxy_replace_header_map_value",
    AddValue = "proxy_add_header_map_value",
    RemoveValue = "proxy_remove_header_map_value",
    ContinueStream = "proxy_continue_stream",
    CloseStream = "proxy_close_stream",
    GetStatus = "proxy_get_status",
    SendLocalResponse = "proxy_send_local_response",
    HttpCall = "proxy_http_call",
    GrpcCall = "proxy_grpc_call",
    GrpcStream = "proxy_grpc_stream",
    GrpcSend = "proxy_grpc_send",
    GrpcCancel = "proxy_grpc_cancel",
    GrpcClose = "proxy_grpc_close",
    SetSharedData = "proxy_set_shared_data",
    GetSharedData = "proxy_get_shared_data",
    RegisterQueue = "proxy_register_shared_queue",
    ResolveQueue = "proxy_resolve_shared_queue",
    Enqueue = "proxy_enqueue_shared_queue",
    Dequeue = "proxy_dequeue_shared_queue",
    DefineMetric = "proxy_define_metric",
    RecordMetric = "proxy_record_metric",
    IncrementMetric = "proxy_increment_metric",
    GetMetric = "proxy_get_metric",
    GetProperty = "proxy_get_property",
    SetProperty = "proxy_set_property",
    Foreign = "proxy_call_foreign_function",
    FdWrite = "fd_write",
    ClockTime = "clock_time_get",
    Random = "random_get",
    EnvironSizes = "environ_sizes_get",
    Environ = "environ_get",
    ArgsSizes = "args_sizes_get",
    Args = "args_get",
    Poll = "poll_oneoff",
    FdstatGet = "fd_fdstat_get",
    ProcExit = "proc_exit",
    WasiStub = "wasi (a function without effect)",
}

impl Import {
    /// Anything else would enter the guest while its allocator runs.
    pub(crate) const fn allowed_in_allocator(self) -> bool {
        matches!(self, Self::Log | Self::FdWrite | Self::ClockTime | Self::Poll)
    }

    /// What works before the guest has a context: the log and WASI.
    pub(crate) const fn allowed_at_start(self) -> bool {
        matches!(self, Self::Log)
            || Self::Foreign as u8 <= self as u8 && !matches!(self, Self::Foreign)
    }
}

/// The imports that an operator lets a filter have.
pub(crate) struct Allowed(u64);

const _: () = assert!(Import::ALL.len() <= 64);

impl Allowed {
    pub(crate) fn new(capabilities: Option<&BTreeSet<String>>) -> Self {
        let Some(names) = capabilities else { return Self(u64::MAX) };
        let allowed = Import::ALL.iter().filter(|import| {
            names.contains(import.name()) || matches!(import, Import::WasiStub | Import::ProcExit)
        });
        Self(allowed.fold(0, |bits, import| bits | 1 << *import as u8))
    }

    pub(crate) fn has(&self, import: Import) -> bool {
        self.0 & 1 << import as u8 != 0
    }
}
