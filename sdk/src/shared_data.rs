//! Values that all VMs of a filter share, each with a version for optimistic changes.
//!
//! The host bounds their number and size; a value that does not fit is a trap of the `proxy-wasm`
//! crate, so keep them few and small.

use crate::host;

/// The version of a value; it changes with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub(crate) u32);

/// Another VM wrote in between: read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// The value and its version.
pub fn get(key: &str) -> Option<(Vec<u8>, Option<Version>)> {
    host::shared_data(key).map(|(value, version)| (value, version.map(Version)))
}

/// Writes a value: always, or only if it still has the version that was read.
///
/// # Errors
///
/// [`Conflict`] when its version is another by now.
pub fn set(key: &str, value: &[u8], only_if: Option<Version>) -> Result<(), Conflict> {
    if host::set_shared_data(key, value, only_if.map(|version| version.0)) {
        Ok(())
    } else {
        Err(Conflict)
    }
}
