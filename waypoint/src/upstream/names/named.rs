//! A service some of whose endpoints have names: what it is at the moment.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Name, Trouble};
use crate::upstream::balance::Shared;
use crate::upstream::{Cluster, Deadlines, Protocol, Security, UpstreamError, Upstreams};

/// Where an endpoint of a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At this address.
    Address(SocketAddr),
    /// At every address of this name, at this port.
    Name(Arc<str>, u16),
}

/// A target whose name somebody follows.
enum Followed {
    Address(SocketAddr),
    Name(Arc<Name>, u16),
}

/// The endpoints of a service as the names of some of them are resolved at the moment.
pub(in crate::upstream) struct Named {
    upstreams: Weak<Upstreams>,
    service: Arc<str>,
    protocol: Protocol,
    security: Security,
    groups: Vec<Vec<Followed>>,
    current: ArcSwap<Now>,
    /// Wakes requests that wait for the first answers.
    changed: Notify,
    /// One after the other, so that what was learned last is what is served.
    rebuilding: Mutex<()>,
}

/// What a service is at the moment.
pub(in crate::upstream) struct Now {
    pub(in crate::upstream) cluster: Cluster,
    /// Whether a name had not been answered for yet when this was built.
    waits: bool,
}

impl Named {
    /// Follows the names; `empty` is the service without endpoints.
    pub(in crate::upstream) fn new(
        upstreams: &Arc<Upstreams>,
        shared: &Arc<Shared>,
        empty: Cluster,
        groups: &[Vec<Target>],
    ) -> Arc<Self> {
        let place = |target: &Target| match target {
            Target::Address(address) => Followed::Address(*address),
            Target::Name(name, port) => Followed::Name(shared.names.intern(name, shared), *port),
        };
        let named = Arc::new(Self {
            upstreams: Arc::downgrade(upstreams),
            service: Arc::clone(empty.service()),
            protocol: empty.protocol,
            security: empty.security.clone(),
            groups: groups.iter().map(|group| group.iter().map(place).collect()).collect(),
            current: ArcSwap::from_pointee(Now { cluster: empty, waits: true }),
            changed: Notify::new(),
            rebuilding: Mutex::new(()),
        });
        for name in named.names() {
            name.used_by(&named);
        }
        named.rebuild();
        named
    }

    fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.groups.iter().flatten().filter_map(|place| match place {
            Followed::Name(name, _) => Some(name),
            Followed::Address(_) => None,
        })
    }

    /// What the service is at the moment.
    pub(in crate::upstream) fn now(&self) -> Arc<Now> {
        self.current.load_full()
    }

    /// Takes in what is known of the names.
    pub(super) fn rebuild(&self) {
        let Some(upstreams) = self.upstreams.upgrade() else { return };
        let _one_at_a_time = self.rebuilding.lock();
        let mut waits = false;
        let mut group = |places: &Vec<Followed>| {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for place in places {
                match place {
                    Followed::Address(address) => addresses.push(*address),
                    Followed::Name(name, port) => {
                        let known = name.known.lock().clone();
                        waits |= known.trouble == Some(Trouble::Waiting);
                        let all =
                            known.addresses.iter().map(|address| SocketAddr::new(*address, *port));
                        addresses.extend(all.filter(|address| upstreams.may_be_named(*address)));
                    }
                }
            }
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        };
        let groups: Vec<_> = self.groups.iter().map(&mut group).collect();
        let (service, security) = (Arc::clone(&self.service), self.security.clone());
        let cluster = upstreams.cluster(service, self.protocol, security, &groups);
        self.current.store(Arc::new(Now { cluster, waits }));
        self.changed.notify_waiters();
    }

    /// What the service is at the moment; where it has no endpoint yet, waits for the first answers,
    /// for no longer than a connection may take to be made.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unresolved`]: there is no address.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing but waiting.
    pub(in crate::upstream) async fn ready(
        &self,
        deadlines: &Deadlines,
    ) -> Result<Arc<Now>, UpstreamError> {
        let now = self.now();
        if !now.cluster.endpoints.is_empty() {
            return Ok(now);
        }
        let Some(upstreams) = self.upstreams.upgrade() else { return Ok(now) };
        let limit = Instant::now() + upstreams.connect_timeout();
        let limit = deadlines.request.map_or(limit, |deadline| deadline.min(limit));
        // Over: what is known then is what there is.
        let _ = timeout_at(limit, self.settled()).await;
        let now = self.now();
        if now.cluster.endpoints.is_empty() {
            return Err(self.why());
        }
        Ok(now)
    }

    /// Until there is an endpoint, or nothing more is to be waited for.
    async fn settled(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.now();
            if !now.cluster.endpoints.is_empty() || !now.waits {
                return;
            }
            changed.await;
        }
    }

    /// Why there is no endpoint: of several names the trouble of the first.
    fn why(&self) -> UpstreamError {
        let troubled = |name: &Arc<Name>| {
            // Its addresses are all our own.
            let trouble = name.known.lock().trouble.unwrap_or(Trouble::Refused);
            UpstreamError::Unresolved { name: Arc::clone(&name.text), reason: trouble.name() }
        };
        self.names().next().map_or(UpstreamError::NoEndpoints, troubled)
    }
}
