//! Listeners of Gateways, merged by namespace and port.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Checker;
use super::clients::Clients;
use super::grant::{Reference, permits};
use crate::model::{Certificate, Hostname, ResourceKey, Tls};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::gateway::{Gateway, Listener, ListenerProtocol};
use crate::resource::grpc_route::GrpcRoute;
use crate::resource::route::HttpRoute;
use crate::resource::secret::{Secret, TLS_SECRET};
use crate::resource::{Held, Kind as _};
use crate::route::TableBuilder;
use crate::status::{Condition, GATEWAY_GROUP, ListenerStatus, Refusal, RouteGroupKind, Status};

/// The merged listeners of one namespace and port.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    protocol: ListenerProtocol,
    /// Who has which hostname.
    pub listeners: Vec<Placed<'a>>,
    pub tls: Option<Tls>,
    pub table: TableBuilder,
    /// Routes that listeners took, with their hosts: routes of two kinds may not share one.
    pub held: Vec<(Option<Hostname>, ResourceKey, Option<Hostname>)>,
}

/// A listener in its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub gateway: Held<'a, Gateway>,
    pub listener: &'a Listener,
}

impl Slot<'_> {
    /// Names of the Gateways that have a listener here.
    pub(super) fn gateways(&self) -> BTreeSet<&str> {
        self.listeners.iter().map(|placed| placed.gateway.key().name.as_str()).collect()
    }
}

impl Placed<'_> {
    pub(super) fn hostname(&self) -> Option<&Hostname> {
        self.listener.hostname.as_ref().map(|name| &name.0)
    }
}

/// How a listener fared.
#[derive(Default)]
struct Verdict {
    unresolved: Option<Refusal>,
    conflict: Option<Refusal>,
    /// No client certificate can be right.
    trusts_nobody: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn gateways(&mut self) {
        let mut gateways: Vec<_> = self.resources.each::<Gateway>().collect();
        // Of two listeners that want the same, the older Gateway's has it.
        gateways.sort_by_key(|held| (&held.resource.created, held.resource.order));
        for gateway in gateways {
            let clients = self.clients(gateway);
            let mut listeners = Vec::new();
            for (index, listener) in gateway.spec.listeners.iter().enumerate() {
                let mut verdict = Verdict::default();
                self.listener(gateway, index, listener, &clients, &mut verdict);
                listeners.push(status(listener, verdict));
            }
            let mut conditions = conclude(&listeners);
            if clients.are_optional() {
                conditions.push(insecure_validation());
            }
            *self.report.statuses.of(gateway.key()) =
                Status { conditions, listeners, ..Status::default() };
        }
        self.warn_shared_slots();
    }

    fn listener(
        &mut self,
        gateway: Held<'a, Gateway>,
        index: usize,
        listener: &'a Listener,
        clients: &Clients,
        verdict: &mut Verdict,
    ) {
        let at = |part: &str| gateway.at(&format!("spec/listeners/{index}/{part}"));
        let place = Placed { gateway, listener };
        let https = listener.protocol == ListenerProtocol::Https;
        let clients = clients.of_port(listener.port).filter(|_| https);
        if let Some(port) = clients {
            verdict.unresolved = port.unresolved.clone();
            verdict.trusts_nobody = port.validation.authorities.is_empty();
        }
        let clients = clients.map(|port| &port.validation);
        let slot = self
            .slots
            .entry((gateway.namespace().to_owned(), listener.port))
            .or_insert_with(|| Slot {
                protocol: listener.protocol,
                listeners: Vec::new(),
                // An entrance without a certificate stays HTTPS: its handshakes fail.
                tls: https.then(|| Tls { clients: clients.cloned(), ..Tls::default() }),
                table: TableBuilder::default(),
                held: Vec::new(),
            });
        let same_host = |other: &&Placed<'_>| other.hostname() == place.hostname();
        let conflict = if slot.protocol != listener.protocol {
            let message = format!("port {} is both HTTP and HTTPS", listener.port);
            Some((at("protocol"), "ProtocolConflict", message))
        } else if slot.tls.as_ref().and_then(|tls| tls.clients.as_ref()) != clients {
            let owner = slot.listeners.first().map(|placed| placed.gateway.key().to_string());
            let owner = owner.unwrap_or_default();
            let message = format!(
                "port {} asks other certificates of clients, or none: {owner}",
                listener.port
            );
            Some((at("port"), "ProtocolConflict", message))
        } else if let Some(other) = slot.listeners.iter().find(same_host) {
            let owner = format!("{} of {}", other.listener.name.0, other.gateway.key());
            let message =
                format!("port {} already has this hostname: listener {owner}", listener.port);
            let part = if listener.hostname.is_some() { "hostname" } else { "name" };
            Some((at(part), "HostnameConflict", message))
        } else {
            None
        };
        if let Some((place, reason, message)) = conflict {
            verdict.conflict = Some((reason, message.clone()));
            self.report
                .problems
                .push(Problem::error("listener-conflict", &place, message).of(gateway.key()));
            return;
        }
        slot.listeners.push(place);
        slot.table.listener(place.hostname());
        if https {
            let certificate = self.certificate(gateway, index, listener, verdict);
            let name = (gateway.namespace().to_owned(), listener.port);
            if let Some(tls) = self.slots.get_mut(&name).and_then(|slot| slot.tls.as_mut()) {
                tls.certificates.extend(
                    certificate.map(|certificate| (place.hostname().cloned(), certificate)),
                );
                tls.certificates.sort_by_key(|(hostname, _)| specificity(hostname.as_ref()));
            }
        }
    }

    /// The certificate of a listener: the first of its Secrets that can be used.
    fn certificate(
        &mut self,
        gateway: Held<'a, Gateway>,
        index: usize,
        listener: &'a Listener,
        verdict: &mut Verdict,
    ) -> Option<Certificate> {
        let refs = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
        let mut found = None;
        for (number, secret) in refs.enumerate() {
            let namespace =
                secret.namespace.as_ref().map_or(gateway.namespace(), |name| name.0.as_str());
            let name = secret.name.0.as_str();
            let reference = Reference {
                from_kind: "Gateway",
                from_namespace: gateway.namespace(),
                to_kind: "Secret",
                to_namespace: namespace,
                to_name: name,
            };
            let place =
                gateway.at(&format!("spec/listeners/{index}/tls/certificateRefs/{number}/name"));
            let problem = if !permits(self.resources, reference) {
                let message = format!(
                    "no ReferenceGrant in {namespace} lets Gateways of {} use Secret {name}",
                    gateway.namespace()
                );
                verdict.unresolved = Some(("RefNotPermitted", message.clone()));
                Problem::error("not-permitted", &place, message)
            } else {
                match self.read_certificate(namespace, name) {
                    Ok(certificate) => {
                        found = found.or(Some(certificate));
                        continue;
                    }
                    Err((message, near)) => {
                        verdict.unresolved = Some(("InvalidCertificateRef", message.clone()));
                        let problem = Problem::error("unknown-reference", &place, message);
                        let problem = problem.nearest(near).of(gateway.key());
                        self.unknown("Secret", namespace, name, problem);
                        continue;
                    }
                }
            };
            self.report.problems.push(problem.of(gateway.key()));
        }
        found
    }

    fn read_certificate(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Certificate, (String, Option<&'a str>)> {
        let resources = self.resources;
        let Some(secret) = resources.get::<Secret>(namespace, name) else {
            let near = nearest(name, resources.names::<Secret>(namespace));
            return Err((format!("there is no Secret {namespace}/{name}"), near));
        };
        let texts = (secret.spec.text("tls.crt"), secret.spec.text("tls.key"));
        match texts {
            (Some(chain), Some(key)) if secret.spec.kind == TLS_SECRET => Ok(Certificate {
                secret: format!("{namespace}/{name}"),
                chain_pem: Arc::from(chain),
                key_pem: Arc::from(key),
            }),
            _ => Err((format!("Secret {namespace}/{name} is not of type `{TLS_SECRET}`"), None)),
        }
    }

    /// The Gateways that an entrance stands for.
    pub(super) fn gateways_behind(&self, entrance: &str) -> Vec<&'a ResourceKey> {
        let gateways = self.resources.each::<Gateway>();
        let is_behind = |held: &Held<'a, Gateway>| {
            let ports = held.spec.listeners.iter().map(|listener| listener.port);
            ports.into_iter().any(|port| format!("gateway/{}/{port}", held.namespace()) == entrance)
        };
        gateways.filter(is_behind).map(|held| held.key()).collect()
    }

    fn warn_shared_slots(&mut self) {
        let mut owners = std::collections::BTreeMap::new();
        for ((namespace, port), slot) in &self.slots {
            let Some(first) = slot.listeners.first() else { continue };
            let place = first.gateway.at("metadata/name");
            if let Some(other) = owners.insert(*port, namespace) {
                let message = format!(
                    "port {port} is also that of a Gateway in {other}: give one of them another address (`--bind`)"
                );
                self.report.problems.push(
                    Problem::warning("port-conflict", &place, message).of(first.gateway.key()),
                );
            }
            let gateways = slot.gateways();
            if gateways.len() > 1
                && let Some(name) =
                    gateways.iter().find(|name| self.attached.has_gateway(namespace, name))
            {
                let message = format!(
                    "filters of Gateway {name} run for every Gateway that shares port {port}"
                );
                self.report
                    .problems
                    .push(Problem::warning("shared-port", &place, message).of(first.gateway.key()));
            }
        }
    }
}

/// A listener's status before any route has attached.
fn status(listener: &Listener, verdict: Verdict) -> ListenerStatus {
    let Verdict { unresolved, conflict, trusts_nobody } = verdict;
    let nobody = || {
        let message = "none of the caCertificateRefs can be used".to_owned();
        trusts_nobody.then_some(("NoValidCACertificate", message))
    };
    let refused = conflict.clone().or_else(nobody);
    let programmed = match conflict.as_ref().or(unresolved.as_ref()) {
        Some((_, message)) => Err(("Invalid", message.clone())),
        None => Ok(()),
    };
    let kinds = [HttpRoute::KIND, GrpcRoute::KIND].into_iter();
    let supported = kinds.filter(|kind| listener.allowed_routes.takes(kind));
    ListenerStatus {
        name: listener.name.0.clone(),
        supported_kinds: supported
            .map(|kind| RouteGroupKind { group: GATEWAY_GROUP, kind })
            .collect(),
        attached_routes: 0,
        conditions: vec![
            Condition::of("Accepted", refused.map_or(Ok(()), Err)),
            Condition::conflicted(conflict),
            Condition::of("ResolvedRefs", unresolved.map_or(Ok(()), Err)),
            Condition::of("Programmed", programmed),
        ],
    }
}

/// A Gateway is accepted as long as it is one; it is programmed if one of its listeners is.
///
/// # Source
///
/// Gateway API v1, `GatewayConditionAccepted` and `GatewayConditionProgrammed`.
fn conclude(listeners: &[ListenerStatus]) -> Vec<Condition> {
    let is_bad = |listener: &&ListenerStatus| listener.conditions.iter().any(Condition::is_bad);
    let bad: Vec<&str> = listeners.iter().filter(is_bad).map(|one| one.name.as_str()).collect();
    let mut accepted = Condition::of("Accepted", Ok(()));
    if !bad.is_empty() {
        accepted.reason = "ListenersNotValid";
        accepted.message = format!("not valid: {}", bad.join(", "));
    }
    let programmed = match bad.len() == listeners.len() {
        true => Err(("Invalid", "no listener can be used".to_owned())),
        false => Ok(()),
    };
    vec![accepted, Condition::of("Programmed", programmed)]
}

/// Tells that clients without a right certificate are served.
///
/// # Source
///
/// Gateway API v1, `GatewayConditionInsecureFrontendValidationMode`.
fn insecure_validation() -> Condition {
    Condition {
        kind: "InsecureFrontendValidationMode",
        status: "True",
        reason: "ConfigurationChanged",
        message: "AllowInsecureFallback serves clients without a right certificate".to_owned(),
    }
}

/// Sorts names: exact ones, then wildcards from the longest suffix, then none.
fn specificity(hostname: Option<&Hostname>) -> (u8, std::cmp::Reverse<usize>) {
    match hostname {
        Some(Hostname::Exact(name)) => (0, std::cmp::Reverse(name.len())),
        Some(Hostname::Wildcard(suffix)) => (1, std::cmp::Reverse(suffix.len())),
        None => (2, std::cmp::Reverse(0)),
    }
}
