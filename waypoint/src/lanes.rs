//! Lanes: threads that keep connections of HTTP/1 to themselves.
//!
//! A connection of HTTP/1 has one request at a time: a second core is of no use to it, and each move
//! of its task from core to core costs what the way of its memory between them costs. So connections
//! are accepted onto lanes, each one thread with sockets, timers and idle connections upstream of its
//! own; whatever may use several cores (streams of HTTP/2, connections to HTTP/2 endpoints, everything
//! beside the requests) runs on the runtime's workers. Nobody is tied to a lane: between two requests
//! a connection goes on in another one when its own has much more to do (`docs/decisions/0029`).

use std::{
    cell::{Cell, OnceCell},
    future::{Future, poll_fn},
    io,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::drain::{Closing, Tasks, unless};

#[cfg(test)]
mod tests;

/// How often the lanes are looked at. At each look one connection changes, if it is worth it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much more of its time one lane must be busy than another for a connection to change.
const UNEVEN_MIN: f64 = 0.25;

/// What [`Lane::gives_to`] is when nothing shall change.
const NOBODY: usize = usize::MAX;

/// All lanes. Without one, connections are served by the workers.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<[Arc<Lane>]>);

#[derive(Debug)]
struct Lane {
    number: usize,
    runtime: Handle,
    connections: AtomicUsize,
    /// The lane to which the next connection that has finished a request shall change.
    gives_to: AtomicUsize,
}

/// Where a task runs: in a lane, or on the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Workers,
    Lane(usize),
}

thread_local! {
    /// The lane that the thread is.
    static HERE: OnceCell<Arc<Lane>> = const { OnceCell::new() };
    /// Where the connection that is being polled wants to go on.
    static WISH: Cell<Option<Home>> = const { Cell::new(None) };
}

/// A connection's work, which can go on elsewhere.
struct Connection {
    /// `None` once it goes on elsewhere.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    lane: Arc<Lane>,
    lanes: Lanes,
    tasks: Tasks,
}

// === impl Lanes ===

impl Lanes {
    /// As many lanes; they end when the guard is dropped, and with them what still runs there.
    ///
    /// # Errors
    ///
    /// No thread, or no descriptors, could be had.
    pub fn start(count: NonZeroUsize) -> io::Result<(Self, DropGuard)> {
        let end = CancellationToken::new();
        let lanes =
            (0..count.get()).map(|number| Lane::start(number, &end)).collect::<Result<_, _>>();
        // Whatever has started ends here if another one has not.
        let guard = end.drop_guard();
        Ok((Self(lanes?), guard))
    }

    /// Serves a connection in the lane that has the fewest.
    pub fn spawn(&self, tasks: &Tasks, work: impl Future<Output = ()> + Send + 'static) {
        let fewest = self.0.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let Some(lane) = fewest else { return tasks.spawn(work) };
        self.put(Home::Lane(lane.number), Box::pin(work), tasks);
    }

    fn put(&self, home: Home, work: Pin<Box<dyn Future<Output = ()> + Send>>, tasks: &Tasks) {
        let Home::Lane(number) = home else { return tasks.spawn(work) };
        let lane = Arc::clone(&self.0[number]);
        lane.connections.fetch_add(1, Ordering::Relaxed);
        let runtime = lane.runtime.clone();
        let (lanes, all) = (self.clone(), tasks.clone());
        let connection = Connection { work: Some(work), lane, lanes, tasks: all };
        tasks.spawn_on(&runtime, connection);
    }

    /// Keeps the lanes even until `closing`: lets connections change from the busiest one to the
    /// idlest one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it; connections stay where they are.
    pub async fn keep_even(self, closing: Closing) {
        let mut last = (Instant::now(), self.busy());
        while unless(closing.closing(), sleep(LOOK_EVERY)).await.is_some() {
            let now = (Instant::now(), self.busy());
            let past = (now.0 - last.0).as_secs_f64();
            let busy = now.1.iter().zip(&last.1);
            let shares: Vec<f64> =
                busy.map(|(now, last)| now.saturating_sub(*last).as_secs_f64() / past).collect();
            let change = uneven(&shares);
            for lane in &*self.0 {
                let to =
                    change.filter(|(from, _)| *from == lane.number).map_or(NOBODY, |(_, to)| to);
                lane.gives_to.store(to, Ordering::Relaxed);
            }
            last = now;
        }
    }

    /// For how long each lane has been busy so far.
    fn busy(&self) -> Vec<Duration> {
        self.0.iter().map(|lane| lane.runtime.metrics().worker_total_busy_duration(0)).collect()
    }
}

/// From which lane to which a connection shall change, by the part of its time that each is busy.
fn uneven(shares: &[f64]) -> Option<(usize, usize)> {
    let by_share = |one: &(usize, &f64), other: &(usize, &f64)| one.1.total_cmp(other.1);
    let (busiest, most) = shares.iter().enumerate().max_by(by_share)?;
    let (idlest, least) = shares.iter().enumerate().min_by(by_share)?;
    (UNEVEN_MIN <= most - least).then_some((busiest, idlest))
}

// === impl Lane ===

impl Lane {
    fn start(number: usize, end: &CancellationToken) -> io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let lane = Arc::new(Self {
            number,
            runtime: runtime.handle().clone(),
            connections: AtomicUsize::new(0),
            gives_to: AtomicUsize::new(NOBODY),
        });
        let (here, end) = (Arc::clone(&lane), end.clone());
        thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            HERE.with(|lane| _ = lane.set(here));
            runtime.block_on(end.cancelled());
        })?;
        Ok(lane)
    }
}

// === impl Home ===

impl Home {
    /// Where the caller runs.
    pub fn here() -> Self {
        HERE.with(|lane| lane.get().map_or(Self::Workers, |lane| Self::Lane(lane.number)))
    }
}

// === impl Connection ===

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else { return Poll::Ready(()) };
        let polled = work.as_mut().poll(cx);
        let Some(home) = WISH.take() else { return polled };
        if polled.is_pending()
            && let Some(work) = self.work.take()
        {
            self.lanes.put(home, work, &self.tasks);
        }
        Poll::Ready(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.lane.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Goes on on the workers, if the caller, a connection, is in a lane. For what comes to need a task
/// there: two threads that wake each other for each request cost more than lanes save.
///
/// # Cancel safety
///
/// Cancel safe: what is dropped goes nowhere.
pub async fn leave() {
    if Home::here() != Home::Workers {
        go(Home::Workers).await;
    }
}

/// Goes on in another lane if that has much less to do. For a connection between two requests.
///
/// # Cancel safety
///
/// Cancel safe: what is dropped goes nowhere.
pub async fn even_out() {
    let to = HERE.with(|lane| {
        lane.get().map_or(NOBODY, |lane| match lane.gives_to.load(Ordering::Relaxed) {
            NOBODY => NOBODY,
            _ => lane.gives_to.swap(NOBODY, Ordering::Relaxed),
        })
    });
    if to != NOBODY {
        go(Home::Lane(to)).await;
    }
}

/// Ends the poll, so that [`Connection`] can put the work elsewhere, where it is polled again.
async fn go(home: Home) {
    let mut gone = false;
    poll_fn(|cx| match std::mem::replace(&mut gone, true) {
        true => Poll::Ready(()),
        false => {
            WISH.set(Some(home));
            // For what polls only who has woken it.
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
