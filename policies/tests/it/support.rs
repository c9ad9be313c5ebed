//! What the tests share.

use waypoint_policies::{
    Checked, Numbering, Resources, Severity, SourceFile, check, merge, read, render,
};

/// A file.
pub(crate) fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

/// The resources of one file, which must be right.
pub(crate) fn resources(text: &str) -> Resources {
    let reading = read(&[file("test.yaml", text)]);
    assert!(reading.problems.is_empty(), "{}", render(&reading.problems));
    merge(&Resources::default(), reading)
}

/// The model of one file, which must be right in itself; between resources there may be problems.
pub(crate) fn checked(text: &str) -> Checked {
    check(&resources(text), &Numbering::default())
}

/// The model of one file in which nothing is wrong.
pub(crate) fn right(text: &str) -> Checked {
    let checked = checked(text);
    let errors: Vec<_> = checked
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .cloned()
        .collect();
    assert!(errors.is_empty(), "{}", render(&errors));
    checked
}

/// A Gateway `edge` in `shop` with one HTTP listener on 8080.
pub(crate) const EDGE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: waypoint
  listeners: [{name: http, port: 8080, protocol: HTTP}]
";

/// A Service of one HTTP port, 80, with one endpoint.
pub(crate) fn service(namespace: &str, name: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1]}}]
ports: [{{name: http, port: 9000}}]
"
    )
}

/// A ReferenceGrant in `bank` for Gateways and HTTPRoutes of `shop`; `to` is its list, in flow form.
pub(crate) fn grant(to: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: grant, namespace: bank}}
spec:
  from:
  - {{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}}
  - {{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}}
  to: {to}
"
    )
}
