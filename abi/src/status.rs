//! The numbers of the ABI: statuses, log levels, directions.

/// What a hostcall answers to the guest.
///
/// # Source
///
/// proxy-wasm ABI 0.2.1, `proxy_status_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such header, property, key, metric or function.
    NotFound = 1,
    /// An argument that the ABI does not know or allow.
    BadArgument = 2,
    /// A value could not be serialized.
    SerializationFailure = 3,
    /// A serialized argument could not be read.
    ParseFailure = 4,
    /// A pointer or length outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// A queue without entries.
    Empty = 7,
    /// Shared data changed in between.
    CasMismatch = 8,
    /// A bound of the host, or a function that the operator withheld.
    InternalFailure = 10,
    /// Not part of this host.
    Unimplemented = 12,
}

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// Finest detail.
    Trace = 0,
    /// For the filter's author.
    Debug = 1,
    /// For the operator.
    Info = 2,
    /// Something to look at.
    Warn = 3,
    /// Something failed.
    Error = 4,
    /// The filter cannot go on.
    Critical = 5,
}

impl LogLevel {
    /// The level of a wire value; `None` above 5.
    #[must_use]
    pub fn from_wire(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the service.
    Request,
    /// From the service to the client.
    Response,
}
