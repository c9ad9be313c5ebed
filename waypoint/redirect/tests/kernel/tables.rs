//! Tables that change while clients connect, that are too large, or that the kernel refuses.

use std::net::SocketAddr;

use aya::maps::{HashMap, Map, MapData};
use waypoint_redirect::{
    ApplyError, Bounds, ENTRIES_MAX, OpenError, Options, Redirect, State, Table, TableError,
};

use crate::place::{Place, entry, server, table};

const SMALL: Bounds = Bounds { entries: 4, refusals: 3, exempt: 2 };

/// Counts of one loop: "name=count name=count".
fn counts(answer: &str) -> Vec<(&str, u64)> {
    let one = |part| -> (&str, u64) {
        let (name, count) = str::split_once(part, '=').unwrap();
        (name, count.parse().unwrap())
    };
    answer.split(' ').map(one).collect()
}

#[test]
fn tables_that_are_swapped_under_connects_never_lead_to_a_wrong_target_or_past_the_waypoint() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let [one, two] = ["127.0.1.1:0", "127.0.1.2:0"].map(|at| server(at, "missed"));
    // Each service has a waypoint port of its own in each of two tables.
    let ones = [server("127.0.1.3:0", "one"), server("127.0.1.3:0", "one")];
    let twos = [server("127.0.1.4:0", "two"), server("127.0.1.4:0", "two")];
    let tables = [0, 1].map(|at| table(&[(one, entry(&[ones[at]])), (two, entry(&[twos[at]]))]));
    redirect.apply(&tables[0]).unwrap();
    let (mut first, mut second) = (place.client(), place.client());
    first.ask(format!("loop {one}"));
    second.ask(format!("loop {two}"));

    let mut swaps = 0;
    while swaps < 120 || State::read(&place.pins).unwrap().totals.redirected < 12_000 {
        swaps += 1;
        redirect.apply(&tables[swaps % 2]).unwrap();
    }
    for (mut client, expected) in [(first, "one"), (second, "two")] {
        let answer = client.ask("stop");
        let counts = counts(&answer);
        let [(name, count)] = counts[..] else { panic!("{answer} after {swaps} swaps") };
        assert_eq!(name, expected);
        assert!(count > 1000, "{count} connects");
    }
    let state = State::read(&place.pins).unwrap();
    assert_eq!((state.totals.missed, state.totals.refused), (0, 0));
    // Counters live on while tables change.
    let counted: u64 = state.entries.iter().map(|e| e.counters.unwrap().redirected).sum();
    assert_eq!(counted, state.totals.redirected);
}

/// Services with a listener of their own, in the order of their addresses.
fn services(count: usize) -> Vec<SocketAddr> {
    let mut services: Vec<_> = (0..count).map(|_| server("127.0.1.1:0", "direct")).collect();
    services.sort();
    services
}

fn all(services: &[SocketAddr], waypoint: SocketAddr) -> Table {
    let entries: Vec<_> = services.iter().map(|s| (*s, entry(&[waypoint]))).collect();
    table(&entries)
}

#[test]
fn service_ports_beyond_the_bound_are_refused_and_reported() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open_bounded(SMALL);
    let mut client = place.client();
    let waypoint = server("127.0.1.2:0", "waypoint");
    let services = services(8);
    let applied = redirect.apply(&all(&services[..7], waypoint)).unwrap();
    assert_eq!((applied.entries, applied.refused_table_full), (4, 3));
    for (at, service) in services.iter().enumerate() {
        let expected = ["waypoint", "ECONNREFUSED", "direct"][(at / 4) + (at / 7)];
        assert_eq!(client.connect(*service).0, expected, "service {at}");
    }
    let state = State::read(&place.pins).unwrap();
    assert_eq!(state.totals.refused_table_full, 3);
    assert_eq!(state.refused_table_full, services[4..7]);

    // More than can even be refused: the table before stays.
    let error = redirect.apply(&all(&services, waypoint)).unwrap_err();
    let too_many = TableError::TooMany { found: 8, allowed: 7 };
    assert!(matches!(error, ApplyError::Table(e) if e == too_many));
    assert_eq!(client.connect(services[0]).0, "waypoint");
    assert_eq!(client.connect(services[7]).0, "direct");

    let applied = redirect.apply(&all(&services[4..], waypoint)).unwrap();
    assert_eq!((applied.entries, applied.refused_table_full), (4, 0));
    assert_eq!(client.connect(services[7]).0, "waypoint");
    assert_eq!(client.connect(services[0]).0, "direct");
}

#[test]
fn a_table_of_the_full_size_is_applied_whole() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let waypoint = server("127.0.1.2:0", "waypoint");
    let addresses = (0..ENTRIES_MAX + 10).map(|at| {
        let ip = std::net::Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(at / 2));
        SocketAddr::new(ip.into(), 80 + u16::from(at % 2 == 1))
    });
    // IPv4 comes first in the order of a table.
    let service = server("127.0.1.1:0", "direct");
    let mut table = all(&addresses.collect::<Vec<_>>(), waypoint);
    table.entries.insert(service, entry(&[waypoint]));
    let applied = redirect.apply(&table).unwrap();
    assert_eq!((applied.entries, applied.refused_table_full), (65_536, 11));
    assert_eq!(applied.uncounted, 0);
    assert_eq!(client.connect(service).0, "waypoint");
    let state = State::read(&place.pins).unwrap();
    assert_eq!((state.entries.len(), state.refused_table_full.len()), (65_536, 11));
}

#[test]
fn more_exempt_cgroups_than_fit_are_an_error_and_change_nothing() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open_bounded(SMALL);
    let mut table = Table::default();
    table.exempt.cgroups.extend([1, 2, 3]);
    let error = redirect.apply(&table).unwrap_err();
    assert_eq!(error.to_string(), "3 exempt cgroups, at most 2");
    assert_eq!(redirect.drift(&Table::default()).unwrap(), [""; 0]);
}

#[test]
fn two_entries_for_one_address_are_an_error_that_names_both() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open_bounded(SMALL);
    let mut first = entry(&[]);
    first.service = "a/first:80".to_owned();
    let plain = ("10.0.0.1:80".parse().unwrap(), first);
    let mapped = ("[::ffff:10.0.0.1]:80".parse().unwrap(), entry(&[]));
    let error = redirect.apply(&table(&[plain, mapped])).unwrap_err();
    let expected = "10.0.0.1:80 has two entries: a/first:80 and test/service:80";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_table_that_the_kernel_refuses_leaves_the_one_before_in_force() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open_bounded(SMALL);
    let mut client = place.client();
    let waypoint = server("127.0.1.2:0", "waypoint");
    let services = services(4);
    redirect.apply(&all(&services[..1], waypoint)).unwrap();
    // Somebody else fills the map, with elements of an epoch that is never in force.
    let map = Map::from_map_data(MapData::from_pin(place.pin("maps/wp_entries")).unwrap());
    let mut map: HashMap<_, [u8; 20], [u8; 532]> = map.unwrap().try_into().unwrap();
    let foreign = |at: u8| {
        let mut key = [at; 20];
        key[18] = 7;
        key
    };
    for at in 0..6 {
        map.insert(foreign(at), [0; 532], 0).unwrap();
    }
    let error = redirect.apply(&all(&services, waypoint)).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("wp_entries") && told.contains("(os error 7)"), "{told}");
    assert_eq!(client.connect(services[0]).0, "waypoint");
    assert_eq!(client.connect(services[1]).0, "direct");
    assert_eq!(redirect.drift(&all(&services[..1], waypoint)).unwrap(), [""; 0]);

    for at in 0..6 {
        map.remove(&foreign(at)).unwrap();
    }
    redirect.apply(&all(&services, waypoint)).unwrap();
    assert_eq!(client.connect(services[3]).0, "waypoint");
}

#[test]
fn maps_of_another_layout_are_not_taken_over_and_stay_in_force() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open_bounded(SMALL);
    let mut client = place.client();
    let waypoint = server("127.0.1.2:0", "waypoint");
    let services = services(1);
    redirect.apply(&all(&services, waypoint)).unwrap();
    drop(redirect);
    let options = Options { cgroup: place.cgroup.clone(), pins: place.pins.clone() };
    let error = Redirect::open(&options).unwrap_err();
    assert!(matches!(error, OpenError::Layout { .. }), "{error}");
    assert!(error.to_string().contains("131072"), "{error}");
    assert_eq!(client.connect(services[0]).0, "waypoint");
}
