//! Rules within a BackendTLSPolicy.

use super::Rules;
use crate::model::Hostname;
use crate::resource::backend_tls::{BackendTlsPolicy, SubjectAltName, SubjectAltNameKind};

impl Rules<'_> {
    pub(super) fn backend_tls(&mut self, policy: &BackendTlsPolicy) {
        for (index, target) in policy.target_refs.iter().enumerate() {
            let at = format!("spec/targetRefs/{index}");
            self.only(&format!("{at}/kind"), &target.kind, "Service");
            self.only(&format!("{at}/group"), &target.group, "");
        }
        let validation = &policy.validation;
        for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
            let at = format!("spec/validation/caCertificateRefs/{index}");
            self.only(&format!("{at}/kind"), &reference.kind, "ConfigMap");
            self.only(&format!("{at}/group"), &reference.group, "");
        }
        let one = Some("one of `caCertificateRefs` and `wellKnownCACertificates`");
        match (validation.ca_certificate_refs.is_empty(), validation.well_known) {
            (true, None) => {
                self.error("missing-field", "spec/validation", "nobody is trusted", one);
            }
            (false, Some(_)) => {
                let message = "there are `caCertificateRefs`, too";
                self.error("conflict", "spec/validation/wellKnownCACertificates", message, one);
            }
            _ => {}
        }
        if let Hostname::Wildcard(_) = validation.hostname.0 {
            let message = "the name that is sent has no wildcard";
            self.error("format", "spec/validation/hostname", message, Some("one DNS name"));
        }
        for (index, name) in validation.subject_alt_names.iter().enumerate() {
            self.subject_alt_name(&format!("spec/validation/subjectAltNames/{index}"), name);
        }
    }

    fn subject_alt_name(&mut self, at: &str, name: &SubjectAltName) {
        let (wanted, other, is_there, is_strange) = match name.kind {
            SubjectAltNameKind::Hostname => {
                ("hostname", "uri", name.hostname.is_some(), name.uri.is_some())
            }
            SubjectAltNameKind::Uri => {
                ("uri", "hostname", name.uri.is_some(), name.hostname.is_some())
            }
        };
        if !is_there {
            let message = format!("the field `{wanted}` is missing");
            self.error("missing-field", &format!("{at}/type"), message, None);
        }
        if is_strange {
            let message = format!("this type has no `{other}`");
            let expected = format!("`{wanted}`");
            self.error("conflict", &format!("{at}/{other}"), message, Some(&expected));
        }
        if name.uri.as_deref().is_some_and(|uri| !is_absolute(uri)) {
            let expected = Some("a URI such as `spiffe://cluster.local/ns/shop/sa/cart`");
            self.error("format", &format!("{at}/uri"), "this is no absolute URI", expected);
        }
    }
}

/// Whether a URI has a scheme and an authority.
///
/// # Source
///
/// Gateway API, `AbsoluteURI`.
fn is_absolute(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once("://") else { return false };
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(in_scheme)
        && !rest.starts_with(['/', '?', '#'])
        && !rest.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}
