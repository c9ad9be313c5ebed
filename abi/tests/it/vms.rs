//! VMs come, serve, end and are replaced; what one does touches no other.

use std::{sync::Arc, time::Duration};

use waypoint_abi::{Direction, FaultKind, FilterSpec, Flow, Isolation, Limits};

use crate::{
    guest::guest,
    support::{
        PATIENCE, TestHost, attributes, configured, filter, get, open, request, response, spec,
        start, started,
    },
};

/// Counts down.
const BURN: &str = r#"
    (func $burn (param $n i32)
        (loop $l (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $l (local.get $n))))"#;

fn slow() -> FilterSpec {
    let limits = Limits {
        callback_cpu: Duration::from_secs(5),
        stream_wall: Duration::from_secs(60),
        stream_cpu_per_second: Duration::from_secs(60),
        ..spec().limits
    };
    FilterSpec { limits, ..spec() }
}

#[tokio::test]
async fn callback_that_has_begun_ends_though_its_caller_is_dropped() {
    let log = r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#;
    let body = format!(
        r#"{BURN} (data (i32.const 0) "beganended")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $log (i32.const 2) (i32.const 0) (i32.const 5)))
            (call $burn (i32.const 200000000))
            (drop (call $log (i32.const 2) (i32.const 5) (i32.const 5)))
            (i32.const 0))"#
    );
    let (generation, host) = started(&filter(log, &body), slow()).await;
    let stream = Arc::new(open(&generation).await);
    let called = Arc::clone(&stream);
    let caller = tokio::spawn(async move { get(&called).await.map(|_| ()) });
    host.saw("began", 1).await;
    caller.abort();
    assert!(caller.await.expect_err("aborted").is_cancelled());
    host.saw("ended", 1).await;
    assert_eq!(generation.stats().traps, 0);
    assert!(get(&open(&generation).await).await.is_ok(), "the VM serves on");
}

#[tokio::test]
async fn vm_starts_though_the_stream_that_wanted_it_is_given_up() {
    let log = r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#;
    let body = format!(
        r#"{BURN} (data (i32.const 0) "began")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $log (i32.const 2) (i32.const 0) (i32.const 5)))
            (call $burn (i32.const 50000000))
            (i32.const 1))"#
    );
    let limits = Limits { streams_per_vm: 1, vms_max: 2, ..spec().limits };
    let (generation, host) = started(&filter(log, &body), FilterSpec { limits, ..spec() }).await;
    let first = open(&generation).await;
    let wanting = Arc::clone(&generation);
    let wanting = tokio::spawn(async move { open(&wanting).await });
    host.saw("began", 2).await;
    wanting.abort();
    assert!(wanting.await.map(drop).expect_err("aborted").is_cancelled());
    let grown = async {
        while generation.stats().vms < 2 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, grown).await.is_ok(), "{:?}", generation.stats());
    let second = open(&generation).await;
    let stats = generation.stats();
    assert_eq!((stats.vm_starts, stats.traps, stats.streams), (2, 0, 2));
    drop((first, second));
}

#[tokio::test]
async fn trap_ends_one_vm_and_is_told_to_its_streams_that_still_had_a_callback() {
    let traps_if_get = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (local.get 2) (then unreachable))
            (i32.const 1))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (i32.const 0))"#;
    let limits = Limits { streams_per_vm: 2, vms_max: 2, ..spec().limits };
    let spec = FilterSpec { limits, ..spec() };
    let (generation, _host) = started(&filter("", traps_if_get), spec).await;
    let held = open(&generation).await;
    let head = |end| (Direction::Request, request(&[]), end);
    let (direction, headers, end) = head(false);
    let outcome = held.head(direction, headers, end).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Hold));
    let trapping = open(&generation).await;
    // The first VM is full: these two are on another one.
    let (other, elsewhere) = (open(&generation).await, open(&generation).await);
    assert_eq!(generation.stats().vms, 2);
    let waiting = held.resumed(Direction::Request);
    let trap = get(&trapping);
    let (waited, trapped) = tokio::join!(waiting, trap);
    assert!(matches!(trapped.expect_err("it traps").kind, FaultKind::Trap { .. }));
    let fault = waited.expect_err("its VM is gone");
    assert!(matches!(fault.kind, FaultKind::Trap { .. }));
    assert_eq!(fault.held.head, Some(request(&[])), "an open policy can go on with it");
    for stream in [&other, &elsewhere] {
        let outcome = stream.head(Direction::Response, response(&[]), true).await;
        assert!(matches!(outcome.expect("untouched").flow, Flow::Continue));
    }
    let stats = generation.stats();
    assert_eq!((stats.traps, stats.vms), (1, 1));
    drop((held, trapping));
    assert!(generation.open(attributes()).await.is_ok(), "and another VM comes");
    assert_eq!(generation.stats().vms, 2);
}

#[tokio::test(start_paused = true)]
async fn only_vm_is_replaced_at_once_and_then_after_a_pause() {
    let host = TestHost::new();
    let generation = start(guest(), configured("panic"), &host).await.expect("starts");
    let fault = get(&open(&generation).await).await.expect_err("it panics");
    let FaultKind::Trap { backtrace, .. } = &fault.kind else { panic!("{:?}", fault.kind) };
    assert!(backtrace.iter().any(|name| name.contains("panic")), "{backtrace:?}");
    host.saw("as the test asked", 1).await;
    let stream = generation.open(attributes()).await.expect("replaced at once");
    assert!(get(&stream).await.is_err());
    let refused = generation.open(attributes()).await.map(|_| ());
    assert!(matches!(refused.expect_err("it backs off").kind, FaultKind::NoVm));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(generation.open(attributes()).await.is_ok(), "the pause is over");
    assert_eq!(generation.stats().traps, 2);
}

#[tokio::test]
async fn pool_grows_while_every_vm_is_full_and_then_refuses() {
    let limits = Limits { streams_per_vm: 2, vms_max: 2, ..spec().limits };
    let (generation, _host) = started(guest(), FilterSpec { limits, ..configured("") }).await;
    let mut streams = Vec::new();
    for vms in [1, 1, 2, 2] {
        streams.push(open(&generation).await);
        assert_eq!(generation.stats().vms, vms);
    }
    let refused = generation.open(attributes()).await.map(|_| ());
    assert!(matches!(refused.expect_err("full").kind, FaultKind::Busy));
    streams.pop().expect("a stream").finish().await;
    assert!(generation.open(attributes()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn idle_vms_end_down_to_one() {
    let limits = Limits { streams_per_vm: 1, vms_max: 3, ..spec().limits };
    let (generation, host) = started(guest(), FilterSpec { limits, ..configured("") }).await;
    let streams = [open(&generation).await, open(&generation).await, open(&generation).await];
    assert_eq!(generation.stats().vms, 3);
    for stream in streams {
        stream.finish().await;
    }
    host.saw("root done", 2).await;
    assert_eq!(generation.stats().vms, 1);
}

#[tokio::test]
async fn queue_for_a_vm_is_bounded() {
    let body = format!(
        r#"{BURN} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $burn (i32.const 50000000)) (i32.const 0))"#
    );
    let limits = Limits { queue_max: 1, vms_max: 1, ..slow().limits };
    let (generation, _host) = started(&filter("", &body), FilterSpec { limits, ..spec() }).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(open(&generation).await);
    }
    let (one, two, three) = tokio::join!(get(&streams[0]), get(&streams[1]), get(&streams[2]));
    assert!(one.is_ok() && two.is_ok(), "one runs, one waits");
    let fault = three.expect_err("and the third is refused");
    assert!(matches!(fault.kind, FaultKind::Busy));
    assert_eq!(fault.held.head, Some(request(&[])));
}

#[tokio::test]
async fn isolated_streams_share_nothing() {
    let counts = r#"
        (global $seen (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
            (i32.ne (global.get $seen) (i32.const 1)))"#;
    let spec = FilterSpec { isolation: Isolation::PerRequest, ..spec() };
    let (generation, _host) = started(&filter("", counts), spec).await;
    for _ in 0..3 {
        let stream = open(&generation).await;
        assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Continue));
        stream.finish().await;
    }
    let stats = generation.stats();
    assert_eq!((stats.vm_starts, stats.vms), (4, 0));
}

#[tokio::test]
async fn closed_generation_ends_with_its_last_stream() {
    let (generation, host) = started(guest(), configured("")).await;
    let stream = open(&generation).await;
    generation.close();
    let refused = generation.open(attributes()).await.map(|_| ());
    assert!(matches!(refused.expect_err("closed").kind, FaultKind::Closed));
    assert!(get(&stream).await.is_ok(), "a stream that is open goes on");
    assert_eq!(host.count("root done"), 0);
    stream.finish().await;
    host.saw("root done", 1).await;
    assert_eq!(generation.stats().vms, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_many_tasks_all_get_their_own_head_back() {
    let (generation, _host) = started(guest(), configured("")).await;
    let tasks = (0..200).map(|number| {
        let generation = Arc::clone(&generation);
        tokio::spawn(async move {
            let stream = open(&generation).await;
            let mut head = request(&[]);
            head.push("x-number", number.to_string());
            let outcome = stream.head(Direction::Request, head.clone(), true).await;
            assert_eq!(outcome.expect("no fault").head, Some(head));
            stream.finish().await;
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let stats = generation.stats();
    assert_eq!((stats.streams, stats.traps), (0, 0));
    assert!(stats.vms <= 8);
}
