//! Which service ports need L7, and why.

use std::collections::BTreeMap;

use super::Checker;
use super::rule::Ready;
use crate::model::{Backend, ResourceKey, Rule, ServicePortKey};
use crate::problem::Note;
use crate::redirect::{Exception, GATEWAY_LABEL, Reason, Redirection, UDP, UNREADY, Unready};
use crate::resource::Held;
use crate::resource::service::{Service, ServiceType, Transport};

impl Checker<'_> {
    /// Every TCP port of every Service.
    pub(super) fn redirections(&mut self) -> BTreeMap<ServicePortKey, Redirection> {
        let mut all = BTreeMap::new();
        for service in self.resources.each::<Service>() {
            let tcp = service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp);
            for port in tcp {
                let (namespace, name) =
                    (service.namespace().to_owned(), service.key().name.clone());
                let key = ServicePortKey { namespace, name, port: port.port };
                let redirection = self.redirection(service, &key);
                if redirection.exception == Some(Exception::Headless)
                    && !redirection.reasons.is_empty()
                {
                    let message = format!(
                        "{key} is headless: clients connect to its endpoints, past what applies to it"
                    );
                    let place = service.at("spec/clusterIP");
                    let note = Note::new(&place, message, Some(service.key().clone()));
                    self.report.notes.push(note);
                }
                all.insert(key, redirection);
            }
        }
        all
    }

    fn redirection(&self, service: Held<'_, Service>, key: &ServicePortKey) -> Redirection {
        let annotation = |name| service.resource.annotations.get(name).map(String::as_str);
        let addresses = service.spec.addresses();
        let exception = if service.resource.labels.contains_key(GATEWAY_LABEL) {
            Some(Exception::Waypoint)
        } else if !self.services.get(key).is_some_and(super::service::Draft::is_http) {
            Some(Exception::NotHttp)
        } else if service.spec.kind == ServiceType::ExternalName {
            Some(Exception::ExternalName)
        } else if service.spec.is_headless() {
            Some(Exception::Headless)
        } else {
            addresses.is_empty().then_some(Exception::NoAddress)
        };
        Redirection {
            addresses,
            reasons: self.reasons(key),
            exception,
            unready: match annotation(UNREADY) {
                Some("Direct") => Unready::Direct,
                _ => Unready::Refuse,
            },
            refuse_udp: annotation(UDP) == Some("Refuse"),
        }
    }

    fn reasons(&self, key: &ServicePortKey) -> Vec<Reason> {
        let mut reasons = self.route_reasons.get(key).cloned().unwrap_or_default();
        let filters = self.attached.of_service(key).into_iter().filter(|filter| {
            let matches = self.attached.filters.get(filter).map(|filter| &filter.matches);
            // Without matches it sees everything; a match may name other ports only.
            matches.is_none_or(|matches| {
                let sees = |ports: &[u16]| ports.is_empty() || ports.contains(&key.port);
                matches.is_empty() || matches.iter().any(|one| sees(&one.ports))
            })
        });
        reasons.extend(filters.map(|filter| Reason::Filter { filter }));
        let refused = self.refused_filters_of(key).cloned();
        reasons.extend(refused.map(|filter| Reason::RefusedFilter { filter }));
        reasons.sort();
        reasons.dedup();
        reasons
    }

    /// Notes that a route is attached to a service port, if it does more than the port does alone.
    pub(super) fn route_reason(
        &mut self,
        route: &ResourceKey,
        key: &ServicePortKey,
        rules: &[Ready],
    ) {
        let fields = beyond_default(key, rules);
        if !fields.is_empty() {
            let reason = Reason::Route { route: route.clone(), fields };
            self.route_reasons.entry(key.clone()).or_default().push(reason);
        }
    }
}

/// What of a route's rules differs from the default route (everything to the service itself, as it
/// is), named by the fields of the Gateway API.
fn beyond_default(key: &ServicePortKey, rules: &[Ready]) -> Vec<&'static str> {
    let every = |holds: fn(&Rule) -> bool| rules.iter().all(|ready| holds(&ready.rule));
    let takes_all = |ready: &Ready| ready.matches.iter().all(|(when, _)| when.holds_always());
    let to_itself = |ready: &Ready| {
        let itself = |one: &Backend| one.weight > 0 && one.target.as_deref() == Ok(key);
        matches!(&ready.rule.backends[..], [one] if itself(one))
    };
    let defaults = [
        ("matches", !rules.is_empty() && rules.iter().all(takes_all)),
        ("filters", every(has_no_filters)),
        (
            "timeouts",
            every(|rule| rule.request_timeout.is_none() && rule.backend_timeout.is_none()),
        ),
        ("backendRefs", rules.iter().all(to_itself)),
    ];
    defaults.into_iter().filter(|(_, is_default)| !is_default).map(|(field, _)| field).collect()
}

fn has_no_filters(rule: &Rule) -> bool {
    let of_backends = rule.backends.iter().map(|one| (&one.filters, &one.actions));
    let mut all = of_backends.chain([(&rule.filters, &rule.actions)]);
    all.all(|(filters, actions)| filters.is_empty() && actions.is_empty())
}
