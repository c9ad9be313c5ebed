//! Programs and maps of the kernel that are not the agent's doing: an older build of it, somebody
//! else's program, a map that somebody changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, loaded_links, loaded_programs};
use aya::{Ebpf, EbpfLoader};

use crate::place::Place;

const HOOKS: [(&str, &str); 6] = [
    ("connect4", "wp_connect4"),
    ("connect6", "wp_connect6"),
    ("sendmsg4", "wp_sendmsg4"),
    ("sendmsg6", "wp_sendmsg6"),
    ("getpeername4", "wp_peername4"),
    ("getpeername6", "wp_peername6"),
];
const MAPS: [&str; 8] = [
    "wp_live",
    "wp_settings",
    "wp_entries",
    "wp_refusals",
    "wp_exempt",
    "wp_totals",
    "wp_services",
    "wp_original",
];
const GONE_TIME: Duration = Duration::from_secs(60);

fn clang(source: &Path, arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join("object.o");
    let include = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let clang = Command::new("clang")
        .args(["-O2", "-g", "-target", "bpf", "-idirafter", &include, "-c"])
        .args(arguments)
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status();
    assert!(clang.unwrap().success());
    std::fs::read(object).unwrap()
}

/// Our source for another generation of the kernel's processor: the same behaviour, other code.
fn other_build(place: &Place) -> Ebpf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bpf/redirect.c");
    let object = clang(&source, &["-mcpu=v3"]);
    let mut loader = EbpfLoader::new();
    for map in MAPS {
        loader.map_pin_path(map, place.pin("maps").join(map));
    }
    loader.load(&object).unwrap()
}

fn attach(object: &mut Ebpf, program: &str, cgroup: &Path) -> FdLink {
    let program: &mut CgroupSockAddr = object.program_mut(program).unwrap().try_into().unwrap();
    program.load().unwrap();
    let cgroup = std::fs::File::open(cgroup).unwrap();
    let id = program.attach(cgroup, CgroupAttachMode::Single).unwrap();
    program.take_link(id).unwrap().try_into().unwrap()
}

/// Links as an older agent would have left them.
pub(crate) fn attach_other_build(place: &Place) {
    let mut object = other_build(place);
    for (hook, program) in HOOKS {
        let link = attach(&mut object, program, &place.cgroup);
        link.pin(place.pin("links").join(hook)).unwrap();
    }
}

/// The same for one hook, in the place of the link that is there.
pub(crate) fn attach_other_build_over(place: &Place, hook: &str) {
    let mut object = other_build(place);
    let (_, program) = HOOKS.iter().find(|(name, _)| *name == hook).unwrap();
    let link = attach(&mut object, program, &place.cgroup);
    std::fs::remove_file(place.pin("links").join(hook)).unwrap();
    link.pin(place.pin("links").join(hook)).unwrap();
}

/// Somebody else's program: it counts connects, and lets them pass.
pub(crate) struct Other {
    object: Ebpf,
    _link: FdLink,
}

impl Other {
    pub(crate) fn attach(cgroup: &Path) -> Other {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/other.c");
        let mut object = Ebpf::load(&clang(&source, &[])).unwrap();
        let link = attach(&mut object, "cil_sock4_connect", cgroup);
        Other { object, _link: link }
    }

    pub(crate) fn connects(&self) -> u64 {
        let seen = self.object.map("seen").unwrap();
        let seen: Array<_, u64> = seen.try_into().unwrap();
        seen.get(&0, 0).unwrap()
    }
}

fn map(place: &Place, name: &str) -> Map {
    let data = MapData::from_pin(place.pin("maps").join(name)).unwrap();
    Map::from_map_data(data).unwrap()
}

pub(crate) fn empty_entries(place: &Place) {
    let mut entries: HashMap<_, [u8; 20], [u8; 532]> = map(place, "wp_entries").try_into().unwrap();
    let keys: Vec<_> = entries.keys().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 1);
    entries.remove(&keys[0]).unwrap();
}

pub(crate) fn swap_settings(place: &Place) {
    let mut settings: Array<_, [u8; 24]> = map(place, "wp_settings").try_into().unwrap();
    for epoch in 0..2 {
        settings.set(epoch, [1; 24], 0).unwrap();
    }
}

pub(crate) fn link_is_there(id: u32) -> bool {
    loaded_links().flatten().any(|link| link.id() == id)
}

pub(crate) fn program_is_there(id: u32) -> bool {
    loaded_programs().flatten().any(|program| program.id() == id)
}

/// The kernel has no event for this.
pub(crate) fn wait_until_gone(mut is_there: impl FnMut() -> bool, what: &str) {
    let begin = Instant::now();
    while is_there() {
        assert!(begin.elapsed() < GONE_TIME, "a {what} is still there");
        std::thread::yield_now();
    }
}
