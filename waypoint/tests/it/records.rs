//! No record shows a raw value: not of a request that was redacted, and not of one that was refused
//! before redaction could run.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use serde_json::json;

use crate::bundled::tokens::{Key, claims, jwks};
use crate::client::{Raw, filter_on, get_with, post_with, route};
use crate::guests::harmful;
use crate::harness::{Waypoint, gateway_to, send_http1, send_http2, service};
use crate::origin::{Origin, Speaks};

/// Planted in every place that a request has. None of it may be printed, in whole or in part.
const SECRETS: [&str; 3] = ["alice.liddell", "4111111111111111", "t0ken-of-alice"];

/// Headers with secrets in them. Not `user-agent`: pii-redact looks at it only where it is told to.
const HEADERS: [(&str, &str); 5] = [
    ("x-note", "alice.liddell@example.com 4111111111111111"),
    ("cookie", "session=t0ken-of-alice; mail=alice.liddell@example.com"),
    ("referer", "https://h/?mail=alice.liddell@example.com&card=4111111111111111"),
    ("x-forwarded-for", "alice.liddell@example.com"),
    ("x-request-id", "4111111111111111"),
];

const BODY: &str = r#"{"mail":"alice.liddell@example.com","card":"4111111111111111"}"#;
const QUERY: &str = "mail=alice.liddell@example.com&card=4111111111111111";

struct Scene {
    waypoint: Waypoint,
    origin: Origin,
    key: Key,
    _dir: tempfile::TempDir,
}

/// jwt-auth on `/locked`, a filter that traps on `/trap`, redaction everywhere.
async fn scene(arguments: &[&str]) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let (origin, key) = (Origin::echo(Speaks::Http1).await, Key::new("ES256", "one"));
    let jwt = json!({"issuers": [{"issuer": "https://issuer.test", "jwks": jwks(&[&key])}]});
    let gateway = "kind: Gateway, name: web";
    let locked = format!("  match: [{{pathPrefixes: [/locked]}}]\n  config: {jwt}");
    let trap = harmful("(unreachable)").write(dir.path(), "trap");
    let spec = "  phase: Authn\n  match: [{pathPrefixes: [/trap]}]";
    let hold = crate::guests::Guest::default().on("request_body", "(i32.const 1)");
    let hold = hold.write(dir.path(), "hold");
    let small = "  phase: Authn\n  match: [{pathPrefixes: [/held]}]\n  limits: {bufferedBody: 1Ki}";
    let resources = gateway_to("origin").replace(
        "{backendRefs",
        "{matches: [{path: {type: PathPrefix, value: /locked}}], backendRefs",
    ) + &route("open", "/open", "origin")
        + &route("trap", "/trap", "origin")
        + &route("held", "/held", "origin")
        + &route("none", "/none", "none")
        + &service("origin", "http", origin.address)
        + &service("none", "http", "127.0.0.1:1".parse().unwrap())
        + &filter_on("jwt", gateway, "builtin://jwt-auth", &locked)
        + &filter_on("trap", gateway, &trap, spec)
        + &filter_on("hold", gateway, &hold, small)
        + &filter_on("redact", gateway, "builtin://pii-redact", "");
    let waypoint = Waypoint::start_with(&resources, arguments).await;
    Scene { waypoint, origin, key, _dir: dir }
}

impl Scene {
    /// Requests of every kind with secrets wherever they fit; each with the status it gets.
    async fn send_all(&self) {
        let address = self.waypoint.http();
        let bad = [&HEADERS[..], &[("authorization", "Bearer t0ken-of-alice.4111111111111111.x")]];
        let good = format!("Bearer {}", self.key.token(&claims(&json!({"sub": "alice.liddell"}))));
        let good = [&HEADERS[..], &[("authorization", good.as_str())]];
        let trap = [&HEADERS[..], &[("x-bad", "alice.liddell@example.com")]];
        let large = BODY.repeat(100);
        for (path, body, headers, wanted) in [
            ("/open", BODY, HEADERS.to_vec(), 200),
            ("/locked", BODY, good.concat(), 200),
            ("/locked", BODY, bad.concat(), 401),
            ("/locked", BODY, HEADERS.to_vec(), 401),
            ("/nowhere", BODY, HEADERS.to_vec(), 404),
            ("/trap", BODY, trap.concat(), 503),
            ("/held", &large, HEADERS.to_vec(), 413),
            ("/none", BODY, HEADERS.to_vec(), 503),
        ] {
            let mut headers = headers;
            headers.push(("content-type", "application/json"));
            let path = format!("{path}?{QUERY}");
            let answer = send_http1(address, post_with(&path, body, &headers)).await;
            assert_eq!(answer.status(), wanted, "{path}: {:?}", answer.body());
            let mut request = post_with(&format!("http://h{path}"), body, &headers);
            request.headers_mut().remove("host");
            assert_eq!(send_http2(address, request).await.status(), wanted, "{path} by HTTP/2");
        }
        assert_eq!(self.origin.seen().len(), 4);
        self.send_malformed().await;
    }

    /// Requests that the codec refuses.
    async fn send_malformed(&self) {
        let secrets = format!("x: {QUERY}\r\ncookie: session=t0ken-of-alice\r\n");
        let many = "x: alice.liddell\r\n".repeat(200);
        for (request, wanted) in [
            (format!("GET /?{QUERY} HTTP/1.1\r\n{secrets}\r\n"), "400"),
            (format!("GET /?{QUERY} HTTP/1.1\r\nhost: h\r\n{QUERY}\r\n{secrets}\r\n"), "400"),
            (format!("GET /?{QUERY} HTTP/1.1\r\nhost: a\r\nhost: {QUERY}\r\n\r\n"), "400"),
            (format!("GET /%zz{QUERY} HTTP/1.1\r\nhost: h\r\n{secrets}\r\n"), "400"),
            (format!("{QUERY} / HTTP/1.1\r\nhost: h\r\n{secrets}\r\n"), "400"),
            (format!("GET /?{QUERY} HTTP/9.1\r\nhost: h\r\n{secrets}\r\n"), ""),
            (format!("GET /?{QUERY} HTTP/1.1\r\nhost: h\r\n{many}\r\n"), "431"),
            (format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", QUERY.repeat(300)), "4"),
            (
                format!("POST /open?{QUERY} HTTP/1.1\r\nhost: h\r\n{secrets}content-length: 4\r\n")
                    + &format!("transfer-encoding: chunked\r\n\r\n{BODY}"),
                "400",
            ),
            (
                "POST /open HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
                    + &format!("{BODY}\r\n{BODY}\r\n"),
                "400",
            ),
        ] {
            let mut client = Raw::connect(self.waypoint.http()).await;
            client.send(&request).await;
            let answer = client.end().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{request}\n{answer}");
            no_secret(&answer, "the answer");
        }
    }

    /// Everything that the process says of itself.
    async fn all_records(&self) -> Vec<(&'static str, String)> {
        send_http1(self.waypoint.http(), get_with("/open?last", &[])).await;
        let printed = self.waypoint.printed_until("/open?last").await;
        let mut records = vec![("printed", printed), ("metrics", self.waypoint.metrics().await)];
        for path in ["/config_dump", "/filters", "/config", "/endpoints", "/logging"] {
            let answer = self.waypoint.admin(http::Method::GET, path).await;
            records.push((path, String::from_utf8_lossy(answer.body()).into_owned()));
        }
        records
    }
}

fn no_secret(text: &str, place: &str) {
    for secret in SECRETS {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in {place}: {}", line.unwrap_or_default());
    }
}

#[tokio::test]
async fn no_record_shows_what_a_client_sent_before_it_was_redacted() {
    for format in ["json", "text"] {
        let arguments = ["--log-level", "debug", "--access-log", format];
        let scene = scene(&arguments).await;
        scene.send_all().await;

        for (place, text) in scene.all_records().await {
            no_secret(&text, place);
        }
        let printed = scene.waypoint.printed();
        assert!(printed.contains("/open?mail="), "redacted values are shown:\n{printed}");
    }
}

#[tokio::test]
async fn even_the_most_talkative_log_shows_no_value() {
    let scene = scene(&["--log-level", "trace", "--log-format", "json"]).await;
    scene.send_all().await;

    for (place, text) in scene.all_records().await {
        no_secret(&text, place);
    }
}
