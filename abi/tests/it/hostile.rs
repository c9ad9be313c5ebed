//! One misbehaving guest for each limit.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use waypoint_abi::{Direction, Fault, FaultKind, FilterSpec, Flow, Limits, LogLevel, Outcome};

use crate::support::{filter, get, open, request, spec, started};

const PROXY_LOG: &str =
    r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#;

fn on_request(body: &str) -> String {
    format!(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body})"#)
}

async fn outcome(imports: &str, body: &str, spec: FilterSpec) -> Result<Outcome, Fault> {
    let (generation, _host) = started(&filter(imports, &on_request(body)), spec).await;
    get(&open(&generation).await).await
}

fn with_limits(limits: Limits) -> FilterSpec {
    FilterSpec { limits, ..spec() }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

// One thread, so that its CPU time is the guest's.
#[tokio::test(flavor = "current_thread")]
async fn loop_is_stopped_within_its_budget_and_two_ticks_of_cpu() {
    let module = filter("", &on_request("(loop $l (br $l)) (i32.const 0)"));
    let budget = spec().limits.callback_cpu;
    let mut shortest = Duration::MAX;
    // A busy machine delays ticks; the shortest of some runs is the host's own.
    for _ in 0..8 {
        let (generation, _host) = started(&module, spec()).await;
        let stream = open(&generation).await;
        let before = thread_cpu();
        let fault = get(&stream).await.expect_err("it never ends by itself");
        let used = thread_cpu() - before;
        assert!(matches!(fault.kind, FaultKind::Deadline), "{:?}", fault.kind);
        assert_eq!(fault.held.head, Some(request(&[])));
        assert_eq!(generation.stats().deadlines, 1);
        // The first poll is charged its wall time, at most one tick.
        assert!(budget <= used + Duration::from_millis(1), "{used:?}");
        shortest = shortest.min(used);
    }
    assert!(shortest <= budget + Duration::from_millis(2), "{shortest:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn worker_is_free_while_a_guest_burns() {
    let body = on_request("(loop $l (br $l)) (i32.const 0)");
    let limits = Limits { callback_cpu: Duration::from_millis(100), ..spec().limits };
    let (generation, _host) = started(&filter("", &body), with_limits(limits)).await;
    let burning = tokio::spawn(async move { get(&open(&generation).await).await.is_err() });
    let mut turns = 0;
    while !burning.is_finished() {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(burning.await.expect("no panic"));
    assert!(4 <= turns, "the guest yields at ticks, this had {turns} turns");
}

#[tokio::test]
async fn trap_names_the_guests_functions() {
    let body = r"(call $outer) (i32.const 0)";
    let functions = "(func $outer (call $inner)) (func $inner unreachable)";
    let (generation, host) =
        started(&filter("", &format!("{functions} {}", on_request(body))), spec()).await;
    let fault = get(&open(&generation).await).await.expect_err("it traps");
    let FaultKind::Trap { message, backtrace } = fault.kind else { panic!("{:?}", fault.kind) };
    assert!(message.contains("unreachable"), "{message}");
    assert_eq!(backtrace[..2], ["inner", "outer"]);
    host.saw("inner < outer", 1).await;
}

#[tokio::test]
async fn recursion_traps_and_the_process_lives() {
    let functions = "(func $down (call $down) (call $down))";
    let body = format!("{functions} {}", on_request("(call $down) (i32.const 0)"));
    let (generation, _host) = started(&filter("", &body), spec()).await;
    let fault = get(&open(&generation).await).await.expect_err("no stack is endless");
    let FaultKind::Trap { message, .. } = fault.kind else { panic!("{:?}", fault.kind) };
    assert!(message.contains("stack"), "{message}");
}

#[tokio::test]
async fn memory_grows_to_the_filters_bound_and_no_further() {
    // Grows until refused, and pauses if it got exactly the 64 pages it may have.
    let body = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (i32.eq (memory.size) (i32.const 64))";
    let spec = with_limits(Limits { memory_bytes: 64 << 16, ..spec().limits });
    let (generation, host) = started(&filter("", &on_request(body)), spec).await;
    let stream = open(&generation).await;
    assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Hold));
    assert_eq!(generation.stats().memory_bytes, 64 << 16);
    host.saw("memory_bytes", 1).await;
}

#[tokio::test]
async fn table_does_not_grow_past_its_bound() {
    let table = "(table $t 1 funcref)";
    let body = "(drop (table.grow $t (ref.null func) (i32.const 15000)))
        (i32.eq (table.grow $t (ref.null func) (i32.const 15000)) (i32.const -1))";
    let (generation, _host) =
        started(&filter("", &format!("{table} {}", on_request(body))), spec()).await;
    let stream = open(&generation).await;
    assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Hold));
}

#[tokio::test]
async fn lengths_outside_memory_are_answered_not_trapped() {
    let imports = r#"
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
        (import "env" "proxy_set_buffer_bytes"
            (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = "(i32.and (i32.and (i32.and
        (i32.eq (call $log (i32.const 2) (i32.const 0) (i32.const -1)) (i32.const 6))
        (i32.eq (call $log (i32.const 2) (i32.const -1) (i32.const 2)) (i32.const 6)))
        (i32.eq (call $pairs (i32.const 0) (i32.const -2) (i32.const 0)) (i32.const 6)))
        (i32.eq (call $set (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 131071)
            (i32.const 2)) (i32.const 6)))";
    let outcome = outcome(imports, body, spec()).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Hold), "each answer is 6");
}

#[tokio::test]
async fn malformed_pairs_are_refused_and_wipe_nothing() {
    let import = r#"(import "env" "proxy_set_header_map_pairs"
        (func $set (param i32 i32 i32) (result i32)))"#;
    // Four billion pairs; and one whose lengths end beyond the bytes.
    let body = r"(i32.store (i32.const 0) (i32.const -1))
        (if (i32.ne (call $set (i32.const 0) (i32.const 0) (i32.const 60000)) (i32.const 4))
            (then unreachable))
        (i32.store (i32.const 0) (i32.const 1))
        (i32.store (i32.const 4) (i32.const 5))
        (i32.ne (call $set (i32.const 0) (i32.const 0) (i32.const 14)) (i32.const 4))";
    let outcome = outcome(import, body, spec()).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Continue));
    assert_eq!(outcome.head, Some(request(&[])));
}

#[tokio::test]
async fn empty_map_keeps_the_pseudo_headers() {
    let import = r#"(import "env" "proxy_set_header_map_pairs"
        (func $set (param i32 i32 i32) (result i32)))"#;
    let body = "(call $set (i32.const 0) (i32.const 0) (i32.const 0))";
    let (generation, _host) = started(&filter(import, &on_request(body)), spec()).await;
    let stream = open(&generation).await;
    let head = request(&[("x-a", "1")]);
    let outcome = stream.head(Direction::Request, head, true).await.expect("no fault");
    assert_eq!(outcome.head, Some(request(&[])));
}

#[tokio::test]
async fn hostcall_flood_ends_the_vm() {
    let body = "(loop $l (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0))) (br $l))
        (i32.const 0)";
    let limits = Limits { hostcalls_per_callback: 500, ..spec().limits };
    let fault = outcome(PROXY_LOG, body, with_limits(limits)).await.expect_err("over");
    let FaultKind::Trap { message, .. } = fault.kind else { panic!("{:?}", fault.kind) };
    assert_eq!(&*message, "more than 500 hostcalls in one callback");
}

#[tokio::test]
async fn log_flood_is_cut_and_counted() {
    let body = "(local $i i32)
        (loop $l (drop (call $log (i32.const 2) (i32.const 0) (i32.const 100)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 50))))
        (i32.const 0)";
    let limits = Limits { log_lines_per_second: 5, log_line_bytes: 10, ..spec().limits };
    let (generation, host) =
        started(&filter(PROXY_LOG, &on_request(body)), with_limits(limits)).await;
    get(&open(&generation).await).await.expect("no fault");
    let lines = host.levels();
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|(level, line)| *level == LogLevel::Info && line.len() == 10));
}

#[tokio::test]
async fn header_map_does_not_grow_past_its_bounds() {
    let import = r#"(import "env" "proxy_add_header_map_value"
        (func $add (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(local $i i32)
        (loop $l (drop (call $add (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
                (i32.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 500))))
        (i32.const 0)"#;
    let body = format!(r#"(data (i32.const 0) "x") {}"#, on_request(body));
    let (generation, _host) = started(&filter(import, &body), spec()).await;
    let outcome = get(&open(&generation).await).await.expect("no fault");
    assert_eq!(outcome.head.expect("released").len(), spec().limits.headers_max);
}

#[tokio::test]
async fn shared_data_lets_the_oldest_entries_go() {
    let imports = r#"
        (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))"#;
    // Keys 0..=9 of one byte; three fit. Continue if 0 is gone and 9 is there.
    let body = r"(local $i i32)
        (loop $l (i32.store8 (i32.const 0) (local.get $i))
            (drop (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 10))))
        (i32.store8 (i32.const 4) (i32.const 0))
        (i32.store8 (i32.const 5) (i32.const 9))
        (i32.or
            (i32.ne (call $get (i32.const 4) (i32.const 1) (i32.const 16) (i32.const 20)
                (i32.const 24)) (i32.const 1))
            (call $get (i32.const 5) (i32.const 1) (i32.const 16) (i32.const 20) (i32.const 24)))";
    let limits = Limits { shared_data_keys: 3, ..spec().limits };
    let outcome = outcome(imports, body, with_limits(limits)).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Continue));
}

#[tokio::test]
async fn metrics_past_their_bound_are_not_seen() {
    let import = r#"(import "env" "proxy_define_metric"
        (func $define (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(local $i i32)
        (loop $l (i32.store8 (i32.const 0) (local.get $i))
            (if (call $define (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
                (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 10))))
        (i32.const 0)";
    let limits = Limits { metric_series: 4, ..spec().limits };
    let spec = with_limits(limits);
    let shared = std::sync::Arc::new(waypoint_abi::Shared::new(&spec.limits));
    let module = filter(import, &on_request(body));
    let host = crate::support::TestHost::new();
    let generation =
        crate::support::start_with(&module, spec, &host, &shared).await.expect("starts");
    get(&open(&generation).await).await.expect("no fault");
    assert_eq!(shared.metrics().len(), 4);
}

#[tokio::test]
async fn allocator_that_calls_the_host_ends_the_vm() {
    let wat = r#"(module
        (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32)
            (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $pairs (i32.const 0) (i32.const 0) (i32.const 4))))"#;
    let module = crate::support::load_wat(wat).expect("a filter");
    let (generation, _host) = started(&module, spec()).await;
    let fault = get(&open(&generation).await).await.expect_err("it re-enters");
    let FaultKind::Trap { message, .. } = fault.kind else { panic!("{:?}", fault.kind) };
    assert_eq!(&*message, "proxy_get_header_map_pairs called from the allocator");
}

#[tokio::test]
async fn allocator_that_lies_is_answered_not_trapped() {
    for pointer in ["0", "-8"] {
        let wat = format!(
            r#"(module
            (import "env" "proxy_get_header_map_pairs"
                (func $pairs (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) (i32.const {pointer}))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (i32.ne (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)) (i32.const 6))))"#
        );
        let module = crate::support::load_wat(&wat).expect("a filter");
        let (generation, _host) = started(&module, spec()).await;
        let outcome = get(&open(&generation).await).await.expect("no fault");
        assert!(matches!(outcome.flow, Flow::Continue), "malloc answers {pointer}");
    }
}

#[tokio::test]
async fn process_exit_is_a_trap() {
    let import = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    let fault = outcome(import, "(call $exit (i32.const 3)) (i32.const 0)", spec()).await;
    let FaultKind::Trap { message, .. } = fault.expect_err("it exits").kind else { panic!() };
    assert_eq!(&*message, "proc_exit(3)");
}

#[tokio::test]
async fn local_reply_with_an_impossible_status_is_a_bad_argument() {
    let import = r#"(import "env" "proxy_send_local_response"
        (func $send (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    for status in [0, 99, 100, 199, 600, 65_735] {
        let body = format!(
            "(i32.ne (call $send (i32.const {status}) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)) (i32.const 2))"
        );
        let outcome = outcome(import, &body, spec()).await.expect("no fault");
        assert!(matches!(outcome.flow, Flow::Continue), "{status}");
    }
}

#[tokio::test]
async fn what_this_host_does_not_have_answers_so() {
    let import = r#"
        (import "env" "proxy_register_shared_queue" (func $queue (param i32 i32 i32) (result i32)))
        (import "env" "proxy_grpc_cancel" (func $cancel (param i32) (result i32)))"#;
    let body = "(i32.or
        (i32.ne (call $queue (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 12))
        (i32.ne (call $cancel (i32.const 1)) (i32.const 1)))";
    let outcome = outcome(import, body, spec()).await.expect("no fault");
    assert!(matches!(outcome.flow, Flow::Continue));
}

#[tokio::test]
async fn body_over_its_cpu_a_second_comes_slower_and_a_head_is_refused() {
    // Several milliseconds of work: more than the stream may use in a second.
    let body = "(local $i i32)
        (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 8000000))))
        (i32.const 0)";
    let body = format!(
        r#"{} (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) {body})
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
               (i32.const 0))"#,
        on_request("(i32.const 0)")
    );
    let limits = Limits {
        stream_cpu_per_second: Duration::from_millis(2),
        callback_cpu: Duration::from_secs(1),
        ..spec().limits
    };
    let (generation, _host) = started(&filter("", &body), with_limits(limits)).await;
    let stream = open(&generation).await;
    stream.head(Direction::Request, request(&[]), false).await.expect("no fault");
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        stream.body(Direction::Request, "x".into(), false).await.expect("it waits for its turn");
    }
    // The second and the third each waited for a fifth of two milliseconds at least to leak.
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    let late = stream.head(Direction::Response, request(&[]), false).await;
    let fault = late.expect_err("the stream is over its CPU");
    assert!(matches!(fault.kind, FaultKind::StreamCpu), "{:?}", fault.kind);
    assert_eq!(generation.stats().vms, 1, "no VM ends of it");
}

#[tokio::test(start_paused = true)]
async fn filter_over_its_cpu_share_gets_no_new_streams() {
    let body = on_request("(loop $l (br $l)) (i32.const 0)");
    let limits = Limits { cpu_share: 0.01, ..Limits::default() };
    let (generation, _host) = started(&filter("", &body), with_limits(limits)).await;
    let first = generation.open(crate::support::attributes()).await.expect("within its share");
    assert!(get(&first).await.is_err());
    let refused = generation.open(crate::support::attributes()).await.map(|_| ());
    assert!(matches!(refused.expect_err("over").kind, FaultKind::CpuShare));
}

#[tokio::test]
async fn stream_over_its_wall_time_ends_its_vm() {
    let body = on_request("(loop $l (br $l)) (i32.const 0)");
    let limits = Limits {
        callback_cpu: Duration::from_secs(60),
        stream_wall: Duration::from_millis(20),
        ..spec().limits
    };
    let (generation, _host) = started(&filter("", &body), with_limits(limits)).await;
    let fault = get(&open(&generation).await).await.expect_err("it never ends by itself");
    assert!(matches!(fault.kind, FaultKind::StreamWall), "{:?}", fault.kind);
    assert_eq!(generation.stats().stream_walls, 1);
}
