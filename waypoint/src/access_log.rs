//! One record per request: opened when its head is read, written when its response ends.
//!
//! A [`Record`] writes itself on drop, so a request that is cancelled anywhere is recorded too.
//! Until the request's filters have run, a record knows of the request only its method, its path
//! without the query, and ids of fixed form: no header, query or body value enters it before
//! redaction has had its chance (design decision 15). A request that is refused earlier is recorded
//! without them.

mod counted;
mod line;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Version};
use http_body::Frame;
use tokio::time::Instant;
use waypoint_policies::ServicePortKey;

use crate::codec::body::Body;
use crate::codec::{ConnectionInfo, Refusal};
use crate::error::{Outcome, RequestError};
use crate::filter_chain::Interruption;
use crate::metrics::Metrics;
use crate::overload::Running;
use crate::route::RouteId;
use crate::trace::TraceIds;

pub use line::{Format, timestamp};
pub use writer::AccessLog;

/// Where records go: the metrics always, the access log when it is on.
pub struct Records {
    metrics: Arc<Metrics>,
    log: Option<(AccessLog, Format)>,
}

impl Records {
    /// Records into `metrics`, and into `log` in its format.
    pub fn new(metrics: Arc<Metrics>, log: Option<(AccessLog, Format)>) -> Arc<Self> {
        Arc::new(Self { metrics, log })
    }

    /// Records a request that the codec refused before there was one: the check's name, and
    /// nothing that the peer sent.
    pub fn refused(self: &Arc<Self>, refusal: &Refusal, connection: &ConnectionInfo) {
        if *refusal == Refusal::Panicked {
            // Its record has written itself.
            return self.metrics.refused(refusal.name());
        }
        let connection = Arc::new(connection.clone());
        let mut record = Record::blank(self, &connection, Version::HTTP_11);
        record.status = refusal.status().as_u16();
        record.flag = "DPE";
        record.details = refusal.name();
    }

    fn write(&self, record: &Record) {
        let duration = record.started.elapsed();
        self.metrics.request(record, duration);
        // A body's refusal comes when it is read: its request has a record of its own by then.
        let refused = || Refusal::ALL.iter().any(|refusal| refusal.name() == record.details);
        if record.flag == "DPE" && refused() {
            self.metrics.refused(record.details);
        }
        if let Some((log, format)) = &self.log {
            log.write(|out| line::write(out, *format, record, duration));
        }
    }
}

/// What a request shows once its filters have run.
pub(crate) struct Shown {
    pub(crate) target: String,
    pub(crate) authority: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) forwarded_for: Option<String>,
}

/// One request's record.
pub struct Record {
    sink: Arc<Records>,
    pub(crate) connection: Arc<ConnectionInfo>,
    pub(crate) time: SystemTime,
    started: Instant,
    pub(crate) method: http::Method,
    /// Without the query; empty when there is no access log.
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) grpc: bool,
    pub(crate) ids: Option<TraceIds>,
    pub(crate) shown: Option<Shown>,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) flag: &'static str,
    pub(crate) details: &'static str,
    /// The filter that ended the request, if one did.
    pub(crate) filter: Option<Arc<str>>,
    pub(crate) received: Arc<AtomicU64>,
    pub(crate) sent: u64,
    pub(crate) route: Option<RouteId>,
    pub(crate) service: Option<Arc<ServicePortKey>>,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) attempts: u32,
    pub(crate) upstream_time: Option<Duration>,
    /// The request's places among those that run: it runs as long as it is not recorded.
    #[allow(dead_code, reason = "held, not read")]
    running: Option<Running>,
}

impl Record {
    /// Opens the record of a request. 0 and `DC` are what a client that went away is recorded as,
    /// until told otherwise.
    pub fn open(
        sink: &Arc<Records>,
        connection: &Arc<ConnectionInfo>,
        request: &Request<Body>,
        ids: &TraceIds,
    ) -> Self {
        let mut record = Self::blank(sink, connection, request.version());
        record.method = request.method().clone();
        record.grpc = crate::filter_chain::is_grpc(request.headers());
        if sink.log.is_some() {
            request.uri().path().clone_into(&mut record.path);
            record.ids = Some(ids.clone());
        }
        record
    }

    fn blank(sink: &Arc<Records>, connection: &Arc<ConnectionInfo>, version: Version) -> Self {
        Self {
            sink: Arc::clone(sink),
            connection: Arc::clone(connection),
            time: SystemTime::now(),
            started: Instant::now(),
            method: http::Method::GET,
            path: String::new(),
            version,
            grpc: false,
            ids: None,
            shown: None,
            status: 0,
            grpc_status: None,
            flag: "DC",
            details: "downstream_remote_disconnect",
            filter: None,
            received: Arc::default(),
            sent: 0,
            route: None,
            service: None,
            upstream: None,
            attempts: 0,
            upstream_time: None,
            running: None,
        }
    }

    /// The request's places among those that run are kept until it is recorded.
    pub fn hold(&mut self, running: Option<Running>) {
        self.running = running;
    }

    /// Counts the request's body into this record as it is read.
    pub fn count(&self, request: &mut Request<Body>) {
        Body::replace(request, |body| counted::counted(body, Arc::clone(&self.received)));
    }

    /// When the request's head was read.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Takes over what the access log may show of a request: call it once all its filters have run.
    pub fn show(&mut self, request: &Request<Body>) {
        if self.sink.log.is_none() {
            return;
        }
        let text = |name: &str| {
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        self.shown = Some(Shown {
            target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            authority: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
            user_agent: text("user-agent"),
            forwarded_for: text("x-forwarded-for"),
        });
    }

    /// The response's head is decided.
    pub fn head(&mut self, response: &http::response::Parts) {
        self.status = response.status.as_u16();
        self.note_grpc_status(&response.headers);
    }

    /// The proxy answers an error itself.
    pub fn failed(&mut self, outcome: &Outcome) {
        if self.status == 0 {
            self.status = outcome.status;
        }
        self.flag = outcome.flag;
        self.details = outcome.name;
    }

    /// A filter, or an error, ended the request or replaced its response.
    pub fn interrupted(&mut self, interruption: &Interruption) {
        match interruption {
            Interruption::Reply { filter, .. } => {
                self.filter = Some(Arc::clone(filter));
                self.cut("wasm_local_reply");
            }
            Interruption::Error(error) => {
                let outcome = error.outcome();
                self.filter = error.filter().map(Arc::from);
                self.failed(&outcome);
                tracing::debug!(error = %chain_of(error), details = outcome.name, "request failed");
            }
        }
    }

    /// Does nothing unless a panic is unwinding: then that is what ended the request.
    pub fn unwound(&mut self) {
        if std::thread::panicking() {
            self.failed(&RequestError::Panicked.outcome());
        }
    }

    /// The response was cut after its head.
    pub fn cut(&mut self, details: &'static str) {
        self.flag = "-";
        self.details = details;
    }

    /// A frame of the response went to the codec.
    pub fn sent(&mut self, frame: &Frame<Bytes>) {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.sent += data.len() as u64,
            (None, Some(trailers)) => self.note_grpc_status(trailers),
            (None, None) => {}
        }
    }

    /// Whether the codec will read the response's body.
    ///
    /// # Source
    ///
    /// RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5: HEAD, 204 and 304 have none.
    pub fn expects_body(&self) -> bool {
        self.method != http::Method::HEAD && !matches!(self.status, 204 | 304)
    }

    /// The response ended well. An error that the proxy answered keeps its flag.
    pub fn complete(&mut self) {
        if self.flag == "DC" {
            self.flag = "-";
        }
    }

    fn note_grpc_status(&mut self, headers: &http::HeaderMap) {
        let status = headers.get("grpc-status").and_then(|value| value.to_str().ok());
        if let Some(status) = status.and_then(|text| text.parse().ok()) {
            self.grpc_status = Some(status);
        }
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// An error with its causes, outermost first.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl Drop for Record {
    fn drop(&mut self) {
        self.unwound();
        self.sink.write(self);
    }
}

#[cfg(test)]
mod tests;
