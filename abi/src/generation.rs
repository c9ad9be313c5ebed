//! The VMs of one compiled and configured filter.
//!
//! A stream goes to the free VM with the fewest streams; when all are locked or full another VM
//! starts, up to `vms_max`. A VM that traps is taken out and replaced: the first time at once,
//! then after a growing, jittered pause. VMs that have been idle for a while end, down to one.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    context::Context,
    core::{Core, Readiness},
    host::{Attributes, Host},
    module::{Hooks, Module},
    outcome::{Fault, FaultKind, Held},
    pool::Pool,
    shared::Shared,
    spec::{FilterSpec, Isolation},
    start,
    stats::Stats,
    stream::Stream,
};

/// The VMs of one compiled and configured filter, of one owner.
///
/// Dropping it drops its VMs; [`close`](Self::close) ends them in order.
pub struct Generation {
    pool: Arc<Pool>,
}

/// A filter that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pool has no slot, or the module does not fit one.
    #[error("no VM could be made: {0}")]
    NoVm(String),
    /// A callback answered false.
    #[error("{callback} answered false: the filter refuses its configuration")]
    Refused {
        /// `proxy_on_vm_start` or `proxy_on_configure`.
        callback: &'static str,
    },
    /// A callback trapped or passed a bound.
    #[error("{callback}: {kind}")]
    Fault {
        /// The callback; `(start)` is the module's own start function.
        callback: &'static str,
        /// What happened.
        kind: FaultKind,
    },
}

impl Generation {
    /// Starts and configures the first VM, which shows that the others will start too.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the guest traps, loops or refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the VM that was starting.
    pub async fn start(
        module: Module,
        spec: FilterSpec,
        shared: Arc<Shared>,
        host: Arc<dyn Host>,
    ) -> Result<Arc<Self>, StartError> {
        let isolation = spec.isolation;
        let core = Arc::new(Core::new(module, spec, shared, host));
        let pool = Pool::new(core);
        let first = start::start(pool.core(), &Arc::downgrade(&pool)).await?;
        match isolation {
            Isolation::Shared => pool.adopt(first),
            // It has shown that the filter starts; no stream may meet what it remembers.
            Isolation::PerRequest => pool.retire(first),
        }
        Ok(Arc::new(Self { pool }))
    }

    /// Resolves when the filter is ready: at once, unless it called the foreign function
    /// `waypoint_ready` with one byte 0; then when it has called it with one byte 1.
    ///
    /// A filter that is isolated per request keeps nothing, so it is ready at once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ready(&self) {
        if self.spec().isolation == Isolation::Shared {
            let mut readiness = self.pool.core().ready.subscribe();
            // The sender lives as long as `self`.
            let _ = readiness.wait_for(|readiness| *readiness != Readiness::Waiting).await;
        }
    }

    /// Opens a stream on one of the VMs; the guest sees it with its first callback.
    ///
    /// # Errors
    ///
    /// `Closed`, `Busy`, `CpuShare` or `NoVm`, with nothing held.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a VM that is being started for it starts in a task, for others.
    pub async fn open(self: &Arc<Self>, attributes: Arc<dyn Attributes>) -> Result<Stream, Fault> {
        let core = self.pool.core();
        let refused = |kind: FaultKind| {
            core.counters.fault(&kind);
            Fault { kind, held: Held::default() }
        };
        let now = Instant::now();
        if core.share.is_full(now) {
            return Err(refused(FaultKind::CpuShare));
        }
        let place = self.pool.place().await.map_err(refused)?;
        let id = place.vm().next_id();
        let context = Context::new(now, id, attributes, &core.spec.limits);
        Ok(Stream::new(place, Arc::new(context)))
    }

    /// What was configured.
    #[must_use]
    pub fn spec(&self) -> &FilterSpec {
        &self.pool.core().spec
    }

    /// Which callbacks of a stream will be made.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.pool.core().hooks
    }

    /// A reading of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { vms: self.pool.len(), ..self.pool.core().counters.read() }
    }

    /// Takes no new streams; each VM ends (`on_done`, `on_delete` of its root) when its streams
    /// have ended.
    pub fn close(&self) {
        self.pool.close();
    }
}
