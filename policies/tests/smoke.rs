use std::collections::BTreeMap;
use waypoint_policies::*;
#[test]
fn smoke() {
    let text = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: waypoint
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{name: http, port: 9001}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {value: /cart}}]
    backendRefs: [{name: cart, port: 80}]
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: jwt, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge}]
  module: {url: "builtin://jwt-auht"}
  limits: {memory: 16Mi, deadlin: 10ms}
  config: {a: yes}
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: jwt2, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edg}, {kind: Service, name: cart}]
  module: {url: "builtin://jwt-auth"}
---
kind: Deploymen
apiVersion: apps/v1
metadata: {name: x}
"#;
    let reading = read(&[SourceFile { path: "a.yaml".into(), text: text.into() }]);
    println!("{}", render(&reading.problems));
    println!("{:#?}", reading.notes);
    let resources = merge(&Resources::default(), reading);
    let checked = check(&resources, &BTreeMap::new());
    println!("{}", render(&checked.problems));
    println!("{:#?}", checked.model);
    println!("{:#?}", checked.denied);
    println!("{}", serde_json::to_string_pretty(&schemas()[0].1).unwrap());
}
