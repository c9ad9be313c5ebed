//! Whether a reference into another namespace is allowed.

use crate::resource::Resources;
use crate::resource::secret::ReferenceGrant;

/// A reference: who refers, and to what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'a> {
    /// The kind that refers, of the group `gateway.networking.k8s.io`.
    pub from_kind: &'a str,
    pub from_namespace: &'a str,
    /// The kind that is referred to, of the core group.
    pub to_kind: &'a str,
    pub to_namespace: &'a str,
    pub to_name: &'a str,
}

/// Whether the reference stays in its namespace, or a ReferenceGrant of the other one allows it.
///
/// # Source
///
/// Gateway API, `ReferenceGrant`.
pub(super) fn permits(resources: &Resources, reference: Reference<'_>) -> bool {
    if reference.from_namespace == reference.to_namespace {
        return true;
    }
    let grants = resources.each::<ReferenceGrant>();
    grants.filter(|grant| grant.namespace() == reference.to_namespace).any(|grant| {
        let from = grant.spec.from.iter().any(|from| {
            from.group == "gateway.networking.k8s.io"
                && from.kind == reference.from_kind
                && from.namespace.0 == reference.from_namespace
        });
        let to = grant.spec.to.iter().any(|to| {
            to.group.is_empty()
                && to.kind == reference.to_kind
                && to.name.as_ref().is_none_or(|name| name.0 == reference.to_name)
        });
        from && to
    })
}
