//! jwt-auth in the real proxy.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::tokens::{Key, claims, encode, jwks, now, unsigned};
use crate::client::{get_with, series, values};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, get, send_http1, service};
use crate::origin::{Origin, Speaks};

/// A waypoint that accepts tokens of `https://issuer.test` for `shop`; `keys` says where from.
async fn guarded(origin: &Origin, more: &str, keys: Value) -> Waypoint {
    guarded_within(origin, more, keys, "10s").await
}

/// The same, where clocks may differ by `skew`.
async fn guarded_within(origin: &Origin, more: &str, keys: Value, skew: &str) -> Waypoint {
    let mut issuer = json!({"issuer": "https://issuer.test", "audiences": ["shop"]});
    for (name, value) in keys.as_object().unwrap() {
        issuer[name] = value.clone();
    }
    let config = json!({
        "issuers": [issuer],
        "claimsToHeaders": [{"claim": "sub", "header": "x-user"}],
        "clockSkew": skew,
    });
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + more
        + &filter("jwt", "builtin://jwt-auth", &format!("  config: {config}"));
    Waypoint::start(&resources).await
}

async fn with_token(waypoint: &Waypoint, token: &str) -> Response<Bytes> {
    let bearer = format!("Bearer {token}");
    send_http1(waypoint.http(), get_with("/", &[("authorization", &bearer)])).await
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_accepted_and_become_headers() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let keys = ["RS256", "ES256", "EdDSA"].map(|name| Key::new(name, name.to_owned().leak()));
    let set: Vec<&Key> = keys.iter().collect();
    let waypoint = guarded(&origin, "", json!({"jwks": jwks(&set)})).await;

    for key in &keys {
        let bearer = format!("Bearer {}", key.token(&claims(&json!({"sub": key.algorithm()}))));
        let request =
            get_with("/", &[("X-User", "mallory"), ("authorization", &bearer), ("x-user", "eve")]);
        let answer = send_http1(waypoint.http(), request).await;

        assert_eq!(answer.status(), 200, "{}: {:?}", key.algorithm(), answer.body());
        let seen = origin.seen().pop().unwrap();
        assert_eq!(values(seen.headers(), "x-user"), [key.algorithm()]);
        assert!(!seen.headers().contains_key("authorization"), "the token is not forwarded");
    }
}

/// Tokens that must not pass, and why.
fn bad_tokens(key: &Key, other: &Key) -> Vec<(&'static str, String)> {
    let good = key.token(&claims(&json!({})));
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let admin = encode(claims(&json!({"sub": "admin"})).to_string().as_bytes());
    let header = |alg: &str| json!({"alg": alg, "kid": "one"});
    let signed = |changes: Value| key.token(&claims(&changes));
    let symmetric = unsigned(&header("HS256"), &claims(&json!({})));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.public());
    let tag = encode(hmac::sign(&secret, symmetric.as_bytes()).as_ref());
    vec![
        ("none", unsigned(&header("none"), &claims(&json!({}))) + "."),
        ("nOnE", unsigned(&header("nOnE"), &claims(&json!({}))) + "."),
        ("HS256 by the public key", format!("{symmetric}.{tag}")),
        ("another algorithm than the key's", key.sign(&header("RS256"), &claims(&json!({})))),
        ("tampered claims", format!("{head}.{admin}.{signature}")),
        ("no signature", format!("{head}.{}.", rest.split_once('.').unwrap().0)),
        ("another key", other.sign(&header("ES256"), &claims(&json!({})))),
        ("expired", signed(json!({"exp": now() - 60}))),
        ("without exp", signed(json!({"exp": null}))),
        ("not yet", signed(json!({"nbf": now() + 60}))),
        ("wrong audience", signed(json!({"aud": ["bank", "post"]}))),
        ("no audience", signed(json!({"aud": null}))),
        ("wrong issuer", signed(json!({"iss": "https://issuer.test.evil"}))),
        ("no issuer", signed(json!({"iss": null}))),
        ("no token at all", "abc".to_owned()),
    ]
}

#[tokio::test]
async fn tokens_that_must_not_pass_are_refused_and_told_why() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let (key, other) = (Key::new("ES256", "one"), Key::new("ES256", "one"));
    let waypoint = guarded(&origin, "", json!({"jwks": jwks(&[&key])})).await;

    for (why, token) in bad_tokens(&key, &other) {
        let answer = with_token(&waypoint, &token).await;

        assert_eq!(answer.status(), 401, "{why}");
        let challenge = values(answer.headers(), "www-authenticate").join("");
        assert!(challenge.starts_with("Bearer realm=\"waypoint\", error="), "{why}: {challenge}");
        assert!(!String::from_utf8_lossy(answer.body()).contains(&token), "{why}");
    }

    assert!(origin.seen().is_empty());
    let record = waypoint.record(|record| record["response_code"] == 401).await;
    assert_eq!(record["filter"], "default/jwt");
}

#[tokio::test]
async fn requests_without_one_bearer_token_are_refused() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let key = Key::new("ES256", "one");
    let waypoint = guarded(&origin, "", json!({"jwks": jwks(&[&key])})).await;
    let good = format!("Bearer {}", key.token(&claims(&json!({}))));

    for headers in [
        vec![],
        vec![("authorization", "Basic YWxpY2U6c2VjcmV0")],
        vec![("authorization", "Bearer")],
        vec![("authorization", good.as_str()), ("authorization", good.as_str())],
        vec![("authorization", "Basic YWxpY2U6c2VjcmV0"), ("authorization", good.as_str())],
    ] {
        let answer = send_http1(waypoint.http(), get_with("/", &headers)).await;

        assert_eq!(answer.status(), 401, "{headers:?}");
        assert_eq!(values(answer.headers(), "www-authenticate").len(), 1);
    }
    assert!(origin.seen().is_empty());
}

/// A service that publishes what `set` holds; nothing there: 500.
async fn publisher(set: &Arc<Mutex<String>>) -> Origin {
    let set = Arc::clone(set);
    Origin::start(Speaks::Http1, move |_| {
        let text = set.lock().clone();
        let status = if text.is_empty() { 500 } else { 200 };
        Response::builder().status(status).body(Bytes::from(text)).unwrap()
    })
    .await
}

fn remote() -> Value {
    json!({"jwksUri": {"upstream": "keys.default:80", "path": "/jwks?x", "coolDown": "1s"}})
}

/// Sends a token until it gets `wanted`: keys are fetched at most once a second.
async fn until_status(waypoint: &Waypoint, token: &str, wanted: u16) {
    let reached =
        timeout(PATIENCE, async { while with_token(waypoint, token).await.status() != wanted {} });
    assert!(reached.await.is_ok(), "{wanted} never came");
}

#[tokio::test]
async fn keys_of_an_upstream_are_fetched_and_a_new_key_is_fetched_when_it_is_named() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let (first, second) = (Key::new("ES256", "one"), Key::new("RS256", "two"));
    let set = Arc::new(Mutex::new(jwks(&[&first])));
    let keys = publisher(&set).await;
    let more = service("keys", "http", keys.address);
    let waypoint = guarded(&origin, &more, remote()).await;

    // The keys were there before the first request.
    assert_eq!(with_token(&waypoint, &first.token(&claims(&json!({})))).await.status(), 200);
    assert_eq!(keys.seen()[0].uri(), "/jwks?x");
    *set.lock() = jwks(&[&second]);

    until_status(&waypoint, &second.token(&claims(&json!({}))), 200).await;
    // Other VMs of the filter take the keys over with their next tick.
    until_status(&waypoint, &first.token(&claims(&json!({}))), 401).await;
    assert!(keys.seen().len() <= 4, "{} fetches", keys.seen().len());
}

#[tokio::test]
async fn without_keys_requests_are_503_until_the_keys_come() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let key = Key::new("EdDSA", "one");
    let set = Arc::new(Mutex::new(String::new()));
    let keys = publisher(&set).await;
    let more = service("keys", "http", keys.address);
    let waypoint = guarded(&origin, &more, remote()).await;
    let token = key.token(&claims(&json!({})));

    let answer = with_token(&waypoint, &token).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(get(waypoint.http(), "/").await.status(), 401, "needs no key to be refused");
    assert!(origin.seen().is_empty());
    *set.lock() = jwks(&[&key]);

    until_status(&waypoint, &token, 200).await;
}

#[tokio::test]
async fn a_token_that_expires_while_it_is_remembered_is_refused() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let key = Key::new("ES256", "one");
    let keys = json!({"jwks": jwks(&[&key])});
    let waypoint = guarded_within(&origin, "", keys, "0s").await;
    let expiry = now() + 5;
    let token = key.token(&claims(&json!({"exp": expiry})));

    // Each of the two VMs may have to verify it once.
    for _ in 0..4 {
        assert_eq!(with_token(&waypoint, &token).await.status(), 200);
    }
    let hits = "wasmcustom_jwt_auth_cache_hits_total{filter=\"default/jwt\"}";
    assert!(series(&waypoint, hits).await >= 2, "it is remembered");
    until_status(&waypoint, &token, 401).await;

    assert!(now() >= expiry, "not before its time");
    let answer = with_token(&waypoint, &token).await;
    let challenge = values(answer.headers(), "www-authenticate").concat();
    assert!(challenge.contains("invalid_token"), "{challenge}");
}

/// A waypoint whose keys are fetched every second and serve for `max_age`, its origin, the one key
/// and what is published.
async fn fetching(max_age: &str) -> (Waypoint, Origin, Key, Arc<Mutex<String>>) {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let key = Key::new("ES256", "one");
    let set = Arc::new(Mutex::new(jwks(&[&key])));
    let keys = publisher(&set).await;
    let more = service("keys", "http", keys.address);
    let place = json!({
        "upstream": "keys.default:80", "path": "/jwks",
        "coolDown": "1s", "cacheDuration": "1s", "maxAge": max_age,
    });
    let waypoint = guarded(&origin, &more, json!({ "jwksUri": place })).await;
    (waypoint, origin, key, set)
}

#[tokio::test]
async fn keys_serve_on_while_their_publisher_fails() {
    let (waypoint, _origin, key, set) = fetching("1h").await;
    let token = key.token(&claims(&json!({})));
    assert_eq!(with_token(&waypoint, &token).await.status(), 200);
    set.lock().clear();

    let failed = "wasmcustom_jwt_auth_key_fetches_failed_total{filter=\"default/jwt\"}";
    let fails = async { while series(&waypoint, failed).await == 0 {} };
    timeout(PATIENCE, fails).await.expect("the publisher is asked again");

    assert_eq!(with_token(&waypoint, &token).await.status(), 200);
    assert_eq!(with_token(&waypoint, &key.token(&claims(&json!({})))).await.status(), 200);
}

#[tokio::test]
async fn keys_that_are_older_than_their_age_serve_no_more_until_they_are_fetched_anew() {
    /// Requests of a new token that may pass when a remembered one does not any more: two VMs may
    /// differ by a millisecond in the age of their keys.
    const LATE_MAX: usize = 5;
    let (waypoint, origin, key, set) = fetching("2s").await;
    let token = key.token(&claims(&json!({})));
    until_status(&waypoint, &token, 200).await;
    set.lock().clear();

    // A remembered token is not accepted either.
    until_status(&waypoint, &token, 503).await;
    let before = origin.seen().len();
    until_status(&waypoint, &key.token(&claims(&json!({}))), 503).await;
    let passed = origin.seen().len();
    assert!(passed - before <= LATE_MAX, "{} of a new token", passed - before);
    *set.lock() = jwks(&[&key]);

    until_status(&waypoint, &token, 200).await;
    assert_eq!(origin.seen().len(), passed + 1);
}
