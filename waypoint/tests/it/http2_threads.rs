//! The streams of one HTTP/2 connection do not share one core.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use http::Method;

use crate::harness::{Waypoint, gateway_to, service};
use crate::origin::Speaks;
use crate::streams::{Client, full, request_with, serve};

const REQUESTS: usize = 2_000;
const PARALLEL: usize = 64;

/// CPU time of each worker thread so far, in nanoseconds, by thread id.
fn workers(waypoint: &Waypoint) -> BTreeMap<String, u64> {
    let pid = waypoint.child.id().expect("the process runs");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("procfs");
    let worker = |task: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name));
        if !read("comm").ok()?.starts_with("tokio") {
            return None;
        }
        let spent = read("schedstat").ok()?.split(' ').next()?.parse().ok()?;
        Some((task.file_name().to_string_lossy().into_owned(), spent))
    };
    tasks.filter_map(|task| worker(task.ok()?)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_connection_run_on_every_worker() {
    let origin =
        serve(Speaks::Http1, async |_| http::Response::new(full(b"0123456789abcdef".repeat(1024))))
            .await;
    let waypoint =
        Waypoint::start(&(gateway_to("origin") + &service("origin", "http", origin))).await;
    let client = Client::connect(waypoint.http(), Speaks::Http2).await;
    let before = workers(&waypoint);

    let asked = (0..REQUESTS).map(|_| client.fetch(request_with(Method::GET, "/", &[])));
    let answered = stream::iter(asked).buffer_unordered(PARALLEL);
    let good = answered.filter(|answer| std::future::ready(answer.status() == 200)).count().await;

    assert_eq!(good, REQUESTS);
    // By CPU time, which does not depend on what else this machine does.
    let spent = |(id, now): (&String, &u64)| now - before.get(id).copied().unwrap_or(0);
    let mut spent: Vec<u64> = workers(&waypoint).iter().map(spent).collect();
    spent.sort_unstable_by(|one, other| other.cmp(one));
    assert!(spent[0] < 5 * spent[1], "one worker did it all: {spent:?} ns");
}
