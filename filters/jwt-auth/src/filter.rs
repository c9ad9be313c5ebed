//! What all requests share: issuers with their keys, and the tokens that were verified.

use std::time::{Duration, UNIX_EPOCH};

use waypoint_sdk::{
    Answer, CallId, ConfigError, Counter, Filter, RequestId, Root, foreign, is_header_value, now,
};

use crate::cache::{Cache, Grant};
use crate::config::{Config, KeySource};
use crate::keys::{Algorithm, KeySet};
use crate::remote::{Change, Remote, Waiting};
use crate::request::Checking;
use crate::token::{Claims, Demands, Refusal, TOKEN_BYTES_MAX, Unverified};
use crate::verify::OnHost;

/// How often remote keys are looked after.
const TICK: Duration = Duration::from_secs(1);

/// A header made of a claim is at most so long; a longer one is left out.
const HEADER_BYTES_MAX: usize = 4 << 10;

/// The filter.
#[derive(Debug)]
pub struct JwtAuth {
    config: Config,
    issuers: Vec<Issuer>,
    cache: Cache,
    verifier: OnHost,
    /// The host was told that all keys are there.
    ready: bool,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct Issuer {
    algorithms: Vec<Algorithm>,
    demands: Demands,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Inline(KeySet),
    Remote(Box<Remote>),
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    pub(crate) allowed: Counter,
    pub(crate) missing: Counter,
    pub(crate) refused: Counter,
    pub(crate) unavailable: Counter,
    cache_hits: Counter,
    fetches: Counter,
    fetches_failed: Counter,
}

/// What becomes of a request with a token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The values of the headers that are made of claims.
    Allow(Vec<Option<String>>),
    Refuse(Refusal),
    /// Newer keys of an issuer may help; `Refusal` is the answer if they do not.
    Newer(usize, Refusal),
    /// There are no keys of this issuer.
    NoKeys(usize),
}

impl Filter for JwtAuth {
    type Config = Config;
    type Http = Checking;

    fn configure(mut config: Config, root: &mut Root) -> Result<Self, ConfigError> {
        config.check()?;
        let mut issuers = Vec::new();
        for (n, issuer) in config.issuers.iter().enumerate() {
            issuers.push(Issuer {
                algorithms: issuer.algorithms.clone(),
                demands: Demands {
                    audiences: issuer.audiences.clone(),
                    expiry: config.require_exp,
                    clock_skew: config.clock_skew.as_secs_f64(),
                },
                keys: match issuer.key_source(&format!("issuers[{n}]"))? {
                    KeySource::Inline(keys) => Keys::Inline(keys),
                    KeySource::Remote(uri) => Keys::Remote(Box::new(Remote::new(uri))),
                },
            });
        }
        let mut filter = Self {
            config,
            issuers,
            cache: Cache::default(),
            verifier: OnHost::default(),
            ready: true,
            counters: Counters::new(),
        };
        if filter.remotes().next().is_some() {
            root.set_tick(TICK);
            filter.ready = false;
            filter.on_tick(root);
            if !filter.ready {
                foreign::ready(false);
            }
        }
        Ok(filter)
    }

    fn open(&mut self, id: RequestId) -> Checking {
        Checking::new(id)
    }

    fn on_tick(&mut self, root: &mut Root) {
        for n in 0..self.issuers.len() {
            if let Keys::Remote(remote) = &mut self.issuers[n].keys {
                let change = remote.poll(root);
                self.changed(change);
            }
        }
        self.tell_ready();
    }

    fn on_callout(&mut self, root: &mut Root, call: CallId, answer: &Answer) {
        let change = self.remotes().find_map(|remote| remote.answered(root, call, answer));
        self.changed(change.unwrap_or_default());
        self.tell_ready();
    }
}

impl JwtAuth {
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    fn remotes(&mut self) -> impl Iterator<Item = &mut Remote> {
        self.issuers.iter_mut().filter_map(|issuer| match &mut issuer.keys {
            Keys::Remote(remote) => Some(&mut **remote),
            Keys::Inline(_) => None,
        })
    }

    fn changed(&mut self, change: Change) {
        if change.keys {
            self.cache.clear();
        }
        self.counters.fetches.add(u32::from(change.fetched));
        self.counters.fetches_failed.add(u32::from(change.failed));
    }

    fn tell_ready(&mut self) {
        if !self.ready && self.remotes().all(|remote| remote.keys().is_some()) {
            self.ready = true;
            foreign::ready(true);
        }
    }

    /// Judges a token by the keys that are there.
    pub(crate) fn judge(&mut self, token: &str) -> Verdict {
        if token.len() > TOKEN_BYTES_MAX {
            return Verdict::Refuse(Refusal::TooLarge);
        }
        if let Some(grant) = self.cache.get(token) {
            let issuer = &self.issuers[grant.issuer];
            if issuer.keys.usable().is_none() {
                return Verdict::NoKeys(grant.issuer);
            }
            if let Err(refusal) = grant.validity.at(seconds(), issuer.demands.clock_skew) {
                self.cache.remove(token);
                return Verdict::Refuse(refusal);
            }
            self.counters.cache_hits.increment();
            return Verdict::Allow(grant.headers.clone());
        }
        match self.verify(token) {
            Ok(grant) => {
                self.cache.insert(token, &grant);
                Verdict::Allow(grant.headers)
            }
            Err(verdict) => verdict,
        }
    }

    fn verify(&self, token: &str) -> Result<Grant, Verdict> {
        let token = Unverified::parse(token).map_err(Verdict::Refuse)?;
        let name = token.issuer().map_err(Verdict::Refuse)?;
        let n = self.config.issuers.iter().position(|issuer| issuer.issuer == name);
        let n = n.ok_or(Verdict::Refuse(Refusal::Issuer))?;
        let issuer = &self.issuers[n];
        let keys = issuer.keys.usable().ok_or(Verdict::NoKeys(n))?;
        let claims = token.verify(&issuer.algorithms, keys, &self.verifier);
        let claims = claims.map_err(|refusal| match (refusal, &issuer.keys) {
            (Refusal::UnknownKey, Keys::Remote(_)) => Verdict::Newer(n, refusal),
            _ => Verdict::Refuse(refusal),
        })?;
        let validity = claims.check(&issuer.demands).map_err(Verdict::Refuse)?;
        validity.at(seconds(), issuer.demands.clock_skew).map_err(Verdict::Refuse)?;
        Ok(Grant { issuer: n, validity, headers: self.headers(&claims) })
    }

    /// Values that cannot be a header's are left out, as if the claim were not there.
    fn headers(&self, claims: &Claims) -> Vec<Option<String>> {
        let fits = |text: &String| text.len() <= HEADER_BYTES_MAX && is_header_value(text);
        let value = |claim: &str| claims.text(claim).filter(fits);
        self.config.claims_to_headers.iter().map(|mapped| value(&mapped.claim)).collect()
    }

    /// Lets a request wait for an issuer's newer keys.
    pub(crate) fn wait(&mut self, issuer: usize, id: RequestId) -> Waiting {
        match self.issuers.get_mut(issuer).map(|issuer| &mut issuer.keys) {
            Some(Keys::Remote(remote)) => remote.wait(id),
            _ => Waiting::InVain,
        }
    }
}

impl Keys {
    fn usable(&self) -> Option<&KeySet> {
        match self {
            Self::Inline(keys) => Some(keys),
            Self::Remote(remote) => remote.keys(),
        }
    }
}

impl Counters {
    fn new() -> Self {
        Self {
            allowed: Counter::new("jwt_auth_allowed"),
            missing: Counter::new("jwt_auth_missing"),
            refused: Counter::new("jwt_auth_refused"),
            unavailable: Counter::new("jwt_auth_unavailable"),
            cache_hits: Counter::new("jwt_auth_cache_hits"),
            fetches: Counter::new("jwt_auth_key_fetches"),
            fetches_failed: Counter::new("jwt_auth_key_fetches_failed"),
        }
    }
}

fn seconds() -> f64 {
    now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
