//! Keys that an upstream publishes: fetched ahead of need, kept while it is away, refused when too
//! old, and fetched at most once in a cool-down for tokens whose key is unknown.
//!
//! ```text
//!             fetched                    age > cacheDuration            age > maxAge
//!  no keys ───────────► fresh ──────────────────────────────► stale ──────────────► no keys
//!  (503, requests wait)   ▲             (serves, is fetched anew) │                   (503)
//!                         └───────────────────────────────────────┘
//! ```
//!
//! All VMs of a filter share the set and the right to fetch through the host's shared data: a small
//! record says when the last fetch began, whether it has ended and when the set was fetched. On
//! Envoy give the filter a `vm_id` of its own, for other filters with the same one write there too.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use waypoint_sdk::{Answer, CallId, Callout, RequestId, Root, shared_data};

use crate::config::JwksUri;
use crate::keys::{KeySet, SET_BYTES_MAX};

/// Requests that may wait for one issuer's keys; the next is answered 503.
pub const WAITING_MAX: usize = 64;

/// A larger set is not shared: each VM fetches it. Sixteen issuers' sets must fit into what hosts allow.
const SHARED_BYTES_MAX: usize = 32 << 10;

/// How long another VM's fetch may take beyond its timeout before it counts as lost.
const GRACE: Duration = Duration::from_secs(1);

/// Between the beginnings of two fetches, whoever makes them.
const FETCH_GAP: Duration = Duration::from_secs(1);

/// An issuer's keys.
#[derive(Debug)]
pub struct Remote {
    uri: JwksUri,
    authority: String,
    /// Begins the names of what is shared.
    name: String,
    keys: Option<Loaded>,
    call: Option<CallId>,
    /// Failed fetches since the last good one.
    failures: u32,
    /// Not before this (of [`waypoint_sdk::uptime`]) after a failure.
    next_try: Duration,
    /// A token's key is unknown.
    wanted: bool,
    /// Those that wait; one whose [`Place`] is gone has ended.
    waiting: VecDeque<(RequestId, Weak<()>)>,
}

#[derive(Debug)]
struct Loaded {
    keys: KeySet,
    /// When they were fetched, by the wall clock, in milliseconds: which set is newer.
    stamp: u64,
    /// How old they were, and when (of [`waypoint_sdk::uptime`]).
    age: Duration,
    at: Duration,
}

/// What all VMs share of a fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Record {
    /// When the last fetch began, by the wall clock, in milliseconds.
    began: u64,
    /// When the set was fetched; 0 for none.
    stamp: u64,
    /// The last fetch has ended.
    ended: bool,
}

/// What a callback did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The keys are others now.
    pub keys: bool,
    /// A fetch ended badly.
    pub failed: bool,
    /// A fetch began.
    pub fetched: bool,
}

impl Remote {
    /// Without keys yet.
    pub fn new(uri: JwksUri) -> Self {
        let host = uri.upstream.rsplit_once(':').map_or(uri.upstream.as_str(), |(host, _)| host);
        let authority = uri.authority.clone().unwrap_or_else(|| host.to_owned());
        let digest = Sha256::digest(format!("{}\n{authority}\n{}", uri.upstream, uri.path));
        let name = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            authority,
            name,
            uri,
            keys: None,
            call: None,
            failures: 0,
            next_try: Duration::ZERO,
            wanted: false,
            waiting: VecDeque::new(),
        }
    }

    /// The keys, unless they are too old.
    pub fn keys(&self) -> Option<&KeySet> {
        self.keys.as_ref().filter(|keys| keys.age() <= self.uri.max_age).map(|keys| &keys.keys)
    }

    /// Lets a request wait for newer keys; `false`: it would wait in vain, or too many do.
    pub fn wait(&mut self, id: RequestId) -> Waiting {
        let pending = self.call.is_some() || self.wanted || {
            let record = self.record().0;
            if self.runs(record) {
                true
            } else {
                self.wanted = self.may_begin(record);
                self.wanted
            }
        };
        if !pending {
            return Waiting::InVain;
        }
        self.waiting.retain(|(_, place)| place.strong_count() > 0);
        if self.waiting.len() == WAITING_MAX {
            return Waiting::TooMany;
        }
        let place = Place::default();
        self.waiting.push_back((id, Rc::downgrade(&place)));
        Waiting::ForKeys(place)
    }

    /// Takes over what another VM fetched, and fetches if it is time.
    pub fn poll(&mut self, root: &mut Root) -> Change {
        let mut change = Change::default();
        let (record, version) = self.record();
        if record.stamp > self.keys.as_ref().map_or(0, |keys| keys.stamp) {
            change.keys = self.adopt(record.stamp);
        }
        let due =
            self.wanted || self.keys.as_ref().is_none_or(|k| k.age() >= self.uri.cache_duration);
        if self.call.is_none() && due && !self.runs(record) && self.may_begin(record) {
            self.fetch(root, record, version, &mut change);
        }
        if self.call.is_none() && !self.runs(self.record().0) {
            self.wanted = false;
            self.wake(root);
        }
        change
    }

    /// The answer to a fetch; `None` when it is not to one of this issuer.
    pub fn answered(&mut self, root: &mut Root, call: CallId, answer: &Answer) -> Option<Change> {
        self.call.take_if(|own| *own == call)?;
        self.wanted = false;
        let mut change = Change::default();
        match read(answer) {
            Ok((keys, text)) => {
                let stamp = wall_ms();
                change.keys = self.load(keys, stamp, Duration::ZERO);
                self.failures = 0;
                self.share(stamp, &text);
            }
            Err(reason) => {
                waypoint_sdk::warn!("keys of {} not fetched: {reason}", self.uri.upstream);
                change.failed = true;
                self.failed();
            }
        }
        self.wake(root);
        Some(change)
    }

    fn failed(&mut self) {
        let backoff = Duration::from_secs(1 << self.failures.min(10)).min(self.uri.cool_down);
        self.failures += 1;
        self.next_try = waypoint_sdk::uptime() + backoff;
        let (record, version) = self.record();
        self.write(Record { ended: true, ..record }, version);
    }

    /// Everyone looks again: with newer keys, or to be refused.
    fn wake(&mut self, root: &mut Root) {
        for (id, _) in self.waiting.drain(..) {
            root.wake(id);
        }
    }

    fn load(&mut self, keys: KeySet, stamp: u64, age: Duration) -> bool {
        let changed = self.keys.as_ref().is_none_or(|loaded| loaded.keys != keys);
        self.keys = Some(Loaded { keys, stamp, age, at: waypoint_sdk::uptime() });
        changed
    }

    fn adopt(&mut self, stamp: u64) -> bool {
        let Some((text, _)) = shared_data::get(&self.set_name()) else { return false };
        let Ok(keys) = KeySet::parse(&text) else { return false };
        let age = Duration::from_millis(wall_ms().saturating_sub(stamp));
        self.load(keys, stamp, age)
    }

    fn share(&mut self, stamp: u64, text: &[u8]) {
        let (record, version) = self.record();
        let fits = text.len() <= SHARED_BYTES_MAX;
        // Without a version no write is refused.
        if fits && shared_data::set(&self.set_name(), text, None).is_ok() {
            self.write(Record { stamp, ended: true, ..record }, version);
        } else {
            self.write(Record { ended: true, ..record }, version);
        }
    }

    /// A fetch runs, here or in another VM.
    fn runs(&self, record: Record) -> bool {
        self.call.is_some() || (!record.ended && since(record.began) < self.uri.timeout + GRACE)
    }

    /// The time is not too near to the last fetch. One for unknown keys keeps the cool-down, also
    /// from the others' fetches.
    fn may_begin(&self, record: Record) -> bool {
        let usable = self.keys.as_ref().is_some_and(|k| k.age() < self.uri.cache_duration);
        if usable {
            since(record.began) >= self.uri.cool_down
        } else {
            waypoint_sdk::uptime() >= self.next_try && since(record.began) >= FETCH_GAP
        }
    }

    /// Takes the right to fetch, and fetches.
    fn fetch(
        &mut self,
        root: &mut Root,
        record: Record,
        version: Option<shared_data::Version>,
        change: &mut Change,
    ) {
        if !self.write(Record { began: wall_ms(), ended: false, ..record }, version) {
            // Another VM was faster.
            return;
        }
        let callout = Callout {
            upstream: &self.uri.upstream,
            headers: &[
                (":method", "GET"),
                (":path", &self.uri.path),
                (":authority", &self.authority),
                ("accept", "application/json"),
            ],
            body: b"",
            timeout: self.uri.timeout,
        };
        match root.call(&callout) {
            Ok(call) => {
                self.call = Some(call);
                change.fetched = true;
            }
            Err(error) => {
                waypoint_sdk::warn!("keys of {} not fetched: {error}", self.uri.upstream);
                change.failed = true;
                self.failed();
            }
        }
    }

    fn set_name(&self) -> String {
        format!("jwks/{}/set", self.name)
    }

    fn record(&self) -> (Record, Option<shared_data::Version>) {
        let Some((bytes, version)) = shared_data::get(&format!("jwks/{}", self.name)) else {
            return (Record { ended: true, ..Record::default() }, None);
        };
        (Record::read(&bytes).unwrap_or_default(), version)
    }

    /// `false`: another VM wrote in between.
    fn write(&self, record: Record, version: Option<shared_data::Version>) -> bool {
        shared_data::set(&format!("jwks/{}", self.name), &record.bytes(), version).is_ok()
    }
}

/// A request's place among those that wait: it is given up when this is dropped, so that the end of
/// a request needs no callback.
pub type Place = Rc<()>;

/// What becomes of a request that wants newer keys.
#[derive(Debug)]
pub enum Waiting {
    /// It is held until they are there, or the fetch has failed.
    ForKeys(Place),
    /// No newer keys can come yet.
    InVain,
    /// Over [`WAITING_MAX`].
    TooMany,
}

impl Loaded {
    fn age(&self) -> Duration {
        self.age + waypoint_sdk::uptime().saturating_sub(self.at)
    }
}

impl Record {
    fn bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.began.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[16] = u8::from(self.ended);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (began, rest) = bytes.split_first_chunk()?;
        let (stamp, rest) = rest.split_first_chunk()?;
        Some(Self {
            began: u64::from_le_bytes(*began),
            stamp: u64::from_le_bytes(*stamp),
            ended: rest == [1],
        })
    }
}

/// A set from an answer, and its text; or why not.
fn read(answer: &Answer) -> Result<(KeySet, Vec<u8>), String> {
    match answer.status {
        Some(200) => {}
        Some(status) => return Err(format!("status {status}")),
        None => return Err("no answer".to_owned()),
    }
    if answer.headers.iter().any(|(name, _)| name == "content-encoding") {
        return Err("the answer is compressed".to_owned());
    }
    // One byte more than fits tells that it does not.
    let text = answer.body(SET_BYTES_MAX + 1);
    KeySet::parse(&text).map(|keys| (keys, text)).map_err(|error| error.to_string())
}

fn wall_ms() -> u64 {
    let since = waypoint_sdk::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago, by the wall clock; long ago when the clock was set back.
fn since(began: u64) -> Duration {
    wall_ms().checked_sub(began).map_or(Duration::MAX, Duration::from_millis)
}
