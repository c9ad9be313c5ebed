//! Services and the addresses behind them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Checker;
use crate::locality::{Distribution, Endpoint, EndpointHost};
use crate::model::{AppProtocol, BackendTls, FilterKey, ServicePort, ServicePortKey};
use crate::nearest::nearest;
use crate::problem::{Note, Problem};
use crate::resource::Held;
use crate::resource::service::{
    self as resource, AddressType, EndpointSlice, HintName, SERVICE_NAME_LABEL, Service,
    ServicePort as Written, Transport,
};

/// One service port before its filters are known.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its own key, for the backends that mean it.
    pub key: Arc<ServicePortKey>,
    pub name: String,
    pub protocol: AppProtocol,
    pub distribution: Distribution,
    /// Those that are ready.
    pub endpoints: Vec<Endpoint>,
    /// Those that are about to end and still serve.
    pub ending: Vec<Endpoint>,
}

impl Draft {
    /// With what else is known of the port.
    ///
    /// # Source
    ///
    /// Kubernetes KEP-1669: endpoints that end are used while no other is ready.
    pub(super) fn port(
        self,
        key: ServicePortKey,
        tls: Option<Result<Arc<BackendTls>, String>>,
        filters: Vec<FilterKey>,
    ) -> ServicePort {
        let Self { protocol, distribution, mut endpoints, ending, .. } = self;
        if endpoints.is_empty() {
            endpoints = ending;
        }
        endpoints.sort_by(|one, other| (&one.host, one.port).cmp(&(&other.host, other.port)));
        endpoints.dedup_by(|one, other| one.host == other.host && one.port == other.port);
        ServicePort { key, protocol, tls, distribution, endpoints, filters }
    }

    /// Whether the port is declared to speak HTTP.
    pub(super) fn is_http(&self) -> bool {
        self.protocol != AppProtocol::Undeclared
    }
}

impl<'a> Checker<'a> {
    pub(super) fn services(&mut self) {
        for service in self.resources.each::<Service>() {
            for port in service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp) {
                let key = key_of(service, port.port);
                let draft = Draft {
                    key: Arc::new(key.clone()),
                    name: port.name.clone(),
                    protocol: protocol(port),
                    distribution: service
                        .spec
                        .traffic_distribution
                        .map_or_else(Distribution::default, Distribution::from),
                    endpoints: service
                        .spec
                        .outside()
                        .map(|name| outside(name, port.port))
                        .into_iter()
                        .collect(),
                    ending: Vec::new(),
                };
                self.services.insert(key, draft);
            }
        }
        let mut with_slices = BTreeSet::new();
        for slice in self.resources.each::<EndpointSlice>() {
            let Some(name) = slice.resource.labels.get(SERVICE_NAME_LABEL) else { continue };
            with_slices.insert((slice.namespace(), name.as_str()));
            match self.resources.get::<Service>(slice.namespace(), name) {
                Some(service) => self.endpoints(service, slice),
                None => self.lost_slice(slice, name),
            }
        }
        for service in self.resources.each::<Service>() {
            let is_known = with_slices.contains(&(service.namespace(), &service.key().name));
            if !is_known && service.spec.outside().is_none() {
                let message =
                    format!("{} has no EndpointSlice: requests to it get 503", service.key());
                let key = Some(service.key().clone());
                self.report.notes.push(Note::new(&service.at("metadata/name"), message, key));
            }
        }
    }

    fn endpoints(&mut self, service: Held<'a, Service>, slice: Held<'a, EndpointSlice>) {
        for port in slice.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp) {
            let is_same = |candidate: &&Written| {
                candidate.name == port.name && candidate.protocol == Transport::Tcp
            };
            let Some(service_port) = service.spec.ports.iter().find(is_same) else { continue };
            let key = key_of(service, service_port.port);
            let Some(draft) = self.services.get_mut(&key) else { continue };
            for written in &slice.spec.endpoints {
                let list = if written.conditions.is_ready() {
                    &mut draft.endpoints
                } else if written.conditions.is_last_resort() {
                    &mut draft.ending
                } else {
                    continue;
                };
                list.extend(endpoint(written, slice.spec.address_type, port.port));
            }
        }
        self.strange_ports(service, slice);
    }

    /// A port that the service does not have serves nobody: most likely a slip of the pen.
    fn strange_ports(&mut self, service: Held<'a, Service>, slice: Held<'a, EndpointSlice>) {
        let names = || service.spec.ports.iter().map(|port| port.name.as_str());
        for (index, port) in slice.spec.ports.iter().enumerate() {
            if names().any(|name| name == port.name) {
                continue;
            }
            let place = slice.at(&format!("ports/{index}/name"));
            let message = format!("{} has no port named `{}`", service.key(), port.name);
            let problem = Problem::warning("unknown-port", &place, message)
                .nearest(nearest(&port.name, names()))
                .of(slice.key());
            self.report.problems.push(problem);
        }
    }

    fn lost_slice(&mut self, slice: Held<'a, EndpointSlice>, name: &str) {
        let place = slice.at(&format!("metadata/labels/{SERVICE_NAME_LABEL}"));
        let place = if place.span == slice.at("metadata/labels").span {
            slice.at("metadata/name")
        } else {
            place
        };
        let message = format!("there is no Service {}/{name}", slice.namespace());
        let near = nearest(name, self.resources.names::<Service>(slice.namespace()));
        let problem =
            Problem::warning("unknown-reference", &place, message).nearest(near).of(slice.key());
        self.unknown("Service", slice.namespace(), name, problem);
    }
}

/// What an ExternalName service stands for: its ports are those of the name.
fn outside(name: &str, port: u16) -> Endpoint {
    Endpoint {
        host: EndpointHost::Name(name.into()),
        port,
        zone: None,
        node: None,
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    }
}

fn endpoint(written: &resource::Endpoint, kind: AddressType, port: u16) -> Option<Endpoint> {
    let names = |hints: &[HintName]| hints.iter().map(|hint| hint.name.clone()).collect();
    Some(Endpoint {
        host: written.host(kind)?,
        port,
        zone: written.zone.clone(),
        node: written.node_name.clone(),
        for_zones: names(&written.hints.for_zones),
        for_nodes: names(&written.hints.for_nodes),
    })
}

fn key_of(service: Held<'_, Service>, port: u16) -> ServicePortKey {
    let key = service.key();
    ServicePortKey { namespace: key.namespace.clone(), name: key.name.clone(), port }
}

/// What a port speaks: `appProtocol`, else the first word of its name.
///
/// # Source
///
/// Kubernetes, `ServicePort.appProtocol`; Istio, protocol selection by port name.
fn protocol(port: &Written) -> AppProtocol {
    if let Some(declared) = &port.app_protocol {
        return match declared.to_ascii_lowercase().as_str() {
            "http" | "http1" | "kubernetes.io/ws" => AppProtocol::Http1,
            "http2" | "h2c" | "kubernetes.io/h2c" => AppProtocol::H2c,
            "grpc" | "grpc-web" => AppProtocol::Grpc,
            _ => AppProtocol::Undeclared,
        };
    }
    match port.name.split('-').next().unwrap_or_default() {
        "http" => AppProtocol::Http1,
        "http2" | "h2c" => AppProtocol::H2c,
        "grpc" => AppProtocol::Grpc,
        _ => AppProtocol::Undeclared,
    }
}
