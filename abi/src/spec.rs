//! What an operator configured: one filter.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::limits::Limits;

/// One configured filter.
#[derive(Clone, Debug)]
pub struct FilterSpec {
    /// `namespace/name` of the resource; the property `plugin_name`.
    pub name: String,
    /// The namespace whose resource this is. VMs and shared data never cross it.
    pub owner: String,
    /// Which root context of the module; the property `plugin_root_id`.
    pub root_id: String,
    /// What `proxy_on_configure` reads, byte for byte.
    pub configuration: Option<Bytes>,
    /// What `proxy_on_vm_start` reads, byte for byte.
    pub vm_configuration: Option<Bytes>,
    /// The environment that WASI shows, as `NAME=value`.
    pub environment: Vec<(String, String)>,
    /// Whether a paused head lets the body come.
    pub bodies: Bodies,
    /// How streams share VMs.
    pub isolation: Isolation,
    /// Imports and callbacks that the guest may use, by their names; `None` allows all.
    pub capabilities: Option<BTreeSet<String>>,
    /// The filter's bounds.
    pub limits: Limits,
}

/// What a paused head means for the body.
///
/// # Source
///
/// Envoy's `allow_on_headers_stop_iteration`, false and true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// No body callback until the guest continues the stream.
    #[default]
    AfterHeaders,
    /// Body callbacks run and accumulate while the head is held.
    BeforeHeaders,
}

/// How streams share VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A VM serves up to `streams_per_vm` streams of one owner.
    #[default]
    Shared,
    /// A fresh VM for each stream; no state survives.
    PerRequest,
}
