//! Last good versions, one resource at a time.

use waypoint_policies::{Numbering, Resources, check, fall_back, merge, read};

use crate::support::{EDGE, file, resources, service};

fn names(resources: &Resources) -> Vec<String> {
    resources.keys().map(ToString::to_string).collect()
}

fn reload(previous: &Resources, files: &[(&str, &str)]) -> Resources {
    let files: Vec<_> = files.iter().map(|(path, text)| file(path, text)).collect();
    merge(previous, read(&files))
}

const CART: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{name: http, port: 80}]}\n";

#[test]
fn a_refused_resource_keeps_its_last_good_version_and_a_removed_one_goes() {
    let two = [CART, "---\n", &CART.replace("cart", "pay")].concat();
    let first = reload(&Resources::default(), &[("a.yaml", &two)]);
    assert_eq!(names(&first), ["Service default/cart", "Service default/pay"]);
    let second = reload(&first, &[("a.yaml", &CART.replace("port: 80", "port: many"))]);
    assert_eq!(names(&second), ["Service default/cart"]);
    let ports = check(&second, &Numbering::default())
        .model
        .services
        .keys()
        .map(|key| key.port)
        .collect::<Vec<_>>();
    assert_eq!(ports, [80]);
}

#[test]
fn a_file_that_does_not_parse_keeps_what_came_from_it_and_only_that() {
    let first = reload(
        &Resources::default(),
        &[("a.yaml", CART), ("b.yaml", &CART.replace("cart", "pay"))],
    );
    let second = reload(&first, &[("a.yaml", "spec: [")]);
    assert_eq!(names(&second), ["Service default/cart"]);
    let third = reload(&second, &[("a.yaml", "")]);
    assert!(third.is_empty());
}

#[test]
fn a_document_that_does_not_say_what_it_is_may_be_any_that_was_there() {
    let first = reload(&Resources::default(), &[("a.yaml", CART)]);
    for broken in [
        CART.replace("kind: Service", "kind: Servce"),
        CART.replace("name: cart", "nme: cart"),
        CART.replace("v1", "v2"),
    ] {
        assert_eq!(
            names(&reload(&first, &[("a.yaml", &broken)])),
            ["Service default/cart"],
            "{broken}"
        );
    }
}

#[test]
fn secrets_and_grants_have_no_last_good_version() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n";
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g}\nspec: {from: [{group: '', kind: A, namespace: n}], to: [{group: '', kind: Service}]}\n";
    let first = reload(&Resources::default(), &[("a.yaml", &[secret, "---\n", grant].concat())]);
    assert_eq!(first.len(), 2);
    let bad = [&secret.replace("{a: b}", "[]"), "---\n", &grant.replace("to:", "too:")].concat();
    assert!(reload(&first, &[("a.yaml", &bad)]).is_empty());
    assert!(reload(&first, &[]).is_empty());
}

#[test]
fn a_resource_that_moves_to_another_file_while_its_old_file_is_broken_is_there_once() {
    let first = reload(&Resources::default(), &[("a.yaml", CART)]);
    let second = reload(&first, &[("a.yaml", "]"), ("b.yaml", &CART.replace("80", "81"))]);
    let key = second.keys().next().unwrap().clone();
    assert_eq!((second.len(), second.file(&key)), (1, Some("b.yaml")));
}

#[test]
fn a_filter_that_loses_its_target_goes_back_to_the_version_that_had_one() {
    let filter = "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: jwt, namespace: shop}
spec: {targetRefs: [{kind: Service, name: cart}], module: {url: 'builtin://jwt-auth'}}
";
    let text = [EDGE, &service("shop", "cart"), filter].concat();
    let good = resources(&text);
    let now =
        resources(&text.replace("[{kind: Service, name: cart}]", "[{kind: Service, name: crat}]"));
    let checked = check(&now, &Numbering::default());
    assert_eq!(checked.problems.len(), 1);
    let settled = fall_back(&good, &now, &checked.problems).expect("the filter falls back");
    let checked = check(&settled, &Numbering { ports: checked.ports, ..Numbering::default() });
    assert!(checked.problems.is_empty());
    assert!(checked.model.entrances.iter().any(|entrance| !entrance.filters.is_empty()));
    assert!(fall_back(&settled, &settled, &checked.problems).is_none());
}

#[test]
fn what_refers_to_a_refused_resource_is_not_blamed_for_it() {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
";
    let text = [
        &EDGE.replace("listeners:", "lsteners: []\n  listeners:"),
        &service("shop", "cart").replace("spec: {", "spec: {x: 1, "),
        route,
    ]
    .concat();
    let reading = read(&[file("a.yaml", &text)]);
    assert_eq!(reading.problems.len(), 2);
    let checked = check(&reading.resources, &Numbering::default());
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert!(checked.model.entrances.is_empty());
}

#[test]
fn mistakes_between_resources_are_found_in_refused_ones_too() {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{name: egde}], rules: [{bckendRefs: []}]}
";
    let reading = read(&[file("a.yaml", &[EDGE, route].concat())]);
    assert_eq!(reading.problems[0].nearest.as_deref(), Some("backendRefs"));
    let checked = check(&reading.resources, &Numbering::default());
    assert_eq!(checked.problems[0].nearest.as_deref(), Some("edge"));
}
