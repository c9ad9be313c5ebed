//! Faults, and what they may cost: every row of the matrix below is a network, a client, a process
//! or a machine that misbehaves, beside numbered requests whose fate is known one by one.
//!
//! [`load`] sends the requests at a fixed rate (open loop: a slow answer delays no other request),
//! [`witness`] is the origin that records each of them, [`oracle`] compares both sides: what was
//! **lost** (neither an answer nor an error that the client could see), **duplicated** (a POST that
//! the origin saw more than once), **corrupt** (a body that differs, either way) or **allowed
//! wrongly** (a denied request that the origin saw). None of them may ever happen; 429, 503 and 504
//! count as *shed*, and each row says how many it allows.
//!
//! Half of the load is HTTP/1.1, half HTTP/2 with prior knowledge, for there is no HBONE yet; a
//! tenth are gRPC streams, a tenth have a body of 64 KiB, a twentieth are POSTs that must not be
//! repeated, one in fifty is denied. Half goes to endpoints of HTTP/1, half to endpoints of HTTP/2.
//!
//! Everything random comes from one seed, which is printed; `WAYPOINT_SEED` sets it. Each row has
//! two lengths: the short one runs in `make test`, the long one in `make test-faults`, for a minute
//! at `WAYPOINT_RATE` requests a second (250 by default, which a debug build, its clients and its
//! origins manage together on two cores).
//!
//! ```text
//! row  fault                                      test
//! N1   an endpoint refuses                        network
//! N2   an endpoint answers no SYN                 network
//! N3   an endpoint never answers                  network
//! N4   an endpoint sends a byte now and then      network
//! N5   a reset before, in, after the head         truncation
//! N6   an end in the middle of a body             truncation
//! N7   the same within TLS, without close_notify  truncation
//! N8   a client half-closes                       truncation
//! N9   an answer before the upload has ended      truncation
//! N10  GOAWAY, again and again                    churn
//! N11  GOAWAY that has processed nothing          churn
//! N12  idle connections closed at the wrong time  churn
//! N13  one endpoint of three is cut off           network, namespace
//! N14  segments are lost and come late            shaped, namespace
//! N15  100 ms ± 50 ms                             shaped
//! N16  1 Mbit/s                                   shaped
//! N17  a service has no endpoint                  network
//! N19  endpoints that only fail                   churn
//! C1   heads that drip                            clients
//! C2   bodies that drip, answers that nobody reads  clients
//! C3   attacks on HTTP/2                          attacks
//! C5   connections that come and go               clients
//! C6   requests given up at any moment            clients
//! K3   SIGTERM under load                         process
//! K5   a panic within a request                   codec::isolate (unit tests)
//! R3   no file descriptor left                    machine
//! R5   nobody reads standard output               process
//! R6   half of a core                             machine
//! R10  no local port left                         machine
//! ```

mod load;
mod oracle;
mod relay;
mod scene;
mod throttle;
mod witness;

mod attacks;
mod churn;
mod clients;
mod machine;
mod namespace;
mod network;
mod process;
mod shaped;
mod truncation;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Runs a row of the matrix in its short and in its long version.
macro_rules! row {
    ($run:path: $short:ident, $long:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $short() {
            $run($crate::faults::Length::Short).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "takes a minute: make test-faults"]
        async fn $long() {
            $run($crate::faults::Length::Long).await;
        }
    };
}
pub(crate) use row;

/// How much of a row is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Short,
    Long,
}

impl Length {
    /// One figure for each length.
    pub(crate) fn either<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }

    /// Requests a second.
    fn rate(self) -> u32 {
        let set = std::env::var("WAYPOINT_RATE").ok().and_then(|text| text.parse().ok());
        self.either(200, set.unwrap_or(250))
    }

    /// How long requests are sent.
    fn time(self) -> Duration {
        Duration::from_secs(self.either(2, 60))
    }
}

/// The seed of this run, printed once for each test that asks.
pub(crate) fn seed() -> u64 {
    let set = std::env::var("WAYPOINT_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let seed = set.unwrap_or_else(|| now() as u64);
    eprintln!("WAYPOINT_SEED={seed}");
    seed
}

/// Random numbers that a seed makes again.
///
/// # Source
///
/// SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Clone)]
pub(crate) struct Seeded(u64);

impl Seeded {
    /// The numbers of one purpose: others of the same seed are told apart by `stream`.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut seeded = Self(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F));
        seeded.next();
        seeded
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
