//! What became of each resource, as the Gateway API writes it; and which namespaces a listener takes
//! routes from.

use serde_json::{Value, json};
use waypoint_policies::Checked;

use crate::support::{checked, service};

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: waypoint
  listeners:
  - {name: web, port: 80, protocol: HTTP}
  - {name: again, port: 80, protocol: HTTP}
  - {name: calls, port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}
  - {name: safe, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}
";

fn route(namespace: &str, name: &str, parents: &str, backend: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRefs: {parents}, rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}
"
    )
}

/// The status of a resource, without messages.
fn status(checked: &Checked, kind: &str, name: &str) -> Value {
    let mut statuses = checked.model.statuses.iter();
    let (_, status) =
        statuses.find(|(key, _)| (key.kind.as_str(), key.name.as_str()) == (kind, name)).unwrap();
    let mut status = serde_json::to_value(status).unwrap();
    without_messages(&mut status);
    status
}

fn without_messages(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("message");
            fields.values_mut().for_each(without_messages);
        }
        Value::Array(items) => items.iter_mut().for_each(without_messages),
        _ => {}
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason})
}

#[test]
fn a_gateway_tells_of_each_listener_and_counts_its_routes() {
    let text = [
        GATEWAY,
        &route("shop", "one", "[{name: edge}]", "cart"),
        &route("shop", "two", "[{name: edge, sectionName: web}, {name: edge, port: 81}]", "cart"),
        &service("shop", "cart"),
    ];
    let status = status(&checked(&text.concat()), "Gateway", "edge");
    let http = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"});
    let grpc = json!({"group": "gateway.networking.k8s.io", "kind": "GRPCRoute"});
    let good = |name: &str, kinds: &[&Value], attached: u32| {
        json!({"name": name, "supportedKinds": kinds, "attachedRoutes": attached, "conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("Conflicted", "False", "NoConflicts"),
            condition("ResolvedRefs", "True", "ResolvedRefs"),
            condition("Programmed", "True", "Programmed"),
        ]})
    };
    let want = json!({
        "conditions": [
            condition("Accepted", "True", "ListenersNotValid"),
            condition("Programmed", "True", "Programmed"),
        ],
        "listeners": [
            good("web", &[&http, &grpc], 2),
            {"name": "again", "supportedKinds": [http, grpc], "attachedRoutes": 0, "conditions": [
                condition("Accepted", "False", "HostnameConflict"),
                condition("Conflicted", "True", "HostnameConflict"),
                condition("ResolvedRefs", "True", "ResolvedRefs"),
                condition("Programmed", "False", "Invalid"),
            ]},
            good("calls", &[&grpc], 0),
            {"name": "safe", "supportedKinds": [http, grpc], "attachedRoutes": 1, "conditions": [
                condition("Accepted", "True", "Accepted"),
                condition("Conflicted", "False", "NoConflicts"),
                condition("ResolvedRefs", "False", "InvalidCertificateRef"),
                condition("Programmed", "False", "Invalid"),
            ]},
        ],
    });
    assert_eq!(status, want, "{status:#}");
}

#[test]
fn a_route_is_told_what_each_of_its_parents_made_of_it() {
    let parents = "[{name: edge, sectionName: web}, {name: edge, sectionName: calls}, \
        {kind: Service, group: '', name: cart, port: 80}]";
    let text = [GATEWAY, &route("shop", "one", parents, "none"), &service("shop", "cart")];
    let status = status(&checked(&text.concat()), "HTTPRoute", "one");
    let parent = |mut parent: Value, accepted: Value| {
        parent["namespace"] = "shop".into();
        let conditions = [accepted, condition("ResolvedRefs", "False", "BackendNotFound")];
        json!({
            "parentRef": parent, "controllerName": "waypoint.rs/waypoint", "conditions": conditions
        })
    };
    let edge = |section: &str| {
        json!({
            "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge",
            "sectionName": section
        })
    };
    let cart = json!({"group": "", "kind": "Service", "name": "cart", "port": 80});
    let want = json!({"parents": [
        parent(edge("web"), condition("Accepted", "True", "Accepted")),
        parent(edge("calls"), condition("Accepted", "False", "NotAllowedByListeners")),
        parent(cart, condition("Accepted", "True", "Accepted")),
    ]});
    assert_eq!(status, want, "{status:#}");
}

#[test]
fn a_listener_takes_routes_of_the_namespaces_that_its_selector_chooses() {
    let cases = [
        // selector                                                         chosen
        ("{matchLabels: {team: red}}", &["bank"][..]),
        ("{matchLabels: {kubernetes.io/metadata.name: shop}}", &["shop"]),
        ("{matchExpressions: [{key: team, operator: In, values: [red, blue]}]}", &["bank"]),
        ("{matchExpressions: [{key: team, operator: NotIn, values: [red]}]}", &["shop", "mail"]),
        ("{matchExpressions: [{key: team, operator: Exists}]}", &["bank", "mail"]),
        ("{matchExpressions: [{key: team, operator: DoesNotExist}]}", &["shop"]),
        ("{matchLabels: {team: red}, matchExpressions: [{key: tier, operator: Exists}]}", &[]),
        ("{}", &["shop", "bank", "mail"]),
    ];
    for (selector, chosen) in cases {
        let allowed = format!(
            "{{name: web, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: \
             {{from: Selector, selector: {selector}}}}}}}"
        );
        let mut text = GATEWAY.replace("{name: web, port: 80, protocol: HTTP}", &allowed);
        for (namespace, labels) in [("bank", "{team: red}"), ("mail", "{team: green}")] {
            text += &format!(
                "---\napiVersion: v1\nkind: Namespace\n\
                 metadata: {{name: {namespace}, labels: {labels}}}\n\
                 spec: {{finalizers: [kubernetes]}}\nstatus: {{phase: Active}}\n"
            );
        }
        for namespace in ["shop", "bank", "mail"] {
            let parent = "[{name: edge, namespace: shop, sectionName: web}]";
            text += &route(namespace, namespace, parent, "cart");
            text += &service(namespace, "cart");
        }
        let checked = checked(&text);
        for namespace in ["shop", "bank", "mail"] {
            let status = status(&checked, "HTTPRoute", namespace);
            let accepted = status["parents"][0]["conditions"][0]["status"] == "True";
            assert_eq!(accepted, chosen.contains(&namespace), "{selector}: {namespace}");
        }
    }
}
