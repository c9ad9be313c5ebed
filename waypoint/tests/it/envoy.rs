//! A real Envoy beside the proxy: the same modules, configurations and requests, and what origins
//! and clients see of them.

mod process;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use self::process::{Envoy, Plugin};
use crate::bundled::tokens::{Key, claims, jwks, now, unsigned};
use crate::client::{get_with, post_with};
use crate::guests::{Guest, calling, harmful, signing};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, request, send_http1, service};
use crate::origin::{Origin, Speaks};

/// Headers that a proxy adds or sets by itself, whatever its filters do. `x-envoy-…` and
/// `x-forwarded-…` of a caller are what Waypoint removes and Envoy may set.
const PROXYS_OWN: [&str; 7] = [
    "connection",
    "content-length",
    "date",
    "server",
    "traceparent",
    "transfer-encoding",
    "x-request-id",
];

/// What is seen of a message: its first line, its headers, its body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    line: String,
    headers: BTreeMap<String, Vec<String>>,
    body: Bytes,
}

impl Message {
    fn new(line: String, headers: &HeaderMap, body: &Bytes) -> Self {
        let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let own = ["x-envoy-", "x-forwarded-"].iter().any(|own| name.as_str().starts_with(own));
            if !own && !PROXYS_OWN.contains(&name.as_str()) {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                kept.entry(name.as_str().to_owned()).or_default().push(value);
            }
        }
        Self { line, headers: kept, body: body.clone() }
    }

    fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get(name).into_iter().flatten().map(String::as_str).collect()
    }
}

/// What one request came to: what reached origins, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exchange {
    reached: Vec<Message>,
    answer: Message,
}

/// Both proxies, with the same filters before the same origins.
struct Beside {
    waypoint: Waypoint,
    envoy: Envoy,
    origins: Vec<(&'static str, Origin)>,
    _dir: TempDir,
}

impl Beside {
    /// `routes` are pairs of a route key and its origin; the first origin takes the rest.
    async fn start(
        dir: TempDir,
        plugins: &[Plugin],
        routes: &[(&str, &str)],
        origins: Vec<(&'static str, Origin)>,
    ) -> Self {
        let mut resources = gateway_to(origins[0].0);
        for (key, name) in routes {
            resources += &key_route(key, name);
        }
        for (name, origin) in &origins {
            resources += &service(name, "http", origin.address);
        }
        for (index, plugin) in plugins.iter().enumerate() {
            let bodies = if plugin.holds_heads { "BeforeHeaders" } else { "AfterHeaders" };
            let mut spec = format!("  priority: -{index}\n  bodies: {bodies}");
            if !plugin.config.is_null() {
                let _ = write!(spec, "\n  config: {}", plugin.config);
            }
            let url = format!("file://{}", plugin.module.display());
            resources += &filter(plugin.name, &url, &spec);
        }
        let clusters: Vec<_> = origins.iter().map(|(name, at)| (*name, at.address)).collect();
        let envoy = Envoy::start(&dir, plugins, routes, &clusters).await;
        let waypoint = Waypoint::start(&resources).await;
        Self { waypoint, envoy, origins, _dir: dir }
    }

    /// One filter before one origin.
    async fn one(dir: TempDir, plugin: Plugin, origin: Origin) -> Self {
        Self::start(dir, &[plugin], &[], vec![("origin", origin)]).await
    }

    async fn through(&self, envoy: bool, request: Request<Full<Bytes>>) -> Exchange {
        let address = if envoy { self.envoy.address } else { self.waypoint.http() };
        let before: Vec<usize> =
            self.origins.iter().map(|(_, origin)| origin.seen().len()).collect();
        let answer = send_http1(address, request).await;
        let mut reached = Vec::new();
        for ((name, origin), before) in self.origins.iter().zip(before) {
            for seen in origin.seen().drain(before..) {
                let line = format!("{name}: {} {}", seen.method(), seen.uri());
                reached.push(Message::new(line, seen.headers(), seen.body()));
            }
        }
        let line = answer.status().to_string();
        Exchange { reached, answer: Message::new(line, answer.headers(), answer.body()) }
    }

    /// Sends a request through both, and gives what it came to.
    async fn same(&self, request: Request<Full<Bytes>>) -> Exchange {
        let said = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let ours = self.through(false, request.clone()).await;
        let theirs = self.through(true, request).await;
        assert_eq!(ours, theirs, "left ours, right Envoy's: {said}\n{}", self.envoy.complaints());
        ours
    }
}

/// A route of requests with this route key.
fn key_route(key: &str, service: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: key-{key}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
    - matches: [{{headers: [{{name: x-waypoint-route-key, value: {key}}}]}}]
      backendRefs: [{{name: {service}, port: 80}}]
"
    )
}

/// A bundled filter, its module unchanged.
fn bundled(dir: &TempDir, name: &'static str, config: Value) -> Plugin {
    let module = dir.path().join(format!("{name}.wasm"));
    std::fs::write(&module, waypoint_filters::module(name).expect("a bundled filter")).unwrap();
    Plugin { name, module, config, holds_heads: name == "payload-router" }
}

/// A guest of the tests.
fn guest(dir: &TempDir, name: &'static str, guest: Guest) -> Plugin {
    guest.write(dir.path(), name);
    let module = dir.path().join(format!("{name}.wasm"));
    Plugin { name, module, config: Value::Null, holds_heads: false }
}

/// An origin that gives the request's body back, and says personal things in its head.
async fn talkative() -> Origin {
    Origin::start(Speaks::Http1, |request| {
        let mut answer = Response::new(request.body().clone());
        if let Some(kind) = request.headers().get("content-type") {
            answer.headers_mut().insert("content-type", kind.clone());
        }
        answer.headers_mut().insert("x-note", "by bob@example.com".parse().unwrap());
        answer.headers_mut().insert("etag", "\"v1\"".parse().unwrap());
        answer
    })
    .await
}

fn bearer(token: &str) -> Request<Full<Bytes>> {
    get_with("/shop?x=1", &[("authorization", &format!("Bearer {token}"))])
}

fn issuer(keys: (&str, Value)) -> Value {
    let mut issuer = json!({"issuer": "https://issuer.test", "audiences": ["shop"]});
    issuer[keys.0] = keys.1;
    json!({"issuers": [issuer], "claimsToHeaders": [{"claim": "sub", "header": "x-user"}]})
}

#[tokio::test]
async fn jwt_auth_accepts_and_refuses_the_same_tokens_on_envoy() {
    let dir = TempDir::new().unwrap();
    let keys = ["RS256", "ES256", "EdDSA"].map(|name| Key::new(name, name.to_owned().leak()));
    let set: Vec<&Key> = keys.iter().collect();
    let plugin = bundled(&dir, "jwt-auth", issuer(("jwks", jwks(&set).into())));
    let beside = Beside::one(dir, plugin, Origin::named(Speaks::Http1, "origin").await).await;

    for key in &keys {
        let good = beside.same(bearer(&key.token(&claims(&json!({}))))).await;
        assert_eq!(good.answer.line, "200 OK", "{}", key.algorithm());
        assert_eq!(good.reached[0].header("x-user"), ["alice"]);
        assert!(good.reached[0].header("authorization").is_empty());

        let expired = key.token(&claims(&json!({"exp": now() - 600})));
        let stranger = Key::new(key.algorithm(), key.algorithm()).token(&claims(&json!({})));
        for token in [expired, stranger] {
            let bad = beside.same(bearer(&token)).await;
            assert_eq!(bad.answer.line, "401 Unauthorized", "{}", key.algorithm());
            let challenge = bad.answer.header("www-authenticate").concat();
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            assert!(bad.reached.is_empty());
        }
    }
    let none = unsigned(&json!({"alg": "none"}), &claims(&json!({}))) + ".";
    let good = format!("Bearer {}", keys[1].token(&claims(&json!({}))));
    for headers in [
        vec![("x-user", "mallory")],
        vec![("authorization", none.as_str())],
        vec![("authorization", "Basic YWxpY2U6c2VjcmV0")],
    ] {
        let bad = beside.same(get_with("/", &headers)).await;
        assert_eq!(bad.answer.line, "401 Unauthorized");
        assert_eq!(bad.answer.header("www-authenticate"), ["Bearer realm=\"waypoint\""]);
    }
    let forged = get_with("/", &[("x-user", "mallory"), ("authorization", &good)]);
    assert_eq!(beside.same(forged).await.reached[0].header("x-user"), ["alice"]);
}

#[tokio::test]
async fn jwt_auth_fetches_its_keys_on_envoy_as_here() {
    let dir = TempDir::new().unwrap();
    let key = Key::new("RS256", "one");
    let set = jwks(&[&key]);
    let keys = Origin::start(Speaks::Http1, move |_| Response::new(set.clone().into())).await;
    let place = json!({"upstream": "keys.default:80", "path": "/jwks", "authority": "keys"});
    let plugin = bundled(&dir, "jwt-auth", issuer(("jwksUri", place)));
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let waypoint = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &service("keys", "http", keys.address)
        + &filter("jwt", "builtin://jwt-auth", &format!("  config: {}", plugin.config));
    let clusters = [("origin", origin.address), ("keys.default:80", keys.address)];
    let envoy = Envoy::start(&dir, &[plugin], &[], &clusters).await;
    let waypoint = Waypoint::start(&waypoint).await;

    for address in [waypoint.http(), envoy.address] {
        let token = key.token(&claims(&json!({})));
        let fetched = async { while send_http1(address, bearer(&token)).await.status() != 200 {} };
        timeout(PATIENCE, fetched).await.expect("the keys come");
        assert_eq!(send_http1(address, bearer("a.b.c")).await.status(), 401);
    }

    let seen = keys.seen();
    assert!(seen.len() >= 2, "each fetches them: {seen:?}");
    for fetch in seen {
        assert_eq!((fetch.method(), fetch.uri().path()), (&Method::GET, "/jwks"));
        assert_eq!(fetch.headers()["host"], "keys");
    }
}

#[tokio::test]
async fn pii_redact_redacts_the_same_on_envoy() {
    let dir = TempDir::new().unwrap();
    let plugin = bundled(&dir, "pii-redact", json!({"entities": ["email", "card"]}));
    let beside = Beside::one(dir, plugin, talkative().await).await;
    let large = format!("[{}]", vec!["\"to alice.liddell@example.com, all\""; 4_000].join(","));
    for (kind, body) in [
        ("application/json", r#"{"a":[1,"alice@example.com"],"n":1.50,"c":"4111 1111 1111 1111"}"#),
        ("application/json", large.as_str()),
        ("application/x-www-form-urlencoded", "m=alice%40example.com&c=4111+1111+1111+1111"),
        ("text/plain", "to alice@example.com,\nby 4111 1111 1111 1111\n"),
        ("text/event-stream", "data: {\"t\":\"alice@example.com\"}\n\ndata: 4111111111111111\n\n"),
        ("image/png", "alice@example.com"),
        ("text/plain", ""),
    ] {
        let headers = [("content-type", kind), ("x-note", "alice@example.com"), ("x-kept", "1")];
        let path = "/p?mail=alice%40example.com&k=v";
        let exchange = beside.same(post_with(path, body, &headers)).await;

        let seen = &exchange.reached[0];
        assert_eq!(seen.header("x-note"), ["<EMAIL>"], "{kind}");
        assert!(seen.line.ends_with("/p?mail=%3CEMAIL%3E&k=v"), "{}", seen.line);
        assert_eq!(exchange.answer.header("x-note"), ["by <EMAIL>"], "{kind}");
        for body in [&seen.body, &exchange.answer.body] {
            let text = String::from_utf8_lossy(body);
            assert_eq!(text.contains("alice"), kind == "image/png", "{kind}: {text}");
        }
    }
}

#[tokio::test]
async fn pii_redact_refuses_the_same_on_envoy() {
    let dir = TempDir::new().unwrap();
    let config = json!({"entities": ["email", {"type": "card", "action": "block"}]});
    let plugin = bundled(&dir, "pii-redact", config);
    let beside = Beside::one(dir, plugin, talkative().await).await;

    let card = "4111 1111 1111 1111";
    let text = ("content-type", "text/plain");
    for (request, wanted) in [
        (post_with("/", card, &[text]), "403 Forbidden"),
        (get_with("/", &[("x-card", card)]), "403 Forbidden"),
        (
            post_with("/", "packed", &[text, ("content-encoding", "gzip")]),
            "415 Unsupported Media Type",
        ),
        (
            post_with("/", "\u{1}", &[("content-type", "text/plain; charset=utf-16")]),
            "415 Unsupported Media Type",
        ),
    ] {
        let exchange = beside.same(request).await;
        assert_eq!(exchange.answer.line, wanted);
        assert!(exchange.reached.is_empty(), "{:?}", exchange.reached);
    }
}

#[tokio::test]
async fn payload_router_chooses_the_same_routes_on_envoy() {
    let dir = TempDir::new().unwrap();
    let config = json!({"rules": [
        {"header": "x-region"},
        {"jsonPointer": "/order/region"},
        {"formField": "region"},
        {"grpc": "method", "values": {"shop.Orders/Place": "us"}},
    ]});
    let plugin = bundled(&dir, "payload-router", config);
    let origins = vec![
        ("other", Origin::named(Speaks::Http1, "other").await),
        ("us", Origin::named(Speaks::Http1, "us").await),
    ];
    let beside = Beside::start(dir, &[plugin], &[("us", "us")], origins).await;
    let long = format!(r#"{{"pad":"{}","order":{{"region":"us"}}}}"#, "x".repeat(60_000));
    let far = format!(r#"{{"pad":"{}","order":{{"region":"us"}}}}"#, "x".repeat(70_000));
    let json = ("content-type", "application/json");
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (path, body, headers, chosen, key) in [
        ("/", r#"{"order":{"region":"us"}}"#, vec![json], "us", vec!["us"]),
        ("/", r#"{"order":{"region":"eu"}}"#, vec![json], "other", vec!["eu"]),
        ("/", long.as_str(), vec![json], "us", vec!["us"]),
        ("/", far.as_str(), vec![json], "other", vec![]),
        ("/", "{not json", vec![json], "other", vec![]),
        ("/", "a=1&region=us", vec![form], "us", vec!["us"]),
        ("/", "", vec![("x-region", "us")], "us", vec!["us"]),
        ("/", "{}", vec![json, ("x-waypoint-route-key", "us")], "other", vec![]),
        (
            "/shop.Orders/Place",
            "\0\0\0\0\0",
            vec![("content-type", "application/grpc")],
            "us",
            vec!["us"],
        ),
    ] {
        let exchange = beside.same(post_with(path, body, &headers)).await;
        assert_eq!(exchange.answer.body, chosen, "{headers:?}");
        assert_eq!(exchange.reached[0].header("x-waypoint-route-key"), key, "{headers:?}");
        assert_eq!(exchange.reached[0].body, body);
    }
}

#[tokio::test]
async fn guests_that_sign_answer_and_change_bodies_do_so_in_the_same_order_on_envoy() {
    let dir = TempDir::new().unwrap();
    let refuse = Guest::on_request(
        "(if (call $has (i32.const 0) {x-refuse}) (then
           (drop (call $reply (i32.const 418) {} {no tea\\n} (i32.const 0) (i32.const 0)
             (i32.const -1)))
           (return (i32.const 1))))
         (i32.const 0)",
    );
    let rewrite = Guest::on_request("(call $replace (i32.const 0) {:path} {/told}) (i32.const 0)")
        .on(
            "request_body",
            "(if (i32.eqz (local.get $2)) (then (return (i32.const 1))))
             (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 99) {HELLO WORLD}))
             (i32.const 0)",
        )
        .on("response_headers", "(call $replace (i32.const 2) {:status} {202}) (i32.const 0)")
        .on(
            "response_body",
            "(if (i32.eqz (local.get $2)) (then (return (i32.const 1))))
             (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 99) {Hello World}))
             (i32.const 0)",
        );
    let plugins = [
        guest(&dir, "first", signing("first")),
        guest(&dir, "refuse", refuse),
        guest(&dir, "rewrite", rewrite),
        guest(&dir, "last", signing("last")),
    ];
    let origins = vec![("origin", Origin::echo(Speaks::Http1).await)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    let changed = beside.same(post_with("/asked", "hello world", &[])).await;
    assert_eq!(changed.reached[0].line, "origin: POST /told");
    assert_eq!(changed.reached[0].header("x-order"), ["first", "last"]);
    assert_eq!(changed.reached[0].body, "HELLO WORLD");
    assert_eq!(changed.answer.line, "202 Accepted");
    assert_eq!(changed.answer.header("x-order"), ["last", "first"]);
    assert_eq!(changed.answer.body, "Hello World");

    let refused = beside.same(get_with("/", &[("x-refuse", "1")])).await;
    assert_eq!(
        (refused.answer.line.as_str(), &refused.answer.body[..]),
        ("418 I'm a teapot", &b"no tea\n"[..])
    );
    assert!(refused.reached.is_empty());
}

/// Edits a head in every way there is; `$map` is the map, and values are told back in it.
fn editing(map: u8) -> String {
    let told = |name: &str, at: &str| {
        format!(
            "(i32.store (i32.const 4) (i32.const 0))
             (i32.store8 (i32.const 40000) (i32.add (i32.const 48)
               (call $get $map {{{name}}} (i32.const 0) (i32.const 4))))
             (call $add $map {{{at}}} (i32.const 40000) (i32.const 1))
             (call $add $map {{{at}}} (i32.load (i32.const 0)) (i32.load (i32.const 4)))"
        )
    };
    let edits = [
        told("x-multi", "x-told-multi"),
        told("x-none", "x-told-none"),
        told("X-Single", "x-told-single"),
        "(call $add $map {x-two} {a}) (call $add $map {x-two} {b})
         (call $add $map {x-multi} {three})
         (call $replace $map {x-replaced} {one})
         (call $replace $map {x-new} {v})
         (call $add $map {X-Upper} {v})
         (call $add $map {x-empty} {})
         (call $remove $map {x-gone})
         (call $remove $map {x-never-there})"
            .to_owned(),
        told("x-replaced", "x-told-replaced"),
        told("x-gone", "x-told-gone"),
    ];
    edits.concat().replace("$map", &format!("(i32.const {map})")) + "(i32.const 0)"
}

#[tokio::test]
async fn heads_are_read_and_edited_on_envoy_as_here() {
    let dir = TempDir::new().unwrap();
    let edits = Guest::on_request(&editing(0)).on("response_headers", &editing(2));
    let moves = Guest::on_request(
        "(call $replace (i32.const 0) {:path} {/moved?to=here})
         (call $replace (i32.const 0) {:authority} {other.test})
         (call $replace (i32.const 0) {:method} {PUT})
         (i32.const 0)",
    );
    let plugins = [guest(&dir, "edits", edits), guest(&dir, "moves", moves)];
    let lines = [
        ("x-multi", "one"),
        ("x-multi", "two"),
        ("x-single", "1"),
        ("x-replaced", "a"),
        ("x-replaced", "b"),
        ("x-gone", "a"),
        ("x-gone", "b"),
    ];
    let origin = Origin::start(Speaks::Http1, move |_| {
        let mut answer = Response::builder();
        for (name, value) in lines {
            answer = answer.header(name, value);
        }
        answer.body(Bytes::new()).unwrap()
    })
    .await;
    let beside = Beside::start(dir, &plugins, &[], vec![("origin", origin)]).await;

    let exchange = beside.same(post_with("/", "body", &lines)).await;

    assert_eq!(exchange.reached[0].line, "origin: PUT /moved?to=here");
    assert_eq!(exchange.reached[0].header("host"), ["other.test"]);
    for head in [&exchange.reached[0], &exchange.answer] {
        assert_eq!(head.header("x-two"), ["a", "b"]);
        assert_eq!(head.header("x-replaced"), ["one"]);
        assert!(head.header("x-gone").is_empty());
    }
}

/// Both proxies with a guest that answers by itself in `callback`, between two that sign.
async fn replying(callback: &str) -> Beside {
    let reply = "(drop (call $reply (i32.const 418) {} {no tea\n} (i32.const 0) (i32.const 0)
                   (i32.const -1)))
                 (i32.const 1)";
    let dir = TempDir::new().unwrap();
    let plugins = [
        guest(&dir, "first", signing("first")),
        guest(&dir, "replies", Guest::default().on(callback, reply)),
        guest(&dir, "last", signing("last")),
    ];
    let origins = vec![("origin", Origin::echo(Speaks::Http1).await)];
    Beside::start(dir, &plugins, &[], origins).await
}

#[tokio::test]
async fn an_answer_of_a_guest_takes_the_place_of_the_origins_on_envoy_as_here() {
    for callback in ["request_headers", "request_body"] {
        let beside = replying(callback).await;

        let exchange = beside.same(post_with("/", "body", &[])).await;

        assert_eq!(exchange.answer.line, "418 I'm a teapot", "{callback}");
        assert_eq!(exchange.answer.body, "no tea\n", "{callback}");
        assert!(exchange.reached.is_empty(), "{callback}");
    }
}

#[tokio::test]
async fn a_callout_holds_the_request_and_is_answered_on_envoy_as_here() {
    let dir = TempDir::new().unwrap();
    let plugins = [guest(&dir, "calls", calling("auth", 1_000))];
    let auth = Origin::start(Speaks::Http1, |request| {
        let status = if request.uri() == "/check" { 204 } else { 404 };
        Response::builder().status(status).body(Bytes::new()).unwrap()
    })
    .await;
    let origins = vec![("origin", Origin::named(Speaks::Http1, "origin").await), ("auth", auth)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    let exchange = beside.same(request(Method::GET, "/", "")).await;

    assert_eq!(exchange.reached[0].header("x-callout"), ["204"]);
    assert_eq!(exchange.reached[1].line, "auth: GET /check");
    assert_eq!(exchange.reached[1].header("host"), ["auth"]);
}

/// The argument of `verify_signature`: fields 1 to 4, each with its number, type and length.
fn signature_arguments(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, field) in (1_u8..).zip([hash.as_bytes(), key, signature, text]) {
        let length = u16::try_from(field.len()).expect("short");
        // Two bytes are always enough of a varint here.
        let length = [(length & 0x7f) as u8 | 0x80, u8::try_from(length >> 7).expect("short")];
        message.extend([&[number << 3 | 2], &length[..], field].concat());
    }
    message
}

/// A guest that asks `verify_signature`, and tells the status and the tag of the answer's first field
/// in `x-verified`, each as a character from `0` on: `8` is the result, true, `B` is an error's text.
fn verifying(argument: &[u8]) -> Guest {
    let bytes: String = argument.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = argument.len();
    Guest::on_request(&format!(
        "(i32.store (i32.const 40012) (i32.const 0))
         (i32.store8 (i32.const 40000) (i32.add (i32.const 48)
           (call $foreign {{verify_signature}} (i32.const 50000) (i32.const {length})
             (i32.const 40008) (i32.const 40012))))
         (if (i32.load (i32.const 40012)) (then
           (i32.store8 (i32.const 40001) (i32.add (i32.const 48)
             (i32.load8_u (i32.load (i32.const 40008)))))
           (local.set $i (i32.const 1))))
         (call $add (i32.const 0) {{x-verified}}
           (i32.const 40000) (i32.add (i32.const 1) (local.get $i)))
         (i32.const 0))
         (data (i32.const 50000) \"{bytes}\") (func"
    ))
}

/// A public key in DER, and what signs `text` with it.
fn rsa_signature(padding: &'static dyn RsaEncoding) -> (Vec<u8>, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), b"text", &mut signature).unwrap();
    (key.as_ref().to_vec(), signature)
}

fn ecdsa_signature(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let key: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let signature = pair.sign(&SystemRandom::new(), b"text").unwrap();
    (key.as_ref().to_vec(), signature.as_ref().to_vec())
}

#[tokio::test]
async fn verify_signature_answers_the_same_on_envoy() {
    let (key, good) = rsa_signature(&RSA_PKCS1_SHA256);
    let (key512, good512) = rsa_signature(&RSA_PKCS1_SHA512);
    let (p256, by_p256) = ecdsa_signature(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let (p384, by_p384) = ecdsa_signature(&ECDSA_P384_SHA384_ASN1_SIGNING);
    let dir = TempDir::new().unwrap();
    let mut wanted = Vec::new();
    let mut plugins = Vec::new();
    for (name, argument, answer) in [
        ("good", signature_arguments("sha256", &key, &good, b"text"), "08"),
        ("upper", signature_arguments("SHA256", &key, &good, b"text"), "08"),
        ("long", signature_arguments("sha512", &key512, &good512, b"text"), "08"),
        ("p256", signature_arguments("sha256", &p256, &by_p256, b"text"), "08"),
        ("p384", signature_arguments("sha384", &p384, &by_p384, b"text"), "08"),
        ("text", signature_arguments("sha256", &key, &good, b"other"), "0B"),
        ("other", signature_arguments("sha256", &p256, &good, b"text"), "0B"),
        ("hash", signature_arguments("sha512", &key, &good, b"text"), "0B"),
        ("none", signature_arguments("md5", &key, &good, b"text"), "0B"),
        ("cut", signature_arguments("sha256", &key[1..], &good, b"text"), "0B"),
        ("junk", signature_arguments("sha256", b"junk", &good, b"text"), "0B"),
        ("keyless", signature_arguments("sha256", b"", &good, b"text"), "2"),
        ("empty", Vec::new(), "2"),
        ("garbage", vec![0xff; 9], "2"),
    ] {
        plugins.push(guest(&dir, name, verifying(&argument)));
        wanted.push(answer);
    }
    let origins = vec![("origin", Origin::named(Speaks::Http1, "origin").await)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    let exchange = beside.same(request(Method::GET, "/", "")).await;

    assert_eq!(exchange.reached[0].header("x-verified"), wanted);
}

#[tokio::test]
async fn what_differs_on_envoy_differs_as_the_guide_says() {
    let dir = TempDir::new().unwrap();
    // Envoy lets a guest replace the beginning of a body; here any window of it.
    let window = Guest::default().on(
        "request_body",
        "(drop (call $set_buffer (i32.const 0) (i32.const 6) (i32.const 4) {WORL})) (i32.const 0)",
    );
    // Envoy replaces a VM that trapped only under FAIL_RELOAD; here it always is.
    let plugins = [guest(&dir, "window", window), guest(&dir, "traps", harmful("(unreachable)"))];
    let origins = vec![("origin", Origin::echo(Speaks::Http1).await)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    for (envoy, body) in [(false, "hello WORLd"), (true, "hello world")] {
        let exchange = beside.through(envoy, post_with("/", "hello world", &[])).await;
        assert_eq!(exchange.answer.body, body, "{envoy}");
    }

    for (envoy, body) in [(false, "wasm_fail_stream\n"), (true, "")] {
        let exchange = beside.through(envoy, get_with("/", &[("x-bad", "1")])).await;
        assert_eq!(exchange.answer.line, "503 Service Unavailable", "{envoy}");
        assert_eq!(exchange.answer.body, body, "{envoy}");
    }
    for (envoy, after) in [(false, "200 OK"), (true, "503 Service Unavailable")] {
        let exchange = beside.through(envoy, request(Method::GET, "/", "")).await;
        assert_eq!(exchange.answer.line, after, "{envoy}");
    }
}

#[tokio::test]
async fn an_answer_to_a_response_passes_the_filters_that_are_left_here_and_none_on_envoy() {
    let beside = replying("response_headers").await;

    for (envoy, signed) in [(false, vec!["first"]), (true, vec![])] {
        let exchange = beside.through(envoy, post_with("/", "body", &[])).await;
        assert_eq!(exchange.answer.line, "418 I'm a teapot", "{envoy}");
        assert_eq!(exchange.answer.body, "no tea\n", "{envoy}");
        assert_eq!(exchange.answer.header("x-order"), signed, "{envoy}");
        assert_eq!(exchange.reached.len(), 1, "{envoy}");
    }
}
