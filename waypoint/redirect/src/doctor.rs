//! What this machine has and lacks, one finding at a time, each with what to do.

mod hooks;

use std::fs;
use std::io;
use std::path::Path;

use rustix::thread::CapabilitySet;
use serde::Serialize;

use crate::kernel::{self, Bounds, HOOKS, Options, links, maps, place};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether redirection cannot work without it; otherwise it is advice.
    pub needed: bool,
    /// What was found.
    pub found: String,
    /// What to do if it is not as it should be.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(name: impl Into<String>, needed: bool, ok: bool, found: impl Into<String>) -> Finding {
        Finding { name: name.into(), ok, needed, found: found.into(), remedy: None }
    }

    /// What to do, if it is not as it should be.
    fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        if !self.ok {
            self.remedy = Some(remedy.into());
        }
        self
    }
}

/// What each part asks of the kernel, the newest last.
const LEAST: [(u32, u32, &str); 5] = [
    (5, 7, "links of programs on cgroups, ids of a process's cgroups"),
    (5, 8, "getpeername hooks, capabilities CAP_BPF and CAP_PERFMON"),
    (5, 9, "detaching of links"),
    (5, 14, "cookies of network namespaces for sockets"),
    (5, 18, "errors of programs' own choice (ECONNREFUSED)"),
];

/// Looks at everything that redirection needs, and at what may stand in its way. Changes nothing;
/// the programs are loaded on trial and dropped.
#[must_use]
pub fn doctor(options: &Options) -> Vec<Finding> {
    let mut findings = vec![
        kernel_release(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()),
        cgroup(options),
        bpffs(&options.pins),
    ];
    findings.extend(capabilities());
    findings.extend(switches());
    findings.extend(trial());
    findings.push(agent(&options.pins));
    findings.extend(hooks::programs(options));
    findings
}

fn kernel_release(release: &str) -> Finding {
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let lacks = |least: &&(u32, u32, &str)| version < (least.0, least.1);
    let missing: Vec<String> = LEAST
        .iter()
        .filter(lacks)
        .map(|(major, minor, what)| format!("{major}.{minor} for {what}"))
        .collect();
    Finding::new("kernel", true, missing.is_empty(), release)
        .remedy(format!("a newer kernel: {}", missing.join("; ")))
}

fn cgroup(options: &Options) -> Finding {
    let path = options.cgroup.display();
    let id = kernel::cgroup_id(&options.cgroup);
    let mounts = place::mounts().unwrap_or_default();
    let hybrid = mounts.iter().any(|mount| mount.kind == "cgroup");
    let found = match &id {
        Ok(id) if hybrid => format!("{path} (id {id}); version 1 controllers are mounted too"),
        Ok(id) => format!("{path} (id {id})"),
        Err(error) => format!("{path}: {error}"),
    };
    let remedy = match kernel::default_cgroup() {
        Ok(at) => format!("a folder of the cgroup2 tree at {}", at.display()),
        Err(error) => error.to_string(),
    };
    Finding::new("cgroup2", true, id.is_ok(), found).remedy(remedy)
}

fn bpffs(pins: &Path) -> Finding {
    let mounted = place::on_bpffs(pins).unwrap_or(false);
    let may_mount = has(CapabilitySet::SYS_ADMIN);
    let found = match (mounted, may_mount) {
        (true, _) => format!("{} is on one", pins.display()),
        (false, true) => "not mounted; the agent mounts it".to_owned(),
        (false, false) => "not mounted, and CAP_SYS_ADMIN to mount it is missing".to_owned(),
    };
    Finding::new("bpffs", true, mounted || may_mount, found).remedy("mount -t bpf bpf /sys/fs/bpf")
}

fn has(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

fn capabilities() -> Vec<Finding> {
    let finding = |name: &str, capability, needed, why: &str| {
        let found = if has(capability) { "held" } else { "missing" };
        Finding::new(name, needed, has(capability), found)
            .remedy(format!("run as root, or with {name}: {why}"))
    };
    vec![
        finding("CAP_BPF", CapabilitySet::BPF, true, "to load programs and make maps"),
        finding("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN, true, "to attach to cgroups"),
        finding(
            "CAP_SYS_ADMIN",
            CapabilitySet::SYS_ADMIN,
            false,
            "to mount a bpffs, and to see the names of other programs",
        ),
    ]
}

/// Settings of the kernel that are advice only.
fn switches() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    let jit = read("/proc/sys/net/core/bpf_jit_enable").unwrap_or_else(|_| "unknown".to_owned());
    let unprivileged =
        read("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or_else(|_| "unknown".to_owned());
    vec![
        Finding::new("BTF", false, btf, if btf { "there" } else { "missing" })
            .remedy("a kernel with CONFIG_DEBUG_INFO_BTF, for tools that look at the maps"),
        Finding::new("JIT", false, jit == "1" || jit == "2", format!("bpf_jit_enable is {jit}"))
            .remedy("sysctl net.core.bpf_jit_enable=1: programs are interpreted without"),
        Finding::new(
            "unprivileged bpf",
            false,
            unprivileged == "1" || unprivileged == "2",
            format!("unprivileged_bpf_disabled is {unprivileged}"),
        )
        .remedy("sysctl kernel.unprivileged_bpf_disabled=2: no user should load programs"),
    ]
}

/// Loads every program without attaching it: the verifier's word counts more than any version.
fn trial() -> Vec<Finding> {
    // Small maps: this is about the code.
    let bounds = Bounds { entries: 1, refusals: 1, exempt: 1 };
    let mut object = match maps::load(None, &bounds) {
        Ok(object) => object,
        Err(error) => {
            let finding =
                Finding::new("programs", true, false, kernel::end_of(&kernel::told(&error)));
            return vec![finding.remedy("see the findings above")];
        }
    };
    let program = |hook: &links::Hook| match links::load(&mut object, *hook) {
        Ok(_) => Finding::new(format!("program {}", hook.name), true, true, "the verifier agrees"),
        Err(error) => {
            Finding::new(format!("program {}", hook.name), true, false, error.to_string())
                .remedy("a kernel that has this hook, with CONFIG_CGROUP_BPF")
        }
    };
    HOOKS.iter().map(program).collect()
}

fn agent(pins: &Path) -> Finding {
    let (ok, found) = match kernel::holder(pins) {
        Ok(Some(pid)) => (true, format!("running, process {pid}")),
        Ok(None) => (false, "not running; what it pinned stays in force".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (false, "not running, nothing is pinned".to_owned())
        }
        Err(error) => (false, format!("{}: {error}", pins.display())),
    };
    Finding::new("agent", false, ok, found).remedy("waypoint redirect run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_what_it_lacks() {
        let old = kernel_release("5.10.0-28-amd64\n");
        assert!(!old.ok && old.needed);
        let remedy = old.remedy.unwrap();
        assert!(remedy.contains("5.18") && remedy.contains("5.14"), "{remedy}");
        assert!(!remedy.contains("5.9"), "{remedy}");
        assert!(kernel_release("5.18.0").ok && kernel_release("6.1.0-rc1").ok);
    }
}
