//! Places of the machine: the cgroup2 tree, the bpffs, the folder of pins and its lock.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::mount::{MountFlags, UnmountFlags};

/// The source in /proc/mounts of a bpffs that we mounted.
const OURS: &str = "waypoint";
/// Cgroups that are looked at for one question; a node with as many pods as it may has a few thousand.
const CGROUPS_MAX: usize = 20_000;
/// A second altogether.
const UNMOUNT_ATTEMPTS: u32 = 100;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(10);
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// One line of /proc/mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: String,
    pub(crate) at: PathBuf,
    pub(crate) kind: String,
}

/// The kernel writes spaces and the like as three octal digits.
fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4);
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

fn mounts_of(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').map(unescaped);
        Some(Mount { source: fields.next()?, at: fields.next()?.into(), kind: fields.next()? })
    };
    text.lines().filter_map(mount).collect()
}

pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    Ok(mounts_of(&fs::read_to_string("/proc/mounts")?))
}

/// Where this machine has its cgroup2 tree: `/sys/fs/cgroup`, on machines with version 1
/// controllers too mostly `/sys/fs/cgroup/unified`.
///
/// # Errors
/// No cgroup2 is mounted, or /proc/mounts cannot be read.
pub fn default_cgroup() -> io::Result<PathBuf> {
    let found = mounts()?.into_iter().find(|mount| mount.kind == "cgroup2");
    found.map(|mount| mount.at).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "no cgroup2 is mounted: mount -t cgroup2 none DIR")
    })
}

/// The id of a cgroup, as [`crate::Exempt::cgroups`] wants it.
///
/// # Errors
/// The folder cannot be read, or is not one of cgroup2.
pub fn cgroup_id(folder: &Path) -> io::Result<u64> {
    if !is_kind(folder, CGROUP2_MAGIC)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a folder of cgroup2"));
    }
    Ok(fs::metadata(folder)?.ino())
}

/// The ids of a cgroup and of those above it, up to the topmost one.
///
/// # Errors
/// The folder cannot be read, or is not one of cgroup2.
pub fn cgroups_above(folder: &Path) -> io::Result<BTreeSet<u64>> {
    let folder = fs::canonicalize(folder)?;
    let mut ids = BTreeSet::from([cgroup_id(&folder)?]);
    // Above the mount it is no cgroup2 any more.
    ids.extend(folder.ancestors().skip(1).map_while(|above| cgroup_id(above).ok()));
    Ok(ids)
}

/// Where a cgroup is, looking at no more than [`CGROUPS_MAX`] folders.
pub fn cgroup_path(id: u64) -> Option<PathBuf> {
    let root = default_cgroup().ok()?;
    let found = |path: &Path| fs::metadata(path).is_ok_and(|folder| folder.ino() == id);
    cgroups(&root).into_iter().find(|path| found(path))
}

/// A cgroup and those below it, each after its parent, at most [`CGROUPS_MAX`].
pub(crate) fn cgroups(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    let mut next = 0;
    while next < all.len() && all.len() < CGROUPS_MAX {
        // One that goes meanwhile has none below it.
        for entry in fs::read_dir(&all[next]).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.push(entry.path());
            }
        }
        next += 1;
    }
    all
}

fn is_kind(path: &Path, magic: u64) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type.cast_unsigned() == magic)
}

/// Whether this folder is, or would be, on a bpffs.
pub(crate) fn on_bpffs(path: &Path) -> io::Result<bool> {
    for folder in path.ancestors() {
        match is_kind(folder, BPF_FS_MAGIC) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            answer => return answer,
        }
    }
    Ok(false)
}

/// Mounts a bpffs at the folder that holds the pins, unless they are on one already. Never over a folder
/// that has something in it: that would be gone from sight.
pub(crate) fn ensure_bpffs(pins: &Path) -> io::Result<()> {
    if on_bpffs(pins)? {
        return Ok(());
    }
    let at = pins.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(at)?;
    if fs::read_dir(at)?.next().is_some() {
        let what = format!("{} is no bpffs, and not empty: none is mounted over it", at.display());
        return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, what));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    rustix::mount::mount(OURS, at, "bpf", flags, c"mode=0700")?;
    tracing::info!(at = %at.display(), "mounted a bpffs");
    Ok(())
}

/// Unmounts the bpffs that held the pins if we mounted it and nobody else has put anything there.
pub(crate) fn remove_bpffs(pins: &Path) -> io::Result<bool> {
    let Some(at) = pins.parent() else {
        return Ok(false);
    };
    let ours = |mount: &Mount| mount.kind == "bpf" && mount.source == OURS && mount.at == at;
    if !mounts()?.iter().any(ours) {
        return Ok(false);
    }
    for entry in fs::read_dir(at)? {
        // Names with dots are the kernel's own: maps.debug, progs.debug.
        if !entry?.file_name().as_encoded_bytes().contains(&b'.') {
            return Ok(false);
        }
    }
    for _ in 1..UNMOUNT_ATTEMPTS {
        match rustix::mount::unmount(at, UnmountFlags::NOFOLLOW) {
            // A process that is just being started from this one may have a file of it open.
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(UNMOUNT_PAUSE),
            answer => return Ok(answer.map(|()| true)?),
        }
    }
    rustix::mount::unmount(at, UnmountFlags::NOFOLLOW)?;
    Ok(true)
}

/// Makes a folder that only we may enter.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        }
        answer => answer,
    }
}

/// The lock on the folder of pins: one agent at a time. Ends with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: File,
}

impl Drop for Lock {
    /// Closing is not enough: a process that is just being started from this one has the file open
    /// until it executes something else.
    fn drop(&mut self) {
        // It can only fail for a file that is not open.
        let _ = rustix::fs::flock(&self.folder, FlockOperation::Unlock);
    }
}

impl Lock {
    /// The lock, or nothing if somebody has it.
    pub(crate) fn take(pins: &Path) -> io::Result<Option<Lock>> {
        let folder = File::open(pins)?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { folder })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The process that holds the lock, as /proc/locks tells it.
pub(crate) fn holder(pins: &Path) -> io::Result<Option<u32>> {
    let folder = fs::metadata(pins)?;
    let dev = folder.dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let file = format!("{major:02x}:{minor:02x}:{}", folder.ino());
    let locks = fs::read_to_string("/proc/locks")?;
    let of = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let flock = fields.next()? == "FLOCK";
        let holder = fields.nth(2)?.parse().ok()?;
        (flock && fields.next()? == file).then_some(holder)
    };
    Ok(locks.lines().find_map(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup2_tree_is_found_among_those_of_version_1() {
        let text = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                    cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                    cgroup2 /sys/fs/cgroup/my\\040tree cgroup2 rw 0 0\n";
        let found = mounts_of(text).into_iter().find(|m| m.kind == "cgroup2");
        assert_eq!(found.unwrap().at, Path::new("/sys/fs/cgroup/my tree"));
    }

    #[test]
    fn a_backslash_that_is_no_escape_stays() {
        assert_eq!(unescaped("a\\b\\134c\\"), "a\\b\\c\\");
    }
}
