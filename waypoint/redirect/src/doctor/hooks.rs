//! Who else is on our hooks, above and below, and in what order they run.

use std::path::Path;

use super::Finding;
use crate::kernel::{Folders, HOOKS, Hook, Options, place, sys};

/// Names of programs that others are known to put on these hooks, by how they begin.
const KNOWN: [(&str, &str, &str); 4] = [
    (
        "cil_sock",
        "Cilium",
        "Cilium translates service addresses in this hook too: set socketLB.hostNamespaceOnly, so \
         that pods' connects still name the service when ours runs",
    ),
    ("cgroup_connect", "Kmesh", "Kmesh redirects connects too; let one of the two do it"),
    ("mb_", "Merbridge", "Merbridge redirects connects too; let one of the two do it"),
    ("sd_", "systemd", "systemd allows or denies addresses of a unit; it does not change them"),
];

const UNKNOWN: &str = "a program that runs before ours may change the address, so that ours does \
    not know it; one that runs after ours may change it again";
/// Cgroups below ours that a finding names.
const NAMED: usize = 5;

/// One finding for each hook, and one for each that cgroups below have programs of their own on.
pub(super) fn programs(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hook in &HOOKS {
        let own = own(&options.pins, hook);
        findings.push(on(&options.cgroup, hook, own));
        findings.extend(below(&options.cgroup, hook, own));
    }
    findings
}

/// The id of the program in our link.
fn own(pins: &Path, hook: &Hook) -> Option<u32> {
    let link = sys::pinned(&Folders::of(pins).links.join(hook.name)).ok()?;
    Some(sys::link_info(&link).ok()?.program)
}

/// The kernel shows names of programs to CAP_SYS_ADMIN only.
fn name(id: u32) -> String {
    let info = sys::program(id).and_then(|program| sys::program_info(&program));
    info.map(|info| info.name).unwrap_or_default()
}

/// A program in words, and what to know of it if it is not ours.
fn describe(id: u32, own: Option<u32>) -> (String, Option<&'static str>) {
    if Some(id) == own {
        return (format!("ours (program {id})"), None);
    }
    let name = name(id);
    for (begins, owner, advice) in KNOWN {
        if name.starts_with(begins) {
            return (format!("{name} of {owner} (program {id})"), Some(advice));
        }
    }
    let name = if name.is_empty() { "another" } else { &name };
    (format!("{name} (program {id})"), Some(UNKNOWN))
}

fn attached(cgroup: &Path, hook: &Hook, effective: bool) -> std::io::Result<Vec<u32>> {
    sys::attached(&std::fs::File::open(cgroup)?, hook.number, effective)
}

/// The programs that a process in our cgroup meets, in the order in which they run.
fn on(cgroup: &Path, hook: &Hook, own: Option<u32>) -> Finding {
    let title = format!("hook {}", hook.name);
    let programs = match attached(cgroup, hook, true) {
        Ok(programs) => programs,
        Err(error) => return Finding::new(title, false, false, error.to_string()),
    };
    let told: Vec<_> = programs.iter().map(|id| describe(*id, own)).collect();
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    let mut advice: Vec<&str> = told.iter().filter_map(|(_, advice)| *advice).collect();
    advice.dedup();
    let found = if names.is_empty() {
        "no program".to_owned()
    } else {
        format!("in this order: {}", names.join(", "))
    };
    Finding::new(title, false, advice.is_empty(), found).remedy(advice.join("; "))
}

/// Programs on cgroups below ours: they run before ours.
fn below(cgroup: &Path, hook: &Hook, own: Option<u32>) -> Option<Finding> {
    let mut found = Vec::new();
    let mut first = None;
    for path in place::cgroups(cgroup).iter().skip(1) {
        // A cgroup that has gone meanwhile has no programs.
        for id in attached(path, hook, false).unwrap_or_default() {
            let (name, advice) = describe(id, own);
            first = first.or(advice);
            found.push(format!("{name} on {}", path.display()));
        }
    }
    let advice = first?;
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    let title = format!("hook {} below", hook.name);
    let found = format!("before ours: {}", found.join(", "));
    Some(Finding::new(title, false, false, found).remedy(advice))
}
