//! Watches the files, and tells of a change.
//!
//! Folders are watched, not files: editors replace files, and a mounted ConfigMap swaps the link
//! `..data` beside them.

use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Sources;

/// Watches until the returned watcher is dropped; `changed` is called on a thread of its own.
///
/// # Errors
///
/// The system's watcher cannot be started, or a folder cannot be watched.
pub fn watch(
    sources: &Sources,
    changed: impl Fn() + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let wanted = sources.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error (an overflow) may hide a change: read again.
        if event.map_or(true, |event| is_change(event.kind) && concerns(&wanted, &event)) {
            changed();
        }
    })?;
    for (folder, mode) in folders(sources) {
        watcher.watch(&folder, mode)?;
    }
    Ok(watcher)
}

/// Reading the files is an access too; only an access that may have written counts.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Beside a named file other files may change; its own name, and links such as `..data` that it may
/// lead through, concern us.
fn concerns(sources: &Sources, event: &Event) -> bool {
    let hidden = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
    };
    event.paths.is_empty()
        || event.paths.iter().any(|changed| {
            let one =
                |source: &PathBuf| source.is_dir() || source.file_name() == changed.file_name();
            hidden(changed) || sources.0.iter().any(one)
        })
}

fn folders(sources: &Sources) -> Vec<(PathBuf, RecursiveMode)> {
    let folder = |path: &PathBuf| {
        if path.is_dir() {
            return (path.clone(), RecursiveMode::Recursive);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        (parent.unwrap_or(Path::new(".")).to_owned(), RecursiveMode::NonRecursive)
    };
    sources.0.iter().map(folder).collect()
}
