//! The calls of the kernel that no library has: links of bpf, queries of what is attached, a grace
//! period. The only file of this crate with `unsafe`; each call gives the kernel a structure that
//! lives until the call returns.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
/// `BPF_F_QUERY_EFFECTIVE`: programs of the ancestors too, in the order in which they run.
const QUERY_EFFECTIVE: u32 = 1;
/// Programs on one hook that are asked for: the kernel allows 64 a cgroup, and all of the
/// ancestors count; with more it refuses to answer.
const PROGRAMS_MAX: usize = 1024;

/// What this kernel says of a link on a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) id: u32,
    pub(crate) program: u32,
    /// 0 when the cgroup is gone or the link was detached.
    pub(crate) cgroup: u64,
    pub(crate) hook: u32,
}

/// What this kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) tag: u64,
    pub(crate) name: String,
    pub(crate) maps: Vec<u32>,
    pub(crate) uid: u32,
}

/// One call of bpf(2).
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is a whole `#[repr(C)]` structure without padding, alive during the
    // call, whose size is given; pointers within it point to buffers that the caller keeps alive.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(RawFd::try_from(answer).expect("a file descriptor or zero"))
}

/// The same for commands that give a new file descriptor.
fn bpf_fd<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec), nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &impl AsFd) -> u32 {
    u32::try_from(fd.as_fd().as_raw_fd()).expect("descriptors are not negative")
}

fn pointer<T>(of: *const T) -> u64 {
    of.expose_provenance() as u64
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

/// Pins a link into a bpffs.
pub(crate) fn pin(object: &impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes = Object { path: pointer(path.as_ptr()), fd: number(object), flags: 0 };
    bpf(OBJ_PIN, &mut attributes).map(drop)
}

/// Opens what is pinned at this path.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = Object { path: pointer(path.as_ptr()), fd: 0, flags: 0 };
    bpf_fd(OBJ_GET, &mut attributes)
}

#[repr(C)]
struct Create {
    program: u32,
    cgroup: u32,
    hook: u32,
    flags: u32,
}

/// Attaches a program to a hook of a cgroup, beside those that are there.
pub(crate) fn link(program: &impl AsFd, cgroup: &impl AsFd, hook: u32) -> io::Result<OwnedFd> {
    let mut attributes =
        Create { program: number(program), cgroup: number(cgroup), hook, flags: 0 };
    bpf_fd(LINK_CREATE, &mut attributes)
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Puts another program into a link: each connect meets the old or the new one, never none.
pub(crate) fn replace(link: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    let mut attributes = Update { link: number(link), program: number(program), flags: 0, old: 0 };
    bpf(LINK_UPDATE, &mut attributes).map(drop)
}

/// Takes a link off its cgroup now, whoever else holds it.
pub(crate) fn detach(link: &impl AsFd) -> io::Result<()> {
    let mut attributes = number(link);
    bpf(LINK_DETACH, &mut attributes).map(drop)
}

#[repr(C)]
struct InfoOf {
    fd: u32,
    length: u32,
    info: u64,
}

fn info<T>(fd: &impl AsFd, into: &mut T) -> io::Result<()> {
    let mut attributes = InfoOf {
        fd: number(fd),
        length: u32::try_from(size_of::<T>()).expect("a few bytes"),
        info: pointer(std::ptr::from_mut(into)),
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes).map(drop)
}

/// `struct bpf_link_info` of a cgroup link.
#[repr(C)]
#[derive(Default)]
struct RawLink {
    kind: u32,
    id: u32,
    program: u32,
    zero: u32,
    cgroup: u64,
    hook: u32,
    zero_too: u32,
}

/// What a link is.
pub(crate) fn link_info(link: &impl AsFd) -> io::Result<LinkInfo> {
    let mut raw = RawLink::default();
    info(link, &mut raw)?;
    Ok(LinkInfo { id: raw.id, program: raw.program, cgroup: raw.cgroup, hook: raw.hook })
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct RawProgram {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    uid: u32,
    maps_length: u32,
    maps: u64,
    name: [u8; 16],
}

/// What a program is.
pub(crate) fn program_info(program: &impl AsFd) -> io::Result<ProgramInfo> {
    let mut maps = vec![0u32; 64];
    let mut raw =
        RawProgram { maps_length: 64, maps: pointer(maps.as_mut_ptr()), ..RawProgram::default() };
    info(program, &mut raw)?;
    maps.truncate(raw.maps_length as usize);
    let name = raw.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(ProgramInfo {
        id: raw.id,
        tag: u64::from_be_bytes(raw.tag),
        name: String::from_utf8_lossy(name).into_owned(),
        maps,
        uid: raw.uid,
    })
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// A program by the number that the kernel gave it.
pub(crate) fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = ById { id, next: 0, flags: 0 };
    bpf_fd(PROG_GET_FD_BY_ID, &mut attributes)
}

#[repr(C)]
struct Query {
    cgroup: u32,
    hook: u32,
    query: u32,
    attach: u32,
    programs: u64,
    count: u32,
    zero: u32,
}

/// The ids of the programs on a hook of this cgroup. `effective`: those of its ancestors too, in
/// the order in which they run.
pub(crate) fn attached(cgroup: &impl AsFd, hook: u32, effective: bool) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; PROGRAMS_MAX];
    let mut attributes = Query {
        cgroup: number(cgroup),
        hook,
        query: if effective { QUERY_EFFECTIVE } else { 0 },
        attach: 0,
        programs: pointer(ids.as_mut_ptr()),
        count: u32::try_from(ids.len()).expect("a small number"),
        zero: 0,
    };
    bpf(PROG_QUERY, &mut attributes)?;
    ids.truncate(attributes.count as usize);
    Ok(ids)
}

#[repr(C)]
struct CreateMap {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
}

#[repr(C)]
struct UpdateElement {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Waits until every program that now runs has ended.
///
/// The kernel promises that a write to a map of maps returns only then, so a map of maps that
/// nobody uses is a barrier. (`membarrier` waits for the same, but not on machines with one
/// processor or with `nohz_full`.)
#[derive(Debug)]
pub(crate) struct Barrier {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Barrier {
    pub(crate) fn new() -> io::Result<Barrier> {
        let mut array =
            CreateMap { kind: MAP_TYPE_ARRAY, key: 4, value: 4, entries: 1, flags: 0, inner: 0 };
        let inner = bpf_fd(MAP_CREATE, &mut array)?;
        let mut array = CreateMap { kind: MAP_TYPE_ARRAY_OF_MAPS, inner: number(&inner), ..array };
        let outer = bpf_fd(MAP_CREATE, &mut array)?;
        Ok(Barrier { outer, inner })
    }

    pub(crate) fn wait(&self) -> io::Result<()> {
        let index = 0u32;
        let inner = number(&self.inner);
        let mut attributes = UpdateElement {
            map: number(&self.outer),
            zero: 0,
            key: pointer(&raw const index),
            value: pointer(&raw const inner),
            flags: 0,
        };
        bpf(MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }
}

/// The cookie of the network namespace that this thread makes sockets in.
pub(crate) fn netns_cookie() -> io::Result<u64> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let mut cookie = 0u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("eight");
    // SAFETY: `cookie` has `length` bytes and both live during the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}
