//! Which rule of a GRPCRoute answers which call.

use http::{HeaderMap, HeaderValue, Method};
use waypoint_policies::{Checked, Facts, Selection};

use crate::support::{EDGE, checked, right};

/// A route of `shop` with a parent Gateway `edge`; `rest` is the rest of its spec, in flow form.
fn route(kind: &str, name: &str, rest: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: shop}}
spec: {{parentRefs: [{{name: edge}}], {rest}}}
"
    )
}

/// The rule that a call takes; `tenant` is a piece of its metadata.
fn taken(checked: &Checked, host: &str, path: &str, tenant: Option<&'static str>) -> String {
    let mut headers = HeaderMap::new();
    headers.extend(
        tenant.map(|value| {
            (http::HeaderName::from_static("tenant"), HeaderValue::from_static(value))
        }),
    );
    let method = Method::POST;
    let facts = Facts { host, method: &method, path, query: None, headers: &headers, sni: None };
    match checked.model.entrances[0].routes.select(&facts) {
        Selection::Rule(rule) => rule.id.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_call_takes_the_rule_with_the_most_of_its_service_then_of_its_method_then_of_its_metadata() {
    let rules = "rules: [
  {name: any},
  {name: get, matches: [{method: {method: Get}}]},
  {name: cart, matches: [{method: {service: shop.v1.Cart}}]},
  {name: tenant, matches: [{method: {service: shop.v1.Cart}, headers: [{name: Tenant, value: a}]}]},
  {name: cart-get, matches: [{method: {service: shop.v1.Cart, method: Get}}]},
  {name: regex, matches: [{method: {type: RegularExpression, service: 'bank[.].+', method: 'Pay|Refund'}}]},
  {name: regex-any, matches: [{method: {type: RegularExpression, service: 'mail[.].+'}}]}]";
    let checked = right(&[EDGE, &route("GRPCRoute", "calls", rules)].concat());
    for (path, tenant, want) in [
        ("/shop.v1.Cart/Get", None, "cart-get"),
        ("/shop.v1.Cart/Get", Some("a"), "cart-get"),
        ("/shop.v1.Cart/Add", None, "cart"),
        ("/shop.v1.Cart/Add", Some("a"), "tenant"),
        ("/shop.v1.Cart/Add", Some("b"), "cart"),
        ("/shop.v1.Other/Get", None, "get"),
        ("/shop.v1.Other/Gets", None, "any"),
        ("/shop.v1.cart/Add", None, "any"),
        ("/bank.v1.Desk/Pay", None, "regex"),
        ("/bank.v1.Desk/Pays", None, "any"),
        ("/mail.v1.Box/Read", None, "regex-any"),
    ] {
        let took = taken(&checked, "h", path, tenant);
        assert_eq!(took, format!("shop/calls/{want}"), "{path} {tenant:?}");
    }
}

#[test]
fn of_two_kinds_of_routes_with_a_common_host_a_listener_takes_the_older_one() {
    let http = |name: &str, hosts: &str| {
        route("HTTPRoute", name, &format!("hostnames: [{hosts}], rules: [{{name: r}}]"))
    };
    let grpc = |name: &str, hosts: &str| {
        route("GRPCRoute", name, &format!("hostnames: [{hosts}], rules: [{{name: r}}]"))
    };
    let text = [
        EDGE,
        &http("web", "a.test"),
        &grpc("calls", "'*.test'"),
        &grpc("other-calls", "b.test"),
        &http("other-web", "'*.test'"),
    ]
    .concat();
    let both = checked(&text);
    assert_eq!(taken(&both, "a.test", "/x/y", None), "shop/web/r");
    assert_eq!(taken(&both, "b.test", "/x/y", None), "shop/other-calls/r");
    assert_eq!(taken(&both, "c.test", "/x/y", None), "NoRule");
    let conflicts = both.problems.iter().filter(|one| one.message.contains("two kinds")).count();
    assert_eq!(conflicts, 2);

    let older = text.replace(
        "name: calls, namespace: shop",
        "name: calls, namespace: shop, creationTimestamp: '2025-01-01T00:00:00Z'",
    );
    let older = older.replace(
        "name: web, namespace: shop",
        "name: web, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'",
    );
    assert_eq!(taken(&checked(&older), "a.test", "/x/y", None), "shop/calls/r");
}
