//! R3, R6, R10: the machine has no descriptor, no CPU or no port left.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::scene::{Holds, Scene};
use super::throttle::HalfACore;
use super::witness::Manner;
use super::{Length, row};
use crate::harness::{Kept, PATIENCE, Waypoint, gateway_to, get, request, service};
use crate::origin::{Holding, Speaks};
use crate::streams::{Client, request_with};

row!(descriptors_run_out:
    with_no_descriptor_left_clients_wait_and_those_that_are_served_stay_served,
    with_no_descriptor_left_many_clients_wait_and_those_that_are_served_stay_served);

/// R3.
async fn descriptors_run_out(length: Length) {
    let (limit, crowd) = length.either(("--nofile=256", 400), ("--nofile=1024", 2_000));
    let origin = Holding::start("{}").await;
    origin.release(1_000);
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start_through(&["prlimit", limit], &resources).await;
    let mut served = Vec::new();
    for _ in 0..20 {
        served.push(Kept::http1(waypoint.http()).await);
    }
    // One of them was answered; the others need a connection to the endpoint each, later.
    assert_eq!(served[0].send(request(Method::GET, "/", "")).await.status(), 200);
    let mut waiting = Vec::new();
    for _ in 0..crowd {
        waiting.push(TcpStream::connect(waypoint.http()).await.expect("the kernel lets it wait"));
    }

    let before = waypoint.cpu_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = waypoint.cpu_time().saturating_sub(before);
    assert!(spent < Duration::from_millis(200), "{spent:?} of CPU in a second of nothing");

    let mut asked = JoinSet::new();
    for mut client in served {
        asked.spawn(async move { client.send(request(Method::GET, "/", "")).await.status() });
    }
    while let Some(status) = asked.join_next().await {
        assert_eq!(status.expect("no panic"), StatusCode::OK, "{}", waypoint.printed());
    }
    drop(waiting);
    let answer = timeout(PATIENCE, get(waypoint.http(), "/")).await.expect("there is room again");
    assert_eq!(answer.status(), 200);
}

row!(half_of_a_core:
    with_half_of_a_core_requests_are_slower_or_shed_and_never_lost,
    with_half_of_a_core_for_a_minute_requests_are_slower_or_shed_and_never_lost);

/// R6.
async fn half_of_a_core(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;
    let before = Holds::of(&waypoint).await;
    let half = HalfACore::of(waypoint.child.id().expect("the process runs"));

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(report.all.len());
    // A queue sheds after 5 s, an endpoint is given up after 15 s.
    assert!(report.quantile(1) < Duration::from_secs(20), "p99 is {:?}", report.quantile(1));
    before.again(&waypoint, 128 << 10).await;
    drop((waypoint, half));
}

/// Says to the test that it runs in a network of its own.
const IN_A_NETWORK: &str = "WAYPOINT_IN_A_NETWORK";

#[tokio::test]
async fn with_no_local_port_left_connections_are_reused_and_others_get_503_with_the_reason() {
    if std::env::var_os(IN_A_NETWORK).is_none() {
        return in_a_network_of_its_own("with_no_local_port_left").await;
    }
    // R10, with 100 ports for everybody.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099").unwrap();
    let origin = Holding::start("{}").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    // Over a few connections, so that the clients' own ports suffice.
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(waypoint.http(), Speaks::Http2).await);
    }
    let mut asked = JoinSet::new();
    for index in 0..180 {
        let client = clients[index % clients.len()].clone();
        asked.spawn(async move {
            let answer = client.fetch(request_with(Method::GET, "/", &[])).await;
            (answer.status(), answer.into_body())
        });
    }
    // Those for whom there was no port are answered while the others wait.
    let (status, body) = asked.join_next().await.unwrap().unwrap();
    assert_eq!((status.as_u16(), &body[..]), (503, &b"upstream_connect_failed\n"[..]));
    origin.release(10_000);
    let mut served = 0;
    while let Some(answer) = asked.join_next().await {
        let (status, body) = answer.unwrap();
        match status.as_u16() {
            200 => served += 1,
            status => assert_eq!((status, &body[..]), (503, &b"upstream_connect_failed\n"[..])),
        }
    }
    assert!(served > 50, "{served} were served");
    for _ in 0..200 {
        let answer = clients[0].fetch(request_with(Method::GET, "/", &[])).await;
        assert_eq!(answer.status(), 200, "{}", waypoint.printed());
    }
}

/// Runs a test of this file again, alone, where it has a network to itself.
async fn in_a_network_of_its_own(test: &str) {
    // Who is not root makes a network as the root of a user namespace.
    let apart: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["--net"],
        false => &["--net", "--map-root-user"],
    };
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(apart)
        .args(["--", "sh", "-c", script])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--nocapture", test])
        .env(IN_A_NETWORK, "1")
        .kill_on_drop(true);
    let began = Instant::now();
    let output = timeout(2 * PATIENCE, command.output()).await.expect("in time");
    let output = output.expect("unshare, of util-linux");
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("running 1 test"),
        "no network of its own can be made here: this test needs unshare and ip (util-linux, \
         iproute2), and CAP_SYS_ADMIN or user namespaces:\n{text}"
    );
    assert!(output.status.success(), "after {:?}:\n{text}", began.elapsed());
    assert!(text.contains("1 passed"), "{text}");
}
