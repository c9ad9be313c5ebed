//! What a hostile origin answers becomes a 502 or is cut; it never looks complete, and the next
//! request never gets any of it.

use std::net::SocketAddr;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint, gateway_to, service};
use crate::origin::Speaks;
use crate::streams::{Client, read_head, request_with, serve_raw};

/// What a client makes of a hostile answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// 502.
    Bad,
    /// The head may pass, but the body has no good end.
    Cut,
    /// It is a good answer, with this body; what is behind it is nobody's.
    Good(&'static str),
}

use Want::{Bad, Cut, Good};

/// A whole answer that nobody has asked for.
const EVIL: &str = "HTTP/1.1 200 OK~Content-Length: 4~~evil";

/// Answers: `~` is CRLF, and `EVIL` is that. The origin closes behind them.
const ANSWERS: &[(&str, Want)] = &[
    // Where the body ends.
    ("HTTP/1.1 200 OK~Content-Length: 2~~ok", Good("ok")),
    ("HTTP/1.1 200 OK~Content-Length: 2~Content-Length: 2~~ok", Good("ok")),
    ("HTTP/1.1 200 OK~Content-Length: 2, 2~~ok", Good("ok")),
    ("HTTP/1.1 200 OK~Content-Length: 2~Content-Length: 45~~okEVIL", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 45~Content-Length: 2~~okEVIL", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 2, 45~~okEVIL", Bad),
    ("HTTP/1.1 200 OK~Content-Length: +2~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 0x2~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length: -2~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length:~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 2 2~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 9223372036854775808~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 2~Transfer-Encoding: chunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~Content-Length: 2~~2~ok~0~~EVIL", Bad),
    ("HTTP/1.0 200 OK~Transfer-Encoding: chunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~Transfer-Encoding: chunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding: gzip, chunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked, identity~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding: identity~~ok", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding: xchunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding:\x0bchunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~Transfer-Encoding : chunked~~2~ok~0~~", Bad),
    ("HTTP/1.1 200 OK~~until the end", Good("until the end")),
    ("HTTP/1.0 200 OK~~until the end", Good("until the end")),
    // Heads.
    ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 2\nX: y~~ok", Bad),
    ("HTTP/1.1 200 OK~X: y\rContent-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 OK~X: y~ folded~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 OK~Content-Length:~ 2~~ok", Bad),
    ("HTTP/1.1 200 OK~ Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 OK~X: a\0b~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 OK~X\0: y~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 OK~: y~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 OK~X y~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 200 O\0K~Content-Length: 2~~ok", Bad),
    ("~HTTP/1.1 200 OK~Content-Length: 2~~ok", Bad),
    (" HTTP/1.1 200 OK~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 2000 OK~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 20 OK~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 000 OK~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 x OK~Content-Length: 2~~ok", Bad),
    ("HTTP/2.0 200 OK~Content-Length: 2~~ok", Bad),
    ("HTTP/1.2 200 OK~Content-Length: 2~~ok", Bad),
    ("ICY 200 OK~Content-Length: 2~~ok", Bad),
    ("200 OK~Content-Length: 2~~ok", Bad),
    ("<html>no head at all</html>~~", Bad),
    ("\x16\x03\x01~~", Bad),
    ("HTTP/1.1 200 OK~Content-Length: 2~", Bad),
    ("HTTP/1.1 200 O", Bad),
    // Bodies.
    ("HTTP/1.1 200 OK~Content-Length: 5~~ok", Cut),
    ("HTTP/1.1 200 OK~Content-Length: 1~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0~X: y~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~9~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2\nok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok\n0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0\n\n", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~+2~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~0x2~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2 ~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2;\0~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~10000000000000002~ok~0~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0~X : y~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0~X: a\0b~~", Cut),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0~~", Good("ok")),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2;a=b~ok~0~Content-Length: 9~~", Good("ok")),
    // Heads before the answer.
    ("HTTP/1.1 100 Continue~~HTTP/1.1 200 OK~Content-Length: 2~~ok", Good("ok")),
    ("HTTP/1.1 103 Early Hints~Link: <a>~~HTTP/1.1 200 OK~Content-Length: 2~~ok", Good("ok")),
    ("HTTP/1.1 103 Early Hints~Content-Length: 39~~EVIL", Good("evil")),
    ("HTTP/1.1 103 Early Hints~~", Bad),
    ("HTTP/1.1 100 Continue~X: y\n~~HTTP/1.1 200 OK~Content-Length: 2~~ok", Bad),
    ("HTTP/1.1 101 Switching Protocols~Connection: upgrade~Upgrade: x~~EVIL", Bad),
    // What is behind an answer that has ended.
    ("HTTP/1.1 200 OK~Content-Length: 2~~okEVIL", Good("ok")),
    ("HTTP/1.1 200 OK~Content-Length: 2~~ok~EVIL", Good("ok")),
    ("HTTP/1.1 200 OK~Content-Length: 0~~EVIL", Good("")),
    ("HTTP/1.1 200 OK~Transfer-Encoding: chunked~~0~~EVIL", Good("")),
    ("HTTP/1.1 204 No Content~~EVIL", Good("")),
    ("HTTP/1.1 204 No Content~Content-Length: 4~~evil", Good("")),
    ("HTTP/1.1 204 No Content~Transfer-Encoding: chunked~~4~evil~0~~", Good("")),
    ("HTTP/1.1 304 Not Modified~Content-Length: 4~~evilEVIL", Good("")),
];

/// Too many heads of 1xx, too long a head, too many fields.
fn large() -> Vec<(String, Want)> {
    let fields: String = (0..300).map(|at| format!("X-{at}: y~")).collect();
    let ok = "HTTP/1.1 200 OK~Content-Length: 2~~ok";
    vec![
        ("HTTP/1.1 102 Processing~~".repeat(17) + ok, Bad),
        ("HTTP/1.1 103 Early Hints~~".repeat(10_000) + ok, Bad),
        ("HTTP/1.1 102 Processing~~".repeat(16) + ok, Good("ok")),
        (format!("HTTP/1.1 200 OK~X: {}~Content-Length: 2~~ok", "y".repeat(70_000)), Bad),
        (format!("HTTP/1.1 200 OK~{fields}Content-Length: 2~~ok"), Bad),
    ]
}

fn all() -> Vec<(String, Want)> {
    let listed = ANSWERS.iter().map(|(text, want)| ((*text).to_owned(), *want));
    listed.chain(large()).collect()
}

/// Answers `/attack/N` with the Nth answer, closing behind it, and any other path with itself, over
/// connections that stay.
async fn hostile() -> SocketAddr {
    serve_raw(|mut stream| async move {
        let attacks = all();
        while let Some(target) = next_target(&mut stream).await {
            let attack = target.strip_prefix("/attack/").and_then(|at| at.parse::<usize>().ok());
            let (answer, closes) = match attack {
                Some(at) => (attacks[at].0.replace("EVIL", EVIL).replace('~', "\r\n"), true),
                None => {
                    let length = target.len();
                    (format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}"), false)
                }
            };
            if stream.write_all(answer.as_bytes()).await.is_err() || closes {
                return;
            }
        }
    })
    .await
}

/// The target of the next request, which has no body; `None` when the waypoint has closed.
async fn next_target(stream: &mut TcpStream) -> Option<String> {
    stream.readable().await.ok()?;
    if !matches!(stream.peek(&mut [0]).await, Ok(1)) {
        return None;
    }
    let head = read_head(stream).await;
    head.split(' ').nth(1).map(str::to_owned)
}

/// The status, and the body if it has a good end.
async fn fetch(address: SocketAddr, speaks: Speaks, path: &str) -> (StatusCode, Option<String>) {
    let client = Client::connect(address, speaks).await;
    let answer = client.try_send(request_with(Method::GET, path, &[])).await;
    let Ok(answer) = answer else { return (StatusCode::BAD_GATEWAY, None) };
    let (parts, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("in time").ok();
    (parts.status, body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

#[tokio::test]
async fn what_a_hostile_origin_answers_is_refused_or_cut_and_no_other_request_gets_it() {
    let origin = hostile().await;
    let resources = gateway_to("origin") + &service("origin", "http", origin);
    let waypoint = Waypoint::start(&resources).await;
    let address = waypoint.http();
    let mut wrong = Vec::new();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for (at, (text, want)) in all().into_iter().enumerate() {
            let got = fetch(address, speaks, &format!("/attack/{at}")).await;
            let is_wanted = match (want, &got) {
                (Bad, (status, _)) => *status == StatusCode::BAD_GATEWAY,
                (Cut, (status, body)) => *status == StatusCode::BAD_GATEWAY || body.is_none(),
                (Good(wanted), (_, body)) => body.as_deref() == Some(wanted),
            };
            if !is_wanted {
                let text: String = text.chars().take(120).collect();
                wrong.push(format!("{text:?} wanted {want:?}: {got:?}"));
            }
            for path in [format!("/fine/{at}"), format!("/also/{at}")] {
                let got = fetch(address, speaks, &path).await;
                assert_eq!(got, (StatusCode::OK, Some(path)), "behind {text:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An origin that answers well and, when it is told, says more on the idle connection.
#[tokio::test]
async fn an_answer_on_an_idle_connection_answers_nobody() {
    let (say, told) = tokio::sync::watch::channel(0);
    let (said, mut saying) = tokio::sync::mpsc::unbounded_channel();
    let origin = serve_raw(move |mut stream| {
        let (mut told, said) = (told.clone(), said.clone());
        async move {
            let Some(target) = next_target(&mut stream).await else { return };
            let length = target.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
            stream.write_all(answer.as_bytes()).await.expect("written");
            told.mark_unchanged();
            if told.changed().await.is_ok() {
                let _ = stream.write_all(EVIL.replace('~', "\r\n").as_bytes()).await;
                let _ = said.send(());
                // Open until the waypoint has closed.
                let _ = next_target(&mut stream).await;
            }
        }
    })
    .await;
    let resources = gateway_to("origin") + &service("origin", "http", origin);
    let waypoint = Waypoint::start(&resources).await;
    for round in 1..=20 {
        let path = format!("/fine/{round}");
        let got = fetch(waypoint.http(), Speaks::Http1, &path).await;
        assert_eq!(got, (StatusCode::OK, Some(path)));
        say.send_replace(round);
        timeout(PATIENCE, saying.recv()).await.expect("in time").expect("it was said");
    }
}
