//! A new process takes the listening sockets over from the one that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{Waypoint, gateway_to, get, service};
use crate::origin::{Origin, Speaks};

/// Connections that ask at a time, each once.
const CLIENTS: usize = 8;
/// Requests after which a takeover has been seen to lose none.
const ENOUGH: usize = 200;

async fn resources() -> (Origin, String) {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    (origin, resources)
}

#[tokio::test]
async fn a_successor_takes_the_sockets_over_under_load_and_no_request_is_lost() {
    let (_origin, resources) = resources().await;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("takeover");
    let arguments = ["--takeover", path.to_str().unwrap()];
    let mut serving = Waypoint::start_with(&resources, &arguments).await;
    let address = serving.http();
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(get(address, "/").await.status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    for _ in 0..2 {
        let next = Waypoint::start_with(&resources, &arguments).await;
        assert_eq!(next.http(), address);
        assert_eq!(next.address("admin"), serving.address("admin"));
        assert_eq!(serving.exit_code().await, Some(0));
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + ENOUGH {
            tokio::task::yield_now().await;
        }
        serving = next;
    }

    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(serving.admin(http::Method::GET, "/ready").await.status(), 200);
}

#[tokio::test]
async fn a_successor_that_cannot_serve_leaves_the_process_as_it_was() {
    let (_origin, resources) = resources().await;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("takeover");
    let arguments = ["--takeover", path.to_str().unwrap()];
    let waypoint = Waypoint::start_with(&resources, &arguments).await;

    let mut refused = Waypoint::spawn(&resources.replace("port: 80", "port: eighty"), &arguments);
    assert_eq!(refused.exit_code().await, Some(1));
    waypoint.logged("no successor took over").await;
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);

    let next = Waypoint::start_with(&resources, &arguments).await;
    assert_eq!(next.http(), waypoint.http());
}

#[tokio::test]
async fn what_a_successor_does_not_want_is_closed_and_what_it_lacks_is_bound() {
    let (_origin, resources) = resources().await;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("takeover");
    let arguments = ["--takeover", path.to_str().unwrap()];
    let mut waypoint = Waypoint::start_with(&resources, &arguments).await;
    let elsewhere = resources.replace("port: 8080", "port: 8443");

    let next = Waypoint::start_with(&elsewhere, &arguments).await;

    assert_eq!(waypoint.exit_code().await, Some(0));
    assert_eq!(get(next.address("gateway/default/8443"), "/").await.status(), 200);
    assert!(TcpStream::connect(waypoint.http()).await.is_err());
}
