//! Resources as they are written, read strictly but not yet related to each other.

pub(crate) mod backend_tls;
pub(crate) mod filter;
pub(crate) mod gateway;
pub(crate) mod grpc_route;
pub(crate) mod namespace;
pub(crate) mod route;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod wasm_plugin;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ResourceKey;
use crate::read::Node;
use crate::source::{Place, Source, Span};
use filter::TargetRef;

/// Every resource that was read, by key; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub(crate) table: BTreeMap<ResourceKey, Arc<Resource>>,
    /// Resources that are there but were refused, and have no last good version.
    pub(crate) refused: BTreeMap<ResourceKey, Refused>,
    /// Whether a document could not be read: what is missing may have been in it.
    pub(crate) incomplete: bool,
}

impl Resources {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The key of each, in order.
    pub fn keys(&self) -> impl Iterator<Item = &ResourceKey> {
        self.table.keys()
    }

    /// With the right parts of what was refused: what problems are looked for in.
    pub(crate) fn with_suspects(&self) -> Option<Self> {
        let suspects = self.refused.values().filter_map(|refused| refused.suspect.as_ref());
        let mut all = self.clone();
        all.table.extend(suspects.map(|suspect| (suspect.key.clone(), Arc::clone(suspect))));
        (!self.refused.is_empty()).then_some(all)
    }

    /// The file that a resource was read from.
    pub fn file(&self, key: &ResourceKey) -> Option<&str> {
        self.table.get(key).map(|resource| resource.origin.source.path.as_ref())
    }

    /// All resources of a kind, ordered by namespace and name.
    pub(crate) fn each<K: Kind>(&self) -> impl Iterator<Item = Held<'_, K>> {
        let first =
            ResourceKey { kind: K::KIND.into(), namespace: String::new(), name: String::new() };
        self.table
            .range(first..)
            .take_while(|(key, _)| key.kind == K::KIND)
            .filter_map(|(_, resource)| Held::new(resource))
    }

    /// One resource.
    pub(crate) fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<Held<'_, K>> {
        let key =
            ResourceKey { kind: K::KIND.into(), namespace: namespace.into(), name: name.into() };
        self.table.get(&key).and_then(|resource| Held::new(resource))
    }

    /// Names of a kind in a namespace.
    pub(crate) fn names<K: Kind>(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.each::<K>()
            .filter(move |held| held.resource.key.namespace == namespace)
            .map(|held| held.resource.key.name.as_str())
    }
}

/// A resource together with its specification.
#[derive(Debug)]
pub(crate) struct Held<'a, K> {
    pub resource: &'a Arc<Resource>,
    pub spec: &'a K,
}

impl<K> Clone for Held<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Held<'_, K> {}

impl<'a, K: Kind> Held<'a, K> {
    fn new(resource: &'a Arc<Resource>) -> Option<Self> {
        K::of(&resource.spec).map(|spec| Self { resource, spec })
    }

    pub(crate) fn key(&self) -> &'a ResourceKey {
        &self.resource.key
    }

    pub(crate) fn namespace(&self) -> &'a str {
        &self.resource.key.namespace
    }

    /// The place of a part, by its path: `spec/rules/0/name`.
    pub(crate) fn at(&self, path: &str) -> Place {
        self.resource.origin.at(path)
    }
}

impl<'a> Held<'a, grpc_route::GrpcRoute> {
    /// As the HTTP rules that it stands for.
    pub(crate) fn http(&self) -> Held<'a, route::HttpRoute> {
        Held { resource: self.resource, spec: &self.spec.http }
    }
}

/// One resource.
#[derive(Debug)]
pub(crate) struct Resource {
    pub key: ResourceKey,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`, where there is one.
    pub created: Option<String>,
    /// Its place among all files: the age where nothing else tells.
    pub order: u64,
    pub origin: Origin,
    pub spec: Spec,
}

/// Where a resource was read.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub source: Arc<Source>,
    pub node: Arc<Node>,
}

impl Origin {
    /// The place of a part, or of the nearest part around it that is there.
    pub(crate) fn at(&self, path: &str) -> Place {
        let mut span = self.node.span;
        let mut node = &self.node;
        for step in path.split('/').filter(|step| !step.is_empty()) {
            let Some((key, next)) = node.step(step) else { break };
            span = if next.is_scalar() { next.span } else { key };
            node = next;
        }
        Place { source: Arc::clone(&self.source), span }
    }

    /// The part around the last step of a path, or the nearest that is there.
    pub(crate) fn around(&self, path: &str) -> &Node {
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        let mut node = &self.node;
        for step in above.split('/').filter(|step| !step.is_empty()) {
            let Some((_, next)) = node.step(step) else { break };
            node = next;
        }
        node
    }

    /// A span of the same file.
    pub(crate) fn place(&self, span: Span) -> Place {
        Place { source: Arc::clone(&self.source), span }
    }
}

/// A resource that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub reason: String,
    /// Its right parts, for the problems between it and others; never served.
    pub suspect: Option<Arc<Resource>>,
    /// Whether it leaves something unprotected: a filter that must not be skipped.
    pub denies: bool,
    /// The file that it is in.
    pub file: Arc<str>,
    /// A filter's targets; `None` where they cannot be read, or where there are none: all of the
    /// namespace.
    pub targets: Option<Vec<TargetRef>>,
}

macro_rules! kinds {
    ($($name:ident: $type:ty = $kind:literal, $group:literal, [$($version:literal),+], $layout:ident;)+) => {
        /// The specification of a resource of one of our kinds.
        #[derive(Debug)]
        pub(crate) enum Spec { $($name($type)),+ }

        $(impl Kind for $type {
            const KIND: &'static str = $kind;

            fn of(spec: &Spec) -> Option<&Self> {
                match spec {
                    Spec::$name(spec) => Some(spec),
                    _ => None,
                }
            }
        })+

        /// Every kind that is read.
        pub(crate) static KINDS: &[KindInfo] = &[$(KindInfo {
            kind: $kind,
            group: $group,
            versions: &[$($version),+],
            layout: Layout::$layout,
            schema: |generator| <$type as schemars::JsonSchema>::json_schema(generator),
            parse: |value| serde_json::from_value::<$type>(value).map(Spec::$name),
        }),+];
    };
}

kinds! {
    BackendTlsPolicy: backend_tls::BackendTlsPolicy = "BackendTLSPolicy", "gateway.networking.k8s.io", ["v1"], Spec;
    ConfigMap: secret::ConfigMap = "ConfigMap", "", ["v1"], Root;
    EndpointSlice: service::EndpointSlice = "EndpointSlice", "discovery.k8s.io", ["v1"], Root;
    Filter: filter::Filter = "Filter", "waypoint.rs", ["v1alpha1"], Spec;
    Gateway: gateway::Gateway = "Gateway", "gateway.networking.k8s.io", ["v1", "v1beta1"], Spec;
    GrpcRoute: grpc_route::GrpcRoute = "GRPCRoute", "gateway.networking.k8s.io", ["v1"], Spec;
    HttpRoute: route::HttpRoute = "HTTPRoute", "gateway.networking.k8s.io", ["v1", "v1beta1"], Spec;
    Namespace: namespace::Namespace = "Namespace", "", ["v1"], Root;
    ReferenceGrant: secret::ReferenceGrant = "ReferenceGrant", "gateway.networking.k8s.io", ["v1beta1", "v1"], Spec;
    Secret: secret::Secret = "Secret", "", ["v1"], Root;
    Service: service::Service = "Service", "", ["v1"], Spec;
    WasmPlugin: wasm_plugin::WasmPlugin = "WasmPlugin", "extensions.istio.io", ["v1alpha1"], Spec;
}

/// A specification that [`Resources`] holds.
pub(crate) trait Kind: Sized + 'static {
    const KIND: &'static str;

    /// The specification, if it is of this kind.
    fn of(spec: &Spec) -> Option<&Self>;
}

/// What the reader knows of a kind.
pub(crate) struct KindInfo {
    pub kind: &'static str,
    pub group: &'static str,
    /// The preferred one first.
    pub versions: &'static [&'static str],
    pub layout: Layout,
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    pub parse: fn(serde_json::Value) -> serde_json::Result<Spec>,
}

/// Where the fields of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Under `spec`.
    Spec,
    /// Beside `metadata`.
    Root,
}

impl KindInfo {
    /// `GROUP/VERSION`, or the version alone for the core group.
    pub(crate) fn api_versions(&self) -> impl Iterator<Item = String> {
        self.versions.iter().map(|version| match self.group {
            "" => (*version).to_owned(),
            group => format!("{group}/{version}"),
        })
    }
}
