//! Which endpoints of a service are near: groups of them, in the order of preference.
//!
//! Pure: the place of the proxy and what EndpointSlices say of each endpoint go in, groups come
//! out. Which group a request goes to is decided by whoever knows which endpoints are healthy.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::ServicePort;

/// Where the proxy runs. What is `None` is not known, and prefers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The zone, as in the node's label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The node's name.
    pub node: Option<String>,
}

/// How far the traffic of a service may travel while there are endpoints that are near.
///
/// # Source
///
/// Kubernetes, `ServiceSpec.trafficDistribution`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum Distribution {
    /// Nothing is asked for; the hints of EndpointSlices count where all endpoints have them.
    #[default]
    Unset,
    /// `PreferSameZone`, and `PreferClose`, its older name.
    PreferSameZone,
    /// `PreferSameNode`: the node first, then the zone.
    PreferSameNode,
}

/// What an endpoint is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointHost {
    /// An address.
    Address(IpAddr),
    /// A DNS name, to be resolved again and again: it stands for all of its addresses.
    Name(Arc<str>),
}

impl fmt::Display for EndpointHost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(v4)) => v4.fmt(out),
            Self::Address(IpAddr::V6(v6)) => write!(out, "[{v6}]"),
            Self::Name(name) => out.write_str(name),
        }
    }
}

/// One endpoint of a service, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is called.
    pub host: EndpointHost,
    /// The port that it listens on.
    pub port: u16,
    /// Its zone.
    pub zone: Option<String>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// `hints.forZones`: zones whose clients should use it.
    pub for_zones: Vec<String>,
    /// `hints.forNodes`: nodes whose clients should use it.
    pub for_nodes: Vec<String>,
}

impl Endpoint {
    /// `ADDRESS:PORT` or `NAME:PORT`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl ServicePort {
    /// The endpoints in groups, the nearest group first; none of them is empty.
    ///
    /// Hints count in the place of an endpoint's own zone and node where every endpoint has them,
    /// as in kube-proxy: half of them would leave the other half without traffic.
    ///
    /// # Source
    ///
    /// Kubernetes KEP-2433 (topology aware hints) and KEP-3015 (`PreferSameZone`, `PreferSameNode`).
    pub fn groups(&self, place: &Place) -> Vec<Vec<&Endpoint>> {
        let hinted = Hinted {
            zones: self.endpoints.iter().all(|endpoint| !endpoint.for_zones.is_empty()),
            nodes: self.endpoints.iter().all(|endpoint| !endpoint.for_nodes.is_empty()),
        };
        let mut groups = vec![Vec::new(), Vec::new(), Vec::new()];
        for endpoint in &self.endpoints {
            groups[distance(self.distribution, endpoint, hinted, place)].push(endpoint);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}

/// Which hints every endpoint of a service has.
#[derive(Clone, Copy)]
struct Hinted {
    zones: bool,
    nodes: bool,
}

/// 0 = the same node, 1 = the same zone, 2 = elsewhere, as far as it counts.
fn distance(wanted: Distribution, endpoint: &Endpoint, hinted: Hinted, place: &Place) -> usize {
    let is = |here: &Option<String>, there: &Option<String>| here.is_some() && here == there;
    let among = |here: &Option<String>, there: &[String]| {
        here.as_ref().is_some_and(|here| there.contains(here))
    };
    let by_node = hinted.nodes || wanted == Distribution::PreferSameNode;
    let by_zone = hinted.zones || wanted != Distribution::Unset;
    let same_node = match hinted.nodes {
        true => among(&place.node, &endpoint.for_nodes),
        false => is(&place.node, &endpoint.node),
    };
    let same_zone = match hinted.zones {
        true => among(&place.zone, &endpoint.for_zones),
        false => is(&place.zone, &endpoint.zone),
    };
    if by_node && same_node {
        0
    } else if by_zone && same_zone {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppProtocol, ServicePortKey};

    /// `ZONE/NODE` of each endpoint, `>` and the zones and nodes that it is hinted for.
    fn port(distribution: Distribution, endpoints: &[&str]) -> ServicePort {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let endpoint = |(number, text): (u16, &&str)| {
            let (own, hints) = text.split_once('>').unwrap_or((text, "/"));
            let (zone, node) = own.split_once('/').unwrap_or((own, ""));
            let (for_zone, for_node) = hints.split_once('/').unwrap_or((hints, ""));
            Endpoint {
                host: EndpointHost::Address([10, 0, 0, 1].into()),
                port: number,
                zone: some(zone),
                node: some(node),
                for_zones: some(for_zone).into_iter().collect(),
                for_nodes: some(for_node).into_iter().collect(),
            }
        };
        ServicePort {
            key: ServicePortKey { namespace: "a".into(), name: "b".into(), port: 80 },
            protocol: AppProtocol::Http1,
            tls: None,
            distribution,
            endpoints: (1..).zip(endpoints).map(endpoint).collect(),
            filters: Vec::new(),
        }
    }

    #[test]
    fn the_nearest_endpoints_come_first_and_hints_count_only_where_all_have_them() {
        use Distribution::{PreferSameNode, PreferSameZone, Unset};
        let here = Place { zone: Some("a".into()), node: Some("n1".into()) };
        let nowhere = Place::default();
        type Case<'a> = (Distribution, &'a Place, &'a [&'a str], &'a [&'a [u16]]);
        let cases: [Case<'_>; 14] = [
            (Unset, &here, &["a", "b"], &[&[1, 2]]),
            (PreferSameZone, &here, &["b", "a", "", "a"], &[&[2, 4], &[1, 3]]),
            (PreferSameZone, &here, &["b", "c"], &[&[1, 2]]),
            (PreferSameZone, &nowhere, &["a", ""], &[&[1, 2]]),
            (PreferSameZone, &here, &["b/n1", "a/n2"], &[&[2], &[1]]),
            (PreferSameNode, &here, &["a/n2", "b/n3", "a/n1"], &[&[3], &[1], &[2]]),
            (PreferSameNode, &here, &["b/n2", "b/n3"], &[&[1, 2]]),
            // Hints of all endpoints count whatever the Service says, those of some never.
            (Unset, &here, &["a>b", "b>a"], &[&[2], &[1]]),
            (Unset, &here, &["a>b", "b"], &[&[1, 2]]),
            (Unset, &here, &["a>/n2", "b>/n1"], &[&[2], &[1]]),
            (PreferSameZone, &here, &["a>b", "b>a"], &[&[2], &[1]]),
            (PreferSameZone, &here, &["a>b", "b"], &[&[1], &[2]]),
            (PreferSameNode, &here, &["a/n1>a/n2", "a/n2>b/n1"], &[&[2], &[1]]),
            (PreferSameZone, &here, &[], &[]),
        ];
        for (wanted, place, endpoints, want) in cases {
            let port = port(wanted, endpoints);
            let groups = port.groups(place);
            let ports = groups.iter().map(|group| group.iter().map(|one| one.port));
            let ports: Vec<Vec<u16>> = ports.map(Iterator::collect).collect();
            assert_eq!(ports, want, "{wanted:?} {endpoints:?}");
        }
    }
}
