//! The bundled filters, unchanged.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use super::Beside;
use super::process::{Envoy, Plugin};
use crate::bundled::tokens::{Key, claims, jwks, now, unsigned};
use crate::client::{get_with, post_with};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, send_http1, service};
use crate::origin::{Origin, Speaks};

/// A bundled filter, its module unchanged.
fn bundled(dir: &TempDir, name: &'static str, config: Value) -> Plugin {
    let module = dir.path().join(format!("{name}.wasm"));
    std::fs::write(&module, waypoint_filters::module(name).expect("a bundled filter")).unwrap();
    Plugin { name, module, config, holds_heads: name == "payload-router" }
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
