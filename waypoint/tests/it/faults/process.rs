//! K3, R5: the process is told to end, or nobody reads what it prints.

use rustix::process::Signal;

use super::oracle::{Fate, Kind};
use super::scene::{Holds, Scene};
use super::witness::Manner;
use super::{Length, row};
use crate::harness::{Kept, Waypoint, request};

row!(terminated_under_load:
    a_process_that_is_terminated_under_load_answers_all_that_it_took,
    a_process_that_is_terminated_after_a_minute_of_load_answers_all_that_it_took);

/// K3: whatever an origin answered before and within the drain reaches its client. What comes
/// afterwards finds nobody and can see that.
async fn terminated_under_load(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let resources = scene.resources([&[one.address], &[two.address]], "");
    let mut waypoint = Waypoint::start(&resources).await;

    let report = scene
        .load(&waypoint, async |progress| {
            progress.at(50).await;
            waypoint.signal(Signal::TERM);
        })
        .await;

    report.is_sound();
    report.failed_only(|sealed| matches!(sealed.fate, Fate::Broken(_)));
    report.withholds_nothing();
    assert!(report.whole() > 0, "nothing was answered");
    assert_eq!(report.shed(), 0);
    assert_eq!(waypoint.exit_code().await, Some(0));
}

row!(nobody_reads_the_access_log:
    an_access_log_that_nobody_reads_delays_and_loses_no_request,
    an_access_log_that_nobody_reads_for_a_minute_delays_and_loses_no_request);

/// R5: the pipe, the writer's batch and the log's buffer are full before the load begins.
async fn nobody_reads_the_access_log(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let resources = scene.resources([&[one.address], &[two.address]], "");
    let waypoint = Waypoint::start_unread(&resources).await;
    let mut client = Kept::http1(waypoint.http()).await;
    let long = format!("/{}", "x".repeat(6_000));
    let shed = "waypoint_access_log_shed_total";
    while waypoint.series(shed).await == Some(0) {
        for _ in 0..50 {
            let path = request(http::Method::GET, &long, "");
            assert_eq!(client.send(path).await.status(), 404);
        }
    }
    drop(client);
    let (before, full) = (Holds::of(&waypoint).await, waypoint.series(shed).await);

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(0);
    assert!(report.all.iter().any(|sealed| sealed.request.kind == Kind::Call));
    assert!(waypoint.series(shed).await > full, "lines are shed, and counted");
    before.again(&waypoint, 64 << 10).await;
}
