//! Last good versions: what is refused now keeps serving as it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::ResourceKey;
use crate::problem::Problem;
use crate::read::Reading;
use crate::resource::{Resource, Resources};

/// Kinds that have no last good version: what they allow or hold ends when they change.
const WITHOUT_LAST_GOOD: [&str; 2] = ["ReferenceGrant", "Secret"];

/// The resources to use now.
///
/// A resource that was refused keeps its last good version; one that is gone goes. From a file
/// with a document that cannot be read, everything stays that came from it before and was not read
/// again: nothing says that it was removed. A refused Secret or ReferenceGrant goes at once.
pub fn merge(previous: &Resources, reading: Reading) -> Resources {
    let mut merged = reading.resources;
    merged.incomplete = !reading.unreadable.is_empty();
    for (key, resource) in &previous.table {
        let refused = reading.refused.contains(key);
        let unread = !refused && reading.unreadable.contains(resource.origin.source.path.as_ref());
        let kept = unread || refused && !WITHOUT_LAST_GOOD.contains(&key.kind.as_str());
        if kept && !merged.table.contains_key(key) {
            keep(&mut merged, key, resource);
        }
    }
    for (key, refused) in &previous.refused {
        // Still refused without a last good version, and in a file that cannot be read now.
        let unread = reading.unreadable.contains(refused.file.as_ref());
        if unread && !reading.refused.contains(key) && !merged.table.contains_key(key) {
            merged.refused.insert(key.clone(), refused.clone());
        }
    }
    merged
}

/// The resources to use when [`crate::check`] found errors: those that it names go back to their
/// last good version. `None` when that changes nothing.
pub fn fall_back(
    previous: &Resources,
    current: &Resources,
    problems: &[Problem],
) -> Option<Resources> {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let named: BTreeSet<&ResourceKey> =
        errors.filter_map(|problem| problem.resource.as_ref()).collect();
    let mut changed = None;
    for key in named {
        if WITHOUT_LAST_GOOD.contains(&key.kind.as_str()) {
            continue;
        }
        let (Some(last), Some(now)) = (previous.table.get(key), current.table.get(key)) else {
            continue;
        };
        if !Arc::ptr_eq(last, now) {
            keep(changed.get_or_insert_with(|| current.clone()), key, last);
        }
    }
    changed
}

fn keep(resources: &mut Resources, key: &ResourceKey, resource: &Arc<Resource>) {
    resources.refused.remove(key);
    resources.table.insert(key.clone(), Arc::clone(resource));
}
