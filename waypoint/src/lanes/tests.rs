use std::future::pending;

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use super::*;
use crate::codec::testing::{DropBell, patiently};
use crate::drain::Drain;

impl Lanes {
    /// So many, until the guard is dropped.
    pub(crate) fn of(count: usize) -> (Self, DropGuard) {
        let count = NonZeroUsize::new(count).expect("not zero");
        Self::start(count).expect("threads")
    }

    /// No lane: connections are served by the workers.
    pub(crate) fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Serves a connection in this lane.
    pub(crate) fn serve_in(
        &self,
        lane: usize,
        tasks: &Tasks,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.put(Home::Lane(lane), Box::pin(work), tasks);
    }

    /// As if the first of the two had much more to do.
    pub(crate) fn give(&self, from: usize, to: usize) {
        self.0[from].gives_to.store(to, Ordering::Relaxed);
    }

    /// Resolves when one of them has so many connections.
    pub(crate) async fn have(&self, lane: usize, connections: usize) {
        while self.connections()[lane] != connections {
            yield_now().await;
        }
    }

    fn connections(&self) -> Vec<usize> {
        self.0.iter().map(|lane| lane.connections.load(Ordering::Relaxed)).collect()
    }
}

#[test]
fn lanes_are_uneven_where_one_is_busy_for_a_quarter_of_the_time_more() {
    assert_eq!(uneven(&[0.1, 0.9, 0.5]), Some((1, 0)));
    assert_eq!(uneven(&[1.0, 0.75]), Some((0, 1)));
    assert_eq!(uneven(&[0.9, 0.7]), None);
    assert_eq!(uneven(&[1.0]), None);
    assert_eq!(uneven(&[]), None);
}

#[tokio::test]
async fn a_connection_is_served_in_the_lane_that_has_the_fewest() {
    let ((lanes, _end), (_drain, tasks, _closing)) = (Lanes::of(2), Drain::new());
    let (say, mut places) = mpsc::unbounded_channel();
    let mut open = Vec::new();
    let mut next = async |lanes: &Lanes| {
        let (end, ended) = oneshot::channel::<()>();
        let say = say.clone();
        lanes.spawn(&tasks, async move {
            say.send(Home::here()).expect("the test listens");
            let _ = ended.await;
            say.send(Home::here()).expect("the test listens");
        });
        open.push(end);
        patiently(places.recv()).await.expect("it runs")
    };
    assert_eq!(next(&lanes).await, Home::Lane(0));
    assert_eq!(next(&lanes).await, Home::Lane(1));
    assert_eq!(next(&lanes).await, Home::Lane(0));
    assert_eq!(lanes.connections(), [2, 1]);
    assert_eq!(next(&lanes).await, Home::Lane(1));
    drop(open);
    for _ in 0..4 {
        patiently(places.recv()).await.expect("it ends");
    }
    // What has said its last word is gone as soon as the lane has let go of it.
    patiently(lanes.have(0, 0)).await;
    patiently(lanes.have(1, 0)).await;
}

#[tokio::test]
async fn a_connection_goes_on_where_it_is_told_to() {
    let ((lanes, _end), (_drain, tasks, _closing)) = (Lanes::of(2), Drain::new());
    let (say, mut places) = mpsc::unbounded_channel();
    let own = lanes.clone();
    lanes.spawn(&tasks, async move {
        let say = || say.send(Home::here()).expect("the test listens");
        even_out().await;
        say();
        own.give(0, 1);
        even_out().await;
        say();
        even_out().await;
        say();
        own.give(1, 0);
        even_out().await;
        say();
        leave().await;
        say();
        own.give(0, 1);
        even_out().await;
        say();
        leave().await;
        say();
    });
    let mut next = async || patiently(places.recv()).await.expect("it says so");
    assert_eq!(next().await, Home::Lane(0));
    assert_eq!(next().await, Home::Lane(1));
    assert_eq!(next().await, Home::Lane(1));
    assert_eq!(next().await, Home::Lane(0));
    assert_eq!(next().await, Home::Workers);
    assert_eq!(next().await, Home::Workers);
    assert_eq!(next().await, Home::Workers);
    patiently(lanes.have(0, 0)).await;
}

#[tokio::test]
async fn what_a_lane_asks_for_beside_its_connections_runs_on_the_workers() {
    let ((lanes, _end), (_drain, tasks, _closing)) = (Lanes::of(1), Drain::new());
    let (say, said) = oneshot::channel();
    let all = tasks.clone();
    lanes.spawn(&tasks, async move {
        all.spawn(async move { say.send(Home::here()).expect("the test listens") });
    });
    assert_eq!(patiently(said).await, Ok(Home::Workers));
}

#[tokio::test]
async fn two_busy_connections_of_one_lane_come_to_have_one_each() {
    let ((lanes, _end), (_drain, tasks, closing)) = (Lanes::of(2), Drain::new());
    tasks.spawn(lanes.clone().keep_even(closing));
    let (say, mut changes) = mpsc::unbounded_channel();
    let busy = |stop: CancellationToken| {
        let say = say.clone();
        async move {
            while !stop.is_cancelled() {
                let until = std::time::Instant::now() + Duration::from_millis(1);
                while std::time::Instant::now() < until {}
                yield_now().await;
                even_out().await;
                if Home::here() != Home::Lane(0) {
                    say.send(Home::here()).expect("the test listens");
                }
            }
        }
    };
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    lanes.serve_in(0, &tasks, busy(stop.clone()));
    lanes.serve_in(0, &tasks, busy(stop));
    assert_eq!(patiently(changes.recv()).await, Some(Home::Lane(1)));
}

#[tokio::test]
async fn the_end_of_the_lanes_drops_what_runs_there() {
    let ((lanes, end), (_drain, tasks, _closing)) = (Lanes::of(1), Drain::new());
    let (bell, rung) = DropBell::new();
    let (say, said) = oneshot::channel();
    lanes.spawn(&tasks, async move {
        let _bell = bell;
        say.send(()).expect("the test listens");
        pending().await
    });
    patiently(said).await.expect("it runs");
    drop(end);
    assert_eq!(patiently(rung).await, Ok(()));
}
