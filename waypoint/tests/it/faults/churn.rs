//! N10–N12, N19: endpoints that end their connections all the time, or answer nothing but errors.

use super::oracle::{Fate, Sealed};
use super::scene::{Holds, Scene};
use super::witness::Manner;
use super::{Length, row};
use crate::harness::Waypoint;
use crate::origin::Speaks;

/// What a process may grow by under load.
const GROWN_KIB: u64 = 64 << 10;

/// On HTTP/1 a request whose body had begun may fail when its connection dies: nobody vouches that it
/// was not processed, and it is never sent twice. On HTTP/2 any may that has met three ends, or whose
/// answer was lost with a connection that was reset behind its GOAWAY.
fn may_fail(sealed: &Sealed) -> bool {
    let request = sealed.request;
    request.endpoint == Speaks::Http2 || request.has_body() && sealed.fate == Fate::Status(502)
}

row!(connections_retire:
    connections_that_end_at_the_wrong_moment_lose_and_double_no_request,
    connections_that_end_at_the_wrong_moment_for_a_minute_lose_and_double_no_request);

/// N10 and N12: FIN on idle connections of HTTP/1, GOAWAY on HTTP/2, a moment after an answer.
async fn connections_retire(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Retiring(10)).await;
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;
    let before = Holds::of(&waypoint).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    report.is_sound();
    report.failed_only(may_fail);
    let unanswered = report.failed().len() + report.shed();
    assert!(unanswered <= report.all.len() / 33, "{unanswered} failed");
    before.again(&waypoint, GROWN_KIB).await;
}

row!(connections_refuse:
    connections_that_have_processed_nothing_lose_and_double_no_request,
    connections_that_have_processed_nothing_for_a_minute_lose_and_double_no_request);

/// N11: every third connection says GOAWAY with last stream 0; the others retire soon.
async fn connections_refuse(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Refusing(3)).await;
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;
    let before = Holds::of(&waypoint).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    report.is_sound();
    report.failed_only(|sealed| sealed.request.endpoint == Speaks::Http2);
    let unanswered = report.failed().len() + report.shed();
    assert!(unanswered <= report.all.len() / 20, "{unanswered} failed");
    let retries = "waypoint_upstream_retries_total{service=\"default/two:80\"}";
    assert!(waypoint.series(retries).await > Some(0), "nobody was refused");
    before.again(&waypoint, GROWN_KIB).await;
}

row!(everything_fails:
    endpoints_that_only_fail_get_each_request_once,
    endpoints_that_only_fail_for_a_minute_get_each_request_once);

/// N19.
async fn everything_fails(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Status(503)).await;
    let [more, yet_more] = scene.witnesses(Manner::Status(503)).await;
    let endpoints = [[one.address, more.address], [two.address, yet_more.address]];
    let waypoint = Waypoint::start(&scene.resources([&endpoints[0], &endpoints[1]], "")).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(usize::MAX);
    assert_eq!(report.whole(), 0);
    assert!(scene.ledger.heads() <= report.all.len() as u64, "{} heads", scene.ledger.heads());
}
