//! Who is left alone: cgroups, a mark, the agent's own network namespace.

use std::process::Command;

use waypoint_redirect::{Mark, State, cgroup_id};

use crate::place::{Place, entry, join, server, table};
use crate::process::Process;

#[test]
fn processes_of_an_exempt_cgroup_and_below_are_not_redirected() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut beside = place.client_in("apps");
    let mut inside = place.client_in("waypoint");
    let mut below = place.client_in("waypoint/worker/deep");
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    let mut table = table(&[(service, entry(&[waypoint]))]);
    let exempt = cgroup_id(&place.cgroup.join("waypoint")).unwrap();
    table.exempt.cgroups.insert(exempt);
    redirect.apply(&table).unwrap();

    assert_eq!(beside.connect(service).0, "waypoint");
    assert_eq!(inside.connect(service).0, "direct");
    assert_eq!(below.connect(service).0, "direct");
    let state = State::read(&place.pins).unwrap();
    assert_eq!((state.totals.exempt, state.totals.redirected), (2, 1));
    assert_eq!(state.exempt.cgroups, [exempt]);

    table.exempt.cgroups.clear();
    redirect.apply(&table).unwrap();
    assert_eq!(below.connect(service).0, "waypoint");
}

#[test]
fn an_exempt_process_is_not_refused_either() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let mut refuse_all = entry(&[]);
    refuse_all.refuse_udp = true;
    let mut table = table(&[(service, refuse_all)]);
    redirect.apply(&table).unwrap();
    client.ask("socket udp v4 udp");
    assert_eq!(client.connect(service).0, "ECONNREFUSED");
    assert_eq!(client.ask(format!("sendto udp {service}")), "ECONNREFUSED");
    table.exempt.cgroups.insert(cgroup_id(&place.cgroup).unwrap());
    redirect.apply(&table).unwrap();
    assert_eq!(client.connect(service).0, "direct");
    assert_eq!(client.ask(format!("sendto udp {service}")), "ok");
}

#[test]
fn sockets_with_the_mark_are_not_redirected() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    let mut table = table(&[(service, entry(&[waypoint]))]);
    table.exempt.mark = Some(Mark { value: 0x0300, mask: 0x0f00 });
    redirect.apply(&table).unwrap();
    // Bits outside the mask do not count, those inside do.
    for (mark, name) in [(0, "waypoint"), (0x8301, "direct"), (0x0700, "waypoint")] {
        client.ask(format!("socket a v4 tcp mark={mark}"));
        assert_eq!(client.ask(format!("connect a {service}")), "ok");
        assert_eq!(client.ask("read a"), name, "mark {mark:#x}");
        assert_eq!(client.ask("peer a"), service.to_string());
    }
}

#[test]
fn the_agents_network_namespace_is_left_alone_if_the_table_says_so_and_no_other() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut host = place.client();
    let mut apart = Process::start(true);
    join(&place.cgroup, &apart);
    let up = Command::new("nsenter")
        .args(["-t", &apart.id().to_string(), "-n", "ip", "link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    // The same address in the other namespace.
    assert_eq!(apart.ask(format!("serve {waypoint}")), waypoint.to_string());

    let mut table = table(&[(service, entry(&[waypoint]))]);
    for (host_network, expected) in [(false, "waypoint"), (true, "direct")] {
        table.exempt.host_network = host_network;
        redirect.apply(&table).unwrap();
        assert_eq!(host.connect(service).0, expected);
        assert_eq!(apart.connect(service), ("apart".to_owned(), service.to_string()));
    }
}
