//! Which client certificates the HTTPS ports of a Gateway take.
//!
//! Fails closed: an authority that is gone, that cannot be read or that no grant allows is trusted by
//! nobody, and a port without any takes no certificate. There is no last good version: whom to trust
//! is what an operator may have just taken away (decision 0018).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Checker;
use super::grant::{Reference, permits};
use crate::model::{ClientAuthority, ClientValidation, ResourceKey, ValidationMode};
use crate::nearest::nearest;
use crate::pem;
use crate::problem::Problem;
use crate::resource::Held;
use crate::resource::backend_tls::CA_KEY;
use crate::resource::gateway::{CaRef, FrontendSettings, Gateway};
use crate::resource::secret::{CRL_KEY, ConfigMap, Secret};
use crate::status::Refusal;

/// What each port of a Gateway asks of clients; `None`: nothing.
pub(super) struct Clients {
    default: Option<Asked>,
    by_port: BTreeMap<u16, Option<Asked>>,
}

/// What is asked, and why not everybody is trusted who was meant to be.
pub(super) struct Asked {
    pub validation: ClientValidation,
    pub unresolved: Option<Refusal>,
}

impl Clients {
    pub(super) fn of_port(&self, port: u16) -> Option<&Asked> {
        self.by_port.get(&port).unwrap_or(&self.default).as_ref()
    }

    /// Whether a port serves clients without a right certificate, too.
    pub(super) fn are_optional(&self) -> bool {
        let mut asked = self.by_port.values().chain([&self.default]).flatten();
        asked.any(|asked| asked.validation.mode == ValidationMode::AllowInsecureFallback)
    }
}

impl<'a> Checker<'a> {
    pub(super) fn clients(&mut self, gateway: Held<'a, Gateway>) -> Clients {
        let (mut default, mut by_port) = (None, BTreeMap::new());
        let frontend = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
        if let Some(frontend) = frontend {
            let at = "spec/tls/frontend";
            default = self.asked(gateway, &frontend.default, &format!("{at}/default"));
            for (index, port) in frontend.per_port.iter().enumerate() {
                let at = format!("{at}/perPort/{index}");
                let asked = self.asked(gateway, &port.tls, &format!("{at}/tls"));
                by_port.insert(port.port, asked);
                if !gateway.spec.listeners.iter().any(|listener| listener.port == port.port) {
                    let message = format!("no listener of this Gateway has the port {}", port.port);
                    let place = gateway.at(&format!("{at}/port"));
                    let problem = Problem::warning("unused", &place, message);
                    self.report.problems.push(problem.of(gateway.key()));
                }
            }
        }
        Clients { default, by_port }
    }

    /// Whom a port trusts: the rest of its references, if some cannot be used.
    fn asked(
        &mut self,
        gateway: Held<'a, Gateway>,
        settings: &FrontendSettings,
        at: &str,
    ) -> Option<Asked> {
        let validation = settings.validation.as_ref()?;
        let (mut authorities, mut unresolved) = (Vec::new(), None);
        for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
            let at = format!("{at}/validation/caCertificateRefs/{index}/name");
            match self.authority(gateway, reference, &at) {
                Ok(authority) => authorities.push(authority),
                Err(refusal) => unresolved = Some(refusal),
            }
        }
        let validation = ClientValidation { mode: validation.mode, authorities };
        Some(Asked { validation, unresolved })
    }

    fn authority(
        &mut self,
        gateway: Held<'a, Gateway>,
        wanted: &CaRef,
        at: &str,
    ) -> Result<ClientAuthority, Refusal> {
        let own = gateway.namespace();
        let namespace = wanted.namespace.as_ref().map_or(own, |name| name.0.as_str());
        let (kind, name) = (wanted.kind.as_str(), wanted.name.0.as_str());
        let reference = Reference {
            from_kind: "Gateway",
            from_namespace: own,
            to_kind: kind,
            to_namespace: namespace,
            to_name: name,
        };
        let place = gateway.at(at);
        if !permits(self.resources, reference) {
            let message = format!(
                "no ReferenceGrant in {namespace} lets Gateways of {own} use {kind} {name}"
            );
            let problem = Problem::error("not-permitted", &place, message.clone());
            self.report.problems.push(problem.of(gateway.key()));
            return Err(("RefNotPermitted", message));
        }
        let source = ResourceKey {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let [text, revocations] = match self.ca_texts(kind, namespace, name) {
            Ok(texts) => texts,
            Err(near) => {
                let message = format!("there is no {source}");
                let problem = Problem::error("unknown-reference", &place, message.clone());
                self.unknown(kind, namespace, name, problem.nearest(near).of(gateway.key()));
                return Err(("InvalidCACertificateRef", message));
            }
        };
        match text.filter(|text| pem::holds(text, pem::CERTIFICATE)) {
            Some(text) => {
                let (pem, revocations) = (Arc::from(text), revocations.map(Arc::from));
                Ok(ClientAuthority { source, pem, revocations })
            }
            None => {
                let message = format!("{source} has no PEM certificates under `{CA_KEY}`");
                let problem = Problem::error("unknown-reference", &place, message.clone());
                self.report.problems.push(problem.of(gateway.key()));
                Err(("InvalidCACertificateRef", message))
            }
        }
    }

    /// What stands under `ca.crt` and `ca.crl`; `Err`: there is no such resource, but perhaps one of a
    /// similar name.
    fn ca_texts(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<[Option<&'a str>; 2], Option<&'a str>> {
        let resources = self.resources;
        if kind == "Secret" {
            let near = || nearest(name, resources.names::<Secret>(namespace));
            let secret = resources.get::<Secret>(namespace, name).ok_or_else(near)?;
            return Ok([CA_KEY, CRL_KEY].map(|key| secret.spec.text(key)));
        }
        let near = || nearest(name, resources.names::<ConfigMap>(namespace));
        let map = resources.get::<ConfigMap>(namespace, name).ok_or_else(near)?;
        Ok([CA_KEY, CRL_KEY].map(|key| map.spec.data.get(key).map(String::as_str)))
    }
}
