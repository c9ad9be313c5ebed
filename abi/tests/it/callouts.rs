//! HTTP callouts.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use waypoint_abi::{
    Bodies, Direction, FilterSpec, Flow, Headers, HttpCall, HttpCallAnswer, Limits,
};

use crate::{
    guest::guest,
    support::{PATIENCE, TestHost, configured, filter, get, open, request, spec, start, value},
};

fn answer(status: &'static str) -> HttpCallAnswer {
    HttpCallAnswer {
        headers: [(":status", status)].into_iter().collect(),
        body: Bytes::from_static(b"from the cluster"),
        trailers: Headers::new(),
    }
}

/// Answers every call to `cluster` once `gate` opens, and keeps what was asked.
fn gated(gate: &Arc<Notify>) -> (Arc<TestHost>, Arc<Mutex<Vec<HttpCall>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (kept, gate) = (Arc::clone(&calls), Arc::clone(gate));
    let host = TestHost::with_upstream(move |call| {
        if call.upstream != "cluster" {
            return Err(waypoint_abi::CallRefused { reason: "no such cluster".to_owned() });
        }
        kept.lock().push(call);
        let gate = Arc::clone(&gate);
        Ok(Box::pin(async move {
            gate.notified().await;
            answer("200")
        }))
    });
    (host, calls)
}

#[tokio::test]
async fn callout_holds_the_request_until_its_answer() {
    let gate = Arc::new(Notify::new());
    let (host, calls) = gated(&gate);
    let generation = start(guest(), configured("call"), &host).await.expect("starts");
    let stream = open(&generation).await;
    assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Hold));
    gate.notify_one();
    let outcome = stream.resumed(Direction::Request).await.expect("no fault");
    assert_eq!(value(&outcome.head.expect("released"), "x-called"), Some("yes"));
    host.saw("response from the cluster", 1).await;
    host.saw(":status -> 200", 1).await;
    let call = calls.lock().pop().expect("one call");
    assert_eq!(value(&call.headers, ":authority"), Some("foo"));
    assert_eq!((call.body, value(&call.trailers, "trail")), ("hello world".into(), Some("cow")));
}

#[tokio::test]
async fn unknown_cluster_is_a_bad_argument_and_says_why() {
    let host = gated(&Arc::default()).0;
    let generation = start(guest(), configured("bogus-call"), &host).await.expect("starts");
    let stream = open(&generation).await;
    assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Continue));
    host.saw("a callout was not sent: no such cluster", 1).await;
    host.saw("BadArgument", 1).await;
}

#[tokio::test]
async fn callout_may_answer_the_request_itself() {
    let gate = Arc::new(Notify::new());
    let host = gated(&gate).0;
    let generation = start(guest(), configured("call-deny"), &host).await.expect("starts");
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    gate.notify_one();
    let outcome = stream.resumed(Direction::Request).await.expect("no fault");
    let Flow::Reply(reply) = outcome.flow else { panic!("{:?}", outcome.flow) };
    assert_eq!((reply.status, &reply.body[..]), (403, &b"no"[..]));
}

#[tokio::test]
async fn body_callback_does_not_release_a_head_that_waits_for_a_callout() {
    let gate = Arc::new(Notify::new());
    let host = gated(&gate).0;
    let spec = FilterSpec { bodies: Bodies::BeforeHeaders, ..configured("call-and-body") };
    let generation = start(guest(), spec, &host).await.expect("starts");
    let stream = open(&generation).await;
    let outcome = stream.head(Direction::Request, request(&[]), false).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Buffer));
    let outcome = stream.body(Direction::Request, "x".into(), true).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Hold), "{:?}", outcome.flow);
    assert!(outcome.head.is_none() && outcome.body.is_empty());
    gate.notify_one();
    let outcome = stream.resumed(Direction::Request).await.expect("no fault");
    assert!(outcome.head.is_some());
    assert_eq!(outcome.body, "x");
}

#[tokio::test]
async fn resumed_may_be_dropped_and_awaited_again() {
    let gate = Arc::new(Notify::new());
    let host = gated(&gate).0;
    let generation = start(guest(), configured("call"), &host).await.expect("starts");
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    let soon = std::time::Duration::from_millis(5);
    let early = tokio::time::timeout(soon, stream.resumed(Direction::Request)).await;
    assert!(early.is_err());
    gate.notify_one();
    host.saw("response from the cluster", 1).await;
    let outcome = stream.resumed(Direction::Request).await.expect("no fault");
    assert!(outcome.head.is_some(), "nothing was lost with the first wait");
}

#[tokio::test]
async fn callout_outlives_its_stream_and_is_answered_on_the_root() {
    let gate = Arc::new(Notify::new());
    let host = gated(&gate).0;
    let generation = start(guest(), configured("call"), &host).await.expect("starts");
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    stream.finish().await;
    gate.notify_one();
    // The SDK knows the token no more and drops the answer; the VM lives on.
    let stream = open(&generation).await;
    assert!(get(&stream).await.is_ok());
    gate.notify_one();
    assert!(stream.resumed(Direction::Request).await.is_ok());
    assert_eq!(generation.stats().traps, 0);
}

#[tokio::test]
async fn filter_that_says_it_is_not_ready_is_waited_for() {
    let gate = Arc::new(Notify::new());
    let host = gated(&gate).0;
    let generation = start(guest(), configured("ready"), &host).await.expect("starts");
    let soon = std::time::Duration::from_millis(5);
    assert!(tokio::time::timeout(soon, generation.ready()).await.is_err());
    gate.notify_one();
    assert!(tokio::time::timeout(PATIENCE, generation.ready()).await.is_ok());
}

#[tokio::test]
async fn context_that_is_not_done_lives_until_it_says_so() {
    let gate = Arc::new(Notify::new());
    let host = gated(&gate).0;
    let generation = start(guest(), configured("late-done"), &host).await.expect("starts");
    let stream = open(&generation).await;
    get(&stream).await.expect("no fault");
    let ending = tokio::spawn(stream.finish());
    host.saw("done 2", 1).await;
    assert_eq!(generation.stats().streams, 1);
    gate.notify_one();
    tokio::time::timeout(PATIENCE, ending).await.expect("ends").expect("no panic");
    assert_eq!(generation.stats().streams, 0);
}

#[tokio::test]
async fn callouts_past_a_bound_are_not_sent() {
    let flood = r#"
        (data (i32.const 0) "cluster")
        (global $sent (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (local $i i32)
            (loop $again
                (if (i32.eqz (call $http (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 0)
                        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                        (i32.const 32)))
                    (then (global.set $sent (i32.add (global.get $sent) (i32.const 1)))))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $i) (i32.const 50))))
            (global.get $sent))"#;
    let import = r#"(import "env" "proxy_http_call"
        (func $http (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let (host, calls) = gated(&Arc::default());
    let limits = Limits { callouts_per_stream: 3, callouts_max: 5, ..spec().limits };
    let module = filter(import, flood);
    let generation = start(&module, FilterSpec { limits, ..spec() }, &host).await.expect("starts");
    let (one, two) = (open(&generation).await, open(&generation).await);
    get(&one).await.expect("no fault");
    assert_eq!(calls.lock().len(), 3, "callouts_per_stream");
    get(&two).await.expect("no fault");
    assert_eq!(calls.lock().len(), 5, "callouts_max");
}
