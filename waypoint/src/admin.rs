//! The operator's ports: admin (15000, loopback), metrics (15020), health (15021).
//!
//! Everything that changes something is a POST. The admin port answers only requests whose Host is
//! a loopback name: a page in a browser cannot reach it by rebinding a name.

mod dump;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;

use crate::cli::logging::LogHandle;
use crate::drain::Closing;
use crate::metrics::{FilterSource, Metrics};
use crate::resources::{Generations, ReloadResult, Status, Trigger};
use crate::snapshot::Current;
use crate::upstream::Upstreams;

pub use server::serve;

/// What an operator's port answers.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What the admin port shows and does.
pub struct Admin {
    /// What is served.
    pub current: Arc<Current>,
    /// The last build.
    pub status: Status,
    /// Asks for builds.
    pub trigger: Trigger,
    /// The filters.
    pub generations: Arc<Generations>,
    /// The endpoints.
    pub upstreams: Arc<Upstreams>,
    /// The log's level.
    pub log: LogHandle,
    /// Whether the process serves.
    pub health: Health,
}

/// Ready: a snapshot is in force and the process is not draining.
#[derive(Clone)]
pub struct Health {
    started: Arc<AtomicBool>,
    leaving: Arc<AtomicBool>,
    closing: Closing,
}

impl Health {
    /// Not ready until [`Health::start`].
    pub fn new(closing: Closing) -> Self {
        Self { started: Arc::default(), leaving: Arc::default(), closing }
    }

    /// The first snapshot is served.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// It will not be served much longer: whoever asks should go elsewhere.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether new requests should come here.
    pub fn is_ready(&self) -> bool {
        self.started.load(Ordering::Acquire)
            && !self.leaving.load(Ordering::Acquire)
            && !self.closing.is_closing()
    }

    fn answer(&self) -> Answer {
        match self.is_ready() {
            true => text(StatusCode::OK, "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        }
    }
}

const INDEX: &str = "\
GET  /ready        200 when new requests should come here
GET  /config       what the last reload came to: problems, notes, statuses
GET  /config_dump  what is served: entrances, routes, services, filters
GET  /filters      each filter: generation, VMs, calls, time, traps, memory, verdicts
GET  /endpoints    each endpoint: outstanding requests, connections
GET  /logging      the log's filter
POST /logging?level=FILTER   sets it: off, error, warn, info, debug, trace, or target=level,…
POST /reload       reads the files again; 200 applied or unchanged, 422 refused
";

impl Admin {
    /// Answers one request of the admin port.
    pub async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !is_loopback(request) {
            return text(StatusCode::FORBIDDEN, "the Host must be a loopback name\n");
        }
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET, "/" | "/help") => text(StatusCode::OK, INDEX),
            (&Method::GET, "/ready" | "/healthz/ready") => self.health.answer(),
            (&Method::GET, "/config") => json(StatusCode::OK, &dump::config(self)),
            (&Method::GET, "/config_dump") => json(StatusCode::OK, &dump::model(self)),
            (&Method::GET, "/filters") => {
                json(StatusCode::OK, &dump::filters(&self.generations.samples()))
            }
            (&Method::GET, "/endpoints") => json(StatusCode::OK, &dump::endpoints(&self.upstreams)),
            (&Method::GET, "/logging") => text(StatusCode::OK, &format!("{}\n", self.log.filter())),
            (&Method::POST, "/logging") => self.set_logging(request.uri().query()),
            (&Method::POST, "/reload") => self.reload().await,
            (_, "/logging") => method_not_allowed("GET, POST"),
            (_, "/reload") => method_not_allowed("POST"),
            (_, "/" | "/help" | "/ready" | "/healthz/ready") => method_not_allowed("GET"),
            (_, "/config" | "/config_dump" | "/filters" | "/endpoints") => {
                method_not_allowed("GET")
            }
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn set_logging(&self, query: Option<&str>) -> Answer {
        let level = query.and_then(|query| query.strip_prefix("level="));
        let Some(level) = level else {
            return text(StatusCode::BAD_REQUEST, "expected /logging?level=FILTER\n");
        };
        match self.log.set(level) {
            Ok(()) => text(StatusCode::OK, &format!("{}\n", self.log.filter())),
            Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        }
    }

    async fn reload(&self) -> Answer {
        let Some(report) = self.trigger.reload().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the process ends\n");
        };
        let status = match report.result {
            ReloadResult::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadResult::Applied | ReloadResult::Unchanged => StatusCode::OK,
        };
        json(status, &report)
    }
}

/// The metrics port.
pub fn stats(metrics: &Metrics, request: &Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/stats/prometheus" | "/metrics") => metrics_text(&metrics.render()),
        (_, "/stats/prometheus" | "/metrics") => method_not_allowed("GET"),
        _ => text(StatusCode::NOT_FOUND, "GET /stats/prometheus\n"),
    }
}

/// The health port.
pub fn health(health: &Health, request: &Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz/ready") => health.answer(),
        (_, "/healthz/ready") => method_not_allowed("GET, HEAD"),
        _ => text(StatusCode::NOT_FOUND, "GET /healthz/ready\n"),
    }
}

fn is_loopback(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "[::1]")
        || name.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback())
}

/// Metrics in the text form of OpenMetrics.
pub(crate) fn metrics_text(metrics: &str) -> Answer {
    let mut answer = text(StatusCode::OK, metrics);
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    answer
}

pub(crate) fn text(status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let mut bytes = serde_json::to_vec_pretty(body).expect("dumps are plain values");
    bytes.push(b'\n');
    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(crate) fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed: {allow}\n"));
    answer.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(allow));
    answer
}
