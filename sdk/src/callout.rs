//! HTTP calls to upstreams, beside the exchange.

use std::fmt;
use std::time::Duration;

use crate::host::{self, Buffer, Map};

/// A call to make.
#[derive(Clone, Debug)]
pub struct Callout<'a> {
    /// Whom to call: on Waypoint `name.namespace:port`, on Envoy the name of a cluster.
    pub upstream: &'a str,
    /// `:method`, `:path`, `:authority` and the rest.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, empty for none.
    pub body: &'a [u8],
    /// How long the call may take, until the end of its answer.
    pub timeout: Duration,
}

/// Names a call within its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u32);

/// Why the host did not make a call; its log says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The upstream is unknown, or a pseudo-header is missing.
    Refused,
    /// The host could not send it now: a limit, or no endpoint.
    Failed,
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Refused => "the host refused the call: unknown upstream or missing pseudo-header",
            Self::Failed => "the host could not send the call",
        })
    }
}

impl std::error::Error for CallError {}

/// How a call ended. Valid only in the callback that gets it.
#[derive(Debug)]
pub struct Answer {
    /// The status. Hosts answer 503 for an upstream that they did not reach and 504 for a timeout;
    /// `None` when the host tells only that the call failed.
    pub status: Option<u16>,
    /// Every header; empty when the call failed.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body's length in bytes.
    pub body_len: usize,
}

impl Answer {
    pub(crate) fn new(headers: usize, body_len: usize) -> Self {
        let headers = if headers == 0 { Vec::new() } else { host::map(Map::CallHeaders) };
        let status = headers.iter().find(|(name, _)| name == ":status");
        let status = status.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        Self { status, headers, body_len }
    }

    /// A copy of the body's first `max` bytes: look at `body_len` first.
    pub fn body(&self, max: usize) -> Vec<u8> {
        let max = max.min(self.body_len);
        if max == 0 { Vec::new() } else { host::buffer(Buffer::Call, 0, max) }
    }
}
