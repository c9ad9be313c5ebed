//! Every reason for which a request is not answered by its upstream, and what each one means.
//!
//! [`RequestError::outcome`] is the one exhaustive table: error → whose fault, HTTP status, gRPC
//! status, Envoy response flag, name. No stage decides a status by itself.

use thiserror::Error;
use waypoint_abi::{Direction, FaultKind};
use waypoint_policies::BackendFault;

use crate::codec::Refusal;
use crate::codec::body::BodyError;
use crate::upstream::UpstreamError;

/// Why a request was not answered by its upstream. Variants are facts.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The process is near its memory budget.
    #[error("the process is near its memory budget")]
    MemoryShort,
    /// As many requests run as the process may have.
    #[error("as many requests run as may")]
    RequestsMax,
    /// The client has as many requests as one may.
    #[error("the client has as many requests as one may")]
    ClientRequestsMax,
    /// No listener of this entrance has the request's host.
    #[error("no listener has this host")]
    NoHost,
    /// The TLS handshake chose another listener than the request's host does.
    #[error("the host belongs to another listener than the server name")]
    Misdirected,
    /// The host is served, but no route matches.
    #[error("no route matches")]
    NoRoute,
    /// The entrance was removed while the connection lived on.
    #[error("this entrance is no longer served")]
    EntranceGone,
    /// The matched rule has no backend with a weight.
    #[error("the rule {rule} has no backend")]
    NoBackend { rule: String },
    /// The chosen backend cannot be used.
    #[error("the rule {rule} names a backend that cannot be used: {fault:?}")]
    BackendUnusable { rule: String, fault: BackendFault },
    /// A security resource that covers this request was refused and has no last good version.
    #[error("{resource} is refused, so what it protects is denied")]
    PolicyRefused { resource: String },
    /// A filter changed the route to one that demands a filter that has not run.
    #[error("the new route demands the filter {filter}, which has not run")]
    DemandedFilterNotRun { filter: String },
    /// A filter failed, and its failure policy refuses the request.
    #[error("the filter {filter} failed")]
    FilterFailed { filter: String, kind: FaultKind },
    /// A filter would hold back more of a response's body than it may.
    #[error("the filter {filter} would hold back too much of the response's body")]
    ResponseTooLarge { filter: String },
    /// A filter reset the stream.
    #[error("the filter {filter} closed the stream")]
    FilterReset { filter: String },
    /// A filter that decides on the body waited longer for it than it may.
    #[error("the filter {filter} waited {waited_ms} ms for the body")]
    BodyWait { filter: String, waited_ms: u64 },
    /// Too many newer generations of a filter live for one that this request has run.
    #[error("too many newer generations of a filter live")]
    Retired,
    /// A panic ended the request: a mistake in this program.
    #[error("a panic ended the request")]
    Panicked,
    /// The time that a gRPC caller gives its call cannot be read.
    #[error("the grpc-timeout is malformed")]
    GrpcTimeoutMalformed,
    /// The request's body failed while it was read.
    #[error("the request's body failed")]
    RequestBody(#[source] BodyError),
    /// The upstream did not answer.
    #[error("the upstream did not answer")]
    Upstream(#[source] UpstreamError),
}

/// Who has to change something so that the error goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The client.
    Downstream,
    /// The service.
    Upstream,
    /// A filter's author.
    Filter,
    /// Whoever wrote the resources.
    Operator,
    /// This program.
    Waypoint,
}

/// What an error means on the wire and in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whose fault it is.
    pub fault: Fault,
    /// The HTTP status.
    pub status: u16,
    /// The gRPC status that a gRPC request gets.
    ///
    /// # Source
    ///
    /// grpc/doc/statuscodes.md
    pub grpc_status: u32,
    /// Envoy's response flag; `-` where Envoy has none.
    pub flag: &'static str,
    /// The name under which logs and metrics have it (`response_code_details`).
    pub name: &'static str,
}

const fn outcome(
    fault: Fault,
    status: u16,
    grpc_status: u32,
    flag: &'static str,
    name: &'static str,
) -> Outcome {
    Outcome { fault, status, grpc_status, flag, name }
}

/// gRPC status codes that the table uses.
mod grpc {
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const INTERNAL: u32 = 13;
    pub(super) const UNAVAILABLE: u32 = 14;
}

impl RequestError {
    /// The filter that has to do with it.
    pub fn filter(&self) -> Option<&str> {
        match self {
            Self::FilterFailed { filter, .. }
            | Self::FilterReset { filter }
            | Self::ResponseTooLarge { filter }
            | Self::BodyWait { filter, .. }
            | Self::DemandedFilterNotRun { filter } => Some(filter),
            Self::MemoryShort
            | Self::RequestsMax
            | Self::ClientRequestsMax
            | Self::NoHost
            | Self::Misdirected
            | Self::NoRoute
            | Self::EntranceGone
            | Self::NoBackend { .. }
            | Self::BackendUnusable { .. }
            | Self::PolicyRefused { .. }
            | Self::Retired
            | Self::Panicked
            | Self::GrpcTimeoutMalformed
            | Self::RequestBody(_)
            | Self::Upstream(_) => None,
        }
    }

    /// What a filter's failure means on one side of a request.
    pub fn of_filter(filter: String, kind: FaultKind, direction: Direction) -> Self {
        match (&kind, direction) {
            (FaultKind::BodyTooLarge { .. }, Direction::Response) => {
                Self::ResponseTooLarge { filter }
            }
            _ => Self::FilterFailed { filter, kind },
        }
    }

    /// The table. Exhaustive: a new variant does not compile until its row is written.
    pub fn outcome(&self) -> Outcome {
        use Fault::{Downstream, Filter, Operator, Waypoint};
        match self {
            // Envoy's flag for its overload manager.
            Self::MemoryShort => outcome(Operator, 503, grpc::UNAVAILABLE, "OM", "memory_short"),
            Self::RequestsMax => outcome(Operator, 503, grpc::UNAVAILABLE, "OM", "requests_max"),
            Self::ClientRequestsMax => {
                outcome(Downstream, 429, grpc::RESOURCE_EXHAUSTED, "RL", "client_requests_max")
            }
            Self::NoHost => outcome(Downstream, 404, grpc::UNIMPLEMENTED, "NR", "no_host"),
            Self::Misdirected => outcome(Downstream, 421, grpc::UNIMPLEMENTED, "NR", "misdirected"),
            Self::NoRoute => outcome(Downstream, 404, grpc::UNIMPLEMENTED, "NR", "route_not_found"),
            Self::EntranceGone => outcome(Operator, 503, grpc::UNAVAILABLE, "NR", "entrance_gone"),
            Self::NoBackend { .. } => outcome(Operator, 500, grpc::INTERNAL, "NC", "no_backend"),
            Self::BackendUnusable { .. } => {
                outcome(Operator, 500, grpc::INTERNAL, "NC", "backend_unusable")
            }
            Self::PolicyRefused { .. } => {
                outcome(Operator, 403, grpc::PERMISSION_DENIED, "-", "policy_refused")
            }
            Self::DemandedFilterNotRun { .. } => {
                outcome(Filter, 500, grpc::INTERNAL, "-", "demanded_filter_not_run")
            }
            Self::FilterFailed { kind, .. } => filter_outcome(kind),
            Self::ResponseTooLarge { .. } => {
                outcome(Filter, 500, grpc::RESOURCE_EXHAUSTED, "-", "filter_response_too_large")
            }
            Self::FilterReset { .. } => {
                outcome(Filter, 503, grpc::UNAVAILABLE, "-", "wasm_close_stream")
            }
            Self::BodyWait { .. } => {
                outcome(Downstream, 408, grpc::DEADLINE_EXCEEDED, "-", "filter_body_wait")
            }
            Self::Retired => body_outcome(&BodyError::Retired),
            Self::Panicked => outcome(Waypoint, 500, grpc::INTERNAL, "-", Refusal::Panicked.name()),
            // As gRPC's own servers answer it.
            Self::GrpcTimeoutMalformed => {
                outcome(Downstream, 400, grpc::INTERNAL, "DPE", "grpc_timeout_malformed")
            }
            Self::RequestBody(error) => body_outcome(error),
            Self::Upstream(error) => upstream_outcome(error),
        }
    }
}

fn filter_outcome(kind: &FaultKind) -> Outcome {
    use Fault::{Downstream, Filter};
    match kind {
        FaultKind::Trap { .. } => outcome(Filter, 503, grpc::UNAVAILABLE, "-", "wasm_fail_stream"),
        FaultKind::Deadline => outcome(Filter, 503, grpc::UNAVAILABLE, "-", "filter_deadline"),
        FaultKind::StreamCpu => outcome(Filter, 503, grpc::UNAVAILABLE, "-", "filter_stream_cpu"),
        FaultKind::StreamWall => outcome(Filter, 503, grpc::UNAVAILABLE, "-", "filter_stream_wall"),
        FaultKind::Busy => outcome(Filter, 503, grpc::UNAVAILABLE, "UO", "filter_busy"),
        FaultKind::CpuShare => outcome(Filter, 503, grpc::UNAVAILABLE, "UO", "filter_cpu_share"),
        FaultKind::NoVm => outcome(Filter, 503, grpc::UNAVAILABLE, "-", "filter_no_vm"),
        FaultKind::BodyTooLarge { .. } => {
            outcome(Downstream, 413, grpc::RESOURCE_EXHAUSTED, "-", "filter_body_too_large")
        }
        FaultKind::Closed => outcome(Filter, 503, grpc::UNAVAILABLE, "-", "filter_closed"),
    }
}

fn upstream_outcome(error: &UpstreamError) -> Outcome {
    use Fault::{Downstream, Operator, Upstream};
    match error {
        UpstreamError::NoEndpoints => {
            outcome(Operator, 503, grpc::UNAVAILABLE, "UH", "no_healthy_upstream")
        }
        // Envoy's flag for a failed DNS resolution.
        UpstreamError::Unresolved { .. } => {
            outcome(Operator, 503, grpc::UNAVAILABLE, "DF", "upstream_name_unresolved")
        }
        UpstreamError::QueueFull { .. } => {
            outcome(Upstream, 503, grpc::UNAVAILABLE, "UO", "upstream_queue_full")
        }
        UpstreamError::QueueTimeout { .. } => {
            outcome(Upstream, 503, grpc::UNAVAILABLE, "UO", "upstream_queue_timeout")
        }
        UpstreamError::ConnectTimeout { .. } => {
            outcome(Upstream, 503, grpc::UNAVAILABLE, "UF", "upstream_connect_timeout")
        }
        UpstreamError::ConnectRefused { .. } => {
            outcome(Upstream, 503, grpc::UNAVAILABLE, "UF", "upstream_connect_refused")
        }
        UpstreamError::ConnectFailed { .. } => {
            outcome(Upstream, 503, grpc::UNAVAILABLE, "UF", "upstream_connect_failed")
        }
        UpstreamError::Tls { failure, .. } => {
            outcome(Upstream, 503, grpc::UNAVAILABLE, "UF", failure.name())
        }
        UpstreamError::TlsRefused { .. } => {
            outcome(Operator, 503, grpc::UNAVAILABLE, "UF", "upstream_tls_refused")
        }
        UpstreamError::ResponseTimeout => {
            outcome(Upstream, 504, grpc::DEADLINE_EXCEEDED, "UT", "upstream_response_timeout")
        }
        UpstreamError::ResetBeforeHead { .. } => {
            outcome(Upstream, 502, grpc::UNAVAILABLE, "UC", "upstream_reset_before_head")
        }
        UpstreamError::MalformedResponse { .. } => {
            outcome(Upstream, 502, grpc::UNAVAILABLE, "UPE", "upstream_malformed_response")
        }
        UpstreamError::RequestBody(error) => body_outcome(error),
        UpstreamError::InvalidRequest { .. } => {
            outcome(Downstream, 400, grpc::INVALID_ARGUMENT, "DPE", "request_cannot_be_sent")
        }
        UpstreamError::UpgradeUnsupported => {
            outcome(Downstream, 501, grpc::UNIMPLEMENTED, "-", "upgrade_unsupported")
        }
    }
}

/// What a failed body means: a request's before the response's head, or a response's.
pub fn body_outcome(error: &BodyError) -> Outcome {
    use Fault::{Downstream, Filter, Operator, Upstream};
    let (flag, name) = body_flag(error);
    let (fault, status, grpc_status) = match error {
        BodyError::DownstreamGone => (Downstream, 400, grpc::UNAVAILABLE),
        BodyError::DownstreamMalformed { .. } => (Downstream, 400, grpc::INVALID_ARGUMENT),
        BodyError::DownstreamIdle => (Downstream, 408, grpc::DEADLINE_EXCEEDED),
        // The codec has counted what the client sent: it is a filter that does not keep its word.
        BodyError::Filter | BodyError::TooLong | BodyError::TooShort => {
            (Filter, 503, grpc::UNAVAILABLE)
        }
        BodyError::Deadline => (Upstream, 504, grpc::DEADLINE_EXCEEDED),
        BodyError::Retired => (Operator, 503, grpc::UNAVAILABLE),
        BodyError::UpstreamReset
        | BodyError::UpstreamTruncated
        | BodyError::UpstreamMalformed
        | BodyError::UpstreamIdle => (Upstream, 502, grpc::UNAVAILABLE),
    };
    Outcome { fault, status, grpc_status, flag, name }
}

/// Response flag and name of a body that failed.
fn body_flag(error: &BodyError) -> (&'static str, &'static str) {
    match error {
        BodyError::DownstreamGone => ("DC", "downstream_remote_disconnect"),
        BodyError::DownstreamMalformed { reason } => ("DPE", reason),
        BodyError::DownstreamIdle => ("SI", "downstream_body_idle"),
        BodyError::TooLong => ("-", "body_longer_than_declared"),
        BodyError::TooShort => ("-", "body_shorter_than_declared"),
        BodyError::UpstreamReset => ("UR", "upstream_reset"),
        BodyError::UpstreamTruncated => ("UC", "upstream_truncated"),
        BodyError::UpstreamMalformed => ("UPE", "upstream_malformed_body"),
        BodyError::UpstreamIdle => ("UT", "upstream_body_idle"),
        BodyError::Filter => ("-", "wasm_fail_stream"),
        BodyError::Deadline => ("UT", "request_timeout"),
        BodyError::Retired => ("-", "filter_generation_retired"),
    }
}

#[cfg(test)]
mod tests;
