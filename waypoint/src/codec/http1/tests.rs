//! HTTP/1 over real sockets, as bytes.

mod bodies;
mod connections;
mod lanes;
mod tunnels;

use http::{Method, Response, StatusCode, Version};

use crate::codec::{
    Body, CodecLimits, Refusal,
    testing::{Client, Rig, Setup},
};

/// A server that says which path it was asked for.
fn paths() -> Rig {
    Rig::start(Setup::default(), |request, _| async move {
        Response::new(Body::full(request.uri().path().to_owned()))
    })
}

fn with(change: impl FnOnce(&mut CodecLimits)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.limits);
    setup
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order_on_one_connection() {
    let mut client = paths().client().await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HT")
        .await;
    let answer = |path| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{path}");
    assert_eq!(client.until("\n/1").await, answer("/1"));
    assert_eq!(client.until("\n/2").await, answer("/2"));
    client.send("TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let closing = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n/3";
    assert_eq!(client.rest().await, closing);
}

#[tokio::test]
async fn the_journey_sees_one_uri_and_no_field_of_this_hop() {
    let rig = Rig::start(Setup::default(), |request, info| async move {
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.method(), Method::GET);
        assert_eq!(&*info.entrance, "test");
        let names = request.headers().keys().map(|name| name.as_str()).collect::<Vec<_>>();
        Response::new(Body::full(format!("{} {}", request.uri(), names.join(","))))
    });
    let mut client = rig.client().await;
    client
        .send(
            "GET //x/../y?q HTTP/1.1\r\nHost: A.:80\r\nConnection: x-b\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
        )
        .await;
    assert!(client.until("http://a:80/y?q x-a").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_refused_request_is_answered_counted_and_ends_the_connection() {
    let rig = Rig::start(Setup::default(), |_, _| async { panic!("it must not get here") });
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request", Refusal::HostMissing),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", "400 Bad Request", Refusal::BareLineFeed),
        ("GET / HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported", Refusal::VersionUnsupported),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", "501 Not Implemented", Refusal::HostMissing),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "501 Not Implemented", Refusal::ConnectRefused),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
            "417 Expectation Failed",
            Refusal::ExpectUnsupported,
        ),
    ];
    for (count, (request, status, refusal)) in cases.into_iter().enumerate() {
        let mut client = rig.client().await;
        // What follows a refused request is never looked at.
        client.send(format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let name = refusal.name();
        let status = if refusal == Refusal::HostMissing { "400 Bad Request" } else { status };
        let want = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{name}",
            name.len()
        );
        assert_eq!(client.rest().await, want);
        assert_eq!(rig.refused()[count..], [refusal]);
    }
}

#[tokio::test]
async fn bytes_behind_connection_close_are_ignored() {
    let mut client = paths().client().await;
    client
        .send(
            "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
             GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    assert!(client.rest().await.ends_with("connection: close\r\n\r\n/1"));
}

#[tokio::test]
async fn a_client_of_http10_gets_what_it_can_read() {
    let rig = Rig::start(Setup::default(), |request, _| async move {
        match request.uri().path() {
            "/known" => Response::new(Body::full("abc")),
            _ => Response::new(open("abc")),
        }
    });
    let mut client = rig.client().await;
    client.send("GET /known HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
    let kept = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc";
    assert_eq!(client.until("abc").await, kept);
    client.send("GET /open HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(client.rest().await, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc");
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_and_the_connection_goes_on() {
    let rig = Rig::start(Setup::default(), |request, _| async move {
        let mut response = Response::new(Body::full("abc"));
        if request.uri().path() == "/204" {
            *response.status_mut() = StatusCode::NO_CONTENT;
        } else {
            response.headers_mut().insert("content-length", 3.into());
        }
        response
    });
    let mut client = rig.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.until("\r\n\r\n").await;
    assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 204 No Content\r\n\r\n");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.until("abc").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// A body of unknown length.
fn open(text: &'static str) -> Body {
    let frame = http_body::Frame::data(bytes::Bytes::from_static(text.as_bytes()));
    Body::from_frames(futures_util::stream::iter([Ok(frame)]))
}

/// Sends a request's head with `fields`, each ended.
async fn ask(client: &mut Client, line: &str, fields: &str) {
    client.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
}
