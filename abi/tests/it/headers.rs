//! Heads, trailers, local replies, properties.

use bytes::Bytes;
use waypoint_abi::{Direction, Flow, Headers, LogLevel};

use crate::{
    guest::guest,
    support::{configured, filter, get, open, request, response, spec, started, value},
};

#[tokio::test]
async fn guest_sees_the_head_and_its_changes_leave_with_it() {
    let (generation, host) = started(guest(), configured("headers")).await;
    let stream = open(&generation).await;
    let head = request(&[("x-replace", "old"), ("x-remove", "1"), ("x-a", "1"), ("x-a", "2")]);
    let outcome = stream.head(Direction::Request, head, true).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Continue));
    assert!(outcome.clear_route);
    let head = outcome.head.expect("released");
    let adds: Vec<_> = head.get_all("x-add").collect();
    assert_eq!(adds, ["1", "2"]);
    assert_eq!(value(&head, "x-replace"), Some("new"));
    assert_eq!(value(&head, "x-remove"), None);
    host.saw("request headers 8 true", 1).await;
    host.saw(":path=/a?b=c", 1).await;
    host.saw("x-none is none", 1).await;
}

#[tokio::test]
async fn what_cannot_be_sent_never_leaves_the_guest() {
    let (generation, host) = started(guest(), configured("headers")).await;
    let stream = open(&generation).await;
    let head = get(&stream).await.expect("no fault").head.expect("released");
    for (name, value) in head.iter() {
        let sendable = |byte: &u8| 0x20 <= *byte && *byte != 0x7f;
        assert!(name.iter().chain(value).all(sendable), "{name:?}: {value:?}");
    }
    assert_eq!(value(&head, "x-evil%0d%0a"), Some("a%0d%0ab: c"));
    assert_eq!(value(&head, "transfer-encoding"), None);
    assert_eq!(value(&head, ":path"), Some("/a?b=c"));
    assert_eq!(value(&head, ":authority"), Some("other.test"), "host is the authority");
    assert_eq!(value(&head, "host"), None);
    assert!(
        host.levels()
            .iter()
            .any(|(level, line)| { *level == LogLevel::Warn && line.contains("cannot be sent") })
    );
}

#[tokio::test]
async fn head_stays_readable_after_it_left_and_a_late_write_is_told_once() {
    let (generation, host) = started(guest(), configured("late-write")).await;
    for _ in 0..2 {
        let stream = open(&generation).await;
        get(&stream).await.expect("no fault");
        let outcome = stream.head(Direction::Response, response(&[]), true).await;
        assert!(matches!(outcome.expect("no fault").flow, Flow::Continue));
        stream.finish().await;
    }
    host.saw("log /a?b=c", 2).await;
    assert_eq!(host.count("does not hold: not done"), 1);
}

#[tokio::test]
async fn contexts_end_with_log_done_delete_in_order() {
    let (generation, host) = started(guest(), configured("")).await;
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    drop(stream);
    host.saw("done 2", 1).await;
    let lines = host.lines();
    let at = |part: &str| lines.iter().position(|line| line.contains(part));
    assert!(at("log /a?b=c") < at("done 2"));
}

#[tokio::test]
async fn stream_that_never_began_is_logged_too() {
    let (generation, host) = started(guest(), configured("")).await;
    open(&generation).await.finish().await;
    host.saw("log ", 1).await;
}

#[tokio::test]
async fn first_local_reply_counts_and_its_headers_are_clean() {
    let (generation, host) = started(guest(), configured("reply")).await;
    let stream = open(&generation).await;
    let outcome = get(&stream).await.expect("no fault");
    let Flow::Reply(reply) = outcome.flow else { panic!("{:?}", outcome.flow) };
    assert_eq!((reply.status, &reply.body), (418, &Bytes::from("short")));
    assert_eq!(value(&reply.headers, "x-teapot"), Some("yes%0d%0ax-evil: 1"));
    assert!(outcome.head.is_none());
    // The reply passes the filter's own response callbacks.
    let outcome = stream.head(Direction::Response, response(&[]), false).await;
    assert!(matches!(outcome.expect("no fault").flow, Flow::Continue));
    host.saw("response headers Some(\"200\")", 1).await;
}

#[tokio::test]
async fn reply_to_a_response_whose_head_has_left_resets() {
    let (generation, _host) = started(guest(), configured("reply-to-body")).await;
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    stream.head(Direction::Response, response(&[]), false).await.expect("no fault");
    let outcome = stream.body(Direction::Response, "x".into(), false).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Reset), "{:?}", outcome.flow);
}

#[tokio::test]
async fn reply_to_a_response_does_not_pass_the_filter_again() {
    let (generation, host) = started(guest(), configured("reply-to-response")).await;
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    let outcome = stream.head(Direction::Response, response(&[]), false).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Reply(reply) if reply.status == 502));
    let passed = stream.body(Direction::Response, "bad".into(), true).await.expect("no fault");
    assert_eq!(passed.body, "bad");
    assert_eq!(host.count("response headers"), 1);
}

#[tokio::test]
async fn closed_stream_is_reset_in_both_directions() {
    let (generation, _host) = started(guest(), configured("reset")).await;
    let stream = open(&generation).await;
    assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Reset));
    let outcome = stream.head(Direction::Response, response(&[]), true).await;
    assert!(matches!(outcome.expect("no fault").flow, Flow::Reset));
}

#[tokio::test]
async fn trailers_pass_the_guest_and_may_be_added_at_the_end() {
    let (generation, host) = started(guest(), configured("add-trailers")).await;
    let stream = open(&generation).await;
    stream.head(Direction::Request, request(&[]), false).await.expect("no fault");
    let trailers: Headers = [("x-in", "1")].into_iter().collect();
    let outcome = stream.trailers(Direction::Request, trailers).await.expect("no fault");
    let trailers = outcome.trailers.expect("released");
    assert_eq!((value(&trailers, "x-in"), value(&trailers, "x-seen")), (Some("1"), Some("1")));
    host.saw("request trailers 1", 1).await;

    stream.head(Direction::Response, response(&[]), false).await.expect("no fault");
    let outcome = stream.body(Direction::Response, "12345".into(), true).await.expect("no fault");
    assert_eq!(outcome.body, "12345");
    assert_eq!(value(&outcome.trailers.expect("added"), "x-sum"), Some("5"));
}

#[tokio::test]
async fn properties_come_from_headers_then_the_embedder_then_the_guest() {
    let (generation, host) = started(guest(), configured("properties")).await;
    let stream = open(&generation).await;
    let head = request(&[("x-a", "1"), ("x-a", "2")]);
    stream.head(Direction::Request, head, true).await.expect("no fault");
    for line in [
        r#"request.url_path = Some("/a")"#,
        r#"request.query = Some("b=c")"#,
        r#"request.headers.x-a = Some("1,2")"#,
        r#"source.address = Some("10.0.0.7:4711")"#,
        r#"plugin_name = Some("tests/filter")"#,
        r"no.such = None",
        r#"wasm.mine = Some("1")"#,
        r#"reversed Some("cba")"#,
        "no_such is unknown",
    ] {
        host.saw(line, 1).await;
    }
    assert_eq!(host.count(r#"request.path = Some("/a?b=c")"#), 2, "a guest hides no truth");
}

#[tokio::test]
async fn absent_callbacks_let_everything_pass_without_the_guest() {
    let module = filter("", "");
    let (generation, _host) = started(&module, spec()).await;
    let stream = open(&generation).await;
    let outcome = get(&stream).await.expect("no fault");
    assert_eq!(outcome.head, Some(request(&[])));
    let outcome = stream.body(Direction::Request, "x".into(), true).await.expect("no fault");
    assert_eq!(outcome.body, "x");
    assert_eq!(generation.stats().calls, 0);
}
