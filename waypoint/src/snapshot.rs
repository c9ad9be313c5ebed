//! The desired state, as one atomically swapped value: a request sees one world.
//!
//! A [`Snapshot`] holds the checked model and handles to running state (clusters, filter
//! generations, certificates). Running state is keyed by identity and outlives a snapshot: a new
//! one that wants the same thing gets the same handle (design decision 10).

mod certificates;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use waypoint_policies::ports::Ports;
use waypoint_policies::{Entrance, FilterKey, Model, ResourceKey, ServicePort, ServicePortKey};

use crate::filter_chain::ActiveFilter;
use crate::listener::TlsTerms;
use crate::upstream::Cluster;

pub use certificates::{CertificateProblem, CertificateStore, SnapshotCertificates, SnapshotTls};

/// One consistent desired state.
pub struct Snapshot {
    /// Counts up with each swap; 0 is the empty snapshot before the first.
    pub number: u64,
    /// The checked model.
    pub model: Model,
    /// The numbers of service ports.
    pub ports: Ports,
    /// Entrances by name.
    pub entrances: HashMap<Arc<str>, Arc<ServedEntrance>>,
    /// Every service port with its balanced handle.
    pub services: Arc<Services>,
    /// Every filter of the model: running, or denied.
    pub filters: BTreeMap<FilterKey, FilterSlot>,
    /// Routes whose security resource is refused: route → the resource's name.
    pub denied_routes: HashMap<ResourceKey, String>,
    /// Service ports to which nothing may be sent, for the same reason.
    pub denied_services: HashMap<ServicePortKey, String>,
}

/// Service ports by name.
pub type Services = HashMap<ServicePortKey, Arc<ServedService>>;

/// An entrance with what serves it.
pub struct ServedEntrance {
    /// What the model says.
    pub model: Arc<Entrance>,
    /// Its filters, in the order in which they run on requests.
    pub filters: Vec<FilterSlot>,
    /// A refused security resource without a last good version covers this entrance: its name.
    pub denied_by: Option<String>,
    /// Its certificates, when it is HTTPS.
    pub certificates: Option<Arc<CertificateStore>>,
    /// What its handshakes offer and demand, when it is HTTPS.
    pub tls: Option<Arc<TlsTerms>>,
}

/// A service port with what serves it.
pub struct ServedService {
    /// Its name, shared with the records of its requests.
    pub key: Arc<ServicePortKey>,
    /// What the model says.
    pub model: Arc<ServicePort>,
    /// The balanced handle.
    pub cluster: Cluster,
}

/// A filter of a snapshot.
#[derive(Clone)]
pub enum FilterSlot {
    /// Runs.
    Active(Arc<ActiveFilter>),
    /// Could not be started and has no last good version; requests that demand it are refused
    /// (fails closed), unless its failure policy is `Open`.
    Denied {
        /// The filter.
        key: FilterKey,
        /// Whether its failure policy lets requests pass without it.
        open: bool,
    },
}

impl FilterSlot {
    /// The filter, if it runs.
    pub fn active(&self) -> Option<&Arc<ActiveFilter>> {
        match self {
            Self::Active(filter) => Some(filter),
            Self::Denied { .. } => None,
        }
    }

    /// The filter's name.
    pub fn key(&self) -> &FilterKey {
        match self {
            Self::Active(filter) => &filter.config.key,
            Self::Denied { key, .. } => key,
        }
    }
}

/// The services that guests may call. Set before the filters of a new snapshot start: a filter may
/// need a callout to become ready.
#[derive(Default)]
pub struct CalloutTargets(ArcSwap<Services>);

impl CalloutTargets {
    /// The services of this moment.
    pub fn load(&self) -> Arc<Services> {
        self.0.load_full()
    }

    /// Sets them.
    pub fn set(&self, services: Arc<Services>) {
        self.0.store(services);
    }
}

/// The snapshot that new requests see.
pub struct Current(ArcSwap<Snapshot>);

impl Current {
    /// Starts with a snapshot that serves nothing.
    pub fn empty() -> Self {
        Self(ArcSwap::from_pointee(Snapshot {
            number: 0,
            model: Model::default(),
            ports: Ports::default(),
            entrances: HashMap::new(),
            services: Arc::default(),
            filters: BTreeMap::new(),
            denied_routes: HashMap::new(),
            denied_services: HashMap::new(),
        }))
    }

    /// The snapshot of this moment; hold it for a whole request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Makes `next` what new requests see. Connections whose terms are other ones now are looked at
    /// anew.
    pub fn swap(&self, next: Arc<Snapshot>) {
        let former = self.0.swap(Arc::clone(&next));
        for (name, entrance) in &former.entrances {
            let Some(terms) = &entrance.tls else { continue };
            let now = next.entrances.get(name).and_then(|entrance| entrance.tls.as_ref());
            if !now.is_some_and(|now| Arc::ptr_eq(now, terms)) {
                terms.retire();
            }
        }
    }
}
