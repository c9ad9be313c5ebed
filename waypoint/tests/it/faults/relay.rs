//! A relay between the waypoint and an origin that misbehaves as a network does.
//!
//! Bytes are read, given the time at which they may go on, and written in order. Nothing is dropped
//! on the way, for TCP would bring it again: a lost segment is one that comes as late as a
//! retransmission does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::faults::Seeded;
use crate::origin::listener;

/// Bytes read at a time: about one segment.
const SEGMENT: usize = 1_460;
/// Segments that are on their way in one direction of one connection.
const ON_THE_WAY: usize = 512;
/// What Linux waits at least before it sends a segment again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// What is done to each direction of each connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Shape {
    pub(super) delay: Duration,
    /// Up to so much more, at random.
    pub(super) jitter: Duration,
    /// Segments in a hundred that have to be sent again.
    pub(super) lost_percent: u64,
    /// Of all connections together, in each direction.
    pub(super) bits_per_second: Option<u64>,
}

/// A running relay.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// Whether bytes pass.
    passing: watch::Sender<bool>,
}

/// What the connections of a relay share.
#[derive(Clone)]
struct Shared {
    shape: Shape,
    passing: watch::Receiver<bool>,
    /// When the wire of each direction is free again.
    free: [Arc<Mutex<Instant>>; 2],
}

impl Relay {
    pub(super) async fn start(target: SocketAddr, shape: Shape, seed: u64) -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let (passing, passes) = watch::channel(true);
        let now = || Arc::new(Mutex::new(Instant::now()));
        let shared = Shared { shape, passing: passes, free: [now(), now()] };
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 2;
                let random = [Seeded::new(seed, number), Seeded::new(seed, number + 1)];
                tokio::spawn(relay(stream, target, shared.clone(), random));
            }
        });
        Self { address, passing }
    }

    /// From here on nothing passes in either direction; connections are still accepted, as a
    /// balancer before a partition does it, and stay open.
    pub(super) fn cut(&self) {
        let _ = self.passing.send(false);
    }

    /// What waits goes on.
    pub(super) fn mend(&self) {
        let _ = self.passing.send(true);
    }
}

async fn relay(near: TcpStream, target: SocketAddr, shared: Shared, random: [Seeded; 2]) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let [up, down] = random;
    tokio::join!(
        pass(near_read, far_write, 0, shared.clone(), up),
        pass(far_read, near_write, 1, shared, down),
    );
}

/// Passes one direction until its end, which is passed on too.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    direction: usize,
    shared: Shared,
    mut random: Seeded,
) {
    let (sender, mut segments) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let Shared { shape, mut passing, free } = shared;
    let reading = async move {
        let mut segment = [0; SEGMENT];
        while let Ok(length @ 1..) = from.read(&mut segment).await {
            let mut due = Instant::now() + shape.delay;
            due += shape.jitter * u32::try_from(random.below(1_000)).expect("small") / 1_000;
            if random.below(100) < shape.lost_percent {
                due += RETRANSMISSION;
            }
            if let Some(rate) = shape.bits_per_second {
                let mut free = free[direction].lock();
                *free = (*free).max(Instant::now())
                    + Duration::from_secs(8 * length as u64) / rate as u32;
                due = due.max(*free);
            }
            if sender.send((due, segment[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, segment)) = segments.recv().await {
            tokio::time::sleep_until(due).await;
            if passing.wait_for(|passing| *passing).await.is_err()
                || to.write_all(&segment).await.is_err()
            {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
