//! What the doctor says of this machine, and of programs that are not ours.

use waypoint_redirect::{Finding, Options, doctor};

use crate::objects::Other;
use crate::place::{Place, entry, server, table};

fn finding<'a>(findings: &'a [Finding], name: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.name == name);
    found.unwrap_or_else(|| panic!("no finding {name} in {findings:#?}"))
}

#[test]
fn on_a_machine_that_has_everything_no_needed_finding_is_bad() {
    let Some(place) = Place::new() else { return };
    let findings = doctor(&place.options());
    let bad: Vec<_> = findings.iter().filter(|f| f.needed && !f.ok).collect();
    assert_eq!(bad, [] as [&Finding; 0]);
    for name in ["kernel", "cgroup2", "bpffs", "CAP_BPF", "CAP_NET_ADMIN"] {
        assert!(finding(&findings, name).needed, "{name}");
    }
    for hook in ["connect4", "connect6", "getpeername4", "getpeername6", "sendmsg4", "sendmsg6"] {
        let trial = finding(&findings, &format!("program {hook}"));
        assert_eq!(trial.found, "the verifier agrees");
        assert_eq!(finding(&findings, &format!("hook {hook}")).found, "no program");
    }
    assert!(!finding(&findings, "agent").ok);
    let redirect = place.open();
    let findings = doctor(&place.options());
    let me = format!("running, process {}", std::process::id());
    assert_eq!(finding(&findings, "agent").found, me);
    let hook = &finding(&findings, "hook connect4").found;
    assert!(hook.starts_with("in this order: ours (program "), "{hook}");
    drop(redirect);
    let agent = finding(&doctor(&place.options()), "agent").found.clone();
    assert_eq!(agent, "not running; what it pinned stays in force");
}

#[test]
fn a_folder_that_is_no_cgroup_is_found_with_the_tree_that_is() {
    let Some(place) = Place::new() else { return };
    let options =
        Options { cgroup: place.pins.parent().unwrap().to_owned(), pins: place.pins.clone() };
    let findings = doctor(&options);
    let cgroup = finding(&findings, "cgroup2");
    assert!(cgroup.needed && !cgroup.ok);
    let remedy = cgroup.remedy.as_ref().unwrap();
    let tree = waypoint_redirect::default_cgroup().unwrap();
    assert!(remedy.contains(tree.to_str().unwrap()), "{remedy}");
}

#[test]
fn a_program_of_another_on_the_same_hook_goes_on_working_and_is_listed_in_order() {
    let Some(place) = Place::new() else { return };
    let other = Other::attach(&place.cgroup);
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    redirect.apply(&table(&[(service, entry(&[waypoint]))])).unwrap();
    assert_eq!(client.connect(service), ("waypoint".to_owned(), service.to_string()));
    assert_eq!(other.connects(), 1);

    let findings = doctor(&place.options());
    let hook = finding(&findings, "hook connect4");
    assert!(!hook.ok && !hook.needed);
    let (before, ours) = hook.found.split_once(", ").unwrap();
    assert!(before.starts_with("in this order: cil_sock4_conne of Cilium (program "), "{hook:?}");
    assert!(ours.starts_with("ours (program "), "{hook:?}");
    assert!(hook.remedy.as_ref().unwrap().contains("hostNamespaceOnly"));
    assert!(finding(&findings, "hook connect6").ok);
}

#[test]
fn programs_on_cgroups_below_and_above_are_listed() {
    let Some(place) = Place::new() else { return };
    let below = place.cgroup.join("below");
    std::fs::create_dir(&below).unwrap();
    let _other = Other::attach(&below);
    let findings = doctor(&place.options());
    let found = &finding(&findings, "hook connect4 below").found;
    assert!(found.contains("of Cilium") && found.ends_with("/below"), "{found}");

    let _redirect = place.open();
    let options = Options { cgroup: below, pins: place.pins.parent().unwrap().join("another") };
    let findings = doctor(&options);
    let found = &finding(&findings, "hook connect4").found;
    let (own, above) = found.split_once(", ").unwrap();
    assert!(own.contains("of Cilium") && above.starts_with("wp_connect4"), "{found}");
}
