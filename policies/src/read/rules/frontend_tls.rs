//! Rules within `spec.tls.frontend` of a Gateway.

use std::collections::BTreeSet;

use super::Rules;
use crate::resource::gateway::{FrontendSettings, FrontendTls};

impl Rules<'_> {
    pub(super) fn frontend_tls(&mut self, frontend: &FrontendTls) {
        let at = "spec/tls/frontend";
        self.frontend_settings(&frontend.default, &format!("{at}/default"));
        let mut ports = BTreeSet::new();
        for (index, port) in frontend.per_port.iter().enumerate() {
            let at = format!("{at}/perPort/{index}");
            self.unique(&mut ports, port.port, "the port", &format!("{at}/port"));
            self.frontend_settings(&port.tls, &format!("{at}/tls"));
        }
    }

    fn frontend_settings(&mut self, settings: &FrontendSettings, at: &str) {
        let references = settings.validation.iter().flat_map(|one| &one.ca_certificate_refs);
        for (index, reference) in references.enumerate() {
            let at = format!("{at}/validation/caCertificateRefs/{index}");
            self.only(&format!("{at}/group"), &reference.group, "");
            if reference.kind != "Secret" {
                self.only(&format!("{at}/kind"), &reference.kind, "ConfigMap");
            }
        }
    }
}
