//! Which service ports need L7, and why.

use waypoint_policies::ports::Numbering;
use waypoint_policies::{
    Exception, Redirection, Resources, ServicePortKey, Unready, check, merge, read, render,
};

use crate::support::{file, right, service};

/// A Service with an address, and what else is written.
fn with_address(metadata: &str, spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: cart, namespace: shop{metadata}}}
spec: {{clusterIP: 10.96.0.7, ports: [{{name: http, port: 80}}]{spec}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: cart-1, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1]}}]
ports: [{{name: http, port: 9000}}]
"
    )
}

fn cart(text: &str) -> Redirection {
    right(text).model.redirections[&"shop/cart:80".parse::<ServicePortKey>().unwrap()].clone()
}

/// What a route of these rules on `cart` is a reason for.
fn reasons_of(rules: &str) -> Vec<String> {
    let text = format!(
        "{}{}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: cart, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: cart}}]
  rules:
{rules}
",
        with_address("", ""),
        service("shop", "other")
    );
    cart(&text).reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn a_service_to_which_nothing_applies_goes_direct() {
    let cart = cart(&with_address("", ""));
    assert!(cart.reasons.is_empty() && !cart.applies());
    assert_eq!(cart.addresses, ["10.96.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((cart.unready, cart.refuse_udp, cart.exception), (Unready::Refuse, false, None));
}

#[test]
fn a_route_is_a_reason_by_what_it_does_beyond_the_default() {
    let itself = "  - backendRefs: [{name: cart, port: 80}]";
    let cases: [(&str, &[&str]); 9] = [
        (itself, &[]),
        (
            "  - matches: [{path: {type: PathPrefix, value: /}}]\n    backendRefs: [{name: cart, port: 80}]",
            &[],
        ),
        (
            "  - matches: [{path: {type: PathPrefix, value: /a}}]\n    backendRefs: [{name: cart, port: 80}]",
            &["matches"],
        ),
        ("  - matches: [{method: GET}]\n    backendRefs: [{name: cart, port: 80}]", &["matches"]),
        ("  - backendRefs: [{name: other, port: 80}]", &["backendRefs"]),
        ("  - backendRefs: [{name: cart, port: 80, weight: 0}]", &["backendRefs"]),
        ("  - timeouts: {request: 1s}\n    backendRefs: [{name: cart, port: 80}]", &["timeouts"]),
        (
            "  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-a, value: b}]}}]\n    backendRefs: [{name: cart, port: 80}]",
            &["filters"],
        ),
        (
            "  - matches: [{path: {type: Exact, value: /a}}]\n    timeouts: {backendRequest: 1s}\n    backendRefs: [{name: cart, port: 80}, {name: other, port: 80}]",
            &["matches", "timeouts", "backendRefs"],
        ),
    ];
    for (rules, fields) in cases {
        let expected = match fields {
            [] => Vec::new(),
            fields => vec![format!("HTTPRoute shop/cart: its {}", fields.join(", "))],
        };
        assert_eq!(reasons_of(rules), expected, "{rules}");
    }
}

#[test]
fn a_filter_of_the_service_or_of_its_namespace_is_a_reason() {
    for targets in [", targetRefs: [{kind: Service, name: cart}]", ""] {
        let filter = format!(
            "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: redact, namespace: shop}}
spec: {{module: {{url: builtin://pii-redact}}{targets}}}
"
        );
        let cart = cart(&format!("{}{filter}", with_address("", "")));
        assert_eq!(cart.reasons[0].to_string(), "Filter shop/redact");
        assert!(cart.applies());
    }
}

#[test]
fn a_plugin_for_other_ports_is_no_reason() {
    for (port, is_reason) in [(80, true), (8080, false)] {
        let plugin = format!(
            "
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: any, namespace: shop}}
spec:
  url: builtin://pii-redact
  targetRefs: [{{group: '', kind: Service, name: cart}}]
  match: [{{ports: [{{number: {port}}}]}}]
"
        );
        let cart = cart(&format!("{}{plugin}", with_address("", "")));
        assert_eq!(cart.applies(), is_reason, "{port}");
    }
}

#[test]
fn a_refused_filter_that_must_not_be_skipped_is_a_reason_and_one_that_may_be_is_none() {
    for (policy, is_reason) in [("Closed", true), ("Open", false)] {
        let text = format!(
            "{}
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: redact, namespace: shop}}
spec:
  module: {{url: nonsense}}
  failurePolicy: {policy}
  targetRefs: [{{kind: Service, name: cart}}]
",
            with_address("", "")
        );
        let reading = read(&[file("test.yaml", &text)]);
        assert!(!reading.problems.is_empty());
        let model = check(&merge(&Resources::default(), reading), &Numbering::default()).model;
        assert_eq!(model.redirections[&"shop/cart:80".parse().unwrap()].applies(), is_reason);
    }
}

/// A filter of the whole namespace.
const FILTER: &str = "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: redact, namespace: shop}
spec: {module: {url: builtin://pii-redact}}
";

/// A Service to which it applies; `service` is the whole of it.
fn filtered(service: &str) -> Redirection {
    cart(&format!("{service}{FILTER}"))
}

#[test]
fn what_cannot_or_must_not_be_redirected_says_why() {
    let label = ", labels: {gateway.networking.k8s.io/gateway-name: edge}";
    let service = with_address("", "");
    let cases = [
        (with_address(label, ""), Exception::Waypoint),
        (service.replace("name: http", "name: tcp-any"), Exception::NotHttp),
        (service.replace("clusterIP: 10.96.0.7", "clusterIP: None"), Exception::Headless),
        (service.replace("clusterIP: 10.96.0.7, ", ""), Exception::NoAddress),
        (
            service.replace("clusterIP: 10.96.0.7", "type: ExternalName, externalName: a.example"),
            Exception::ExternalName,
        ),
    ];
    for (service, exception) in cases {
        let cart = filtered(&service);
        assert!(!cart.applies());
        assert_eq!(cart.exception, Some(exception));
        assert!(!cart.reasons.is_empty(), "why it would need L7 is told all the same");
    }
}

#[test]
fn a_headless_service_that_something_applies_to_is_noted() {
    let service = with_address("", "").replace("clusterIP: 10.96.0.7", "clusterIP: None");
    let notes = right(&format!("{service}{FILTER}")).notes;
    assert!(notes.iter().any(|note| note.message.contains("is headless") && note.line == 5));
}

#[test]
fn a_waypoint_service_has_no_entrance_of_a_waypoint() {
    let label = ", labels: {gateway.networking.k8s.io/gateway-name: edge}";
    let entrances = |label| right(&format!("{}{FILTER}", with_address(label, ""))).model.entrances;
    assert_eq!(entrances("").len(), 1);
    assert!(entrances(label).is_empty());
}

#[test]
fn addresses_of_both_families_and_external_ones_are_redirected() {
    let spec = ", clusterIPs: [10.96.0.7, 'fd00::7'], externalIPs: [192.0.2.1]";
    let addresses: Vec<String> =
        filtered(&with_address("", spec)).addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.7", "192.0.2.1", "fd00::7"]);
}

#[test]
fn annotations_say_what_happens_without_a_waypoint_and_to_udp() {
    let annotations =
        ", annotations: {redirect.waypoint.rs/unready: Direct, redirect.waypoint.rs/udp: Refuse}";
    let cart = filtered(&with_address(annotations, ""));
    assert_eq!((cart.unready, cart.refuse_udp), (Unready::Direct, true));
}

#[test]
fn a_misspelt_annotation_or_address_is_told_with_its_place_and_the_nearest_spelling() {
    let cases = [
        (
            ", annotations: {redirect.waypoint.rs/unredy: Direct}",
            "",
            "unknown annotation `redirect.waypoint.rs/unredy`",
            "redirect.waypoint.rs/unready",
        ),
        (
            ", annotations: {redirect.waypoint.rs/unready: direct}",
            "",
            "unknown value `direct`",
            "Direct",
        ),
        ("", ", externalIPs: [10.0.0]", "`10.0.0` is not an address", ""),
    ];
    for (metadata, spec, message, near) in cases {
        let problems = read(&[file("test.yaml", &with_address(metadata, spec))]).problems;
        let [problem] = &problems[..] else { panic!("{}", render(&problems)) };
        assert_eq!(problem.message, message);
        assert_eq!(problem.nearest.as_deref().unwrap_or_default(), near);
        assert!(problem.line > 0 && problem.column > 1, "{problem:?}");
    }
}
