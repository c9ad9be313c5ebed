//! The bounds of a filter, reached through the whole proxy.

use std::net::SocketAddr;

use futures_util::future::join_all;
use http::Method;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::client::{Raw, becomes, failures, get_with, status, values};
use crate::generations::silent;
use crate::guests::{Guest, burn, harmful, signing, spin};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, get, request, send_http1, service};
use crate::origin::{Origin, Speaks};
use crate::streams::Client;

const LOOP: &str = "(loop $again (br $again))";
/// What a failure policy makes of a request whose filter failed.
const POLICIES: [(&str, u16); 3] = [("Closed", 503), ("Reload", 503), ("Open", 200)];

/// VMs that one filter may have.
const VMS_MAX: u64 = 8;

/// Opens a request whose body does not end, and waits until the filter's stream is open.
async fn open(waypoint: &Waypoint, filter: &str, streams: u64) -> Raw {
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("POST /open HTTP/1.1\r\nhost: h\r\nconnection: close\r\n").await;
    client.send("transfer-encoding: chunked\r\n\r\n").await;
    let open = format!("waypoint_filter_streams{{filter=\"default/{filter}\"}}");
    becomes(waypoint, &open, streams).await;
    client
}

#[tokio::test]
async fn streams_past_what_the_vms_may_serve_get_the_failure_policy() {
    for (policy, wanted) in POLICIES {
        let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "it").await);
        let spec = format!("  failurePolicy: {policy}\n  limits: {{streamsPerVm: 1, cpuShare: 1}}");
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("one", &signing("one").write(dir.path(), "one"), &spec);
        let waypoint = Waypoint::start(&resources).await;
        let mut clients = Vec::new();
        for streams in 1..=VMS_MAX {
            clients.push(open(&waypoint, "one", streams).await);
        }
        assert_eq!(waypoint.filter("default/one").await["vms"], VMS_MAX, "{policy}");

        let answer = get(waypoint.http(), "/more").await;
        assert_eq!(answer.status(), wanted, "{policy}");
        assert!(!answer.headers().contains_key("x-order"), "{policy}");
        assert_eq!(failures(&waypoint, "one", "busy").await, 1, "{policy}");

        // Those that had a place end as if nothing had been, and their places are free again.
        for client in &mut clients {
            client.send("0\r\n\r\n").await;
            let answer = client.end().await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-order: one"));
        }
        becomes(&waypoint, "waypoint_filter_streams{filter=\"default/one\"}", 0).await;
        let answer = get(waypoint.http(), "/again").await;
        assert_eq!(values(answer.headers(), "x-order"), ["one"], "{policy}");
    }
}

#[tokio::test]
async fn a_vm_serves_as_many_streams_as_it_may_before_another_one_starts() {
    let (dir, (origin, mut heads)) = (TempDir::new().unwrap(), silent().await);
    let resources = gateway_to("origin")
        + &service("origin", "http", origin)
        + &filter(
            "two",
            &signing("two").write(dir.path(), "two"),
            "  limits: {streamsPerVm: 2, cpuShare: 1}",
        );
    let waypoint = Waypoint::start(&resources).await;
    let mut clients = Vec::new();
    for (streams, vms) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
        clients.push(open(&waypoint, "two", streams).await);
        // The head has passed the filter: its VM is free again.
        heads.recv().await.unwrap();
        assert_eq!(waypoint.filter("default/two").await["vms"], vms, "{streams} streams");
    }
}

/// Callers that may wait for one VM, and as many more as press into it at a time.
const QUEUE_MAX: usize = 256;
const PRESS: usize = QUEUE_MAX + 100;

/// A guest that can be started once only, so that there is one VM to wait for.
fn single(guest: Guest) -> Guest {
    guest.on(
        "configure",
        "(if (i32.eqz (call $get_shared {started} (i32.const 40000) (i32.const 40004)
              (i32.const 40008)))
           (then (return (i32.const 0))))
         (drop (call $set_shared {started} {yes} (i32.const 0)))
         (i32.const 1)",
    )
}

/// Sends one request that keeps the VM busy and many that wait for it; gives their statuses.
async fn press(address: SocketAddr) -> Vec<u16> {
    let mut connections = Vec::new();
    for _ in 0..PRESS.div_ceil(90) {
        connections.push(Client::connect(address, Speaks::Http2).await);
    }
    let busy = tokio::spawn(status(address, get_with("/", &[("x-bad", "1")])));
    let waiting = (0..PRESS).map(|index| {
        let client = connections[index % connections.len()].clone();
        async move { client.send(request(Method::GET, "/", "")).await.status().as_u16() }
    });
    let mut statuses = join_all(waiting).await;
    statuses.push(busy.await.unwrap());
    statuses
}

#[tokio::test]
async fn callers_past_what_may_wait_for_a_vm_get_the_failure_policy() {
    for (policy, wanted) in POLICIES {
        let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "it").await);
        let spec = format!(
            "  failurePolicy: {policy}
  limits: {{streamsPerVm: 10000, deadline: 2s, cpuShare: 1}}"
        );
        let module = single(harmful(&burn(300))).write(dir.path(), "busy");
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("busy", &module, &spec);

        // A slow machine may not send all of them while the VM is busy, or keep it busy for longer
        // than a stream may take.
        let pressed = async {
            loop {
                let waypoint = Waypoint::start(&resources).await;
                let statuses = press(waypoint.http()).await;
                let full = failures(&waypoint, "busy", "busy").await;
                if full > 0 && failures(&waypoint, "busy", "stream_wall").await == 0 {
                    return (waypoint, statuses, usize::try_from(full).unwrap());
                }
            }
        };
        let (waypoint, statuses, full) =
            timeout(PATIENCE, pressed).await.expect("the queue becomes full");

        let refused = statuses.iter().filter(|status| **status != 200).count();
        assert_eq!(refused, if wanted == 200 { 0 } else { full }, "{policy}: {statuses:?}");
        assert!(statuses.iter().all(|status| [200, wanted].contains(status)), "{statuses:?}");
        assert!(full <= PRESS - QUEUE_MAX, "{policy}: {full} found no place");
        assert_eq!(waypoint.filter("default/busy").await["vms"], 1, "{policy}");
        assert_eq!(get(waypoint.http(), "/").await.status(), 200, "{policy}");
    }
}

#[tokio::test]
async fn a_stream_whose_callbacks_take_too_long_by_the_clock_gets_the_failure_policy() {
    for (policy, wanted) in POLICIES {
        let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "it").await);
        // So much CPU that only the second of wall time can end it.
        let spec = format!("  failurePolicy: {policy}\n  limits: {{deadline: 20s, cpuShare: 1}}");
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("long", &harmful(LOOP).write(dir.path(), "long"), &spec);
        let waypoint = Waypoint::start(&resources).await;

        let answer = send_http1(waypoint.http(), get_with("/", &[("x-bad", "1")])).await;

        assert_eq!(answer.status(), wanted, "{policy}");
        assert_eq!(failures(&waypoint, "long", "stream_wall").await, 1, "{policy}");
        let passed = origin.seen().len();
        assert_eq!(passed, usize::from(wanted == 200), "{policy}");
        assert_eq!(get(waypoint.http(), "/").await.status(), 200, "{policy}");
    }
}

#[tokio::test]
async fn a_filter_grows_no_further_than_its_memory() {
    // The guest has three pages of 64 KiB to begin with, and takes one more.
    let grow = "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))";
    for (memory, wanted) in [("192Ki", 503), ("256Ki", 200)] {
        let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "it").await);
        let spec = format!("  limits: {{memory: {memory}}}");
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("grows", &harmful(grow).write(dir.path(), "grows"), &spec);
        let waypoint = Waypoint::start(&resources).await;

        assert_eq!(status(waypoint.http(), get_with("/", &[("x-bad", "1")])).await, wanted);
        let traps = failures(&waypoint, "grows", "trap").await;
        assert_eq!(traps, u64::from(wanted == 503), "{memory}");
    }
}

#[tokio::test]
async fn a_callback_may_use_as_much_cpu_as_its_deadline_and_no_more() {
    for (deadline, wanted) in [("5ms", 503), ("2s", 200)] {
        let (dir, origin) = (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "it").await);
        let spec = format!("  limits: {{deadline: {deadline}, cpuShare: 1}}");
        let burns = harmful(&spin(60_000_000)).write(dir.path(), "burns");
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &filter("burns", &burns, &spec);
        let waypoint = Waypoint::start(&resources).await;

        assert_eq!(status(waypoint.http(), get_with("/", &[("x-bad", "1")])).await, wanted);
        let late = failures(&waypoint, "burns", "deadline").await;
        assert_eq!(late, u64::from(wanted == 503), "{deadline}");
    }
}
