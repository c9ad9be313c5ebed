//! What became of each resource, in the words of its API.
//!
//! `observedGeneration` and `lastTransitionTime` are for whoever writes a status to an API server:
//! files have no generations, and this crate no clock.

use serde::Serialize;

use crate::model::ResourceKey;

/// The name under which this proxy reports on routes and policies.
///
/// # Source
///
/// Gateway API v1, `GatewayController`.
pub const CONTROLLER_NAME: &str = "waypoint.rs/waypoint";

pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Why a condition does not hold: the API's reason, and a sentence for a person.
pub(crate) type Refusal = (&'static str, String);

/// The status of one resource; what its kind does not have is empty and not written.
///
/// # Source
///
/// Gateway API v1, `GatewayStatus`, `RouteStatus`, `PolicyStatus`. A resource that was refused as a
/// whole has `conditions` whatever its kind is: which parents it names cannot be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Of a Gateway, a filter, or a resource that was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Of a Gateway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// Of a route, in the order of its `parentRefs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentStatus>,
    /// Of a BackendTLSPolicy, in the order of its `targetRefs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<AncestorStatus>,
}

/// One condition of a status.
///
/// # Source
///
/// Kubernetes API conventions, `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `Conflicted`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// The API's reason, for example `BackendNotFound`.
    pub reason: &'static str,
    /// One sentence for a person; empty where all is well.
    pub message: String,
}

/// What became of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// The kinds of routes that may attach.
    pub supported_kinds: Vec<RouteGroupKind>,
    /// How many routes have.
    pub attached_routes: u32,
    /// `Accepted`, `Conflicted`, `ResolvedRefs`, `Programmed`.
    pub conditions: Vec<Condition>,
}

/// A kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RouteGroupKind {
    /// `gateway.networking.k8s.io`.
    pub group: &'static str,
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: &'static str,
}

/// What one parent made of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// As the route names it, with the namespace filled in.
    pub parent_ref: Reference,
    /// [`CONTROLLER_NAME`].
    pub controller_name: &'static str,
    /// `Accepted`, `ResolvedRefs`.
    pub conditions: Vec<Condition>,
}

/// What became of a policy at one of its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    /// The target.
    pub ancestor_ref: Reference,
    /// [`CONTROLLER_NAME`].
    pub controller_name: &'static str,
    /// `Accepted`, `ResolvedRefs`.
    pub conditions: Vec<Condition>,
}

/// Names a Gateway or a Service, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Empty for a Service.
    pub group: String,
    /// `Gateway` or `Service`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A listener or a named port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// A port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Condition {
    /// A condition whose name is also its reason when it holds.
    pub(crate) fn of(kind: &'static str, verdict: Result<(), Refusal>) -> Self {
        match verdict {
            Ok(()) => Self { kind, status: "True", reason: kind, message: String::new() },
            Err((reason, message)) => Self { kind, status: "False", reason, message },
        }
    }

    /// What a parent says of a route, and an ancestor of a policy: whether it takes it, and whether
    /// all that it refers to is there.
    pub(crate) fn accepted_and_resolved(
        accepted: Result<(), Refusal>,
        resolved: Result<(), Refusal>,
    ) -> Vec<Self> {
        vec![Self::of("Accepted", accepted), Self::of("ResolvedRefs", resolved)]
    }

    /// Whether listeners want the same thing: true is bad.
    pub(crate) fn conflicted(conflict: Option<Refusal>) -> Self {
        let kind = "Conflicted";
        match conflict {
            None => Self { kind, status: "False", reason: "NoConflicts", message: String::new() },
            Some((reason, message)) => Self { kind, status: "True", reason, message },
        }
    }

    /// Whether it says that something is wrong.
    pub(crate) fn is_bad(&self) -> bool {
        (self.status == "False") != (self.kind == "Conflicted")
    }
}

/// The statuses of all resources, as they are found.
#[derive(Debug, Default)]
pub(crate) struct Statuses(std::collections::BTreeMap<ResourceKey, Status>);

impl Statuses {
    pub(crate) fn of(&mut self, key: &ResourceKey) -> &mut Status {
        self.0.entry(key.clone()).or_default()
    }

    pub(crate) fn condition(
        &mut self,
        key: &ResourceKey,
        kind: &'static str,
        verdict: Result<(), Refusal>,
    ) {
        self.of(key).conditions.push(Condition::of(kind, verdict));
    }

    /// A route has attached to a listener.
    pub(crate) fn attached(&mut self, gateway: &ResourceKey, listener: &str) {
        let mut listeners = self.of(gateway).listeners.iter_mut();
        if let Some(status) = listeners.find(|status| status.name == listener) {
            status.attached_routes += 1;
        }
    }

    pub(crate) fn into_vec(self) -> Vec<(ResourceKey, Status)> {
        self.0.into_iter().collect()
    }
}
