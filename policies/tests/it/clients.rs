//! What HTTPS ports ask of clients: the port's own settings or the Gateway's, and whom they trust.

use waypoint_policies::{Checked, ClientValidation, ValidationMode};

use crate::support::{checked, grant, right};

const PEM: &str = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n";

/// A Gateway of two HTTPS ports with this `spec.tls.frontend`, and the authorities `one` and `two`.
fn gateway(frontend: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  gatewayClassName: waypoint
  tls: {{frontend: {frontend}}}
  listeners:
  - {{name: a, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}
  - {{name: b, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}
  - {{name: c, port: 80, protocol: HTTP}}
---
apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: shop}}
type: kubernetes.io/tls
stringData: {{tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY-----'}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: one, namespace: shop}}
data: {{ca.crt: \"{PEM}\"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: two, namespace: bank}}
stringData: {{ca.crt: \"{PEM}\"}}
"
    )
}

fn clients<'a>(checked: &'a Checked, entrance: &str) -> Option<&'a ClientValidation> {
    let found = checked.model.entrances.iter().find(|found| &*found.name == entrance).unwrap();
    found.tls.as_ref()?.clients.as_ref()
}

fn sources(clients: &ClientValidation) -> Vec<String> {
    clients.authorities.iter().map(|authority| authority.source.to_string()).collect()
}

#[test]
fn a_port_has_its_own_settings_or_those_of_the_gateway() {
    let frontend =
        "{default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: one}]}},
      perPort: [{port: 8443, tls: {}}]}";
    let all = right(&gateway(frontend));
    let asked = clients(&all, "gateway/shop/443").unwrap();
    assert_eq!(sources(asked), ["ConfigMap shop/one"]);
    assert_eq!(asked.mode, ValidationMode::AllowValidOnly);
    assert_eq!(clients(&all, "gateway/shop/8443"), None, "its own settings ask for none");
    assert_eq!(clients(&all, "gateway/shop/80"), None, "HTTP");
}

#[test]
fn an_authority_of_another_namespace_is_trusted_only_with_a_grant_for_it() {
    let frontend = "{default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [
      {group: '', kind: Secret, name: two, namespace: bank}]}}}";
    for (grant, want) in [
        (String::new(), &[][..]),
        (grant("[{group: '', kind: ConfigMap}]"), &[]),
        (grant("[{group: '', kind: Secret, name: two}]"), &["Secret bank/two"]),
    ] {
        let all = checked(&(gateway(frontend) + &grant));
        let asked = clients(&all, "gateway/shop/443").unwrap();
        assert_eq!(sources(asked), want, "{grant}");
        assert_eq!(asked.mode, ValidationMode::AllowInsecureFallback);
        let (_, status) = &all.model.statuses[0];
        let reason = |kind: &str| {
            // The listener's before the Gateway's.
            let mut found = status.listeners[0].conditions.iter().chain(&status.conditions);
            found.find(|condition| condition.kind == kind).map(|condition| condition.reason)
        };
        let trusts = !want.is_empty();
        let resolved = if trusts { "ResolvedRefs" } else { "RefNotPermitted" };
        assert_eq!(reason("ResolvedRefs"), Some(resolved), "{grant}");
        let accepted = if trusts { "Accepted" } else { "NoValidCACertificate" };
        assert_eq!(reason("Accepted"), Some(accepted), "{grant}");
        assert_eq!(reason("InsecureFrontendValidationMode"), Some("ConfigurationChanged"));
    }
}
