//! `Service` and `EndpointSlice`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::locality::{Distribution, EndpointHost};
use crate::text::{Address, ClusterAddress, ClusterIp, Parsed, PreciseHostname};

/// A service: its ports. Where it is found is told by EndpointSlices.
///
/// # Source
///
/// Kubernetes core/v1, `ServiceSpec`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["allocateLoadBalancerNodePorts",
    "externalTrafficPolicy", "healthCheckNodePort", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy",
    "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges", "publishNotReadyAddresses", "selector",
    "sessionAffinityConfig"]))]
pub(crate) struct Service {
    /// `ExternalName` has one endpoint, of that name; all others mean the same here.
    #[serde(rename = "type", default)]
    pub kind: ServiceType,
    /// The address that clients connect to; `None` for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Parsed<ClusterIp>>,
    /// The addresses that clients connect to, one of each family; the first is `clusterIP`.
    #[serde(rename = "clusterIPs", default)]
    #[schemars(length(max = 2))]
    pub cluster_ips: Vec<Parsed<ClusterIp>>,
    /// More addresses that clients may connect to.
    #[serde(rename = "externalIPs", default)]
    #[schemars(length(max = 100))]
    pub external_ips: Vec<Parsed<Address>>,
    /// The DNS name of what is outside the cluster.
    pub external_name: Option<Parsed<PreciseHostname>>,
    /// `None`.
    #[serde(default)]
    #[allow(dead_code, reason = "one value only")]
    pub session_affinity: SessionAffinity,
    /// Which endpoints are preferred, seen from where the proxy runs.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Its ports.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub ports: Vec<ServicePort>,
}

/// Which endpoints are preferred. `PreferClose` is the older name of `PreferSameZone`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[allow(clippy::enum_variant_names, reason = "the names are Kubernetes's")]
pub(crate) enum TrafficDistribution {
    PreferClose,
    PreferSameZone,
    PreferSameNode,
}

impl From<TrafficDistribution> for Distribution {
    fn from(written: TrafficDistribution) -> Self {
        match written {
            TrafficDistribution::PreferClose | TrafficDistribution::PreferSameZone => {
                Self::PreferSameZone
            }
            TrafficDistribution::PreferSameNode => Self::PreferSameNode,
        }
    }
}

/// How the service is reached from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl Service {
    fn cluster_ips(&self) -> impl Iterator<Item = ClusterAddress> {
        self.cluster_ip.iter().chain(&self.cluster_ips).map(|parsed| parsed.0)
    }

    /// Clients connect to the addresses of its endpoints.
    pub(crate) fn is_headless(&self) -> bool {
        self.cluster_ips().any(|written| written == ClusterAddress::None)
    }

    /// The addresses that clients connect to, each once, in order.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let cluster = self.cluster_ips().filter_map(|written| match written {
            ClusterAddress::At(address) => Some(address),
            ClusterAddress::None | ClusterAddress::Unset => None,
        });
        let external = self.external_ips.iter().map(|parsed| parsed.0);
        let all: BTreeSet<IpAddr> = cluster.chain(external).collect();
        all.into_iter().collect()
    }

    /// The name that its endpoint has, if it is an ExternalName service.
    pub(crate) fn outside(&self) -> Option<&str> {
        let name = self.external_name.as_ref().filter(|_| self.kind == ServiceType::ExternalName);
        name.map(|name| name.0.as_str())
    }
}

/// Whether clients stick to an endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["ClientIP"]))]
pub(crate) enum SessionAffinity {
    #[default]
    None,
}

/// One port of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["nodePort", "targetPort"]))]
pub(crate) struct ServicePort {
    /// Required where there is more than one; EndpointSlices name it.
    #[serde(default)]
    pub name: String,
    /// The port that clients use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// `TCP`; others are not proxied.
    #[serde(default)]
    pub protocol: Transport,
    /// `http`, `kubernetes.io/h2c`, `grpc`; else the port's name tells.
    pub app_protocol: Option<String>,
}

/// What carries a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Transport {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Addresses behind a service. The label `kubernetes.io/service-name` names the service.
///
/// # Source
///
/// Kubernetes discovery.k8s.io/v1, `EndpointSlice`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: AddressType,
    /// The addresses.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub endpoints: Vec<Endpoint>,
    /// The ports that all of them have.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub ports: Vec<EndpointPort>,
}

/// What the addresses of a slice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum AddressType {
    IPv4,
    IPv6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["deprecatedTopology", "hostname", "targetRef"]))]
pub(crate) struct Endpoint {
    /// Its addresses; the first is used.
    #[schemars(length(min = 1, max = 100))]
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    #[serde(default)]
    pub conditions: EndpointConditions,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// Who should use it.
    #[serde(default)]
    pub hints: EndpointHints,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointHints {
    /// Clients in these zones.
    #[schemars(length(max = 8))]
    pub for_zones: Vec<HintName>,
    /// Clients on these nodes.
    #[schemars(length(max = 8))]
    pub for_nodes: Vec<HintName>,
}

/// A zone or a node.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct HintName {
    /// Its name.
    pub name: String,
}

impl Endpoint {
    /// The address or name that is used; which of them it is was checked when it was read.
    pub(crate) fn host(&self, kind: AddressType) -> Option<EndpointHost> {
        let first = self.addresses.first()?;
        match kind {
            AddressType::IPv4 | AddressType::IPv6 => {
                first.parse::<IpAddr>().ok().map(EndpointHost::Address)
            }
            AddressType::Fqdn => Some(EndpointHost::Name(first.as_str().into())),
        }
    }
}

/// Whether an endpoint takes traffic.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct EndpointConditions {
    /// Absent = ready.
    pub ready: Option<bool>,
    /// Whether it answers, although it may be about to end.
    pub serving: Option<bool>,
    /// Whether it is about to end.
    pub terminating: Option<bool>,
}

impl EndpointConditions {
    pub(crate) fn is_ready(self) -> bool {
        self.ready != Some(false)
    }

    /// Not ready because it is about to end, and still answers: better than nobody.
    pub(crate) fn is_last_resort(self) -> bool {
        !self.is_ready() && self.serving == Some(true) && self.terminating == Some(true)
    }
}

/// One port of a slice.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-ignored" = ["appProtocol"]))]
pub(crate) struct EndpointPort {
    /// The name of the service port.
    #[serde(default)]
    pub name: String,
    /// The port of the addresses.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// `TCP`.
    #[serde(default)]
    pub protocol: Transport,
}

/// Labels of a slice that names its service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
