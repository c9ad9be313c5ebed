//! Endpoints that have a name in the place of an address: resolved again and again.
//!
//! One task for each name, however many services use it and however often they are built anew; it
//! ends when nobody uses the name any more. It takes what the resolver answers, gives addresses to
//! the services, and keeps the last good ones while the resolver fails. Requests never ask: they
//! take what is known, and wait only for the first answer of all.

mod named;
mod resolver;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::balance::Shared;
use crate::trace::random;
pub(super) use named::Named;
pub use named::Target;
use resolver::{Answer, Resolver};

/// How names of endpoints are resolved.
#[derive(Clone, Debug)]
pub struct NameLimits {
    /// Whom to ask; `None` = whom `/etc/resolv.conf` names.
    pub resolver: Option<SocketAddr>,
    /// How long an answer is believed at least, and how long at most, whatever its own time is.
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    /// How long after a failure the name is asked for again at first; twice as long each time, up
    /// to `retry_max`. That a name does not exist is believed for no longer than that either.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// How long one question may take, whomever it is put to.
    pub question: Duration,
    /// Names at a time. When full: the name is not resolved, and its requests get 503.
    pub names_max: usize,
    /// Addresses of one name. When there are more: the rest is left out.
    pub addresses_max: usize,
}

impl Default for NameLimits {
    fn default() -> Self {
        Self {
            resolver: None,
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(300),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
            question: Duration::from_secs(10),
            names_max: 1024,
            addresses_max: 64,
        }
    }
}

/// An answer is asked for again up to this share of its time later, in percent, so that names that
/// were resolved together are not always resolved together.
const JITTER_PERCENT: u64 = 10;

/// Every name that a living snapshot has.
pub(super) struct Names {
    table: Mutex<HashMap<Arc<str>, Weak<Name>>>,
    resolver: Resolver,
    /// Where the process itself listens.
    own: RwLock<Vec<SocketAddr>>,
}

/// One name, and what is known of it.
pub(super) struct Name {
    text: Arc<str>,
    known: Mutex<Known>,
    /// Services that have endpoints of this name.
    users: Mutex<Vec<Weak<Named>>>,
    /// Ends the name's task.
    _followed: DropGuard,
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// In order, each once.
    addresses: Arc<[IpAddr]>,
    /// Why there is no address, or why those that there are may be out of date.
    trouble: Option<Trouble>,
    /// Failures since the last answer.
    failures: u32,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The first question has not been answered yet.
    #[default]
    Waiting,
    /// The resolver failed, or did not answer in time.
    Failing,
    /// The name does not exist, or has no address.
    NoSuchName,
    /// Every address is one that names may not lead to.
    Refused,
    /// Too many other names are resolved.
    TooMany,
}

impl Trouble {
    /// The trouble in a word, for records and labels.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::NoSuchName => "no_such_name",
            Self::Refused => "refused",
            Self::TooMany => "too_many_names",
        }
    }
}

// === impl Names ===

impl Names {
    pub(super) fn new(limits: &NameLimits) -> Self {
        let resolver = Resolver::new(limits.resolver, limits.question);
        Self { table: Mutex::default(), resolver, own: RwLock::default() }
    }

    /// The name, which somebody may follow already.
    fn intern(&self, text: &Arc<str>, shared: &Arc<Shared>) -> Arc<Name> {
        let mut table = self.table.lock();
        if let Some(name) = table.get(text).and_then(Weak::upgrade) {
            return name;
        }
        table.retain(|_, name| 0 < name.strong_count());
        let followed = shared.closing.child_token();
        let fits = table.len() < shared.limits.names.names_max;
        let trouble = if fits { Trouble::Waiting } else { Trouble::TooMany };
        let name = Arc::new(Name {
            text: Arc::clone(text),
            known: Mutex::new(Known { trouble: Some(trouble), ..Known::default() }),
            users: Mutex::default(),
            _followed: followed.clone().drop_guard(),
        });
        if fits {
            table.insert(Arc::clone(text), Arc::downgrade(&name));
            let (name, shared_too) = (Arc::downgrade(&name), Arc::clone(shared));
            shared.tasks.spawn(follow(name, shared_too, followed));
        } else {
            let most = shared.limits.names.names_max;
            tracing::error!(name = %text, most, "a name is not resolved: there are too many");
        }
        name
    }

    /// Where the process itself listens: names may not lead there.
    pub(super) fn own(&self, addresses: Vec<SocketAddr>) {
        if std::mem::replace(&mut *self.own.write(), addresses.clone()) == addresses {
            return;
        }
        let names: Vec<_> = self.table.lock().values().filter_map(Weak::upgrade).collect();
        names.iter().for_each(|name| name.rebuild());
    }

    /// Whether an address is one of a socket of the process itself.
    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        self.own.read().iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip() || own.ip().is_unspecified() && is_local(address.ip()))
        })
    }
}

/// Whether the machine itself has the address: only then can a socket be bound to it.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Why a name may not lead to an address; `None` = it may.
///
/// What a cloud tells its machines about themselves, their credentials among it, is at link-local
/// addresses; whoever writes a name's records must not be able to have it fetched.
///
/// # Source
///
/// RFC 3927 and RFC 4291, 2.5.6 (link-local); CVE-2021-25740 for what names in Services can do.
fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("broadcast"),
        _ => None,
    }
}

// === impl Name ===

/// Asks for the name again and again until nobody uses it.
async fn follow(name: Weak<Name>, shared: Arc<Shared>, closed: CancellationToken) {
    let asking = async {
        while let Some(text) = name.upgrade().map(|name| Arc::clone(&name.text)) {
            let answer = shared.names.resolver.ask(&text).await;
            let Some(name) = name.upgrade() else { return };
            let pause = name.learn(answer, &shared);
            drop(name);
            let jitter = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) * JITTER_PERCENT;
            sleep(pause + Duration::from_millis(random() % (jitter / 100 + 1))).await;
        }
    };
    closed.run_until_cancelled(asking).await;
}

impl Name {
    /// Takes an answer in; gives how long it is to be believed.
    fn learn(&self, answer: Answer, shared: &Shared) -> Duration {
        let before = self.known.lock().clone();
        let (known, pause) = before.after(answer, &self.text, &shared.limits.names);
        let result = known.trouble.map_or("resolved", Trouble::name);
        shared.counters.resolved(&self.text, result);
        let (moved, news) = (known.addresses != before.addresses, known.trouble != before.trouble);
        *self.known.lock() = known.clone();
        let (name, addresses) = (&self.text, &known.addresses);
        match known.trouble {
            // Once for each change: a name that stays wrong does not fill the log.
            Some(trouble) if news => {
                let reason = trouble.name();
                tracing::warn!(%name, reason, used = ?addresses, "a name cannot be resolved");
            }
            None if moved || news => tracing::info!(%name, ?addresses, "a name is resolved"),
            _ => {}
        }
        if moved || news {
            self.rebuild();
        }
        pause
    }

    /// Has a service take in what is known, as long as it lives.
    fn used_by(&self, user: &Arc<Named>) {
        let mut users = self.users.lock();
        users.retain(|user| 0 < user.strong_count());
        users.push(Arc::downgrade(user));
    }

    /// Has every service take in what is known.
    fn rebuild(&self) {
        let users: Vec<_> = self.users.lock().iter().filter_map(Weak::upgrade).collect();
        users.iter().for_each(|user| user.rebuild());
    }
}

// === impl Known ===

impl Known {
    /// What is known after an answer, and how long it is to be believed.
    ///
    /// A failure says nothing of the name, so what was known stays. That the name has no address is
    /// an answer: whoever has the former address now is not who was meant.
    fn after(&self, answer: Answer, name: &str, limits: &NameLimits) -> (Self, Duration) {
        match answer {
            Answer::Addresses { addresses, ttl } => {
                // An IPv4 address that is written as IPv6 leads where the IPv4 address does.
                let mut addresses: Vec<IpAddr> =
                    addresses.iter().map(IpAddr::to_canonical).collect();
                addresses.retain(|address| match refusal(*address) {
                    None => true,
                    Some(kind) => {
                        tracing::warn!(name, %address, kind, "a name may not lead there");
                        false
                    }
                });
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(limits.addresses_max);
                let trouble = addresses.is_empty().then_some(Trouble::Refused);
                let known = Self { addresses: addresses.into(), trouble, failures: 0 };
                (known, ttl.clamp(limits.ttl_min, limits.ttl_max))
            }
            Answer::Nothing { ttl } => {
                let trouble = Some(Trouble::NoSuchName);
                let known = Self { addresses: Arc::default(), trouble, failures: 0 };
                (known, ttl.clamp(limits.retry_min, limits.retry_max))
            }
            Answer::Failure => {
                let pause = limits.retry_min.saturating_mul(1 << self.failures.min(16));
                let (trouble, failures) = (Some(Trouble::Failing), self.failures.saturating_add(1));
                let known = Self { addresses: Arc::clone(&self.addresses), trouble, failures };
                (known, pause.min(limits.retry_max))
            }
        }
    }
}

#[cfg(test)]
mod tests;
