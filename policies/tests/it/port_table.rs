//! The table of service ports: stable, lowest first, never outside its range.

use std::collections::{BTreeMap, BTreeSet};

use waypoint_policies::ServicePortKey;
use waypoint_policies::ports::{SERVICE_PORTS, allocate};

fn key(name: &str) -> ServicePortKey {
    ServicePortKey { namespace: "shop".into(), name: name.into(), port: 80 }
}

fn table(entries: &[(&str, u16)]) -> BTreeMap<ServicePortKey, u16> {
    entries.iter().map(|(name, port)| (key(name), *port)).collect()
}

fn wanted(names: &[&str]) -> BTreeSet<ServicePortKey> {
    names.iter().map(|name| key(name)).collect()
}

#[test]
fn what_had_a_port_keeps_it_and_the_others_get_the_lowest_free_ones() {
    let cases = [
        // before                                  wanted              after
        (table(&[]), wanted(&["a", "b"]), table(&[("a", 20_000), ("b", 20_001)])),
        (table(&[("b", 20_000)]), wanted(&["a", "b"]), table(&[("a", 20_001), ("b", 20_000)])),
        (table(&[("a", 20_000), ("b", 20_001)]), wanted(&["b"]), table(&[("b", 20_001)])),
        (table(&[("a", 20_005)]), wanted(&["a", "b"]), table(&[("a", 20_005), ("b", 20_000)])),
        // A broken table: a port twice, a port outside.
        (
            table(&[("a", 20_000), ("b", 20_000)]),
            wanted(&["a", "b"]),
            table(&[("a", 20_000), ("b", 20_001)]),
        ),
        (table(&[("a", 80)]), wanted(&["a"]), table(&[("a", 20_000)])),
    ];
    for (before, wanted, after) in cases {
        assert_eq!(allocate(&before, &wanted), after);
    }
}

#[test]
fn when_all_ports_are_taken_the_rest_get_none() {
    let wanted: BTreeSet<_> = (0..10_001).map(|index| key(&format!("s{index:05}"))).collect();
    let ports = allocate(&BTreeMap::new(), &wanted);
    assert_eq!(ports.len(), SERVICE_PORTS.len());
    assert!(!ports.contains_key(&key("s10000")));
}
