//! pii-redact in the real proxy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::{Raw, get_with, post_with, status, values};
use crate::harness::{Waypoint, filter, gateway_to, get, send_http1, service};
use crate::origin::{Origin, Speaks};

const MAIL: &str = "alice.liddell@example.com";
const CARD: &str = "4111 1111 1111 1111";

fn redacting(endpoint: std::net::SocketAddr, config: &serde_json::Value) -> String {
    gateway_to("origin")
        + &service("origin", "http", endpoint)
        + &filter("redact", "builtin://pii-redact", &format!("  config: {config}"))
}

/// A body of each kind with both secrets in it, and what must be left of it.
fn bodies() -> Vec<(&'static str, String, &'static str)> {
    vec![
        (
            "application/json",
            format!(r#"{{"a":[1,"{MAIL}"],"alice@key.example":"card {CARD}.","n":1.50}}"#),
            r#"{"a":[1,"<EMAIL>"],"alice@key.example":"card <CARD>.","n":1.50}"#,
        ),
        (
            "application/x-www-form-urlencoded",
            "m=alice.liddell%40example.com&c=4111+1111+1111+1111&k=v".to_owned(),
            "m=%3CEMAIL%3E&c=%3CCARD%3E&k=v",
        ),
        ("text/plain", format!("to {MAIL},\nby {CARD}\n"), "to <EMAIL>,\nby <CARD>\n"),
        (
            "text/event-stream",
            format!("event: m\ndata: {{\"t\":\"{MAIL}\"}}\n\ndata: {CARD}\n\n"),
            "event: m\ndata: {\"t\":\"<EMAIL>\"}\n\ndata: <CARD>\n\n",
        ),
        (
            "application/x-ndjson",
            format!("{{\"m\":\"{MAIL}\"}}\n{{\"c\":\"{CARD}\"}}\n"),
            "{\"m\":\"<EMAIL>\"}\n{\"c\":\"<CARD>\"}\n",
        ),
    ]
}

#[tokio::test]
async fn request_bodies_are_redacted_wherever_their_chunks_end() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let waypoint = Waypoint::start(&redacting(origin.address, &json!({}))).await;

    for (kind, body, wanted) in bodies() {
        for size in [1, 3, 7, 1000] {
            let mut client = Raw::connect(waypoint.http()).await;
            let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: {kind}\r\n");
            client.send(head + "connection: close\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for piece in body.as_bytes().chunks(size) {
                client.chunk(piece).await;
            }
            client.send("0\r\n\r\n").await;
            let answer = client.end().await;

            assert!(answer.starts_with("HTTP/1.1 200"), "{kind} {size}: {answer}");
            let seen = origin.seen().pop().unwrap();
            assert_eq!(String::from_utf8_lossy(seen.body()), wanted, "{kind} by {size}");
        }
    }
}

#[tokio::test]
async fn response_bodies_are_redacted_wherever_their_chunks_end() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resources = redacting(sink.local_addr().unwrap(), &json!({}));
    let waypoint = Waypoint::start(&resources).await;

    for (kind, body, wanted) in bodies() {
        for size in [1, 5, 1000] {
            let mut client = Raw::connect(waypoint.http()).await;
            client.send("GET / HTTP/1.0\r\nhost: h\r\n\r\n").await;
            let mut upstream = Raw::over(sink.accept().await.unwrap().0);
            upstream.until("\r\n\r\n").await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n");
            upstream.send(head + "transfer-encoding: chunked\r\n\r\n").await;
            for piece in body.as_bytes().chunks(size) {
                upstream.chunk(piece).await;
            }
            upstream.send("0\r\n\r\n").await;

            let answer = client.end().await;
            let (_, got) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(got, wanted, "{kind} by {size}");
        }
    }
}

#[tokio::test]
async fn query_and_headers_are_redacted_on_both_ways() {
    let origin = Origin::start(Speaks::Http1, |_| {
        let answer = Response::builder().header("x-note", format!("by {MAIL}"));
        answer.header("set-cookie", format!("m={MAIL}")).body(bytes::Bytes::new()).unwrap()
    })
    .await;
    let waypoint = Waypoint::start(&redacting(origin.address, &json!({}))).await;
    let path = "/p?mail=alice.liddell%40example.com&plain=alice@example.com&k=v";
    let headers = [("x-note", MAIL), ("cookie", "a=b; m=bob@example.com"), ("x-other", "kept")];

    let answer = send_http1(waypoint.http(), get_with(path, &headers)).await;

    let seen = origin.seen().pop().unwrap();
    let all = format!("{} {:?} {:?}", seen.uri(), seen.headers(), answer.headers());
    for secret in ["alice", "bob", "example.com"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    assert!(seen.uri().path() == "/p" && seen.uri().query().unwrap().ends_with("&k=v"), "{all}");
    assert_eq!(values(seen.headers(), "x-note"), ["<EMAIL>"]);
    assert_eq!(values(seen.headers(), "x-other"), ["kept"]);
    assert_eq!(values(answer.headers(), "x-note"), ["by <EMAIL>"]);
}

#[tokio::test]
async fn packed_bodies_are_refused_unless_the_policy_says_otherwise() {
    let origin = Origin::start(Speaks::Http1, |request| {
        let coding = if request.uri() == "/packed" { "gzip" } else { "identity" };
        let answer = Response::builder().header("content-encoding", coding);
        answer.header("content-type", "text/plain").body("packed".into()).unwrap()
    })
    .await;
    let packed = [("content-encoding", "gzip"), ("content-type", "text/plain")];
    for (config, request, response) in
        [(json!({}), 415, 502), (json!({"contentEncoding": "pass"}), 200, 200)]
    {
        let waypoint = Waypoint::start(&redacting(origin.address, &config)).await;
        let address = waypoint.http();
        assert_eq!(status(address, post_with("/", "packed", &packed)).await, request);
        let answer = get(address, "/packed").await;
        assert_eq!(answer.status(), response);
        assert!(answer.status() == 200 || answer.body() != "packed");
        assert_eq!(get(address, "/").await.status(), 200);
    }
    let plain = origin.seen().into_iter().find(|seen| seen.uri() == "/packed").unwrap();
    assert_eq!(values(plain.headers(), "accept-encoding"), ["identity"]);
}

#[tokio::test]
async fn what_described_the_former_body_does_not_describe_the_redacted_one() {
    let origin = Origin::start(Speaks::Http1, |_| {
        let answer = Response::builder().header("content-type", "text/plain");
        let answer = answer.header("etag", "\"v1\"").header("content-md5", "abc");
        answer.header("accept-ranges", "bytes").body(format!("by {MAIL}!").into()).unwrap()
    })
    .await;
    let waypoint = Waypoint::start(&redacting(origin.address, &json!({}))).await;
    let headers = [("content-type", "text/plain"), ("digest", "sha-256=x"), ("range", "bytes=0-3")];

    let answer = send_http1(waypoint.http(), post_with("/", MAIL, &headers)).await;

    assert_eq!(answer.body(), "by <EMAIL>!");
    for gone in ["etag", "content-md5", "accept-ranges"] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    assert!(values(answer.headers(), "content-length").iter().all(|length| length == "11"));
    let seen = origin.seen().pop().unwrap();
    assert_eq!(seen.body(), "<EMAIL>");
    assert!(!seen.headers().contains_key("digest") && !seen.headers().contains_key("range"));
    assert!(values(seen.headers(), "content-length").iter().all(|length| length == "7"));
}

#[tokio::test]
async fn events_reach_the_client_one_by_one() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let waypoint = Waypoint::start(&redacting(sink.local_addr().unwrap(), &json!({}))).await;
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("GET /events HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let mut upstream = Raw::over(sink.accept().await.unwrap().0);
    upstream.until("\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n").await;
    upstream.send("transfer-encoding: chunked\r\n\r\n").await;

    for n in 0..5 {
        upstream.chunk(format!("id: {n}\ndata: {{\"m\":\"{MAIL}\"}}\n\n")).await;
        // The next event is not written before this one has arrived.
        let got = client.until(&format!("id: {n}\ndata: {{\"m\":\"<EMAIL>\"}}\n\n")).await;
        assert!(!got.contains("alice"), "{got}");
    }
}

#[tokio::test]
async fn a_match_to_block_is_refused_before_the_service_has_it() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let config = json!({"entities": [{"type": "card", "action": "block"}]});
    let waypoint = Waypoint::start(&redacting(origin.address, &config)).await;

    let body = format!(r#"{{"c":"{CARD}"}}"#);
    let json = [("content-type", "application/json")];
    assert_eq!(status(waypoint.http(), post_with("/", &body, &json)).await, 403);
    assert_eq!(status(waypoint.http(), get_with("/", &[("x-card", CARD)])).await, 403);

    assert!(origin.seen().is_empty());
}

/// `{"all":["to MAIL, by CARD", …]}`, a hundred times, in gzip and in zlib's form.
const GZIP: &str = "H4sIAAAAAAACA+3LMQqAMAxA0auEzFIoODl5D3GobYZCSh0cFPHuzg7e4C9ve7cmd50WPbokr9m\
    C11LMfbYztd0t5N4G2S4ZY4wSP+hAo9FoNBqNRqPRaDQajUaj0Wi0/7Y+L1R6+zaFFQAA";
const ZLIB: &str = "eNrtyzEKgDAMQNGrhMxSKDg5eQ9xqG2GQkodHBTx7s4O3uAvb3u3JnedFj26JK/ZgtdSzH22M7Xd\
    LeTeBtkuGWOMEj/oQKPRaDQajUaj0Wg0Go1Go9FotP+2Pi8yky9G";
/// How long it is unpacked.
const UNPACKED: usize = 5_509;

fn packed(text: &str) -> Bytes {
    STANDARD.decode(text).unwrap().into()
}

fn unpacked_and_redacted() -> String {
    format!(r#"{{"all":[{}]}}"#, vec![r#""to <EMAIL>, by <CARD>""#; 100].join(","))
}

#[tokio::test]
async fn compressed_bodies_are_decoded_and_redacted_on_both_ways_wherever_their_chunks_end() {
    // What it gives back is packed again, whatever has come.
    let origin = Origin::start(Speaks::Http1, |request| {
        let coding = request.uri().path().trim_start_matches('/').to_owned();
        let body = packed(if coding == "deflate" { ZLIB } else { GZIP });
        let answer = Response::builder().header("content-type", "application/json");
        answer.header("content-encoding", coding).header("vary", "x").body(body).unwrap()
    })
    .await;
    let config = json!({"contentEncoding": "decode"});
    let waypoint = Waypoint::start(&redacting(origin.address, &config)).await;

    for (coding, text) in [("gzip", GZIP), ("deflate", ZLIB)] {
        for size in [1, 7, 1000] {
            let mut client = Raw::connect(waypoint.http()).await;
            let head = format!(
                "POST /{coding} HTTP/1.0\r\nhost: h\r\ncontent-type: application/json\r\n\
                 content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
                packed(text).len()
            );
            client.send(head).await;
            for piece in packed(text).chunks(size) {
                client.send(piece).await;
            }
            let answer = client.end().await;

            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{coding} by {size}: {head}");
            assert!(!head.contains("content-encoding"), "{coding} by {size}: {head}");
            assert_eq!(body, unpacked_and_redacted(), "{coding} by {size}");
            let seen = origin.seen().pop().unwrap();
            assert!(!seen.headers().contains_key("content-encoding"), "{coding} by {size}");
            assert_eq!(seen.body(), unpacked_and_redacted().as_bytes(), "{coding} by {size}");
        }
    }
}

#[tokio::test]
async fn compressed_bodies_that_are_broken_foreign_or_too_large_are_refused() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    for (bytes_max, coding, body, wanted) in [
        (UNPACKED, "gzip", packed(GZIP), 200),
        (UNPACKED - 1, "gzip", packed(GZIP), 413),
        (UNPACKED, "gzip", packed(ZLIB), 400),
        (UNPACKED, "gzip", packed(GZIP).slice(..60), 400),
        (UNPACKED, "br", packed(GZIP), 415),
    ] {
        let config = json!({"contentEncoding": "decode", "inflate": {"bytesMax": bytes_max}});
        let waypoint = Waypoint::start(&redacting(origin.address, &config)).await;
        let headers = [("content-type", "application/json"), ("content-encoding", coding)];
        let mut request = post_with("/", "", &headers);
        *request.body_mut() = body.into();

        assert_eq!(status(waypoint.http(), request).await, wanted, "{coding} {bytes_max}");
    }
    // Of what was refused midway, nothing reached the service as a whole request.
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn heads_and_text_parts_of_forms_with_files_are_redacted_wherever_their_chunks_end() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let waypoint = Waypoint::start(&redacting(origin.address, &json!({}))).await;
    let form = |mail: &str, card: &str| {
        format!(
            "--XX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nto {mail}\r\n\
             --XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{mail}\"\r\n\
             Content-Type: text/plain\r\n\r\nby {card}\r\n\
             --XX\r\nContent-Disposition: form-data; name=\"p\"; filename=\"p.png\"\r\n\
             Content-Type: image/png\r\n\r\n{MAIL}\r\n--XX--\r\n"
        )
    };
    for size in [1, 5, 64, 1000] {
        let mut client = Raw::connect(waypoint.http()).await;
        client.send("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n").await;
        client.send("content-type: multipart/form-data; boundary=XX\r\n").await;
        client.send("transfer-encoding: chunked\r\n\r\n").await;
        for piece in form(MAIL, CARD).as_bytes().chunks(size) {
            client.chunk(piece).await;
        }
        client.send("0\r\n\r\n").await;
        let answer = client.end().await;

        assert!(answer.starts_with("HTTP/1.1 200"), "{size}: {answer}");
        let seen = origin.seen().pop().unwrap();
        let seen = String::from_utf8_lossy(seen.body()).into_owned();
        assert_eq!(seen, form("<EMAIL>", "<CARD>"), "by {size}");
    }
}

/// What the service gets of a text by these entities.
async fn written(origin: &Origin, entities: &serde_json::Value, salt: &str, text: &str) -> String {
    let config = json!({"entities": entities, "salt": salt});
    let waypoint = Waypoint::start(&redacting(origin.address, &config)).await;
    let kind = [("content-type", "text/plain")];
    assert_eq!(status(waypoint.http(), post_with("/", text, &kind)).await, 200);
    String::from_utf8(origin.seen().pop().unwrap().body().to_vec()).unwrap()
}

#[tokio::test]
async fn masks_keep_what_they_may_and_separators() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let entities = json!([
        {"type": "card", "operator": "mask", "keepLast": 4},
        {"type": "email", "operator": "mask", "keepFirst": 1, "maskChar": "#"},
    ]);

    let got = written(&origin, &entities, "", &format!("{MAIL} paid by {CARD}!")).await;

    assert_eq!(got, "a####.#######@#######.### paid by **** **** **** 1111!");
}

#[tokio::test]
async fn a_value_has_one_hash_under_one_salt_however_it_is_written() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let entities = json!([
        {"type": "email", "operator": "hash"},
        {"type": "card", "operator": "hash"},
    ]);
    let text = "alice@example.com Alice@Example.COM bob@example.com \
                4111111111111111 4111-1111-1111-1111";
    let first = written(&origin, &entities, "sixteen bytes or more", text).await;
    let other = written(&origin, &entities, "another salt as long", text).await;

    let words: Vec<&str> = first.split(' ').collect();
    let [alice, shouted, bob, card, dashed] = words.as_slice() else { panic!("{first}") };
    assert_eq!((alice, card), (shouted, dashed), "{first}");
    assert_ne!(alice, bob, "{first}");
    for (word, label) in [(alice, "<EMAIL:"), (bob, "<EMAIL:"), (card, "<CARD:")] {
        let digits = word.strip_prefix(label).and_then(|word| word.strip_suffix('>')).unwrap();
        assert_eq!(digits.len(), 32, "{first}");
        assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{first}");
        assert!(!other.contains(digits), "{first} {other}");
    }
}
