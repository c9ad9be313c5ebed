//! What one client and all of them may have at a time, and a process that is short of descriptors.

use std::time::Duration;

use tokio::time::timeout;

use crate::client::{Raw, becomes};
use crate::generations::silent;
use crate::harness::{PATIENCE, Waypoint, gateway_to, service};
use crate::origin::{Origin, Speaks};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

fn limited(limit: &str) -> String {
    format!("waypoint_limited_total{{limit=\"{limit}\"}}")
}

/// A connection whose request was answered, and that stays.
async fn served(waypoint: &Waypoint) -> Raw {
    let mut client = Raw::connect(waypoint.http()).await;
    ask(&mut client).await;
    client
}

async fn ask(client: &mut Raw) {
    client.forget();
    client.send(GET).await;
    let answer = client.until("origin").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn an_address_past_its_connections_is_closed_before_a_byte_is_read() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start_with(&resources, &["--address-connections-max", "2"]).await;
    let (mut first, second) = (served(&waypoint).await, served(&waypoint).await);
    let mut third = Raw::connect(waypoint.http()).await;
    assert_eq!(third.end().await, "");
    assert_eq!(waypoint.series(&limited("connections_per_address")).await, Some(1));
    ask(&mut first).await;
    drop(second);
    // Once the proxy has seen that one go, another one has its place.
    becomes(&waypoint, "waypoint_downstream_connections", 1).await;
    served(&waypoint).await;
}

#[tokio::test]
async fn only_connections_that_are_open_are_shown_however_many_listeners_wait_for_one() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let listeners = "listeners: [{name: http, port: 8080, protocol: HTTP}, \
                     {name: more, port: 8081, protocol: HTTP}]";
    let resources = gateway_to("origin")
        .replace("listeners: [{name: http, port: 8080, protocol: HTTP}]", listeners)
        + &service("origin", "http", origin.address);
    let more = ["--bind", "gateway/default/8081=127.0.0.1:0"];
    let waypoint = Waypoint::start_with(&resources, &more).await;
    let open = async || waypoint.series("waypoint_downstream_connections").await;
    assert_eq!(open().await, Some(0));
    let (first, second) = (served(&waypoint).await, served(&waypoint).await);
    let third = Raw::connect(waypoint.address("gateway/default/8081")).await;
    becomes(&waypoint, "waypoint_downstream_connections", 3).await;
    drop((first, third));
    becomes(&waypoint, "waypoint_downstream_connections", 1).await;
    ask(&mut { second }).await;
    becomes(&waypoint, "waypoint_downstream_connections", 0).await;
}

#[tokio::test]
async fn a_client_past_its_requests_is_told_to_come_later_and_those_that_run_go_on() {
    let (origin, mut heads) = silent().await;
    let resources = gateway_to("origin") + &service("origin", "http", origin);
    let cases = [
        ("1", "9", "429", "RL", "client_requests_max", "requests_per_client"),
        ("9", "1", "503", "OM", "requests_max", "requests"),
    ];
    for (of_client, of_all, status, envoys, name, limit) in cases {
        let flags = ["--client-requests-max", of_client, "--requests-max", of_all];
        let waypoint = Waypoint::start_with(&resources, &flags).await;
        let mut running = Raw::connect(waypoint.http()).await;
        running.send(GET).await;
        heads.recv().await.unwrap();
        let mut more = Raw::connect(waypoint.http()).await;
        more.send(GET).await;
        let answer = more.until(name).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        let record = waypoint.record(|record| record["response_code_details"] == name).await;
        assert_eq!(record["response_flags"], envoys);
        assert_eq!(waypoint.series(&limited(limit)).await, Some(1));
        // The place is free when the request that has it is gone.
        running.reset();
        becomes(&waypoint, "waypoint_downstream_requests", 0).await;
        let mut next = Raw::connect(waypoint.http()).await;
        next.send(GET).await;
        heads.recv().await.expect("it reaches the origin");
    }
}

#[tokio::test]
async fn trusted_hops_are_not_counted_as_one_client() {
    let (origin, mut heads) = silent().await;
    let resources = gateway_to("origin") + &service("origin", "http", origin);
    let flags = ["--client-requests-max", "1", "--address-connections-max", "1"];
    let flags = [&flags[..], &["--trusted-hops", "127.0.0.0/8"]].concat();
    let waypoint = Waypoint::start_with(&resources, &flags).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(waypoint.http()).await;
        client.send(GET).await;
        heads.recv().await.expect("it reaches the origin");
        clients.push(client);
    }
}

#[tokio::test]
async fn a_process_short_of_descriptors_waits_to_accept_and_serves_who_is_there() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start_through(&["prlimit", "--nofile=128"], &resources).await;
    // (128 - 64) / 2 connections.
    waypoint.logged("connections=32").await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(served(&waypoint).await);
    }
    // These wait in the kernel's queue: the connection is made, and nobody reads.
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = Raw::connect(waypoint.http()).await;
        client.send(GET).await;
        waiting.push(client);
    }
    let before = waypoint.cpu_time();
    let quiet = timeout(Duration::from_secs(2), waiting[0].until_or_end("HTTP/1.1")).await;
    assert!(quiet.is_err(), "a connection more than there may be is served");
    let burnt = waypoint.cpu_time() - before;
    assert!(burnt < Duration::from_millis(500), "a loop that is busy: {burnt:?} of 2 s");
    for client in &mut open {
        ask(client).await;
    }
    assert!(!waypoint.printed().contains("accepting pauses"), "{}", waypoint.printed());
    drop(open);
    for client in &mut waiting {
        let answer = timeout(PATIENCE, client.until("origin")).await.expect("accepted");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start_through(&["prlimit", "--nofile=100:512"], &resources).await;
    waypoint.logged("connections=224 descriptors=Some(512)").await;
    served(&waypoint).await;
}
