//! Who runs on which core: the streams of one HTTP/2 connection on all of them, busy connections of
//! HTTP/1 each on its own.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use http::Method;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::client::Raw;
use crate::harness::{GATEWAY, PATIENCE, Waypoint, gateway_to, service};
use crate::origin::Speaks;
use crate::streams::{Client, full, request_with, serve};

const REQUESTS: usize = 2_000;
const PARALLEL: usize = 64;

/// Requests sent at once on one connection of HTTP/1.
const BURST: usize = 100;

/// CPU time so far of each thread whose name begins so, in nanoseconds, by thread id.
fn threads(waypoint: &Waypoint, name: &str) -> BTreeMap<String, u64> {
    let pid = waypoint.child.id().expect("the process runs");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("procfs");
    let thread = |task: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name));
        if !read("comm").ok()?.starts_with(name) {
            return None;
        }
        let spent = read("schedstat").ok()?.split(' ').next()?.parse().ok()?;
        Some((task.file_name().to_string_lossy().into_owned(), spent))
    };
    tasks.filter_map(|task| thread(task.ok()?)).collect()
}

/// What each has spent between, the most first.
fn spent(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<u64> {
    let of_one = |(id, now): (&String, &u64)| now - before.get(id).copied().unwrap_or(0);
    let mut spent: Vec<u64> = after.iter().map(of_one).collect();
    spent.sort_unstable_by(|one, other| other.cmp(one));
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_connection_run_on_every_worker() {
    let origin =
        serve(Speaks::Http1, async |_| http::Response::new(full(b"0123456789abcdef".repeat(1024))))
            .await;
    let waypoint =
        Waypoint::start(&(gateway_to("origin") + &service("origin", "http", origin))).await;
    let client = Client::connect(waypoint.http(), Speaks::Http2).await;
    let before = threads(&waypoint, "tokio");

    let asked = (0..REQUESTS).map(|_| client.fetch(request_with(Method::GET, "/", &[])));
    let answered = stream::iter(asked).buffer_unordered(PARALLEL);
    let good = answered.filter(|answer| std::future::ready(answer.status() == 200)).count().await;

    assert_eq!(good, REQUESTS);
    // By CPU time, which does not depend on what else this machine does.
    let spent = spent(&before, &threads(&waypoint, "tokio"));
    assert!(spent[0] < 5 * spent[1], "one worker did it all: {spent:?} ns");
}

/// A request that the waypoint answers itself.
async fn ask(client: &mut Raw) {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("route_not_found").await;
    client.forget();
}

/// Many of them at once.
async fn burst(client: &mut Raw) {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(BURST)).await;
    let mut read = Vec::new();
    while String::from_utf8_lossy(&read).matches("HTTP/1.1 404").count() < BURST {
        let bytes = timeout(PATIENCE, client.stream.read_buf(&mut read)).await.expect("in time");
        assert_ne!(bytes.expect("no reset"), 0, "closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_busy_connections_that_meet_in_one_lane_come_to_have_one_each() {
    let waypoint = Waypoint::start(GATEWAY).await;
    let lanes = || threads(&waypoint, "lane");
    let meeting = async {
        loop {
            // Lanes take turns: the first and the third meet, unless they were uneven meanwhile.
            let mut first = Raw::connect(waypoint.http()).await;
            ask(&mut first).await;
            let mut second = Raw::connect(waypoint.http()).await;
            ask(&mut second).await;
            let mut third = Raw::connect(waypoint.http()).await;
            ask(&mut third).await;
            let before = lanes();
            ask(&mut first).await;
            ask(&mut third).await;
            if spent(&before, &lanes())[1] == 0 {
                break (first, third);
            }
        }
    };
    let (mut first, mut third) = timeout(PATIENCE, meeting).await.expect("two meet");

    let even = async {
        loop {
            let before = lanes();
            tokio::join!(burst(&mut first), burst(&mut third));
            let spent = spent(&before, &lanes());
            if spent[0] < 2 * spent[1] {
                break;
            }
        }
    };
    timeout(PATIENCE, even).await.expect("one of them changes lanes");
}
