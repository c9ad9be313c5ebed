//! What became of each numbered request, as its client and its origin saw it, and the verdict.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::faults::Seeded;
use crate::origin::Speaks;

/// Bytes of a large body, and of one that is not.
const LARGE: usize = 64 * 1024;
const SMALL: usize = 200;

/// What a request is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    /// A PUT of 64 KiB.
    Upload,
    /// A POST that must not be repeated.
    Post,
    /// A gRPC call of a few messages each way.
    Call,
    /// A GET that a filter denies.
    Denied,
}

/// One request of a run: all that it is follows from its number and the seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) id: u64,
    pub(super) kind: Kind,
    /// What the client speaks.
    pub(super) client: Speaks,
    /// What the endpoint speaks.
    pub(super) endpoint: Speaks,
    seed: u64,
}

impl Numbered {
    pub(super) fn new(seed: u64, id: u64) -> Self {
        let mut random = Seeded::new(seed, id);
        let mut speaks = || match random.below(2) {
            0 => Speaks::Http1,
            _ => Speaks::Http2,
        };
        let (mut client, mut endpoint) = (speaks(), speaks());
        let kind = match random.below(100) {
            0..10 => Kind::Call,
            10..20 => Kind::Upload,
            20..25 => Kind::Post,
            25..27 => Kind::Denied,
            _ => Kind::Get,
        };
        if kind == Kind::Call {
            (client, endpoint) = (Speaks::Http2, Speaks::Http2);
        } else if client == Speaks::Http2 && random.below(9) == 0 {
            client = Speaks::Http1; // Calls are of HTTP/2 only: half of all remains.
        }
        Self { id, kind, client, endpoint, seed }
    }

    pub(super) fn has_body(&self) -> bool {
        matches!(self.kind, Kind::Upload | Kind::Post | Kind::Call)
    }

    /// What the client sends.
    pub(super) fn body(&self) -> Bytes {
        let mut random = Seeded::new(self.seed, self.id ^ (1 << 63));
        match self.kind {
            Kind::Get | Kind::Denied => Bytes::new(),
            Kind::Upload => random.bytes(LARGE).into(),
            Kind::Post => random.bytes(SMALL).into(),
            Kind::Call => messages(&mut random),
        }
    }

    /// What the origin answers. One in ten is large.
    pub(super) fn answer(&self) -> Bytes {
        let mut random = Seeded::new(self.seed, self.id ^ (1 << 62));
        match (self.kind, random.below(10)) {
            (Kind::Call, _) => messages(&mut random),
            (_, 0) => random.bytes(LARGE).into(),
            _ => random.bytes(SMALL).into(),
        }
    }
}

/// Three messages as gRPC frames them.
fn messages(random: &mut Seeded) -> Bytes {
    let mut all = Vec::new();
    for _ in 0..3 {
        let message = random.bytes(SMALL);
        all.push(0);
        all.extend_from_slice(&u32::try_from(SMALL).expect("short").to_be_bytes());
        all.extend_from_slice(&message);
    }
    all.into()
}

/// What origins have seen.
#[derive(Default)]
pub(super) struct Ledger {
    seen: Mutex<HashMap<u64, Seen>>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    heads: u32,
    differs: bool,
    answered: bool,
}

impl Ledger {
    /// A request's head has come.
    pub(super) fn head(&self, id: u64) {
        self.seen.lock().entry(id).or_default().heads += 1;
    }

    /// All of a request has come: was it as its client sent it?
    pub(super) fn whole(&self, id: u64, as_sent: bool) {
        self.seen.lock().entry(id).or_default().differs |= !as_sent;
    }

    /// An answer was given to the connection.
    pub(super) fn answered(&self, id: u64) {
        self.seen.lock().entry(id).or_default().answered = true;
    }

    /// Heads of all requests together.
    pub(super) fn heads(&self) -> u64 {
        self.seen.lock().values().map(|seen| u64::from(seen.heads)).sum()
    }
}

/// What a client saw of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// 200 and the body that the origin gave.
    Whole,
    /// 429, 503, 504 or their gRPC statuses.
    Shed(u16),
    /// Another status; of gRPC calls, the status of HTTP or 200.
    Status(u16),
    /// An answer that ended with an error.
    Cut(String),
    /// No answer, but an error on the connection.
    Broken(String),
    /// An answer that ended well and is not what the origin gave.
    Differs,
    /// Nothing at all.
    Lost,
}

/// A request's fate, and how long after its time it was sealed.
pub(super) struct Sealed {
    pub(super) request: Numbered,
    pub(super) fate: Fate,
    pub(super) after: Duration,
}

/// All of a run.
pub(super) struct Report {
    seed: u64,
    pub(super) all: Vec<Sealed>,
    lost: Vec<u64>,
    duplicated: Vec<u64>,
    corrupt: Vec<u64>,
    allowed: Vec<u64>,
    /// Answered by the origin, and not by us.
    withheld: Vec<u64>,
}

impl Report {
    pub(super) fn new(seed: u64, mut all: Vec<Sealed>, ledger: &Ledger) -> Self {
        all.sort_unstable_by_key(|sealed| sealed.after);
        let seen = ledger.seen.lock();
        let of = |wanted: &dyn Fn(&Sealed, Seen) -> bool| -> Vec<u64> {
            let seen = |sealed: &Sealed| seen.get(&sealed.request.id).copied().unwrap_or_default();
            all.iter().filter(|one| wanted(one, seen(one))).map(|one| one.request.id).collect()
        };
        let lost = of(&|one, _| one.fate == Fate::Lost);
        let duplicated = of(&|one, seen| one.request.kind == Kind::Post && seen.heads > 1);
        let corrupt = of(&|one, seen| one.fate == Fate::Differs || seen.differs);
        let allowed = of(&|one, seen| one.request.kind == Kind::Denied && seen.heads > 0);
        let withheld =
            of(&|one, seen| seen.answered && matches!(one.fate, Fate::Cut(_) | Fate::Broken(_)));
        drop(seen);
        let report = Self { seed, all, lost, duplicated, corrupt, allowed, withheld };
        eprintln!("{}", report.summary());
        report
    }

    /// Requests that ended so.
    pub(super) fn count(&self, wanted: impl Fn(&Fate) -> bool) -> usize {
        self.all.iter().filter(|sealed| wanted(&sealed.fate)).count()
    }

    pub(super) fn whole(&self) -> usize {
        self.count(|fate| *fate == Fate::Whole)
    }

    pub(super) fn shed(&self) -> usize {
        self.count(|fate| matches!(fate, Fate::Shed(_)))
    }

    /// Requests that were neither answered as they should nor shed.
    pub(super) fn failed(&self) -> Vec<&Sealed> {
        let is_right = |sealed: &&Sealed| match (&sealed.fate, sealed.request.kind) {
            (Fate::Whole, kind) => kind != Kind::Denied,
            (Fate::Status(status), Kind::Denied) => *status == 403,
            (Fate::Shed(_), _) => true,
            _ => false,
        };
        self.all.iter().filter(|sealed| !is_right(sealed)).collect()
    }

    /// What it took of all requests to be answered at most, `hundredths` of them left out.
    pub(super) fn quantile(&self, hundredths: usize) -> Duration {
        let index = self.all.len() * (100 - hundredths) / 100;
        self.all.get(index).or(self.all.last()).map_or(Duration::ZERO, |sealed| sealed.after)
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} sent, {} whole, {} shed, {} failed; lost {:?}, duplicated {:?}, corrupt {:?}, \
             allowed wrongly {:?}; p50 {:?}, p99 {:?}; WAYPOINT_SEED={}",
            self.all.len(),
            self.whole(),
            self.shed(),
            self.failed().len(),
            self.lost,
            self.duplicated,
            self.corrupt,
            self.allowed,
            self.quantile(50),
            self.quantile(1),
            self.seed,
        )
    }

    /// Whatever an origin answered was answered to its client.
    pub(super) fn withholds_nothing(&self) {
        let withheld = self.all.iter().filter(|one| self.withheld.contains(&one.request.id));
        let kinds = kinds(&withheld.collect::<Vec<_>>());
        assert!(kinds.is_empty(), "answered by origins only: {kinds:#?}; {}", self.summary());
    }

    /// Nothing was lost, duplicated, changed or allowed wrongly.
    pub(super) fn is_sound(&self) {
        let faults = [&self.lost, &self.duplicated, &self.corrupt, &self.allowed];
        assert!(faults.iter().all(|ids| ids.is_empty()), "{}", self.summary());
        assert!(!self.all.is_empty(), "nothing was sent");
    }

    /// Sound; at most `shed` were shed; and every other request was answered as it should.
    pub(super) fn all_but(&self, shed: usize) {
        self.is_sound();
        self.failed_only(|_| false);
        let kinds = self.shed_kinds();
        assert!(self.shed() <= shed, "more than {shed} are shed: {kinds:#?}; {}", self.summary());
    }

    /// Who failed may have failed.
    pub(super) fn failed_only(&self, may_fail: impl Fn(&Sealed) -> bool) {
        let wrong: Vec<_> = self.failed().into_iter().filter(|sealed| !may_fail(sealed)).collect();
        let kinds = kinds(&wrong);
        assert!(wrong.is_empty(), "{} failed: {kinds:#?}; {}", wrong.len(), self.summary());
    }

    /// What was shed, by kind.
    pub(super) fn shed_kinds(&self) -> BTreeMap<String, usize> {
        let shed = self.all.iter().filter(|sealed| matches!(sealed.fate, Fate::Shed(_)));
        kinds(&shed.collect::<Vec<_>>())
    }
}

/// How many requests of each kind had which fate.
fn kinds(all: &[&Sealed]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for Sealed { request, fate, .. } in all {
        let kind =
            format!("{:?} {:?} to {:?}: {fate:?}", request.kind, request.client, request.endpoint);
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}
