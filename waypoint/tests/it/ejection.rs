//! Endpoints that fail, as an operator sees them.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::harness::{Waypoint, gateway_to, get, service_at};
use crate::origin::{Origin, Speaks};

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_and_operators_see_it() {
    let good = Origin::named(Speaks::Http1, "good").await;
    let bad = Origin::start(Speaks::Http1, |_| {
        Response::builder().status(503).body(Bytes::new()).unwrap()
    })
    .await;
    let resources =
        gateway_to("origin") + &service_at("origin", "http", &[good.address, bad.address]);
    let waypoint = Waypoint::start(&resources).await;
    let mut refused = 0;
    for _ in 0..80 {
        let status = get(waypoint.http(), "/").await.status();
        refused += usize::from(status == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(refused, 5, "after five failures the endpoint is left out");
    assert_eq!(bad.seen().len(), 5);

    waypoint.logged("an endpoint is ejected").await;
    let ejections =
        "waypoint_upstream_ejections_total{service=\"default/origin:80\",reason=\"gateway_error\"}";
    assert_eq!(waypoint.series(ejections).await, Some(1));
    assert_eq!(waypoint.series("waypoint_upstream_ejected_endpoints").await, Some(1));
    let endpoints = waypoint.page("/endpoints").await;
    let shown = endpoints.as_array().unwrap().iter();
    let ejected: Vec<_> = shown.filter(|one| one["ejectedMs"].is_u64()).collect();
    assert_eq!(ejected.len(), 1);
    assert_eq!(ejected[0]["address"], bad.address.to_string());

    // A reload does not bring it back.
    waypoint.reload(&(resources + "# changed\n")).await;
    for _ in 0..20 {
        assert_eq!(get(waypoint.http(), "/").await.status(), 200);
    }
}
