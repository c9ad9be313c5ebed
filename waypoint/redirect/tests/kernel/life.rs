//! Agents that come, are killed, are upgraded, and go; and what they leave.

use std::fs;
use std::net::SocketAddr;

use aya::maps::MapInfo;
use waypoint_redirect::{Done, OpenError, Redirect, State, cgroup_id, detach};

use crate::objects;
use crate::place::{Place, entry, server, table};
use crate::process::Process;

fn open_in(process: &mut Process, place: &Place) -> String {
    let (cgroup, pins) = (place.cgroup.display(), place.pins.display());
    process.ask(format!("agent open {cgroup} {pins}"))
}

/// A service that is redirected, its waypoint, and a process whose loop of connects has begun.
fn connecting(place: &Place) -> (SocketAddr, SocketAddr, Process) {
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    (service, waypoint, place.client())
}

fn redirected(place: &Place) -> u64 {
    State::read(&place.pins).unwrap().totals.redirected
}

/// Until so many connects more have been redirected.
fn wait_for_connects(place: &Place, more: u64) {
    let before = redirected(place);
    while redirected(place) < before + more {
        std::thread::yield_now();
    }
}

/// The kernel takes a link off its cgroup a moment after it has taken the link's number away.
fn wait_until_direct(client: &mut Process, service: SocketAddr) {
    objects::wait_until_gone(|| client.connect(service).0 == "waypoint", "redirection");
    assert_eq!(client.connect(service).0, "direct");
}

/// Takes away a pin, and waits until the kernel has taken away the link.
fn remove_link(place: &Place, name: &str) {
    let hooks = State::read(&place.pins).unwrap().hooks;
    let hook = hooks.into_iter().find(|hook| hook.hook == name);
    let link = hook.unwrap().link.unwrap();
    fs::remove_file(place.pin("links").join(name)).unwrap();
    objects::wait_until_gone(|| objects::link_is_there(link.id), "link");
}

fn only_waypoint(answer: &str) {
    let (name, count) = answer.split_once('=').unwrap();
    assert_eq!(name, "waypoint", "{answer}");
    assert!(count.parse::<u64>().is_ok(), "others answered too: {answer}");
}

/// With new maps a socket that was connected just before may name the waypoint, but none goes past.
fn never_direct(answer: &str) {
    let names = answer.split(' ').map(|part| part.split_once('=').unwrap().0);
    for name in names {
        let waypoint = name == "waypoint" || name.starts_with("misnamed:waypoint:");
        assert!(waypoint, "{answer}");
    }
}

#[test]
fn an_agent_that_is_killed_leaves_everything_as_it_is_and_the_next_takes_it_over() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let mut agent = Process::start(false);
    assert!(open_in(&mut agent, &place).contains("Attached"));
    assert_eq!(agent.ask(format!("agent apply {service} {waypoint}")), "1");
    client.ask(format!("loop {service}"));
    wait_for_connects(&place, 100);
    agent.kill();
    wait_for_connects(&place, 100);
    let before = State::read(&place.pins).unwrap();
    assert_eq!(before.agent, None);

    let mut redirect = place.open();
    assert!(redirect.opened().iter().all(|(_, done)| *done == Done::Kept));
    let table = table(&[(service, entry(&[waypoint]))]);
    assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);
    wait_for_connects(&place, 100);
    redirect.apply(&table).unwrap();
    wait_for_connects(&place, 100);
    only_waypoint(&client.ask("stop"));
    let after = State::read(&place.pins).unwrap();
    assert_eq!(after.hooks, before.hooks);
    assert_eq!(after.totals.missed, 0);
    assert_eq!(after.agent, Some(std::process::id()));
}

#[test]
fn an_agent_that_is_killed_while_it_applies_leaves_one_whole_table() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let mut redirect = place.open();
    let table = table(&[(service, entry(&[waypoint]))]);
    redirect.apply(&table).unwrap();
    drop(redirect);
    client.ask(format!("loop {service}"));
    for _ in 0..10 {
        let mut agent = Process::start(false);
        assert!(open_in(&mut agent, &place).contains("Kept"));
        agent.tell(format!("agent churn {service} {waypoint}"));
        wait_for_connects(&place, 500);
        agent.kill();
    }
    only_waypoint(&client.ask("stop"));
    let mut redirect = place.open();
    redirect.apply(&table).unwrap();
    assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);
}

#[test]
fn programs_whose_maps_have_lost_their_pins_stay_until_the_new_agent_has_a_table() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let table = table(&[(service, entry(&[waypoint]))]);
    place.open().apply(&table).unwrap();
    fs::remove_dir_all(place.pin("maps")).unwrap();
    client.ask(format!("loop {service}"));
    let mut redirect = place.open();
    assert_eq!(redirect.opened(), []);
    redirect.apply(&table).unwrap();
    assert!(redirect.opened().iter().all(|(_, done)| *done == Done::Replaced));
    wait_for_connects(&place, 200);
    never_direct(&client.ask("stop"));
    assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);
}

#[test]
fn what_an_agent_with_another_layout_left_goes_when_the_first_table_is_in_force() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let table = table(&[(service, entry(&[waypoint]))]);
    place.open().apply(&table).unwrap();
    let old = place.pins.join("layout-0");
    fs::rename(place.pins.join("layout-1"), &old).unwrap();
    client.ask(format!("loop {service}"));
    let mut redirect = place.open();
    assert_eq!(redirect.opened(), []);
    redirect.apply(&table).unwrap();
    assert!(redirect.opened().iter().all(|(_, done)| *done == Done::Attached));
    assert!(!old.exists());
    wait_for_connects(&place, 200);
    never_direct(&client.ask("stop"));
    assert_eq!(client.connect(service), ("waypoint".to_owned(), service.to_string()));
}

#[test]
fn another_version_of_the_programs_replaces_them_under_connects_that_run() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let table = table(&[(service, entry(&[waypoint]))]);
    place.open().apply(&table).unwrap();
    for round in 0..5 {
        // The links of an older build: the same source, other machine code.
        for hook in State::read(&place.pins).unwrap().hooks {
            remove_link(&place, hook.hook);
        }
        objects::attach_other_build(&place);
        assert_eq!(client.connect(service).0, "waypoint");
        let before = State::read(&place.pins).unwrap().hooks;
        client.ask(format!("loop {service}"));
        wait_for_connects(&place, 200);
        let redirect = place.open();
        assert!(redirect.opened().iter().all(|(_, done)| *done == Done::Replaced), "{redirect:?}");
        wait_for_connects(&place, 200);
        let answer = client.ask("stop");
        only_waypoint(&answer);
        let after = State::read(&place.pins).unwrap().hooks;
        for (before, after) in before.iter().zip(&after) {
            let (before, after) = (before.link.as_ref().unwrap(), after.link.as_ref().unwrap());
            assert_eq!(before.id, after.id, "round {round}: the same link");
            assert_ne!(before.program, after.program);
        }
        assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);
    }
}

#[test]
fn a_second_agent_is_refused_by_name_and_may_begin_when_the_first_has_ended() {
    let Some(place) = Place::new() else { return };
    let redirect = place.open();
    let mut agent = Process::start(false);
    let answer = open_in(&mut agent, &place);
    let me = std::process::id();
    assert!(answer.contains(&format!("held by another agent (process {me})")), "{answer}");
    let error = Redirect::open(&place.options()).unwrap_err();
    assert!(matches!(error, OpenError::Held { pid: Some(pid), .. } if pid == me));
    let error = detach(&place.pins).unwrap_err();
    assert!(error.to_string().contains("end it first"), "{error}");
    drop(redirect);
    assert!(open_in(&mut agent, &place).contains("Kept"));
}

#[test]
fn an_agent_of_another_cgroup_takes_the_hooks_there() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let mut below = place.client_in("below");
    let table = table(&[(service, entry(&[waypoint]))]);
    place.open().apply(&table).unwrap();
    assert_eq!(client.connect(service).0, "waypoint");

    let mut options = place.options();
    options.cgroup = place.cgroup.join("below");
    let redirect = Redirect::open(&options).unwrap();
    assert!(redirect.opened().iter().all(|(_, done)| *done == Done::Attached));
    assert_eq!(client.connect(service).0, "direct");
    assert_eq!(below.connect(service).0, "waypoint");
    let id = cgroup_id(&options.cgroup).unwrap();
    for hook in State::read(&place.pins).unwrap().hooks {
        let link = hook.link.unwrap();
        assert_eq!((link.cgroup, link.cgroup_path), (id, Some(options.cgroup.clone())));
    }
}

#[test]
fn detaching_leaves_nothing_behind() {
    let Some(place) = Place::without_bpffs() else { return };
    let mounts = || fs::read_to_string("/proc/mounts").unwrap();
    let at = place.pins.parent().unwrap().display().to_string();
    assert!(!mounts().contains(&at));
    let (service, waypoint, mut client) = connecting(&place);
    let mut redirect = place.open();
    redirect.apply(&table(&[(service, entry(&[waypoint]))])).unwrap();
    assert!(mounts().contains(&format!("waypoint {at} bpf ")));
    assert_eq!(client.connect(service).0, "waypoint");
    let state = State::read(&place.pins).unwrap();
    let maps: Vec<u32> = fs::read_dir(place.pin("maps"))
        .unwrap()
        .map(|map| MapInfo::from_pin(map.unwrap().path()).unwrap().id())
        .collect();
    assert_eq!(maps.len(), 8);
    drop(redirect);

    let detached = detach(&place.pins).unwrap();
    assert_eq!((detached.links, detached.maps, detached.unmounted), (6, 8, true));
    assert_eq!(client.connect(service).0, "direct");
    assert!(!mounts().contains(&at));
    assert!(!place.pins.exists());
    // The kernel frees them a moment after the last reference has gone.
    let links: Vec<_> = state.hooks.iter().map(|hook| hook.link.clone().unwrap()).collect();
    for link in links {
        objects::wait_until_gone(|| objects::link_is_there(link.id), "link");
        objects::wait_until_gone(|| objects::program_is_there(link.program), "program");
    }
    for map in maps {
        objects::wait_until_gone(|| MapInfo::from_id(map).is_ok(), "map");
    }
    // Once more, where nothing is.
    let again = detach(&place.pins).unwrap();
    assert_eq!((again.links, again.maps, again.unmounted), (0, 0, false));
}

#[test]
fn a_bpffs_that_others_mounted_stays_and_so_do_their_pins() {
    let Some(place) = Place::new() else { return };
    let folder = place.pins.parent().unwrap().to_owned();
    fs::create_dir(folder.join("theirs")).unwrap();
    drop(place.open());
    let detached = detach(&place.pins).unwrap();
    assert!(!detached.unmounted);
    assert!(folder.join("theirs").exists() && !place.pins.exists());
}

#[test]
fn drift_is_found_and_repaired() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let table = table(&[(service, entry(&[waypoint]))]);
    let mut redirect = place.open();
    redirect.apply(&table).unwrap();
    assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);

    remove_link(&place, "connect4");
    // A link has no id any more some time before its program is gone from the cgroup.
    wait_until_direct(&mut client, service);
    fs::remove_file(place.pin("maps/wp_totals")).unwrap();
    objects::empty_entries(&place);
    objects::swap_settings(&place);
    let found = redirect.drift(&table).unwrap();
    let expected = [
        "the link of connect4 is gone".to_owned(),
        "the pin of wp_totals is gone".to_owned(),
        format!("the entry {service} (test/service:80) is gone"),
        "the settings are changed".to_owned(),
    ];
    assert_eq!(found, expected);

    let repaired = redirect.repair(&table).unwrap();
    assert_eq!(repaired.pins, 1);
    let hook = |name| repaired.hooks.iter().find(|(hook, _)| *hook == name).unwrap().1;
    assert_eq!((hook("connect4"), hook("connect6")), (Done::Attached, Done::Kept));
    assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);
    assert_eq!(client.connect(service), ("waypoint".to_owned(), service.to_string()));

    objects::attach_other_build_over(&place, "connect6");
    let found = redirect.drift(&table).unwrap();
    assert!(matches!(&found[..], [one] if one.starts_with("the link of connect6 has program")));
    redirect.repair(&table).unwrap();
    assert_eq!(redirect.drift(&table).unwrap(), [""; 0]);
}

#[test]
fn an_agent_without_its_privileges_still_applies_finds_and_repairs() {
    let Some(place) = Place::new() else { return };
    let (service, waypoint, mut client) = connecting(&place);
    let mut agent = Process::start(false);
    open_in(&mut agent, &place);
    // The test process has libtest's thread beside its own.
    let answer = agent.ask("agent drop-process");
    assert!(answer.contains("threads are running"), "{answer}");
    let kept =
        "CapPrm 0000008000001000 CapEff 0000008000001000 CapBnd 0000008000001000 NoNewPrivs 1";
    assert_eq!(agent.ask("agent drop"), kept);
    assert_eq!(agent.ask(format!("agent apply {service} {waypoint}")), "1");
    assert_eq!(client.connect(service).0, "waypoint");
    remove_link(&place, "connect4");
    wait_until_direct(&mut client, service);
    let answer = agent.ask(format!("agent drift {service} {waypoint}"));
    assert_eq!(answer, "the link of connect4 is gone");
    assert_eq!(agent.ask(format!("agent repair {service} {waypoint}")), "repaired");
    assert_eq!(client.connect(service).0, "waypoint");
    assert_eq!(agent.ask(format!("agent drift {service} {waypoint}")), "");
    let totals: u64 = agent.ask("agent totals").parse().unwrap();
    assert!(totals >= 2, "{totals}");
}
