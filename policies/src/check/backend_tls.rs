//! Which service ports are spoken to over TLS, and whom they trust.
//!
//! A port that a policy covers is never spoken to in plain text: when the policy cannot be used, or
//! was refused and has no last good version, the port has a reason in place of its settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Checker;
use crate::model::{
    BackendTls, CaCertificates, Hostname, ResourceKey, ServicePortKey, SubjectAltName, Trust,
};
use crate::nearest::nearest;
use crate::pem;
use crate::problem::Problem;
use crate::resource::backend_tls::{BackendTlsPolicy, CA_KEY};
use crate::resource::secret::{CRL_KEY, ConfigMap};
use crate::resource::service::Service;
use crate::resource::{Held, Kind as _};
use crate::status::{AncestorStatus, CONTROLLER_NAME, Condition, Reference, Refusal};

/// What a port's connections must be, or why there can be none.
pub(super) type PortTls = Result<Arc<BackendTls>, String>;

/// Policies by the port that they cover; those that name the port win.
#[derive(Debug, Default)]
pub(super) struct Covered {
    by_name: BTreeMap<ServicePortKey, (ResourceKey, PortTls)>,
    by_service: BTreeMap<ServicePortKey, (ResourceKey, PortTls)>,
    refused: BTreeMap<ServicePortKey, String>,
}

impl Covered {
    /// `None`: plain text.
    pub(super) fn take(&mut self, port: &ServicePortKey) -> Option<PortTls> {
        let by_service = self.by_service.remove(port);
        let found = self.by_name.remove(port).or(by_service).map(|(_, tls)| tls);
        // What was refused may have been the one that counts.
        self.refused.remove(port).map(Err).or(found)
    }
}

impl<'a> Checker<'a> {
    pub(super) fn backend_tls(&mut self) {
        let mut policies: Vec<_> = self.resources.each::<BackendTlsPolicy>().collect();
        // Of two policies that cover the same, the older one counts.
        policies.sort_by_key(|held| (&held.resource.created, held.resource.order));
        for policy in policies {
            let (tls, resolved) = self.port_tls(policy);
            for index in 0..policy.spec.target_refs.len() {
                let covered = self.cover(policy, index, &tls);
                let accepted = covered.and_then(|()| match &tls {
                    Ok(_) => Ok(()),
                    Err(message) => Err(("NoValidCACertificate", message.clone())),
                });
                let conditions = Condition::accepted_and_resolved(accepted, resolved.clone());
                let ancestor_ref = ancestor(policy, index);
                let controller_name = CONTROLLER_NAME;
                let status = AncestorStatus { ancestor_ref, controller_name, conditions };
                self.report.statuses.of(policy.key()).ancestors.push(status);
            }
        }
        self.refused_backend_tls();
    }

    /// Puts a policy on the ports of one target.
    fn cover(
        &mut self,
        policy: Held<'a, BackendTlsPolicy>,
        index: usize,
        tls: &PortTls,
    ) -> Result<(), Refusal> {
        let target = &policy.spec.target_refs[index];
        let (namespace, name) = (policy.namespace(), target.name.0.as_str());
        let at = |part: &str| policy.at(&format!("spec/targetRefs/{index}/{part}"));
        if self.resources.get::<Service>(namespace, name).is_none() {
            let message = format!("there is no Service {namespace}/{name}");
            let problem = Problem::error("unknown-reference", &at("name"), message.clone());
            let near = nearest(name, self.resources.names::<Service>(namespace));
            let problem = problem.nearest(near).of(policy.key());
            self.unknown("Service", namespace, name, problem);
            return Err(("TargetNotFound", message));
        }
        let ports =
            self.services.iter().filter(|(key, _)| key.namespace == namespace && key.name == name);
        let section = target.section_name.as_ref().map(|section| section.0.as_str());
        let is_meant = |port: &str| section.is_none_or(|section| section == port);
        let meant: Vec<ServicePortKey> = ports
            .clone()
            .filter(|(_, draft)| is_meant(&draft.name))
            .map(|(key, _)| key.clone())
            .collect();
        if let (true, Some(section)) = (meant.is_empty(), section) {
            let message = format!("Service {namespace}/{name} has no port named `{section}`");
            let problem = Problem::error("unknown-reference", &at("sectionName"), message.clone());
            let near = nearest(section, ports.map(|(_, draft)| draft.name.as_str()));
            self.report.problems.push(problem.nearest(near).of(policy.key()));
            return Err(("TargetNotFound", message));
        }
        let table = match section {
            Some(_) => &mut self.tls.by_name,
            None => &mut self.tls.by_service,
        };
        let mut verdict = Ok(());
        for port in meant {
            match table.get(&port) {
                None => {
                    table.insert(port, (policy.key().clone(), tls.clone()));
                }
                Some((other, _)) if other != policy.key() => {
                    let message = format!("{port} is covered by {other}, which counts");
                    let problem = Problem::warning("conflict", &at("name"), message.clone());
                    self.report.problems.push(problem.of(policy.key()));
                    verdict = Err(("Conflicted", message));
                }
                Some(_) => {}
            }
        }
        verdict
    }

    /// What a policy means; whom it trusts is the rest of its references, if some cannot be used.
    fn port_tls(&mut self, policy: Held<'a, BackendTlsPolicy>) -> (PortTls, Result<(), Refusal>) {
        let validation = &policy.spec.validation;
        let (mut found, mut unresolved) = (Vec::new(), None);
        for index in 0..validation.ca_certificate_refs.len() {
            match self.ca_certificates(policy, index) {
                Ok(certificates) => found.push(certificates),
                Err(message) => unresolved = unresolved.or(Some(message)),
            }
        }
        let resolved =
            unresolved.clone().map_or(Ok(()), |message| Err(("InvalidCACertificateRef", message)));
        let trust = match (validation.well_known, unresolved) {
            (Some(_), _) => Trust::System,
            (None, Some(message)) if found.is_empty() => {
                return (Err(format!("{}: {message}", policy.key())), resolved);
            }
            (None, _) => Trust::Certificates(found),
        };
        let (Hostname::Exact(hostname) | Hostname::Wildcard(hostname)) = &validation.hostname.0;
        let names = validation.subject_alt_names.iter().filter_map(|name| {
            let hostname = name.hostname.as_ref().map(|name| SubjectAltName::Dns(name.0.clone()));
            hostname.or_else(|| name.uri.clone().map(SubjectAltName::Uri))
        });
        let (policy, hostname) = (policy.key().clone(), hostname.clone());
        let tls = BackendTls { policy, hostname, subject_alt_names: names.collect(), trust };
        (Ok(Arc::new(tls)), resolved)
    }

    fn ca_certificates(
        &mut self,
        policy: Held<'a, BackendTlsPolicy>,
        index: usize,
    ) -> Result<CaCertificates, String> {
        let (namespace, resources) = (policy.namespace(), self.resources);
        let name = policy.spec.validation.ca_certificate_refs[index].name.0.as_str();
        let place = policy.at(&format!("spec/validation/caCertificateRefs/{index}/name"));
        let Some(map) = resources.get::<ConfigMap>(namespace, name) else {
            let message = format!("there is no ConfigMap {namespace}/{name}");
            let problem = Problem::error("unknown-reference", &place, message.clone());
            let near = nearest(name, resources.names::<ConfigMap>(namespace));
            self.unknown("ConfigMap", namespace, name, problem.nearest(near).of(policy.key()));
            return Err(message);
        };
        if map.spec.data.contains_key(CRL_KEY) {
            let message = format!(
                "`{CRL_KEY}` of ConfigMap {namespace}/{name} is not read for endpoints: \
                 a revoked certificate is taken"
            );
            self.report.problems.push(Problem::warning("unused", &place, message).of(policy.key()));
        }
        match map.spec.data.get(CA_KEY).filter(|text| pem::holds(text, pem::CERTIFICATE)) {
            Some(text) => Ok(CaCertificates {
                config_map: format!("{namespace}/{name}"),
                pem: Arc::from(text.as_str()),
            }),
            None => {
                let message = format!(
                    "ConfigMap {namespace}/{name} has no PEM certificates under `{CA_KEY}`"
                );
                let problem = Problem::error("unknown-reference", &place, message.clone());
                self.report.problems.push(problem.of(policy.key()));
                Err(message)
            }
        }
    }

    /// A refused policy covers every port of the Services that it names; of its whole namespace,
    /// where its targets cannot be read.
    fn refused_backend_tls(&mut self) {
        let policies = self.resources.refused.iter();
        for (key, refused) in policies.filter(|(key, _)| key.kind == "BackendTLSPolicy") {
            let is_named = |service: &ServicePortKey| {
                refused.targets.as_ref().is_none_or(|targets| {
                    targets.iter().any(|target| target.name.0 == service.name)
                })
            };
            for port in self.services.keys() {
                if port.namespace == key.namespace && is_named(port) {
                    let message = format!("{key} is refused: {}", refused.reason);
                    self.tls.refused.insert(port.clone(), message);
                }
            }
        }
    }
}

fn ancestor(policy: Held<'_, BackendTlsPolicy>, index: usize) -> Reference {
    let target = &policy.spec.target_refs[index];
    Reference {
        group: String::new(),
        kind: Service::KIND.to_owned(),
        namespace: policy.namespace().to_owned(),
        name: target.name.0.clone(),
        section_name: target.section_name.as_ref().map(|section| section.0.clone()),
        port: None,
    }
}
