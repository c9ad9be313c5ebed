//! Pausing, buffering, rewriting, releasing.

use bytes::Bytes;
use waypoint_abi::{
    Bodies, Direction, FaultKind, FilterSpec, Flow, Generation, Headers, Limits, Outcome, Stream,
};

use crate::{
    guest::guest,
    support::{PATIENCE, configured, filter, filter_wat, load_wat, open, request, spec, started},
};

async fn begun(generation: &std::sync::Arc<Generation>) -> Stream {
    let stream = open(generation).await;
    let outcome = stream.head(Direction::Request, request(&[]), false).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Continue));
    stream
}

async fn body(stream: &Stream, bytes: &'static str, end: bool) -> Outcome {
    stream.body(Direction::Request, Bytes::from(bytes), end).await.expect("no fault")
}

#[tokio::test]
async fn paused_body_is_shown_whole_with_each_chunk() {
    let (generation, host) = started(guest(), configured("buffer-body")).await;
    let stream = begun(&generation).await;
    assert!(matches!(body(&stream, "hello", false).await.flow, Flow::Buffer));
    assert!(body(&stream, " again ", false).await.body.is_empty());
    let outcome = body(&stream, "hello", true).await;
    assert!(matches!(outcome.flow, Flow::Continue));
    assert_eq!(outcome.body, "hello again hello");
    let seen: Vec<_> = host.lines().into_iter().filter(|l| l.starts_with("onBody")).collect();
    assert_eq!(seen, ["onBody hello", "onBody hello again ", "onBody hello again hello"]);
}

#[tokio::test]
async fn released_body_is_shown_chunk_by_chunk_again() {
    let (generation, host) = started(guest(), configured("buffer-two")).await;
    let stream = begun(&generation).await;
    body(&stream, "hello", false).await;
    body(&stream, ", there, ", false).await;
    assert_eq!(body(&stream, "world!", false).await.body, "hello, there, world!");
    assert_eq!(body(&stream, "So it's ", false).await.body, "So it's ");
    body(&stream, "goodbye, then!", true).await;
    let seen: Vec<_> = host.lines().into_iter().filter(|l| l.starts_with("onBody")).collect();
    assert_eq!(seen[3..], ["onBody So it's ", "onBody goodbye, then!"]);
}

#[tokio::test]
async fn body_is_replaced_and_spliced() {
    let (generation, _host) = started(guest(), configured("replace-body")).await;
    let stream = begun(&generation).await;
    assert_eq!(body(&stream, "something", true).await.body, "replaced");
    let (generation, _host) = started(guest(), configured("splice-body")).await;
    let stream = begun(&generation).await;
    assert_eq!(body(&stream, "abcde", true).await.body, "<a--de!");
}

#[tokio::test]
async fn paused_body_is_shown_with_its_end_before_the_trailers() {
    let (generation, host) = started(guest(), configured("until-end")).await;
    let stream = begun(&generation).await;
    body(&stream, "secret", false).await;
    let trailers: Headers = [("x-in", "1")].into_iter().collect();
    let outcome = stream.trailers(Direction::Request, trailers).await.expect("no fault");
    assert_eq!(outcome.body, "secret");
    assert!(outcome.trailers.is_some());
    assert_eq!(host.count("onBody secret"), 2);
}

#[tokio::test]
async fn too_much_held_body_faults_with_everything_as_it_came() {
    let limits = Limits { buffered_body_bytes: 8, ..spec().limits };
    let spec = FilterSpec { limits, ..configured("always-hold") };
    let (generation, _host) = started(guest(), spec).await;
    let stream = begun(&generation).await;
    body(&stream, "12345", false).await;
    let fault = stream.body(Direction::Request, "6789".into(), false).await.expect_err("over");
    assert!(matches!(fault.kind, FaultKind::BodyTooLarge { limit_bytes: 8 }));
    assert_eq!(fault.held.body, "123456789");
    assert_eq!(generation.stats().body_too_large, 1);
    // The response still passes the filter.
    let outcome = stream.head(Direction::Response, crate::support::response(&[]), true).await;
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn large_chunk_that_is_not_held_passes_whatever_the_limit() {
    let limits = Limits { buffered_body_bytes: 8, ..spec().limits };
    let spec = FilterSpec { limits, ..configured("") };
    let (generation, _host) = started(guest(), spec).await;
    let stream = begun(&generation).await;
    assert_eq!(body(&stream, "0123456789", true).await.body.len(), 10);
}

#[tokio::test]
async fn continue_within_the_callback_that_pauses_releases() {
    let (generation, _host) = started(guest(), configured("resume-at-once")).await;
    let stream = begun(&generation).await;
    drop(stream);
}

/// Pauses the head; the body callback continues at the end of the stream.
const BODY_DECIDES: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (i32.eqz (local.get 2)))"#;

fn before_headers() -> FilterSpec {
    FilterSpec { bodies: Bodies::BeforeHeaders, ..spec() }
}

#[tokio::test]
async fn head_waits_for_the_body_and_leaves_with_it() {
    let (generation, _host) = started(&filter("", BODY_DECIDES), before_headers()).await;
    let stream = open(&generation).await;
    let outcome = stream.head(Direction::Request, request(&[]), false).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Buffer));
    assert!(outcome.head.is_none());
    let outcome = body(&stream, "ab", false).await;
    assert!(matches!(outcome.flow, Flow::Buffer) && outcome.head.is_none());
    let outcome = body(&stream, "cd", true).await;
    assert_eq!((outcome.head, outcome.body), (Some(request(&[])), Bytes::from("abcd")));
}

#[tokio::test]
async fn paused_head_without_a_body_is_held() {
    let (generation, _host) = started(&filter("", BODY_DECIDES), before_headers()).await;
    let stream = open(&generation).await;
    let outcome = stream.head(Direction::Request, request(&[]), true).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Hold));
}

#[tokio::test]
async fn after_headers_a_paused_head_holds_the_body_back() {
    let (generation, _host) = started(&filter("", BODY_DECIDES), spec()).await;
    let stream = open(&generation).await;
    let outcome = stream.head(Direction::Request, request(&[]), false).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Hold));
    let fed = stream.body(Direction::Request, "x".into(), true);
    let fed = tokio::time::timeout(std::time::Duration::from_millis(20), fed).await;
    assert!(fed.is_err(), "the guest sees no body before it continues");
}

#[tokio::test]
async fn callbacks_of_cpp_guests_may_watermark_and_discard() {
    // The body's first byte is the action.
    let actions = r#"(import "env" "proxy_get_buffer_bytes"
        (func $get (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body_says = r#"
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (drop (call $get (i32.const 0) (i32.sub (local.get 1) (i32.const 1)) (i32.const 1)
                (i32.const 16) (i32.const 20)))
            (i32.sub (i32.load8_u (i32.load (i32.const 16))) (i32.const 48)))"#;
    let module = load_wat(&filter_wat(actions, body_says)).expect("a filter");
    let limits = Limits { buffered_body_bytes: 4, ..spec().limits };
    let (generation, _host) = started(&module, FilterSpec { limits, ..spec() }).await;
    let stream = begun(&generation).await;
    assert!(matches!(body(&stream, "xx2", false).await.flow, Flow::Buffer));
    assert!(matches!(body(&stream, "x2", false).await.flow, Flow::Hold), "full: stop the sender");

    let stream = begun(&generation).await;
    let outcome = body(&stream, "xxxxxxx3", false).await;
    assert!(matches!(outcome.flow, Flow::Buffer) && outcome.body.is_empty());
    assert_eq!(body(&stream, "0", true).await.body, "0", "what was discarded is gone");
}

#[tokio::test]
async fn tick_resumes_a_held_stream() {
    let (generation, _host) = started(guest(), configured("tick")).await;
    let stream = open(&generation).await;
    let outcome = stream.head(Direction::Request, request(&[]), true).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Hold));
    let resumed = tokio::time::timeout(PATIENCE, stream.resumed(Direction::Request)).await;
    let outcome = resumed.expect("ticks come").expect("no fault");
    assert!(matches!(outcome.flow, Flow::Continue));
    assert_eq!(outcome.head, Some(request(&[])));
}
