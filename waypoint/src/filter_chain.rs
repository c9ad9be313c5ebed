//! Stage 5: the filters of a request, run in order on its way up and in reverse on its way down.
//!
//! Takes a request and the filters that apply; gives the request as the filters left it, its body
//! wrapped so that each chunk passes them as it streams. It refuses with a filter's own reply, or
//! by the failure policy of a filter that failed. Dropping a request here ends its contexts; a
//! callback that runs is finished in a task (design decision 2).
//!
//! Fails closed: a filter that cannot be run refuses the request unless its policy is `Open`.

mod attributes;
mod convert;
pub mod host;
mod layer;
mod pass;
mod verify_signature;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::select_all;
use http::{Method, Request, StatusCode};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use waypoint_abi::{Direction, Generation, LocalReply, Stats, Stream};
use waypoint_policies::{FailurePolicy, Filter, FilterKey, FilterMatch};

use crate::access_log::Record;
use crate::codec::body::Body;
use crate::error::RequestError;
use crate::snapshot::FilterSlot;

pub use attributes::StreamFacts;
pub use attributes::protocol;
pub use convert::{header_map, is_grpc};

/// A filter of a snapshot that runs: how it is applied, and what runs it.
pub struct ActiveFilter {
    /// As the operator wants it.
    pub config: Arc<Filter>,
    /// Its VMs; shared by snapshots that want the same.
    pub running: Arc<Running>,
}

/// One generation of a filter: its VMs, and the end of it.
pub struct Running {
    /// The VMs.
    pub generation: Arc<Generation>,
    /// Which generation of this filter this is, counted from 1.
    pub number: u64,
    /// Cancelled when too many newer generations live; its streams are then ended.
    pub retired: CancellationToken,
    /// What it has done is added here when it ends, so that counters never go back.
    pub past: Arc<Mutex<Stats>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.generation.close();
        add_counts(&mut self.past.lock(), &self.generation.stats());
    }
}

/// Adds what counts up; gauges (VMs, memory, streams) belong to the living.
pub fn add_counts(total: &mut Stats, more: &Stats) {
    total.calls += more.calls;
    total.guest_time += more.guest_time;
    total.traps += more.traps;
    total.deadlines += more.deadlines;
    total.stream_walls += more.stream_walls;
    total.busy += more.busy;
    total.stream_cpu += more.stream_cpu;
    total.cpu_share += more.cpu_share;
    total.no_vm += more.no_vm;
    total.body_too_large += more.body_too_large;
    total.vm_starts += more.vm_starts;
    total.callouts += more.callouts;
    total.verdicts.continued += more.verdicts.continued;
    total.verdicts.paused += more.verdicts.paused;
    total.verdicts.replied += more.verdicts.replied;
    total.verdicts.reset += more.verdicts.reset;
}

/// Why the chain ended a request.
pub enum Interruption {
    /// A filter's own reply.
    Reply {
        /// Who replied.
        filter: Arc<str>,
        /// What.
        reply: Box<LocalReply>,
    },
    /// An error.
    Error(RequestError),
}

impl From<RequestError> for Interruption {
    fn from(error: RequestError) -> Self {
        Self::Error(error)
    }
}

/// A message in hand: its head as the guests see it, and its body.
pub(crate) struct Exchange {
    pub(crate) head: waypoint_abi::Headers,
    pub(crate) body: Body,
    /// Whether the body has ended with what was read so far.
    pub(crate) ended: bool,
}

/// One filter's context of a request.
pub(crate) struct Attached {
    pub(crate) filter: Arc<ActiveFilter>,
    pub(crate) stream: Stream,
    /// Set when the filter failed under `Open`: nothing more is asked of it.
    bypassed: AtomicBool,
}

impl Attached {
    pub(crate) fn name(&self) -> &str {
        &self.filter.running.generation.spec().name
    }

    pub(crate) fn is_bypassed(&self) -> bool {
        self.bypassed.load(Ordering::Relaxed)
    }

    pub(crate) fn bypass(&self) {
        self.bypassed.store(true, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.filter.config.failure_policy == FailurePolicy::Open
    }
}

/// Where a body layer leaves the reason for which it ended a message.
pub(crate) type InterruptionSlot = Arc<Mutex<Option<Interruption>>>;

/// The filters of one request that have a context, in the order in which they ran.
pub struct Chain {
    attached: Vec<Arc<Attached>>,
    /// Filters that could not be opened and whose policy is `Open`.
    passed_by: Vec<FilterKey>,
    facts: Arc<StreamFacts>,
    interruption: InterruptionSlot,
    grpc: bool,
}

impl Chain {
    /// An empty chain for a request.
    pub fn new(facts: Arc<StreamFacts>) -> Self {
        let (attached, passed_by, interruption) = Default::default();
        Self { attached, passed_by, facts, interruption, grpc: false }
    }

    /// What the guests may read of the request.
    pub fn facts(&self) -> &StreamFacts {
        &self.facts
    }

    /// Whether no filter sees this request.
    pub fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Whether a filter has run, or was passed by under its policy.
    pub fn has_run(&self, key: &FilterKey) -> bool {
        self.passed_by.contains(key)
            || self.attached.iter().any(|attached| attached.filter.config.key == *key)
    }

    /// Takes the reason for which a filter ended the request's body, if one did.
    pub fn take_interruption(&self) -> Option<Interruption> {
        self.interruption.lock().take()
    }

    /// Runs those of `filters` that match and have not run on the request.
    ///
    /// # Errors
    ///
    /// A filter's reply, or the error of a filter that failed.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call ends the request.
    pub async fn request(
        &mut self,
        filters: &[FilterSlot],
        request: &mut Request<Body>,
    ) -> Result<(), Interruption> {
        let wanted: Vec<&FilterSlot> =
            filters.iter().filter(|slot| self.wants(slot, request)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        // In a box: a request without filters does not carry what theirs take.
        Box::pin(self.pass_request(wanted, request)).await
    }

    async fn pass_request(
        &mut self,
        wanted: Vec<&FilterSlot>,
        request: &mut Request<Body>,
    ) -> Result<(), Interruption> {
        self.grpc = is_grpc(request.headers());
        let before = convert::request_head(request);
        let body = std::mem::take(request.body_mut());
        let ended = http_body::Body::is_end_stream(&body);
        let mut exchange = Exchange { head: before.clone(), body, ended };
        for slot in wanted {
            if let Some(attached) = self.attach(slot).await? {
                pass::head(&attached, Direction::Request, &mut exchange, &self.interruption)
                    .await?;
            }
        }
        if exchange.head != before {
            convert::apply_request(&before, &exchange.head, request);
        }
        *request.body_mut() = layer::check_length(request.headers_mut(), exchange);
        Ok(())
    }

    fn wants(&self, slot: &FilterSlot, request: &Request<Body>) -> bool {
        match slot {
            FilterSlot::Active(filter) => {
                let (method, path) = (request.method(), request.uri().path());
                matches(&filter.config.matches, method, path, self.facts.port())
                    && !self.has_run(&filter.config.key)
            }
            FilterSlot::Denied { .. } => true,
        }
    }

    /// Opens a context, unless the failure policy passes the filter by.
    async fn attach(&mut self, slot: &FilterSlot) -> Result<Option<Arc<Attached>>, RequestError> {
        let filter = match slot {
            FilterSlot::Active(filter) => filter,
            FilterSlot::Denied { open: true, .. } => return Ok(None),
            FilterSlot::Denied { key, .. } => {
                return Err(RequestError::PolicyRefused { resource: format!("filter {key}") });
            }
        };
        let facts = Arc::clone(&self.facts);
        match filter.running.generation.open(facts).await {
            Ok(stream) => {
                let attached = Arc::new(Attached {
                    filter: Arc::clone(filter),
                    stream,
                    bypassed: AtomicBool::new(false),
                });
                self.attached.push(Arc::clone(&attached));
                Ok(Some(attached))
            }
            Err(_) if filter.config.failure_policy == FailurePolicy::Open => {
                self.passed_by.push(filter.config.key.clone());
                Ok(None)
            }
            Err(fault) => Err(RequestError::FilterFailed {
                filter: filter.config.key.to_string(),
                kind: fault.kind,
            }),
        }
    }

    /// Runs the filters in reverse on a response; a filter's reply or failure becomes the response
    /// that the remaining filters see.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call ends the request.
    pub async fn response(
        &self,
        response: http::Response<Body>,
        record: &mut Record,
    ) -> http::Response<Body> {
        let asks_nothing = |attached: &Arc<Attached>| {
            let hooks = attached.filter.running.generation.hooks();
            !(hooks.response_headers || hooks.response_body || hooks.response_trailers)
        };
        if self.attached.iter().all(asks_nothing) {
            return response;
        }
        Box::pin(self.pass_response(response, record)).await
    }

    async fn pass_response(
        &self,
        response: http::Response<Body>,
        record: &mut Record,
    ) -> http::Response<Body> {
        let (mut parts, body) = response.into_parts();
        let before = convert::response_head(&parts);
        let ended = http_body::Body::is_end_stream(&body);
        let mut exchange = Exchange { head: before.clone(), body, ended };
        for attached in self.attached.iter().rev() {
            let passed =
                pass::head(attached, Direction::Response, &mut exchange, &self.interruption).await;
            if let Err(interruption) = passed {
                attached.bypass();
                record.interrupted(&interruption);
                let (head, body) =
                    crate::response::of_interruption(interruption, self.grpc).into_parts();
                let ended = http_body::Body::is_end_stream(&body);
                exchange = Exchange { head: convert::response_head(&head), body, ended };
            }
        }
        if exchange.head != before {
            convert::apply_response(&before, &exchange.head, &mut parts);
        }
        // What HEAD and 304 do not carry has its length all the same.
        let unsent = record.method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
        let body = match unsent {
            true => exchange.body,
            false => layer::check_length(&mut parts.headers, exchange),
        };
        http::Response::from_parts(parts, body)
    }

    /// Ends every context: nothing more of this request passes the filters. A WebSocket that lives
    /// for days does not keep a generation alive.
    pub fn end_contexts(&mut self) {
        self.attached.clear();
    }

    /// Resolves when a generation that this chain keeps alive is retired; never without one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds no state between polls.
    pub fn retired(&self) -> impl Future<Output = ()> + Send + 'static {
        let tokens = self.attached.iter().map(|attached| attached.filter.running.retired.clone());
        let retired: Vec<_> =
            tokens.map(|token| Box::pin(CancellationToken::cancelled_owned(token))).collect();
        async move {
            match retired.is_empty() {
                true => std::future::pending().await,
                false => drop(select_all(retired).await),
            }
        }
    }
}

/// Whether a filter with these matches sees a request.
pub fn matches(matches: &[FilterMatch], method: &Method, path: &str, port: u16) -> bool {
    matches.is_empty() || matches.iter().any(|one| one.holds(method, path, port))
}
