//! Connections that change lanes between two requests.

use std::future::pending;

use http::Response;

use super::ask;
use crate::codec::{
    Body,
    testing::{DropBell, Once, Rig, Setup, patiently},
};
use crate::lanes::{Home, Lanes, leave};

#[tokio::test]
async fn a_connection_that_changes_lanes_goes_on_where_it_was() {
    let (lanes, _end) = Lanes::of(2);
    let setup = Setup { lanes: lanes.clone(), ..Setup::default() };
    let rig = Rig::start(setup, |request, _| async {
        let place = format!("{:?}", Home::here());
        let mut answer = Response::new(request.into_body());
        answer.headers_mut().insert("place", place.parse().expect("a value"));
        answer
    });
    let mut client = rig.client().await;
    // A part of the next head is there already, or all of it, or nothing.
    let begun =
        ["POST / HTTP/1.1\r\nHo", "", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"];
    let mut sent = String::new();
    for round in 0..12 {
        let (here, there) = (round % 2, (round + 1) % 2);
        lanes.give(here, there);
        let whole = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        let ahead = begun[round % 3];
        client.send(format!("{}{round:03}{ahead}", &whole[sent.len()..])).await;
        sent = ahead.to_owned();
        let answer = client.until(&format!("\r\n\r\n{round:03}")).await;
        assert!(answer.contains(&format!("place: Lane({here})\r\n")), "{answer}");
    }
    assert_eq!(rig.refused(), []);
}

#[tokio::test]
async fn a_reset_is_heard_of_in_the_lane_that_a_connection_has_changed_to() {
    let (bell, dropped) = DropBell::new();
    let held = Once::new(bell);
    let (lanes, _end) = Lanes::of(2);
    lanes.give(0, 1);
    let setup = Setup { lanes, ..Setup::default() };
    let rig = Rig::start(setup, move |request, _| {
        let bell = (request.uri().path() == "/held").then(|| held.take());
        async move {
            if bell.is_some() {
                pending().await
            }
            Response::new(Body::full(format!("{:?}", Home::here())))
        }
    });
    let mut client = rig.client().await;
    for lane in ["Lane(0)", "Lane(1)"] {
        ask(&mut client, "GET /", "").await;
        client.until(&format!("\r\n\r\n{lane}")).await;
    }
    ask(&mut client, "GET /held", "").await;
    client.reset();
    assert_eq!(patiently(dropped).await, Ok(()));
}

#[tokio::test]
async fn a_connection_whose_request_leaves_for_the_workers_goes_on_there() {
    let (bell, dropped) = DropBell::new();
    let held = Once::new(bell);
    let (lanes, _end) = Lanes::of(2);
    let rig = Rig::start(Setup { lanes, ..Setup::default() }, move |request, _| {
        let bell = (request.uri().path() == "/held").then(|| held.take());
        async move {
            let begun = Home::here();
            leave().await;
            if bell.is_some() {
                pending().await
            }
            Response::new(Body::full(format!("{begun:?} {:?}", Home::here())))
        }
    });
    let mut client = rig.client().await;
    for places in ["Lane(0) Workers", "Workers Workers", "Workers Workers"] {
        ask(&mut client, "GET /", "").await;
        client.until(&format!("\r\n\r\n{places}")).await;
    }
    ask(&mut client, "GET /held", "").await;
    client.reset();
    assert_eq!(patiently(dropped).await, Ok(()));
}
