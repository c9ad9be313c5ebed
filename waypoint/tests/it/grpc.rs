//! gRPC through the waypoint: every kind of call, statuses and trailers, errors as gRPC statuses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::origin::Speaks;
use crate::streams::request_with;

/// What calls carry.
#[derive(Clone, PartialEq, prost::Message)]
struct Note {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

fn note(text: &str, count: u32) -> Note {
    Note { text: text.to_owned(), count }
}

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;
type Codec = ProstCodec<Note, Note>;

/// Answers each note with as many of its copies as it says, at once; `fail` ends with an error, and
/// `refuse` is an error before anything else.
///
/// On the wire every kind of call is a streaming one, so one method serves them all.
#[derive(Clone)]
struct Echo;

impl Service<Request<Streaming<Note>>> for Echo {
    type Response = Response<Notes>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Notes>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Note>>) -> Self::Future {
        Box::pin(async move {
            if request.metadata().contains_key("x-refuse") {
                let mut status = Status::failed_precondition("not today: 100 %");
                status.metadata_mut().insert("x-reason", "closed".parse().expect("a value"));
                return Err(status);
            }
            let notes = request.into_inner().flat_map(|note| {
                stream::iter(match note {
                    Ok(note) if note.text == "fail" => {
                        let mut status = Status::data_loss("lost it");
                        status.metadata_mut().insert("x-late", "1".parse().expect("a value"));
                        vec![Err(status)]
                    }
                    Ok(note) => vec![Ok(note.clone()); note.count as usize],
                    Err(status) => vec![Err(status)],
                })
            });
            let mut answer = Response::new(Box::pin(notes) as Notes);
            answer.metadata_mut().insert("x-served-by", "echo".parse().expect("a value"));
            Ok(answer)
        })
    }
}

/// The service as tonic's server wants it.
#[derive(Clone)]
struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(tonic::server::Grpc::new(Codec::default()).streaming(Echo, request).await)
        })
    }
}

async fn echo_server() -> SocketAddr {
    let any = "127.0.0.1:0".parse().expect("an address");
    let incoming = tonic::transport::server::TcpIncoming::bind(any).expect("a port");
    let address = incoming.local_addr().expect("an address");
    tokio::spawn(Server::builder().add_service(EchoServer).serve_with_incoming(incoming));
    address
}

/// An echo server behind a chain that streams every body.
async fn chained() -> String {
    gateway_to("echo")
        + &service("echo", "grpc", echo_server().await)
        + &filter("redact", "builtin://pii-redact", "  config: {entities: [email]}")
        + &filter("router", "builtin://payload-router", "  config: {rules: [{grpc: method}]}")
}

async fn chain() -> Waypoint {
    Waypoint::start(&chained().await).await
}

async fn client(address: SocketAddr) -> tonic::client::Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.timeout(PATIENCE).connect().await.expect("a connection");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("a connection");
    client
}

fn method() -> PathAndQuery {
    PathAndQuery::from_static("/test.Echo/Talk")
}

#[tokio::test]
async fn a_unary_call_passes_the_chain() {
    let waypoint = chain().await;
    let mut client = client(waypoint.http()).await;

    let answer = client.unary(Request::new(note("hello", 1)), method(), Codec::default()).await;

    let answer = answer.unwrap();
    assert_eq!(answer.metadata().get("x-served-by").unwrap(), "echo");
    assert_eq!(answer.into_inner(), note("hello", 1));
    let record = waypoint.record(|record| record["path"] == "/test.Echo/Talk").await;
    assert_eq!(record["grpc_status"], 0);
    assert_eq!(record["protocol"], "HTTP/2");
}

#[tokio::test]
async fn a_server_streams_many_messages_and_its_trailers() {
    let waypoint = chain().await;
    let mut client = client(waypoint.http()).await;
    let asked = Request::new(note(&"x".repeat(1024), 1000));

    let answer = client.server_streaming(asked, method(), Codec::default()).await.unwrap();
    let mut notes: Streaming<Note> = answer.into_inner();
    let mut count = 0;
    while let Some(note) = notes.message().await.unwrap() {
        assert_eq!(note.text.len(), 1024);
        count += 1;
    }

    assert_eq!(count, 1000);
    assert!(notes.trailers().await.unwrap().is_some());
}

#[tokio::test]
async fn a_client_streams_many_messages() {
    let waypoint = chain().await;
    let mut client = client(waypoint.http()).await;
    let silent = stream::iter((0..1000).map(|_| note(&"x".repeat(1024), 0)));
    let asked = Request::new(silent.chain(stream::iter([note("last", 1)])));

    let answer: Response<Note> =
        client.client_streaming(asked, method(), Codec::default()).await.unwrap();

    assert_eq!(answer.into_inner(), note("last", 1));
}

#[tokio::test]
async fn both_sides_stream_in_turns() {
    let waypoint = chain().await;
    let mut client = client(waypoint.http()).await;
    let (say, said) = mpsc::channel::<Note>(1);
    let said = stream::unfold(said, async |mut said| said.recv().await.map(|note| (note, said)));

    // The first is said before there is an answer's head, the others only after the answer to
    // the one before.
    say.send(note("0", 1)).await.unwrap();
    let answer =
        client.streaming(Request::new(Box::pin(said)), method(), Codec::default()).await.unwrap();
    let mut notes: Streaming<Note> = answer.into_inner();
    for turn in 1..=20 {
        let heard = notes.message().await.unwrap().unwrap();
        assert_eq!(heard.text, (turn - 1).to_string());
        say.send(note(&turn.to_string(), 1)).await.unwrap();
    }
    drop(say);
    assert_eq!(notes.message().await.unwrap().unwrap().text, "20");
    assert_eq!(notes.message().await.unwrap(), None);
}

/// A key set with one key, and a token that it signed, good for ten minutes.
fn issued() -> (String, String) {
    let key = Ed25519KeyPair::generate().expect("a key");
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    let jwks = serde_json::json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]});
    let expires = SystemTime::now() + Duration::from_secs(600);
    let expires = expires.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let header = serde_json::json!({"alg": "EdDSA", "kid": "1"});
    let claims = serde_json::json!({"iss": "https://i.test", "sub": "alice", "exp": expires});
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    (jwks.to_string(), format!("{signed}.{signature}"))
}

/// The filter that wants such a token.
fn jwt(jwks: &str) -> String {
    let issuer = format!("{{issuer: https://i.test, algorithms: [EdDSA], jwks: {jwks}}}");
    filter("jwt", "builtin://jwt-auth", &format!("  config: {{issuers: [{issuer}]}}"))
}

#[tokio::test]
async fn a_stream_that_bears_a_token_passes_the_three_filters() {
    let (jwks, token) = issued();
    let waypoint = Waypoint::start(&(chained().await + &jwt(&jwks))).await;
    let mut client = client(waypoint.http()).await;
    for (token, want) in [(Some(token), Ok(50)), (None, Err(Code::Unauthenticated))] {
        let mut asked = Request::new(stream::iter(vec![note("hello", 10); 5]));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            asked.metadata_mut().insert("authorization", value);
        }
        client.ready().await.unwrap();
        let got = match client.streaming(asked, method(), Codec::default()).await {
            Ok(answer) => {
                let notes: Streaming<Note> = answer.into_inner();
                Ok(notes.filter(|note| std::future::ready(note.is_ok())).count().await)
            }
            Err(status) => Err(status.code()),
        };
        assert_eq!(got, want);
    }
}

#[tokio::test]
async fn an_error_keeps_its_status_its_message_and_its_trailers() {
    let waypoint = chain().await;
    let mut client = client(waypoint.http()).await;

    let said = [note("one", 1), note("fail", 0)];
    let answer = client.streaming(Request::new(stream::iter(said)), method(), Codec::default());
    let mut notes: Streaming<Note> = answer.await.unwrap().into_inner();

    assert_eq!(notes.message().await.unwrap(), Some(note("one", 1)));
    let status = notes.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "lost it"));
    assert_eq!(status.metadata().get("x-late").unwrap(), "1");
    let record = waypoint.record(|record| record["path"] == "/test.Echo/Talk").await;
    assert_eq!((&record["grpc_status"], &record["response_code"]), (&15.into(), &200.into()));
}

#[tokio::test]
async fn an_error_without_a_message_is_one_block_of_headers_to_the_client() {
    let waypoint = chain().await;
    let mut asked = Request::new(note("hello", 1));
    asked.metadata_mut().insert("x-refuse", "1".parse().unwrap());
    let answer = client(waypoint.http()).await.unary(asked, method(), Codec::default()).await;
    let status = answer.map(Response::<Note>::into_inner).unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not today: 100 %"));
    assert_eq!(status.metadata().get("x-reason").unwrap(), "closed");

    let headers = [("content-type", "application/grpc"), ("te", "trailers"), ("x-refuse", "1")];
    let client = crate::streams::Client::connect(waypoint.http(), Speaks::Http2).await;
    let answer = client.send(request_with(http::Method::POST, "/test.Echo/Talk", &headers)).await;
    assert_eq!(answer.headers()["grpc-status"], "9", "Trailers-Only stays Trailers-Only");
}

#[tokio::test]
async fn what_the_proxy_answers_itself_is_a_grpc_status() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routed = gateway_to("echo").replace(
        "rules: [{backendRefs",
        "rules: [{matches: [{path: {value: /test.Echo}}], backendRefs",
    );
    let refused = jwt(&issued().0);
    let plain = routed + &service("echo", "grpc", nobody);
    let elsewhere = PathAndQuery::from_static("/test.Other/Talk");
    for (resources, path, code) in [
        (plain.clone(), elsewhere, Code::Unimplemented),
        (plain.clone(), method(), Code::Unavailable),
        (plain + &refused, method(), Code::Unauthenticated),
    ] {
        let waypoint = Waypoint::start(&resources).await;
        let mut client = client(waypoint.http()).await;
        let asked = Request::new(note("hello", 1));
        let answer = client.unary(asked, path.clone(), Codec::default()).await;
        let status = answer.map(Response::<Note>::into_inner).unwrap_err();
        assert_eq!(status.code(), code, "{path} {status:?}");
        let record = waypoint.record(|record| record["path"] == path.as_str()).await;
        assert_eq!(record["grpc_status"], i32::from(code));
    }
}

const CALL: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

#[tokio::test]
async fn a_callers_time_is_passed_on_and_one_that_cannot_be_read_is_refused() {
    let origin = crate::origin::Origin::named(Speaks::Http2, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "grpc", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    let client = crate::streams::Client::connect(waypoint.http(), Speaks::Http2).await;
    let call = |time| {
        let headers = [CALL[0], CALL[1], ("grpc-timeout", time)];
        client.fetch(request_with(http::Method::POST, "/test.Echo/Talk", &headers))
    };

    assert_eq!(call("10S").await.status(), 200);
    let seen = origin.seen();
    let left = seen[0].headers()["grpc-timeout"].to_str().unwrap().strip_suffix('u').unwrap();
    assert!((1..10_000_000).contains(&left.parse::<u32>().unwrap()), "{left}");

    let answer = call("10").await;
    assert_eq!(answer.headers()["grpc-status"], "13");
    assert_eq!(answer.headers()["grpc-message"], "grpc_timeout_malformed");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_call_whose_time_is_over_gets_its_status_before_and_after_its_head() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (endpoint, headed) in [(silent.local_addr().unwrap(), false), (echo_server().await, true)] {
        let resources = gateway_to("echo") + &service("echo", "grpc", endpoint);
        let waypoint = Waypoint::start(&resources).await;
        let client = crate::streams::Client::connect(waypoint.http(), Speaks::Http2).await;
        let headers = [CALL[0], CALL[1], ("grpc-timeout", "100m")];
        let request = request_with(http::Method::POST, "/test.Echo/Talk", &headers);
        // A caller that goes on to say nothing.
        let endless = stream::pending::<Result<http_body::Frame<bytes::Bytes>, Infallible>>();
        let answer = client.send(request.map(|_| http_body_util::StreamBody::new(endless))).await;

        let (head, body) = answer.into_parts();
        let body = http_body_util::BodyExt::collect(body);
        let body = tokio::time::timeout(PATIENCE, body).await.unwrap().unwrap();
        let status = if headed { body.trailers().unwrap() } else { &head.headers };
        assert_eq!(status["grpc-status"], "4", "{headed}");
        let record = waypoint.record(|record| record["path"] == "/test.Echo/Talk").await;
        assert_eq!((&record["grpc_status"], &record["response_flags"]), (&4.into(), &"UT".into()));
    }
}
