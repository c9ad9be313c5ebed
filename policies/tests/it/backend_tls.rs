//! TLS towards endpoints: which ports a policy covers, and what becomes of one that cannot be used.

use std::collections::BTreeMap;

use waypoint_policies::{
    BackendTls, Checked, Hostname, Numbering, Resources, Severity, SubjectAltName, Trust, check,
    merge, read,
};

use crate::support::{checked, file, right};

const CART: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: door, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots, namespace: shop}
data: {ca.crt: '-----BEGIN CERTIFICATE-----MAA=-----END CERTIFICATE-----'}
";

fn policy(name: &str, created: &str, target: &str, validation: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}
spec:
  targetRefs: [{{group: '', kind: Service, {target}}}]
  validation: {{{validation}}}
"
    )
}

const ROOTS: &str = "caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}]";

/// What covers each port: a policy's name, why nothing can be sent, or nothing.
fn covers(checked: &Checked) -> BTreeMap<String, Option<Result<String, String>>> {
    let name = |tls: &std::sync::Arc<BackendTls>| tls.policy.name.clone();
    let services = checked.model.services.iter();
    services
        .map(|(key, port)| {
            let tls = port.tls.as_ref();
            (key.to_string(), tls.map(|tls| tls.as_ref().map(name).map_err(Clone::clone)))
        })
        .collect()
}

fn reason(checked: &Checked, policy: &str, condition: &str) -> &'static str {
    let mut statuses = checked.model.statuses.iter();
    let (_, status) = statuses.find(|(key, _)| key.name == policy).unwrap();
    let mut conditions = status.ancestors[0].conditions.iter();
    conditions.find(|found| found.kind == condition).unwrap().reason
}

#[test]
fn a_policy_covers_every_port_of_its_service_or_the_one_that_it_names() {
    let hostname = format!("hostname: cart.test, {ROOTS}");
    for (target, http, grpc) in
        [("name: cart", Some("p"), Some("p")), ("name: cart, sectionName: grpc", None, Some("p"))]
    {
        let checked = right(&[CART, &policy("p", "", target, &hostname)].concat());
        let covers = covers(&checked);
        let want = |name: Option<&str>| name.map(|name| Ok(name.to_owned()));
        assert_eq!(covers["shop/cart:80"], want(http), "{target}");
        assert_eq!(covers["shop/cart:81"], want(grpc), "{target}");
        assert_eq!(covers["shop/door:80"], None);
        assert_eq!(reason(&checked, "p", "Accepted"), "Accepted");
        assert_eq!(reason(&checked, "p", "ResolvedRefs"), "ResolvedRefs");
    }
}

#[test]
fn what_is_checked_and_whom_is_trusted_is_in_the_model() {
    let names = "[{type: Hostname, hostname: '*.cart.test'}, {type: URI, uri: 'spiffe://mesh/ns/shop/sa/cart'}]";
    let validation = format!("hostname: cart.test, subjectAltNames: {names}, {ROOTS}");
    let checked = right(&[CART, &policy("p", "", "name: door", &validation)].concat());
    let port = checked.model.services.values().find(|port| port.key.name == "door").unwrap();
    let tls = port.tls.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(tls.hostname, "cart.test");
    let uri = SubjectAltName::Uri("spiffe://mesh/ns/shop/sa/cart".into());
    let dns = SubjectAltName::Dns(Hostname::Wildcard("cart.test".into()));
    assert_eq!(tls.subject_alt_names, [dns, uri]);
    let Trust::Certificates(certificates) = &tls.trust else { panic!("{tls:?}") };
    assert_eq!(certificates[0].config_map, "shop/roots");

    let system = "hostname: cart.test, wellKnownCACertificates: System";
    let checked = right(&[CART, &policy("p", "", "name: door", system)].concat());
    let port = checked.model.services.values().find(|port| port.key.name == "door").unwrap();
    assert_eq!(port.tls.as_ref().unwrap().as_ref().unwrap().trust, Trust::System);
}

#[test]
fn the_policy_that_names_the_port_wins_then_the_older_one() {
    let validation = format!("hostname: cart.test, {ROOTS}");
    let text = [
        CART,
        &policy("young", "2026-02-01T00:00:00Z", "name: cart", &validation),
        &policy("old", "2026-01-01T00:00:00Z", "name: cart", &validation),
        &policy("exact", "2026-03-01T00:00:00Z", "name: cart, sectionName: grpc", &validation),
    ]
    .concat();
    let checked = right(&text);
    let covers = covers(&checked);
    assert_eq!(covers["shop/cart:80"], Some(Ok("old".into())));
    assert_eq!(covers["shop/cart:81"], Some(Ok("exact".into())));
    assert_eq!(reason(&checked, "young", "Accepted"), "Conflicted");
    assert_eq!(reason(&checked, "exact", "Accepted"), "Accepted");
    assert!(checked.problems.iter().any(|problem| problem.code == "conflict"));
}

#[test]
fn a_policy_that_trusts_nobody_who_is_there_lets_nothing_be_sent() {
    let missing =
        "hostname: cart.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}]";
    let checked = checked(&[CART, &policy("p", "", "name: door", missing)].concat());
    let why = covers(&checked)["shop/door:80"].clone().unwrap().unwrap_err();
    assert!(why.contains("there is no ConfigMap shop/gone"), "{why}");
    assert_eq!(reason(&checked, "p", "Accepted"), "NoValidCACertificate");
    assert_eq!(reason(&checked, "p", "ResolvedRefs"), "InvalidCACertificateRef");
    assert!(checked.problems.iter().any(|problem| problem.severity == Severity::Error));
}

#[test]
fn one_reference_that_cannot_be_used_leaves_the_others() {
    let both = "hostname: cart.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}, {group: '', kind: ConfigMap, name: roots}]";
    let checked = checked(&[CART, &policy("p", "", "name: door", both)].concat());
    assert_eq!(covers(&checked)["shop/door:80"], Some(Ok("p".into())));
    assert_eq!(reason(&checked, "p", "ResolvedRefs"), "InvalidCACertificateRef");
}

#[test]
fn a_refused_policy_lets_nothing_be_sent_to_what_it_names() {
    let broken = [
        // targets                            also the other Service
        ("name: door", false),
        ("nam: door", true),
    ];
    for (target, all) in broken {
        let validation = "hostname: cart.test, wellKnownCACertificates: Systm";
        let text = [CART, &policy("p", "", target, validation)].concat();
        let reading = read(&[file("test.yaml", &text)]);
        assert!(!reading.problems.is_empty());
        let checked = check(&merge(&Resources::default(), reading), &Numbering::default());
        let covers = covers(&checked);
        assert!(matches!(covers["shop/door:80"], Some(Err(_))), "{covers:?}");
        assert_eq!(covers["shop/cart:80"].is_some(), all, "{target}");
        assert!(checked.denied.is_empty(), "the answer is the upstream's, not a policy's");
    }
}

#[test]
fn a_policy_that_is_refused_later_keeps_its_last_good_version() {
    let good = [CART, &policy("p", "", "name: door", &format!("hostname: cart.test, {ROOTS}"))];
    let bad = [CART, &policy("p", "", "name: door", "hostname: cart.test")];
    let resources = merge(&Resources::default(), read(&[file("test.yaml", &good.concat())]));
    let resources = merge(&resources, read(&[file("test.yaml", &bad.concat())]));
    let checked = check(&resources, &Numbering::default());
    assert_eq!(covers(&checked)["shop/door:80"], Some(Ok("p".into())));
}

#[test]
fn what_is_no_certificate_is_not_trusted() {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let cases = [
        ("", false),
        ("MAA=", false),
        (&format!("{begin}MAA="), false),
        (&format!("{begin}{end}"), false),
        (&format!("{begin}M?A={end}"), false),
        (&format!("{begin}MAA={end}{begin}MAA"), false),
        (&format!("# ours {begin}MAA={end} # theirs {begin}MAA={end}"), true),
    ];
    for (text, usable) in cases {
        let map = CART.replace("-----BEGIN CERTIFICATE-----MAA=-----END CERTIFICATE-----", text);
        let validation = format!("hostname: cart.test, {ROOTS}");
        let checked = checked(&(map + &policy("p", "", "name: door", &validation)));
        assert_eq!(covers(&checked)["shop/door:80"].as_ref().unwrap().is_ok(), usable, "{text}");
    }
}

#[test]
fn lists_beside_the_authorities_of_endpoints_are_warned_of() {
    let list = "-----BEGIN X509 CRL-----MAA=-----END X509 CRL-----";
    let listed = CART.replace("\ndata: {", &format!("\ndata: {{ca.crl: '{list}', "));
    let checked = checked(
        &(listed
            + &policy(
                "tls",
                "2024-01-01T00:00:00Z",
                "name: cart",
                &format!("hostname: cart.test, {ROOTS}"),
            )),
    );
    let [problem] = &checked.problems[..] else { panic!("{:?}", checked.problems) };
    assert_eq!((problem.severity, problem.code), (Severity::Warning, "unused"));
    assert!(problem.message.contains("`ca.crl` of ConfigMap shop/roots"), "{}", problem.message);
}
