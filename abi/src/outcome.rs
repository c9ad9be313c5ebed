//! What a call on a stream gives back: a verdict with what it released, or a fault.

use std::sync::Arc;

use bytes::Bytes;

use crate::headers::Headers;

/// What one call released, and what to do next.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What to do next.
    pub flow: Flow,
    /// The head, when this call released it.
    pub head: Option<Headers>,
    /// Body bytes that this call released, in order; they follow `head`.
    pub body: Bytes,
    /// The trailers, when this call released them; they end the message.
    pub trailers: Option<Headers>,
    /// The guest asked for a new choice of route.
    pub clear_route: bool,
}

/// What to do next with a direction of a stream.
#[derive(Clone, Debug)]
pub enum Flow {
    /// Everything given so far is released.
    Continue,
    /// Something is held, and more body should be fed; once the end was fed, await
    /// [`Stream::resumed`](crate::Stream::resumed).
    Buffer,
    /// Something is held: feed nothing, await [`Stream::resumed`](crate::Stream::resumed).
    Hold,
    /// Answer this instead of going on.
    Reply(Box<LocalReply>),
    /// Reset the stream.
    Reset,
}

/// A response that the guest made itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Response code details, without whitespace.
    pub details: String,
    /// The guest's header lines, checked; no pseudo-headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// An explicit gRPC status, 0 to 16.
    pub grpc_status: Option<u32>,
}

/// A guest that could not do its work for this stream.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// What the guest had not released, as it came.
    pub held: Held,
}

/// What a faulting filter still held of the direction that was called, unmodified.
///
/// An embedder whose failure policy is open forwards it and goes on without the filter.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The head, if it was not released.
    pub head: Option<Headers>,
    /// The body bytes that were not released.
    pub body: Bytes,
    /// The trailers, if they were not released.
    pub trailers: Option<Headers>,
}

/// Why a filter failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FaultKind {
    /// The guest trapped; its VM is gone.
    #[error("the guest trapped: {message}")]
    Trap {
        /// The engine's or host's words.
        message: Arc<str>,
        /// Guest functions, innermost first.
        backtrace: Arc<[String]>,
    },
    /// A callback used more CPU than `callback_cpu`; its VM is gone.
    #[error("a callback passed its CPU deadline")]
    Deadline,
    /// The stream used more CPU in a second than `stream_cpu_per_second`.
    #[error("the stream passed its CPU limit")]
    StreamCpu,
    /// The stream's callbacks took longer than `stream_wall`; the VM is gone.
    #[error("the stream passed its time limit")]
    StreamWall,
    /// Too many callers wait for the VM, or every VM is full.
    #[error("the filter has no free slot")]
    Busy,
    /// The filter is over its CPU share.
    #[error("the filter is over its CPU share")]
    CpuShare,
    /// No VM: the last one ended and the next one is being waited for.
    #[error("the filter has no VM, and backs off")]
    NoVm,
    /// The guest holds back more body than it may.
    #[error("the filter would hold back more than {limit_bytes} body bytes")]
    BodyTooLarge {
        /// `buffered_body_bytes`.
        limit_bytes: usize,
    },
    /// The generation takes no new streams, or the stream has ended.
    #[error("the filter is closed")]
    Closed,
}

impl FaultKind {
    /// A short name for metrics and response flags.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Deadline => "deadline",
            Self::StreamCpu => "stream_cpu",
            Self::StreamWall => "stream_wall",
            Self::Busy => "busy",
            Self::CpuShare => "cpu_share",
            Self::NoVm => "no_vm",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Closed => "closed",
        }
    }
}
