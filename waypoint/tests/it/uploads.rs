//! Uploads that are still under way when their answer has come.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::client::{failures, post_with, status};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::streams::{read_head, serve_raw};

/// Connections that press into the same three VMs, and requests on each.
const CROWD: usize = 50;
const ROUNDS: usize = 8;

/// An origin that answers as soon as it has the head, and reads the body afterwards.
async fn hasty() -> SocketAddr {
    serve_raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\
                      connection: close\r\ncontent-length: 2\r\n\r\nok";
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await
}

#[tokio::test]
async fn many_uploads_whose_answers_come_first_never_stand_still_before_their_vms() {
    let names = ["one", "two", "three"];
    let mut resources = gateway_to("origin") + &service("origin", "http", hasty().await);
    for name in names {
        resources += &filter(name, "builtin://pii-redact", "  limits: {cpuShare: 1}");
    }
    let waypoint = Waypoint::start(&resources).await;
    let address = waypoint.http();
    // More than one piece for each filter.
    let body = format!("[{}]", vec!["\"to bob@example.com\""; 1_000].join(","));
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        let body = body.clone();
        clients.push(tokio::spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..ROUNDS {
                let headers = [("content-type", "application/json")];
                statuses.push(status(address, post_with("/", &body, &headers)).await);
            }
            statuses
        }));
    }

    for client in clients {
        let statuses = timeout(PATIENCE, client).await.expect("the proxy stands still").unwrap();
        assert_eq!(statuses, [200; ROUNDS]);
    }
    for name in names {
        assert_eq!(failures(&waypoint, name, "trap").await, 0, "{name}");
    }
}
