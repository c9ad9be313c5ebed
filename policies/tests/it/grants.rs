//! References into other namespaces need a grant there; backends that cannot be used say why.

use waypoint_policies::{BackendFault, Checked, Severity};

use crate::support::{EDGE, checked, grant, service};

fn route(backend: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: shop}}
spec: {{parentRefs: [{{name: edge}}], rules: [{{backendRefs: [{backend}]}}]}}
"
    )
}

fn target(checked: &Checked) -> Result<String, BackendFault> {
    let rule = checked.model.entrances[0].routes.rules().next().unwrap();
    rule.backends[0].target.as_ref().map(ToString::to_string).map_err(|fault| *fault)
}

/// The reason of a condition of the first listener or parent.
fn condition(checked: &Checked, kind: &str, condition: &str) -> &'static str {
    let (_, status) = checked.model.statuses.iter().find(|(key, _)| key.kind == kind).unwrap();
    let listeners = status.listeners.iter().map(|listener| &listener.conditions);
    let mut conditions =
        listeners.chain(status.parents.iter().map(|parent| &parent.conditions)).flatten();
    conditions.find(|found| found.kind == condition).unwrap().reason
}

#[test]
fn a_backend_of_another_namespace_is_used_only_with_a_grant_for_it() {
    let far = "{name: vault, namespace: bank, port: 80}";
    let cases = [
        // grant                                                 backend   outcome
        ("", far, Err(BackendFault::RefNotPermitted), "RefNotPermitted"),
        ("[{group: '', kind: Service}]", far, Ok("bank/vault:80"), "ResolvedRefs"),
        ("[{group: '', kind: Service, name: vault}]", far, Ok("bank/vault:80"), "ResolvedRefs"),
        (
            "[{group: '', kind: Service, name: door}]",
            far,
            Err(BackendFault::RefNotPermitted),
            "RefNotPermitted",
        ),
        ("[{group: '', kind: Secret}]", far, Err(BackendFault::RefNotPermitted), "RefNotPermitted"),
        ("", "{name: cart, port: 80}", Ok("shop/cart:80"), "ResolvedRefs"),
        ("", "{name: cart, port: 81}", Err(BackendFault::BackendNotFound), "BackendNotFound"),
        ("", "{name: crat, port: 80}", Err(BackendFault::BackendNotFound), "BackendNotFound"),
        (
            "",
            "{name: cart, kind: Bucket, group: example.com}",
            Err(BackendFault::InvalidKind),
            "InvalidKind",
        ),
    ];
    for (to, backend, want, reason) in cases {
        let grant = if to.is_empty() { String::new() } else { grant(to) };
        let text =
            [EDGE, &service("shop", "cart"), &service("bank", "vault"), &grant, &route(backend)]
                .concat();
        let checked = checked(&text);
        assert_eq!(target(&checked), want.map(str::to_owned), "{to} {backend}");
        assert_eq!(condition(&checked, "HTTPRoute", "ResolvedRefs"), reason, "{to} {backend}");
        let errors = checked.problems.iter().filter(|problem| problem.severity == Severity::Error);
        assert_eq!(
            errors.count(),
            0,
            "a backend that is not there is a warning: the route answers 500"
        );
    }
}

#[test]
fn a_certificate_of_another_namespace_is_used_only_with_a_grant_for_it() {
    let gateway = EDGE.replace(
        "protocol: HTTP",
        "protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: bank}]}",
    );
    let secret = "
---
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: bank}
type: kubernetes.io/tls
data: {tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t, tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t}
";
    for (grant, certificates, reason) in [
        (String::new(), 0, "RefNotPermitted"),
        (grant("[{group: '', kind: Secret}]"), 1, "ResolvedRefs"),
    ] {
        let checked = checked(&[&gateway, secret, &grant].concat());
        let tls =
            checked.model.entrances[0].tls.as_ref().expect("an HTTPS listener never becomes plain");
        assert_eq!(tls.certificates.len(), certificates);
        assert_eq!(condition(&checked, "Gateway", "ResolvedRefs"), reason);
        assert!(!format!("{checked:?}").contains("PRIVATE KEY"), "a key is never printed");
    }
}

#[test]
fn names_of_another_namespace_are_not_suggested_without_a_grant() {
    let text = [EDGE, &service("bank", "vault"), &route("{name: vaul, namespace: bank, port: 80}")]
        .concat();
    let checked = checked(&text);
    assert_eq!(checked.problems.len(), 1);
    assert_eq!(checked.problems[0].nearest, None);
}

#[test]
fn a_name_outside_the_cluster_is_a_backend_like_any_other_and_needs_the_same_grant() {
    let bank = "
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: bank}
spec: {type: ExternalName, externalName: api.example.com, ports: [{name: http, port: 443}]}
";
    let far = route("{name: outside, namespace: bank, port: 443}");
    let alone = checked(&[EDGE, bank, &far].concat());
    assert_eq!(target(&alone), Err(BackendFault::RefNotPermitted));

    let granted = checked(&[EDGE, bank, &far, &grant("[{group: '', kind: Service}]")].concat());
    assert_eq!(target(&granted).unwrap(), "bank/outside:443");
    let (_, service) =
        granted.model.services.iter().find(|(key, _)| key.name == "outside").unwrap();
    let endpoints: Vec<String> = service.endpoints.iter().map(|one| one.name()).collect();
    assert_eq!(endpoints, ["api.example.com:443"]);
    assert!(granted.notes.is_empty(), "no EndpointSlice is missed: {:?}", granted.notes);
}
