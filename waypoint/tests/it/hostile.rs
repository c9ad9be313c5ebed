//! Guests that loop, trap, eat memory or flood the host, beside traffic that must not notice.

use std::time::Duration;

use http::{Method, Response};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::client::{
    Raw, becomes, failures, filter_on, get_with, post_with, route, series, status, times, values,
};
use crate::guests::{Guest, burn, harmful};
use crate::harness::{
    Kept, PATIENCE, Waypoint, filter, gateway_to, get, request, send_http1, service,
};
use crate::origin::{Origin, Speaks};

const LOOP: &str = "(loop $again (br $again))";
const TRAP: &str = "(unreachable)";
/// Takes all the memory there is, writes to it, and then cannot go on.
const EAT: &str = "(loop $more
  (local.set $i (memory.grow (i32.const 8)))
  (if (i32.ne (local.get $i) (i32.const -1)) (then
    (memory.fill (i32.mul (local.get $i) (i32.const 65536)) (i32.const 7) (i32.const 524288))
    (br $more))))
  (unreachable)";

/// How often a filter's VM ended. Writing to so much memory may take longer than the deadline.
async fn ended(waypoint: &Waypoint, filter: &str) -> u64 {
    failures(waypoint, filter, "trap").await + failures(waypoint, filter, "deadline").await
}

/// What the callbacks of a filter of the namespace `default` have cost.
async fn cpu_seconds(waypoint: &Waypoint, filter: &str) -> f64 {
    let name = format!("waypoint_filter_cpu_seconds_total{{filter=\"default/{filter}\"}} ");
    let metrics = waypoint.metrics().await;
    let spent = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("a series");
    spent.parse().expect("a number")
}

/// Routes `/loop`, `/trap` and `/eat` with a harmful filter each, and `/` without one.
fn resources(dir: &TempDir, origin: &Origin, policy: &str) -> String {
    let mut resources = gateway_to("origin") + &service("origin", "http", origin.address);
    for (name, harm) in [("loop", LOOP), ("trap", TRAP), ("eat", EAT)] {
        let module = harmful(harm).write(dir.path(), name);
        resources += &route(name, &format!("/{name}"), "origin");
        let target = format!("kind: HTTPRoute, name: {name}");
        resources += &filter_on(name, &target, &module, &format!("  failurePolicy: {policy}"));
    }
    resources
}

#[tokio::test]
async fn looping_trapping_and_eating_filters_are_refused_and_their_neighbour_never_fails() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let waypoint = Waypoint::start(&resources(&dir, &origin, "Closed")).await;
    let address = waypoint.http();

    let neighbour = tokio::spawn(async move {
        let mut kept = Kept::http1(address).await;
        times(&mut kept, "/", 400).await.len()
    });
    for _ in 0..5 {
        for path in ["/loop", "/trap", "/eat"] {
            let answer = send_http1(address, get_with(path, &[("x-bad", "1")])).await;
            assert_eq!(answer.status(), 503, "{path}");
        }
    }

    assert_eq!(neighbour.await.unwrap(), 400);
    assert!(failures(&waypoint, "loop", "deadline").await >= 1);
    assert!(failures(&waypoint, "trap", "trap").await >= 1);
    assert!(ended(&waypoint, "eat").await >= 1);
    for path in ["/loop", "/trap", "/eat"] {
        assert!(origin.seen().iter().all(|seen| seen.uri() != path), "{path} reached the origin");
    }
}

#[tokio::test]
async fn a_harmed_vm_is_replaced_at_once_for_requests_that_do_no_harm() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let waypoint = Waypoint::start(&resources(&dir, &origin, "Closed")).await;

    for path in ["/loop", "/trap", "/eat"] {
        assert_eq!(get(waypoint.http(), path).await.status(), 200);
        assert_eq!(status(waypoint.http(), get_with(path, &[("x-bad", "1")])).await, 503);
        assert_eq!(get(waypoint.http(), path).await.status(), 200, "{path} after the harm");
    }

    assert!(origin.seen().iter().all(|seen| values(seen.headers(), "x-ran") == ["yes"]));
    assert_eq!(origin.seen().len(), 6);
    let starts =
        series(&waypoint, "waypoint_filter_vm_starts_total{filter=\"default/trap\"}").await;
    assert!(starts >= 2, "{starts}");
}

#[tokio::test]
async fn under_open_a_failing_filter_is_passed_by_and_its_request_is_whole() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::echo(Speaks::Http1).await);
    let waypoint = Waypoint::start(&resources(&dir, &origin, "Open")).await;

    for path in ["/loop", "/trap", "/eat"] {
        let answer = send_http1(waypoint.http(), post_with(path, "all", &[("x-bad", "1")])).await;
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"all"[..]), "{path}");
    }

    assert!(origin.seen().iter().all(|seen| !seen.headers().contains_key("x-ran")));
    for filter in ["loop", "trap", "eat"] {
        assert_eq!(ended(&waypoint, filter).await, 1, "{filter}");
    }
}

/// By how much a neighbour's 99th percentile may move.
const MOVED_MAX: Duration = Duration::from_millis(10);
/// Rounds in which it may be shown: whatever else runs on the machine moves it too.
const ROUNDS: usize = 8;

/// By how much requests to `/bad` move the neighbour's 99th percentile, in the best round.
async fn p99_moves_by(waypoint: &Waypoint) -> Duration {
    let address = waypoint.http();
    let mut kept = Kept::http1(address).await;
    times(&mut kept, "/", 50).await;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        if best <= MOVED_MAX {
            break;
        }
        let without = times(&mut kept, "/", 300).await[296];
        let burner = tokio::spawn(async move {
            let mut kept = Kept::http1(address).await;
            loop {
                kept.send(get_with("/bad", &[("x-bad", "1")])).await;
            }
        });
        let with = times(&mut kept, "/", 300).await[296];
        burner.abort();
        best = best.min(with.saturating_sub(without));
    }
    best
}

#[tokio::test]
async fn a_filter_that_burns_its_deadline_on_every_request_does_not_slow_its_neighbour() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    // Just short of the deadline, so that nothing but the yields protects the neighbour.
    let burn = burn(8);
    for (name, harm) in [("burn", burn.as_str()), ("loop", LOOP)] {
        let module = harmful(harm).write(dir.path(), name);
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &route("bad", "/bad", "origin")
            + &filter_on("bad", "kind: HTTPRoute, name: bad", &module, "  limits: {cpuShare: 1}");
        let waypoint = Waypoint::start(&resources).await;

        let moved = p99_moves_by(&waypoint).await;

        assert!(moved <= MOVED_MAX, "{name}: the p99 moved by {moved:?}");
        let spent = cpu_seconds(&waypoint, "bad").await;
        assert!(spent > 0.03, "{name} hardly ran: {spent} s");
        assert_eq!(ended(&waypoint, "bad").await == 0, name == "burn");
    }
}

#[tokio::test]
async fn streams_of_other_filters_live_through_the_end_of_a_vm() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::echo(Speaks::Http1).await);
    let resources = resources(&dir, &origin, "Closed")
        + &filter_on("redact", "kind: HTTPRoute, name: all", "builtin://pii-redact", "");
    let waypoint = Waypoint::start(&resources).await;
    let mut stream = Raw::connect(waypoint.http()).await;
    stream.send("POST /in HTTP/1.1\r\nhost: h\r\ncontent-type: text/plain\r\n").await;
    stream.send("transfer-encoding: chunked\r\nconnection: close\r\n\r\n").await;
    stream.chunk("from alice@exam").await;

    for path in ["/loop", "/trap", "/eat"] {
        assert_eq!(status(waypoint.http(), get_with(path, &[("x-bad", "1")])).await, 503);
    }
    stream.chunk("ple.com to all").await;
    stream.send("0\r\n\r\n").await;

    let answer = stream.end().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(&origin.seen()[0].body()[..], b"from <EMAIL> to all");
}

#[tokio::test]
async fn other_streams_of_the_vm_that_traps_fail_alone() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::echo(Speaks::Http1).await);
    let module = harmful(TRAP).write(dir.path(), "trap");
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("trap", &module, "");
    let waypoint = Waypoint::start(&resources).await;
    let mut stream = Raw::connect(waypoint.http()).await;
    stream.send("POST /in HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n").await;
    stream.send("connection: close\r\n\r\n").await;
    stream.chunk("one ").await;
    let open = "waypoint_filter_streams{filter=\"default/trap\"}";
    becomes(&waypoint, open, 1).await;

    assert_eq!(status(waypoint.http(), get_with("/", &[("x-bad", "1")])).await, 503);
    stream.chunk("two").await;
    stream.send("0\r\n\r\n").await;

    // It has passed its only callback, so the trap is nothing to it.
    let answer = stream.end().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("one two"), "{answer}");
    becomes(&waypoint, open, 0).await;
}

#[tokio::test]
async fn a_flood_of_hostcalls_ends_the_guest() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let flood = "(loop $again (drop (call $has (i32.const 0) {:path})) (br $again))";
    let module = harmful(flood).write(dir.path(), "flood");
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("flood", &module, "  limits: {deadline: 1s}");
    let waypoint = Waypoint::start(&resources).await;

    assert_eq!(status(waypoint.http(), get_with("/", &[("x-bad", "1")])).await, 503);
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);

    assert_eq!(failures(&waypoint, "flood", "trap").await, 1);
    waypoint.logged("hostcalls").await;
}

#[tokio::test]
async fn a_flood_of_log_lines_is_bounded() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let flood = "(loop $again
        (drop (call $log (i32.const 4) {water without end}))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 5000))))";
    let module = harmful(flood).write(dir.path(), "logs");
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("logs", &module, "  limits: {deadline: 25ms}");
    let waypoint = Waypoint::start(&resources).await;

    let answer = send_http1(waypoint.http(), get_with("/", &[("x-bad", "1")])).await;

    assert_eq!(answer.status(), 200);
    waypoint.logged("water without end").await;
    // The record of a later request comes after all that the guest could log before it.
    get(waypoint.http(), "/after").await;
    waypoint.record(|record| record["path"] == "/after").await;
    let lines = waypoint.printed().matches("water without end").count();
    assert!((1..=200).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn a_memory_bomb_does_not_make_the_process_grow_past_the_filters_bound() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let waypoint = Waypoint::start(&resources(&dir, &origin, "Closed")).await;
    get(waypoint.http(), "/eat").await;
    let before = waypoint.resident_kib();

    for _ in 0..20 {
        assert_eq!(status(waypoint.http(), get_with("/eat", &[("x-bad", "1")])).await, 503);
    }

    let grown = waypoint.resident_kib().saturating_sub(before);
    // 16 MiB each for the VM that ended last and for its replacement, and what surrounds them.
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert_eq!(send_http1(waypoint.http(), request(Method::GET, "/", "")).await.status(), 200);
}

#[tokio::test]
async fn a_guest_that_traps_on_the_response_gives_the_client_503_and_no_half_answer() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let module = Guest::on_response("(unreachable)").write(dir.path(), "late");
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("late", &module, "");
    let waypoint = Waypoint::start(&resources).await;

    let answer = get(waypoint.http(), "/").await;

    assert_eq!(answer.status(), 503);
    assert!(!String::from_utf8_lossy(answer.body()).contains("origin"));
}

#[tokio::test]
async fn a_request_dropped_in_the_middle_of_a_callback_leaves_its_vm_whole() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let module = harmful(&burn(400)).write(dir.path(), "slow");
    let limits = "  limits: {deadline: 2s, cpuShare: 1}";
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("slow", &module, limits);
    let waypoint = Waypoint::start(&resources).await;
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("GET /gone HTTP/1.1\r\nhost: h\r\nx-bad: 1\r\n\r\n").await;
    let streams = "waypoint_filter_streams{filter=\"default/slow\"}";
    becomes(&waypoint, streams, 1).await;

    client.reset();

    waypoint.record(|record| record["response_flags"] == "DC").await;
    becomes(&waypoint, streams, 0).await;
    assert_eq!(get(waypoint.http(), "/next").await.status(), 200);
    assert_eq!(origin.seen().len(), 1, "the dropped request was not sent");
    // The callback has run to its end: no VM was lost.
    assert_eq!(ended(&waypoint, "slow").await, 0);
}

#[tokio::test]
async fn a_guest_that_traps_in_the_middle_of_a_response_cuts_it_or_is_passed_by() {
    let dir = TempDir::new().unwrap();
    let origin = Origin::start(Speaks::Http1, |_| Response::new("x".repeat(100_000).into())).await;
    // The second piece is its last.
    let trap = "(if (i32.load (i32.const 40000)) (then unreachable))
      (i32.store (i32.const 40000) (i32.const 1)) (i32.const 0)";
    let module = Guest::default().on("response_body", trap).write(dir.path(), "half");
    for (policy, whole) in [("Closed", false), ("Open", true)] {
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("half", &module, &format!("  failurePolicy: {policy}"));
        let waypoint = Waypoint::start(&resources).await;
        let mut client = Raw::connect(waypoint.http()).await;
        client.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;

        let answer = client.end().await;

        assert!(answer.starts_with("HTTP/1.1 200"), "{policy}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len() >= 100_000, whole, "{policy}: {} bytes", body.len());
        assert!(!body.is_empty() && !body.ends_with("0\r\n\r\n"), "{policy}");
        assert_eq!(failures(&waypoint, "half", "trap").await, 1);
    }
}

#[tokio::test]
async fn a_guest_that_traps_on_the_request_body_refuses_it_or_passes_it_whole() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::echo(Speaks::Http1).await);
    let module = Guest::default().on("request_body", TRAP).write(dir.path(), "body");
    for (policy, wanted) in [("Closed", 503), ("Reload", 503), ("Open", 200)] {
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("body", &module, &format!("  failurePolicy: {policy}"));
        let waypoint = Waypoint::start(&resources).await;
        let body = "b".repeat(200_000);

        let answer = send_http1(waypoint.http(), post_with("/", &body, &[])).await;

        assert_eq!(answer.status(), wanted, "{policy}");
        assert_eq!(answer.body() == &body, wanted == 200, "{policy}");
    }
}

#[tokio::test]
async fn a_grpc_request_whose_filter_fails_gets_a_grpc_status() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let waypoint = Waypoint::start(&resources(&dir, &origin, "Closed")).await;
    let headers = [("x-bad", "1"), ("content-type", "application/grpc"), ("te", "trailers")];

    let answer = send_http1(waypoint.http(), post_with("/trap", "", &headers)).await;

    assert_eq!(answer.status(), 200);
    assert_eq!(values(answer.headers(), "grpc-status"), ["14"]);
}

#[tokio::test]
async fn a_filter_over_its_share_of_the_cpu_is_refused_until_it_has_rested() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await);
    let module = harmful(&burn(8)).write(dir.path(), "greedy");
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("greedy", &module, "  limits: {cpuShare: 0.02}");
    let waypoint = Waypoint::start(&resources).await;

    let refused =
        async { while status(waypoint.http(), get_with("/", &[("x-bad", "1")])).await == 200 {} };
    timeout(PATIENCE, refused).await.expect("it is refused");

    assert_eq!(failures(&waypoint, "greedy", "cpu_share").await, 1);
    assert_eq!(ended(&waypoint, "greedy").await, 0);
    let rested = async { while get(waypoint.http(), "/").await.status() != 200 {} };
    timeout(PATIENCE, rested).await.expect("it is served again");
}

#[tokio::test]
async fn a_body_that_costs_too_much_comes_slower_and_comes_whole() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::echo(Speaks::Http1).await);
    let slow = burn(20) + "(i32.const 0)";
    let module = Guest::default().on("request_body", &slow).write(dir.path(), "slow");
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("slow", &module, "  limits: {cpuShare: 1, deadline: 25ms}");
    let waypoint = Waypoint::start(&resources).await;
    // Pieces of 20 ms each: more than the 50 ms that a stream may use in a second.
    let large = "b".repeat(240_000);
    let before = cpu_seconds(&waypoint, "slow").await;

    let answer = send_http1(waypoint.http(), post_with("/", &large, &[])).await;

    assert_eq!((answer.status().as_u16(), answer.body().len()), (200, large.len()));
    let record = waypoint.record(|record| record["response_code"] == 200).await;
    let spent = cpu_seconds(&waypoint, "slow").await - before;
    assert!(spent > 0.05, "{spent} s");
    // The first 50 ms and the last piece need not wait.
    let least = (spent - 0.05 - 0.025) / 0.05;
    let took = record["duration"].as_f64().unwrap() / 1_000.0;
    assert!(took >= least, "{spent} s of CPU in {took} s");
    assert_eq!(ended(&waypoint, "slow").await, 0);
}
