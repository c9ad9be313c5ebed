//! N13, N14 over a network that really loses segments: the test runs once more in a network namespace
//! of its own, whose firewall drops what comes in, and the kernel's TCP does the rest.
//!
//! The other tests of these rows have a relay, for these need root and nft, and a kernel that has
//! nf_tables; netem would do too, but many kernels come without it. `make test-faults` runs them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::timeout;

use super::Length;
use super::scene::{BOTH, Scene};
use super::witness::Manner;
use crate::client::becomes;
use crate::harness::{PATIENCE, Waypoint, get};

/// Says that a test runs in its namespace already, and names the file that it then leaves.
const INSIDE: &str = "WAYPOINT_TEST_NAMESPACE";

/// The firewall of the namespace that the test runs in.
struct Firewall;

impl Firewall {
    /// Runs the test `name` once more in a namespace of its own, and there gives its firewall.
    async fn enter(name: &str) -> Option<Self> {
        let Some(entered) = std::env::var_os(INSIDE) else {
            let dir = tempfile::tempdir().expect("a folder");
            let entered = dir.path().join("entered");
            let test = std::env::current_exe().expect("a test has a binary");
            let mut command = Command::new("unshare");
            command.arg("--net").arg(test).args(["--exact", name, "--ignored", "--nocapture"]);
            let ended = command.env(INSIDE, &entered).stdin(Stdio::null()).status().await;
            let ended = ended.expect("`unshare`, of util-linux");
            assert!(ended.success(), "{name} in a namespace (it needs root): {ended}");
            assert!(entered.exists(), "no test is called {name}");
            return None;
        };
        std::fs::write(entered, "").expect("the outer test's folder");
        run("ip", &["link", "set", "lo", "up"]).await;
        run("nft", &["add table inet faults"]).await;
        run("nft", &["add chain inet faults in { type filter hook input priority 0; }"]).await;
        Some(Self)
    }

    /// From here on so many of a hundred segments are lost, in every direction.
    async fn lose(&self, percent: u32) {
        self.clear().await;
        let rule = format!("numgen random mod 100 < {percent} counter drop");
        run("nft", &[&format!("add rule inet faults in meta l4proto tcp {rule}")]).await;
    }

    /// From here on nothing reaches this address, and nothing comes from it.
    async fn cut(&self, address: SocketAddr) {
        for end in ["sport", "dport"] {
            let rule = format!("tcp {end} {} counter drop", address.port());
            run("nft", &[&format!("add rule inet faults in {rule}")]).await;
        }
    }

    async fn clear(&self) {
        run("nft", &["flush chain inet faults in"]).await;
    }

    /// How many segments were lost since the rules were set.
    async fn lost(&self) -> u64 {
        let rules = run("nft", &["list chain inet faults in"]).await;
        let counts = rules.split("packets ").skip(1);
        counts.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

/// Runs a command that must not fail; gives what it prints.
async fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| panic!("`{program}` must be there: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, root and nft: make test-faults"]
async fn segments_that_the_kernel_drops_make_requests_slower_and_nothing_else() {
    const NAME: &str =
        "faults::namespace::segments_that_the_kernel_drops_make_requests_slower_and_nothing_else";
    let Some(firewall) = Firewall::enter(NAME).await else { return };
    let scene = Scene::new(Length::Long);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;
    firewall.lose(1).await;

    let report = scene
        .load(&waypoint, async |progress| {
            progress.at(50).await;
            assert!(0 < firewall.lost().await);
            firewall.lose(5).await;
        })
        .await;

    assert!(0 < firewall.lost().await);
    // A connection is given up when its SYN was lost and a second has gone by, three times at most.
    report.all_but(report.all.len() / 1_000);
}

/// N13: what was sent to the endpoint before its fifth failure, of a thousand requests. Less than one
/// where nothing else runs.
const HIT_PER_MILLE: usize = 5;

/// N13: how long after the cut an endpoint may still be left out.
const BACK_MAX: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, root and nft: make test-faults"]
async fn an_endpoint_of_three_that_nothing_reaches_is_left_out_and_taken_back() {
    const NAME: &str =
        "faults::namespace::an_endpoint_of_three_that_nothing_reaches_is_left_out_and_taken_back";
    let Some(firewall) = Firewall::enter(NAME).await else { return };
    let scene = Scene::new(Length::Long);
    let (mut endpoints, mut cut_off) = ([Vec::new(), Vec::new()], Vec::new());
    for (index, speaks) in BOTH.into_iter().enumerate() {
        for _ in 0..3 {
            endpoints[index].push(scene.witness(speaks, Manner::Good).await.address);
        }
        cut_off.push(endpoints[index][2]);
    }
    let timeouts = "\n      timeouts: {request: 1s}";
    let resources = scene.resources([&endpoints[0], &endpoints[1]], timeouts);
    let waypoint = Waypoint::start(&resources).await;

    let report = scene
        .load(&waypoint, async |progress| {
            progress.at(20).await;
            for address in &cut_off {
                firewall.cut(*address).await;
            }
            // Ten seconds.
            progress.at(37).await;
            assert!(0 < firewall.lost().await);
            firewall.clear().await;
            let mended = Instant::now();
            becomes(&waypoint, "waypoint_upstream_ejected_endpoints", 0).await;
            assert!(mended.elapsed() <= BACK_MAX, "back after {:?}", mended.elapsed());
        })
        .await;

    report.is_sound();
    // Some were half answered when the network went.
    let hit = report.shed() + report.failed().len();
    assert!(hit * 1_000 <= report.all.len() * HIT_PER_MILLE, "{hit} of {}", report.all.len());
    let metrics = waypoint.metrics().await;
    for service in ["one", "two"] {
        let series = format!("waypoint_upstream_ejections_total{{service=\"default/{service}:80\"");
        assert!(metrics.contains(&series), "{service} has ejected nobody");
    }
    // Whoever is taken back is sent to: its connections of before are gone.
    let back = async || {
        for path in ["/one", "/two"] {
            get(waypoint.http(), path).await;
        }
        let endpoints = waypoint.page("/endpoints").await;
        let is_used = |address: &SocketAddr| {
            let mut all = endpoints.as_array().expect("a list").iter();
            all.any(|one| one["address"] == address.to_string() && one["connections"] != 0)
        };
        cut_off.iter().all(is_used)
    };
    timeout(PATIENCE, async { while !back().await {} }).await.expect("they are used again");
}
