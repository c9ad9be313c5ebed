//! Which rule answers which request: tables that an operator can read.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use waypoint_policies::{Checked, Entrance, Facts, Selection};

use crate::support::{EDGE, checked, right, service};

/// The entrance of a name.
fn entrance<'a>(checked: &'a Checked, name: &str) -> &'a Entrance {
    let found = checked.model.entrances.iter().find(|entrance| &*entrance.name == name);
    found.unwrap_or_else(|| panic!("no entrance {name} in {:?}", names(checked)))
}

fn names(checked: &Checked) -> Vec<&str> {
    checked.model.entrances.iter().map(|entrance| &*entrance.name).collect()
}

/// `GET host/path?query name=value …` into what the table says.
fn answer(entrance: &Entrance, request: &str) -> String {
    let mut words = request.split(' ');
    let method: Method = words.next().unwrap().parse().unwrap();
    let (host, target) = words.next().unwrap().split_once('/').unwrap();
    let target = format!("/{target}");
    let (path, query) =
        target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    let mut sni = None;
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        if name == "sni" {
            sni = Some(value);
        } else {
            headers
                .append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
    }
    let facts = Facts { host, method: &method, path, query, headers: &headers, sni };
    match entrance.routes.select(&facts) {
        Selection::Rule(rule) => rule.id.to_string(),
        other => format!("{other:?}"),
    }
}

fn assert_answers(entrance: &Entrance, cases: &[(&str, &str)]) {
    for (request, want) in cases {
        assert_eq!(answer(entrance, request), *want, "{request}");
    }
}

/// A route of `shop` with a parent Gateway `edge`; `rules` is a YAML list.
fn route(name: &str, hostnames: &str, rules: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: {hostnames}
  rules: {rules}
"
    )
}

#[test]
fn of_the_matches_that_hold_the_most_specific_one_wins() {
    let text = [
        EDGE,
        &route(
            "r",
            "[]",
            "
  - {name: root, matches: [{path: {value: /}}]}
  - {name: prefix, matches: [{path: {value: /a}}]}
  - {name: longer, matches: [{path: {value: /a/b/}}]}
  - {name: exact, matches: [{path: {type: Exact, value: /a/b}}]}
  - {name: regex, matches: [{path: {type: RegularExpression, value: '/r/[0-9]+'}}]}
  - {name: method, matches: [{path: {value: /a}, method: POST}]}
  - {name: header, matches: [{path: {value: /a}, headers: [{name: X-Env, value: test}]}]}
  - {name: headers, matches: [{path: {value: /a}, headers: [{name: x-env, value: test}, {name: x-user, value: 'u.*', type: RegularExpression}]}]}
  - {name: query, matches: [{path: {value: /a}, queryParams: [{name: q, value: '1 2'}]}]}
  - {name: upper, matches: [{path: {type: Exact, value: /A}}]}
",
        ),
    ]
    .concat();
    let checked = right(&text);
    assert_answers(
        entrance(&checked, "gateway/shop/8080"),
        &[
            // request                                     rule
            ("GET h/", "shop/r/root"),
            ("GET h/other", "shop/r/root"),
            ("GET h/a", "shop/r/prefix"),
            ("GET h/a/", "shop/r/prefix"),
            ("GET h/ab", "shop/r/root"),
            ("GET h/A", "shop/r/upper"),
            ("GET h/a/b", "shop/r/exact"),
            ("GET h/a/b/", "shop/r/longer"),
            ("GET h/a/b/c", "shop/r/longer"),
            ("GET h/a/bc", "shop/r/prefix"),
            ("GET h/r/12", "shop/r/regex"),
            ("GET h/r/12/x", "shop/r/root"),
            ("POST h/a", "shop/r/method"),
            ("POST h/a x-env=test", "shop/r/method"),
            ("GET h/a x-env=test", "shop/r/header"),
            ("GET h/a x-env=Test", "shop/r/prefix"),
            ("GET h/a x-env=test x-env=prod", "shop/r/prefix"),
            ("GET h/a x-env=test x-user=uwe", "shop/r/headers"),
            ("GET h/a x-env=test x-user=bob", "shop/r/header"),
            ("GET h/a?q=1%202", "shop/r/query"),
            ("GET h/a?x=1&q=1%202", "shop/r/query"),
            ("GET h/a?%71=1%202", "shop/r/query"),
            ("GET h/a?q=2&q=1%202", "shop/r/prefix"),
            ("GET h/a?q=1+2", "shop/r/prefix"),
            ("GET h/a?Q=1%202", "shop/r/prefix"),
            ("GET h/a?q=1%202 x-env=test", "shop/r/header"),
        ],
    );
    let names: Vec<_> = entrance(&checked, "gateway/shop/8080")
        .routes
        .header_names()
        .iter()
        .map(HeaderName::as_str)
        .collect();
    assert_eq!(names, ["x-env", "x-user"]);
}

#[test]
fn equal_matches_are_settled_by_age_then_name_then_position() {
    let timed = |name: &str, time: &str| {
        route(name, "[]", "[{name: r, matches: [{path: {value: /time}}]}]")
            .replace("namespace: shop", &format!("namespace: shop, creationTimestamp: '{time}'"))
    };
    let text = [
        EDGE,
        &route("b-first", "[]", "[{name: one, matches: [{path: {value: /x}}]}, {name: two, matches: [{path: {value: /x}}]}]"),
        &route("a-second", "[]", "[{name: one, matches: [{path: {value: /x}}]}]"),
        &timed("young", "2026-02-01T00:00:00Z"),
        &timed("old", "2026-01-01T00:00:00Z"),
    ]
    .concat();
    let checked = right(&text);
    let cases = [("GET h/x", "shop/b-first/one"), ("GET h/time", "shop/old/r")];
    assert_answers(entrance(&checked, "gateway/shop/8080"), &cases);
}

#[test]
fn a_hostname_decides_before_the_path_and_falls_through_within_its_listener() {
    let rule = "[{name: r, matches: [{path: {value: /}}]}]";
    let text = [
        EDGE,
        &route("any", "[]", "[{name: r, matches: [{path: {value: /}}]}, {name: deep, matches: [{path: {type: Exact, value: /deep}}]}]"),
        &route("exact", "[a.example.com]", "[{name: r, matches: [{path: {value: /own}}]}]"),
        &route("wildcard", "['*.example.com']", rule),
        &route("longer", "['*.b.example.com']", rule),
    ]
    .concat();
    let checked = right(&text);
    assert_answers(
        entrance(&checked, "gateway/shop/8080"),
        &[
            ("GET a.example.com/own", "shop/exact/r"),
            ("GET a.example.com/else", "shop/wildcard/r"),
            ("GET x.example.com/deep", "shop/wildcard/r"),
            ("GET x.b.example.com/", "shop/longer/r"),
            ("GET b.example.com/", "shop/wildcard/r"),
            ("GET x.y.b.example.com/", "shop/longer/r"),
            ("GET example.com/", "shop/any/r"),
            ("GET example.com/deep", "shop/any/deep"),
            ("GET badexample.com/", "shop/any/r"),
        ],
    );
}

const LISTENERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: waypoint
  listeners:
  - {name: shop, port: 8443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: cert}]}}
  - {name: all, port: 8443, protocol: HTTPS, hostname: '*.example.com', tls: {certificateRefs: [{name: cert}]}, allowedRoutes: {namespaces: {from: All}}}
  - {name: closed, port: 8443, protocol: HTTPS, hostname: closed.example.com, tls: {certificateRefs: [{name: cert}]}, allowedRoutes: {namespaces: {from: None}}}
---
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: shop}
type: kubernetes.io/tls
stringData: {tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY-----'}
";

#[test]
fn the_most_specific_listener_takes_the_request_and_never_hands_it_on() {
    let rule = |name: &str| format!("[{{name: {name}, matches: [{{path: {{value: /{name}}}}}]}}]");
    let elsewhere = route("far", "[]", &rule("far"))
        .replace("namespace: shop", "namespace: other")
        .replace("{name: edge}", "{name: edge, namespace: shop}");
    let text = [
        LISTENERS,
        &route("near", "[shop.example.com, api.example.com]", &rule("near")),
        &route("both", "[]", &rule("both")),
        &elsewhere,
    ]
    .concat();
    let checked = checked(&text);
    assert_answers(
        entrance(&checked, "gateway/shop/8443"),
        &[
            ("GET shop.example.com/near", "shop/near/near"),
            ("GET shop.example.com/both", "shop/both/both"),
            ("GET shop.example.com/far", "NoRule"),
            ("GET api.example.com/near", "shop/near/near"),
            ("GET api.example.com/far", "other/far/far"),
            ("GET img.example.com/near", "NoRule"),
            ("GET closed.example.com/both", "NoRule"),
            ("GET example.com/both", "NoHost"),
            ("GET other.net/both", "NoHost"),
            // The certificate was another listener's: the answer must not be this one's.
            ("GET shop.example.com/near sni=shop.example.com", "shop/near/near"),
            ("GET shop.example.com/near sni=api.example.com", "Misdirected"),
            ("GET api.example.com/near sni=img.example.com", "shop/near/near"),
            ("GET other.net/both sni=shop.example.com", "NoHost"),
        ],
    );
    let tls = entrance(&checked, "gateway/shop/8443").tls.as_ref().unwrap();
    let hosts: Vec<_> = tls.certificates.iter().map(|(host, _)| format!("{host:?}")).collect();
    assert_eq!(hosts.last().unwrap(), "Some(Wildcard(\"example.com\"))");
    assert_eq!(hosts.len(), 3);
}

#[test]
fn a_route_for_a_section_or_a_port_attaches_there_only() {
    let gateway = EDGE.replace(
        "[{",
        "[{name: second, port: 8081, protocol: HTTP}, {name: third, port: 8082, protocol: HTTP}, {",
    );
    let by =
        |name: &str, parent: &str| route(name, "[]", "[{name: r}]").replace("{name: edge}", parent);
    let text = [
        gateway.as_str(),
        &by("section", "{name: edge, sectionName: http}"),
        &by("port", "{name: edge, port: 8081}"),
        &by("twice", "{name: edge, port: 8082}, {name: edge, sectionName: third}"),
    ]
    .concat();
    let checked = right(&text);
    for (port, want) in [(8080, "shop/section/r"), (8081, "shop/port/r"), (8082, "shop/twice/r")] {
        assert_answers(entrance(&checked, &format!("gateway/shop/{port}")), &[("GET h/x", want)]);
    }
}

#[test]
fn a_service_entrance_ignores_hosts_and_goes_direct_only_without_routes() {
    let mesh = route(
        "cart",
        "[ignored.example.com]",
        "[{name: r, matches: [{path: {value: /cart}}], backendRefs: [{name: cart, port: 80}]}]",
    )
    .replace("{name: edge}", "{kind: Service, group: '', name: cart}");
    let filter = "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: f, namespace: shop}
spec: {targetRefs: [{kind: Service, name: pay}], module: {url: 'builtin://pii-redact'}}
";
    let text = [
        service("shop", "cart"),
        service("shop", "pay"),
        service("shop", "plain"),
        mesh,
        filter.into(),
    ]
    .concat();
    let checked = right(&text);
    assert_eq!(names(&checked), ["service/shop/cart:80", "service/shop/pay:80"]);
    let cart = entrance(&checked, "service/shop/cart:80");
    assert_answers(cart, &[("GET any.host/cart", "shop/cart/r"), ("GET any.host/x", "NoRule")]);
    let pay = entrance(&checked, "service/shop/pay:80");
    assert_answers(pay, &[("GET any.host/x", "Direct")]);
    assert_eq!((cart.port, pay.port), (20_000, 20_001));
    assert_eq!(pay.filters.len(), 1);
}

#[test]
fn ports_of_a_service_that_are_not_declared_http_never_get_an_entrance() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: mixed, namespace: shop}
spec:
  ports:
  - {name: tcp, port: 1}
  - {name: http-web, port: 2}
  - {name: web, port: 3, appProtocol: grpc}
  - {name: http2, port: 4}
  - {name: https, port: 5}
  - {name: http-raw, port: 6, appProtocol: tcp}
  - {name: http-udp, port: 7, protocol: UDP}
  - {name: web-h2c, port: 8, appProtocol: kubernetes.io/h2c}
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: f, namespace: shop}
spec: {module: {url: 'builtin://pii-redact'}}
";
    let checked = right(text);
    let want = [
        "service/shop/mixed:2",
        "service/shop/mixed:3",
        "service/shop/mixed:4",
        "service/shop/mixed:8",
    ];
    assert_eq!(names(&checked), want);
    let protocols: Vec<_> =
        checked.model.services.values().map(|port| format!("{:?}", port.protocol)).collect();
    assert_eq!(
        protocols,
        ["Undeclared", "Http1", "Grpc", "H2c", "Undeclared", "Undeclared", "H2c"]
    );
}

#[test]
fn a_backend_is_picked_by_its_weight() {
    let rules = "[{backendRefs: [{name: a, port: 80, weight: 9}, {name: b, port: 80}, {name: c, port: 80, weight: 0}]}]";
    let text = [
        EDGE,
        &service("shop", "a"),
        &service("shop", "b"),
        &service("shop", "c"),
        &route("r", "[]", rules),
        &route("none", "[]", "[{backendRefs: [{name: a, port: 80, weight: 0}]}]"),
    ]
    .concat();
    let checked = right(&text);
    let table = &entrance(&checked, "gateway/shop/8080").routes;
    let rule = |name: &str| table.rules().find(|rule| rule.route.name == name).unwrap();
    let mut counts = [0; 3];
    for step in 0..1000_u32 {
        counts[rule("r").pick(step * (u32::MAX / 1000) + 1_000).unwrap()] += 1;
    }
    assert!((899..=901).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
    assert_eq!(rule("r").pick(u32::MAX), Some(1));
    assert!(rule("none").pick(7).is_none());
}

#[test]
fn a_rule_without_matches_takes_everything_and_its_edits_and_times_are_kept() {
    let rules = "
  - timeouts: {request: 1m30s, backendRequest: 0s}
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: a}], add: [{name: x-b, value: b}], remove: [X-C]}}
    backendRefs:
    - {name: a, port: 80, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}]}
";
    let checked = right(&[EDGE, &service("shop", "a"), &route("r", "[]", rules)].concat());
    let rule = entrance(&checked, "gateway/shop/8080").routes.rules().next().unwrap();
    assert_eq!(&*rule.id, "shop/r/0");
    assert_eq!(
        (rule.request_timeout, rule.backend_timeout),
        (Some(std::time::Duration::from_secs(90)), None)
    );
    let mut headers = HeaderMap::new();
    headers.insert("x-c", HeaderValue::from_static("gone"));
    headers.insert("x-b", HeaderValue::from_static("kept"));
    rule.actions.request_headers.apply(&mut headers);
    let mut edited: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    edited.sort();
    assert_eq!(edited, ["x-a=\"a\"", "x-b=\"b\"", "x-b=\"kept\""]);
    assert_eq!(rule.backends[0].actions.response_headers.remove, ["server"]);
}

#[test]
fn ten_thousand_routes_are_read_and_checked() {
    let mut text = [EDGE, &service("shop", "a")].concat();
    for index in 0..10_000 {
        let rules = format!(
            "[{{matches: [{{path: {{value: /path-{index}}}}}], backendRefs: [{{name: a, port: 80}}]}}]"
        );
        text += &route(&format!("r{index}"), "[]", &rules);
    }
    let checked = right(&text);
    assert_answers(
        entrance(&checked, "gateway/shop/8080"),
        &[("GET h/path-9999/x", "shop/r9999/0")],
    );
}

#[test]
fn a_rule_that_names_a_missing_filter_answers_nothing_itself() {
    let missing =
        "{type: ExtensionRef, extensionRef: {group: waypoint.rs, kind: Filter, name: gone}}";
    let rules = format!(
        "
  - {{filters: [{{type: CORS, cors: {{allowOrigins: ['*']}}}}, {missing}]}}
  - {{filters: [{{type: RequestRedirect, requestRedirect: {{}}}}, {missing}]}}
"
    );
    let checked = checked(&[EDGE, &route("r", "[]", &rules)].concat());
    let rules: Vec<_> = entrance(&checked, "gateway/shop/8080").routes.rules().collect();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        let actions = &rule.actions;
        assert!(actions.cors.is_none() && actions.redirect.is_none() && rule.backends.is_empty());
    }
}
