//! The checked model: what the resources mean, with every reference resolved.
//!
//! A [`Model`] is a value: it is built once by [`crate::check`], never changed, and shared by every
//! request of a snapshot. Nothing in it refers to a socket, a clock or a runtime.

mod clients;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

pub use clients::{ClientAuthority, ClientValidation, ValidationMode};

use crate::locality::{Distribution, Endpoint};
use crate::redirect::Redirection;
use crate::route::{Cors, Redirect, Rewrite, RouteTable};
use crate::status::Status;

/// The desired state that all resources together describe.
#[derive(Debug, Default)]
pub struct Model {
    /// Every socket to listen on, ordered by name.
    pub entrances: Vec<Arc<Entrance>>,
    /// Every service port, by key.
    pub services: BTreeMap<ServicePortKey, Arc<ServicePort>>,
    /// Every filter, by key.
    pub filters: BTreeMap<FilterKey, Arc<Filter>>,
    /// What the redirection does with each TCP port of each Service.
    pub redirections: BTreeMap<ServicePortKey, Redirection>,
    /// The status of each resource that has one, for `/config`.
    pub statuses: Vec<(ResourceKey, Status)>,
}

/// Names a resource: kind, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ResourceKey {
    /// The kind, as written in YAML: `HTTPRoute`.
    pub kind: String,
    /// The namespace; `default` where the file names none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One socket to listen on, and how a request that arrives there is routed.
#[derive(Debug)]
pub struct Entrance {
    /// `gateway/NAMESPACE/PORT` for the merged listeners of a namespace's Gateways on a port,
    /// `service/NAMESPACE/NAME:PORT` for a service port (GAMMA).
    pub name: Arc<str>,
    /// The port to bind. For a Gateway the listener's; for a service the one that
    /// [`crate::ports::Numbering`] gave it (20000–29999).
    pub port: u16,
    /// Where requests come from.
    pub kind: EntranceKind,
    /// Certificates by server name, where the listeners are HTTPS.
    pub tls: Option<Tls>,
    /// Filters of the namespace, the Gateway or the Service, in the order in which they run on
    /// requests; they run before the route is final.
    pub filters: Vec<FilterKey>,
    /// The routes.
    pub routes: RouteTable,
}

/// What an [`Entrance`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntranceKind {
    /// Listeners of Gateways, selected by Host.
    Gateway,
    /// One service port: the port names the service (design decision 11). When no route matches
    /// because none is attached, the request goes to the service itself.
    Service(ServicePortKey),
}

/// The certificates of an HTTPS entrance, most specific name first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Each listener's hostname (`None` = any) with its certificate.
    pub certificates: Vec<(Option<Hostname>, Certificate)>,
    /// What is asked of clients; `None` = no certificate.
    pub clients: Option<ClientValidation>,
}

/// One certificate chain with its key, both PEM, as the Secret (`kubernetes.io/tls`) holds them.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret, as `NAMESPACE/NAME`.
    pub secret: String,
    /// `tls.crt`.
    pub chain_pem: Arc<str>,
    /// `tls.key`. Never printed.
    pub key_pem: Arc<str>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Certificate").field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// A hostname of a listener or a route: exact, or `*.suffix`. Lower case, no trailing dot.
///
/// # Source
///
/// Gateway API, `Hostname`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// `api.example.com`
    Exact(String),
    /// `*.example.com`, held as `example.com`; matches one label or more.
    Wildcard(String),
}

/// Names one port of a service.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
pub struct ServicePortKey {
    /// The namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The service port (not the target port).
    pub port: u16,
}

impl fmt::Display for ServicePortKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}

impl FromStr for ServicePortKey {
    type Err = String;

    /// Reads what [`fmt::Display`] writes: `NAMESPACE/NAME:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let key = || {
            let (namespace, rest) = text.split_once('/')?;
            let (name, port) = rest.split_once(':')?;
            let port = port.parse().ok()?;
            Some(Self { namespace: namespace.to_owned(), name: name.to_owned(), port })
        };
        key().ok_or_else(|| format!("expected NAMESPACE/NAME:PORT, not `{text}`"))
    }
}

/// One service port with the addresses behind it.
#[derive(Debug)]
pub struct ServicePort {
    /// Its name.
    pub key: ServicePortKey,
    /// What is spoken to its endpoints.
    pub protocol: AppProtocol,
    /// TLS towards its endpoints; `None` = plain text. `Err`: a BackendTLSPolicy covers the port and
    /// cannot be used, so that nothing may be sent (the reason, for people).
    pub tls: Option<Result<Arc<BackendTls>, String>>,
    /// How far its traffic may travel.
    pub distribution: Distribution,
    /// Ready endpoints, from EndpointSlices or the name of an ExternalName service, in order; where there is none, those that are about
    /// to end and still serve. Empty means 503.
    pub endpoints: Vec<Endpoint>,
    /// Filters attached to this Service. Whoever is routed here must have run them: an entrance of
    /// the service runs them first, a Gateway's route adds those that have not run.
    pub filters: Vec<FilterKey>,
}

/// How an endpoint proves who it is.
///
/// # Source
///
/// Gateway API, `BackendTLSPolicyValidation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// The policy that says so.
    pub policy: ResourceKey,
    /// The server name that is sent. The certificate must be valid for it, unless there are
    /// `subject_alt_names`.
    pub hostname: String,
    /// When there are any, the certificate must have one of these, and only these are looked at.
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Who may have issued the certificate.
    pub trust: Trust,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A DNS name; `*.suffix` is one that the certificate must have as it stands.
    Dns(Hostname),
    /// A URI, compared byte by byte.
    Uri(String),
}

/// Who may have issued a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whom the machine trusts.
    System,
    /// These only.
    Certificates(Vec<CaCertificates>),
}

/// Certificates of a ConfigMap (`ca.crt`), PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificates {
    /// The ConfigMap, as `NAMESPACE/NAME`.
    pub config_map: String,
    /// All that stands there.
    pub pem: Arc<str>,
}

/// What is spoken to an endpoint.
///
/// # Source
///
/// Kubernetes `appProtocol`: `http`, `kubernetes.io/h2c`, `grpc`; or the port's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// gRPC: HTTP/2 with prior knowledge, errors as gRPC status.
    Grpc,
    /// Not declared HTTP: may be a backend (HTTP/1.1), never needs L7 of its own.
    Undeclared,
}

/// One rule of a route, ready to be followed.
#[derive(Debug)]
pub struct Rule {
    /// `NAMESPACE/ROUTE/INDEX` (or the rule's name in place of the index), for logs.
    pub id: Arc<str>,
    /// The route that it belongs to; apart, for requests read it only where routes are denied.
    pub route: Box<ResourceKey>,
    /// Filters attached to the route, in the order in which they run; they run once the route is
    /// final, and add to those that ran before.
    pub filters: Vec<FilterKey>,
    /// What it does by itself.
    pub actions: Arc<Actions>,
    /// `timeouts.request`: from the request's head to the end of the response; `None` = no bound.
    pub request_timeout: Option<Duration>,
    /// `timeouts.backendRequest`: one attempt, until its response's head.
    pub backend_timeout: Option<Duration>,
    /// Weighted backends. None, or all of weight zero: the rule answers 500 (Gateway API). One, as most
    /// rules have, is in here: a request among thousands of rules finds none of them in a cache.
    pub backends: SmallVec<[Backend; 1]>,
}

/// What a rule, or one of its backends, does by itself: the filters of the Gateway API.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// `requestHeaderModifier`.
    pub request_headers: HeaderEdits,
    /// `responseHeaderModifier`.
    pub response_headers: HeaderEdits,
    /// `requestRedirect`: the answer is a redirect. A rule that has one has no backend.
    pub redirect: Option<Arc<Redirect>>,
    /// `urlRewrite`: what the upstream gets in place of host and path. A backend's has that of its
    /// rule in it, where it changes nothing itself.
    pub rewrite: Option<Rewrite>,
    /// `cors`: preflights are answered by ourselves.
    pub cors: Option<Arc<Cors>>,
    /// `requestMirror`: who gets copies; one that cannot be resolved is left out.
    pub mirrors: Vec<Mirror>,
}

impl Actions {
    /// Whether they do nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.request_headers.is_empty()
            && self.response_headers.is_empty()
            && self.redirect.is_none()
            && self.rewrite.is_none()
            && self.cors.is_none()
            && self.mirrors.is_empty()
    }

    /// The same for many to hold. All that do nothing are one: most are, and what a request among
    /// thousands of rules reads of its own is seldom in a cache.
    pub(crate) fn shared(self) -> Arc<Self> {
        static NONE: LazyLock<Arc<Actions>> = LazyLock::new(Arc::default);
        if self.is_empty() { Arc::clone(&NONE) } else { Arc::new(self) }
    }

    /// Takes from the rule what a backend does not change itself. Both were written for the path
    /// that the rule matches, so one is never applied to what the other has made.
    pub(crate) fn inherit_rewrite(&mut self, of_rule: &Rewrite) {
        let own = self.rewrite.take();
        let (hostname, path) = own.map_or((None, None), |own| (own.hostname, own.path));
        self.rewrite = Some(Rewrite {
            hostname: hostname.or_else(|| of_rule.hostname.clone()),
            path: path.or_else(|| of_rule.path.clone()),
        });
    }
}

/// A service port that gets copies of a rule's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The service port.
    pub target: Arc<ServicePortKey>,
    /// How many of how many requests are copied.
    pub share: (u32, u32),
}

/// One weighted backend of a rule.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its share; relative to the sum of the rule's weights.
    pub weight: u32,
    /// The service port, or why it cannot be used: that share of the requests gets 500. Backends
    /// that mean the same one share it.
    pub target: Result<Arc<ServicePortKey>, BackendFault>,
    /// Filters that this backend names, in the order in which they run.
    pub filters: Vec<FilterKey>,
    /// What its own filters do, after those of the rule.
    pub actions: Arc<Actions>,
}

/// Why a backend cannot be used.
///
/// # Source
///
/// Gateway API, `ResolvedRefs` reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum BackendFault {
    /// No such Service or port.
    BackendNotFound,
    /// Another namespace, and no ReferenceGrant allows it.
    RefNotPermitted,
    /// Not a Service.
    InvalidKind,
    /// It names a filter that is not there, and that must not be skipped.
    FilterNotFound,
}

impl BackendFault {
    /// The reason in the words of the API; `InvalidFilter` is ours.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::BackendNotFound => "BackendNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidKind => "InvalidKind",
            Self::FilterNotFound => "InvalidFilter",
        }
    }
}

/// Header edits, in the order of the Gateway API: set, add, remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaced or set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appended.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether there is nothing to edit.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Applies the edits: set, add, remove.
    pub fn apply(&self, headers: &mut http::HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// Names a filter: namespace and name of its `Filter` or `WasmPlugin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct FilterKey {
    /// The kind: `Filter` or `WasmPlugin`.
    pub kind: String,
    /// The namespace; also the owner.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for FilterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// A filter as its operator wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Its name.
    pub key: FilterKey,
    /// Where its module comes from.
    pub module: ModuleSource,
    /// Lower-case hexadecimal SHA-256 that the module's bytes must have.
    pub sha256: Option<String>,
    /// The root context's id (`pluginName` of a WasmPlugin).
    pub root_id: String,
    /// Text handed to `proxy_on_configure`; `None` = no configuration at all. `Err`: it is kept in a
    /// ConfigMap that cannot be used, so the filter must not start.
    pub config: Result<Option<String>, String>,
    /// Environment of the VM (`vmConfig.env`).
    pub environment: Vec<(String, String)>,
    /// Names of variables whose values the caller takes from its own environment (`valueFrom:
    /// HOST`); one that is not set there is left out.
    pub host_environment: Vec<String>,
    /// Where in the chain it runs.
    pub phase: Phase,
    /// Within a phase, higher first; unset runs after every set one, ties by namespace and name.
    pub priority: Option<i32>,
    /// Which requests it sees; empty = all.
    pub matches: Vec<FilterMatch>,
    /// What happens to a request whose filter failed.
    pub failure_policy: FailurePolicy,
    /// Bounds.
    pub limits: FilterLimits,
    /// Allowed imports and callbacks; `None` = all.
    pub capabilities: Option<Vec<String>>,
    /// Who shares a VM.
    pub isolation: Isolation,
    /// Whether headers wait for the body.
    pub bodies: Bodies,
}

/// Where a module comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModuleSource {
    /// `builtin://pii-redact`
    Builtin(String),
    /// `file://…`: absolute, or relative to the file that names it (resolved when read).
    File(String),
    /// `http://…` or `https://…`
    Http(String),
}

/// Filter phases, in the order in which they run on a request.
///
/// # Source
///
/// Istio `PluginPhase`; the order is that of Istio's waypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Phase {
    /// Before authentication.
    Authn,
    /// After authentication, before authorization.
    Authz,
    /// After authorization.
    Stats,
    /// Last, next to the upstream.
    Unspecified,
}

/// Which requests a filter sees: all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterMatch {
    /// Methods; empty = any.
    pub methods: Vec<http::Method>,
    /// Path prefixes on whole segments; empty = any.
    pub path_prefixes: Vec<String>,
    /// Ports of the entrance (WasmPlugin `match.ports`); empty = any.
    pub ports: Vec<u16>,
}

/// What happens to a stream whose filter failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum FailurePolicy {
    /// The request is refused (503, gRPC UNAVAILABLE).
    #[default]
    Closed,
    /// The filter is skipped.
    Open,
    /// Refused while the VM restarts with backoff; the same as `Closed` for the request in hand.
    Reload,
}

/// Bounds of one filter; `None` = the proxy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FilterLimits {
    /// Linear memory of one VM, in bytes (a multiple of 64 KiB).
    pub memory_bytes: Option<u64>,
    /// CPU time of one callback.
    pub deadline: Option<Duration>,
    /// Body bytes held for one stream and direction.
    pub buffered_body_bytes: Option<u64>,
    /// Streams of one VM.
    pub streams_per_vm: Option<u32>,
    /// Share of one worker's CPU, 0.0–1.0.
    pub cpu_share: Option<f64>,
    /// Callouts of one stream.
    pub callouts_per_stream: Option<u32>,
    /// How long `bodies: BeforeHeaders` may hold the headers.
    pub body_wait: Option<Duration>,
}

/// Who shares a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum Isolation {
    /// Streams of this filter share VMs.
    #[default]
    Shared,
    /// A fresh VM per stream.
    PerRequest,
}

/// Whether headers wait for the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum Bodies {
    /// The headers go on when their callback continues (Envoy's default).
    #[default]
    AfterHeaders,
    /// A pause in the headers callback lets body callbacks run while the headers wait.
    BeforeHeaders,
}
