//! What the embedder provides: tasks, logs, callouts, attributes.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;

use crate::{
    headers::Headers,
    spec::FilterSpec,
    status::{LogLevel, Status},
};

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The embedder, as this crate sees it.
///
/// Every function is called from inside a guest's callback or a task of this crate: it must
/// neither block nor panic.
pub trait Host: Send + Sync + 'static {
    /// Runs a task to its end. The only door to tasks; it must have a tokio runtime with time.
    fn spawn(&self, task: BoxFuture<()>);

    /// Takes one log line, already within the filter's bounds.
    fn log(&self, filter: &FilterSpec, level: LogLevel, message: &str);

    /// The level below which lines are dropped.
    fn log_level(&self) -> LogLevel;

    /// Starts an HTTP callout. The answer's body must be bounded by the embedder.
    ///
    /// # Errors
    ///
    /// Refused before anything was sent (unknown upstream, missing pseudo-header): the guest gets
    /// `BAD_ARGUMENT` and the reason is logged.
    fn http_call(
        &self,
        filter: &FilterSpec,
        call: HttpCall,
    ) -> Result<BoxFuture<HttpCallAnswer>, CallRefused>;

    /// Runs a foreign function. `None` is an unknown name, which the guest sees as `NOT_FOUND`.
    ///
    /// `clear_route_cache` and `waypoint_ready` never come here.
    fn foreign(
        &self,
        filter: &FilterSpec,
        name: &str,
        arguments: &[u8],
    ) -> Option<Result<Vec<u8>, Status>>;
}

/// What only the embedder knows about a stream.
pub trait Attributes: Send + Sync + 'static {
    /// The value at `path`, encoded as the ABI has it; `None` is unknown.
    ///
    /// Strings are raw bytes, integers 8 bytes little endian, booleans one byte, times and
    /// durations nanoseconds in 8 bytes, maps [`encode_pairs`](crate::encode_pairs).
    fn get(&self, path: &[&str]) -> Option<Vec<u8>>;
}

/// An HTTP callout of a guest.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// The upstream's name as the guest wrote it.
    pub upstream: String,
    /// The request's head.
    pub headers: Headers,
    /// The request's body.
    pub body: Bytes,
    /// The request's trailers.
    pub trailers: Headers,
    /// When to give up; never zero.
    pub timeout: Duration,
}

/// How a callout ended.
///
/// A failure looks like a response, as in Envoy: 503 where no connection was made or kept, 504
/// after the timeout, each with a text body.
#[derive(Clone, Debug)]
pub struct HttpCallAnswer {
    /// The response's head, with `:status`.
    pub headers: Headers,
    /// The response's body.
    pub body: Bytes,
    /// The response's trailers.
    pub trailers: Headers,
}

/// A callout that was not sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct CallRefused {
    /// Why, for the log: what is missing or unknown, and what is known.
    pub reason: String,
}
