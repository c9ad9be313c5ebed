//! The numbers of service ports: stable, lowest first, never outside their range, and never another
//! service's before every agent knows.

use std::collections::{BTreeMap, BTreeSet};

use waypoint_policies::ports::{
    Acknowledgement, Numbering, Ports, Published, REUSE_AFTER_SECONDS, SERVICE_PORTS,
};
use waypoint_policies::{EntranceKind, Resources, ServicePortKey, check, merge, read};

use crate::support::{file, service};

fn key(name: &str) -> ServicePortKey {
    ServicePortKey { namespace: "shop".into(), name: name.into(), port: 80 }
}

fn table(entries: &[(&str, u16)]) -> BTreeMap<ServicePortKey, u16> {
    entries.iter().map(|(name, port)| (key(name), *port)).collect()
}

fn wanted(names: &[&str]) -> BTreeSet<ServicePortKey> {
    names.iter().map(|name| key(name)).collect()
}

/// After `ports`, at a time, with what agents have acknowledged.
fn after(ports: &Ports, acknowledged: u64, now: u64) -> Numbering {
    Numbering { ports: ports.clone(), acknowledged, now, ..Numbering::default() }
}

/// The next ports while nobody but us has any.
fn next(numbering: &Numbering, names: &[&str]) -> Ports {
    numbering.next(&wanted(names), &BTreeSet::new())
}

#[test]
fn what_had_a_port_keeps_it_and_the_others_get_the_lowest_free_ones() {
    let cases: [(_, &[&str], _); 6] = [
        // before                                  wanted        after
        (table(&[]), &["a", "b"], table(&[("a", 20_000), ("b", 20_001)])),
        (table(&[("b", 20_000)]), &["a", "b"], table(&[("a", 20_001), ("b", 20_000)])),
        (table(&[("a", 20_000), ("b", 20_001)]), &["b"], table(&[("b", 20_001)])),
        (table(&[("a", 20_005)]), &["a", "b"], table(&[("a", 20_005), ("b", 20_000)])),
        // A broken table: a port twice, a port outside.
        (
            table(&[("a", 20_000), ("b", 20_000)]),
            &["a", "b"],
            table(&[("a", 20_000), ("b", 20_001)]),
        ),
        (table(&[("a", 80)]), &["a"], table(&[("a", 20_000)])),
    ];
    for (given, names, expected) in cases {
        let before = Ports { generation: 1, given, ..Ports::default() };
        assert_eq!(next(&after(&before, u64::MAX, 0), names).given, expected);
    }
}

#[test]
fn when_all_ports_are_taken_the_rest_get_none() {
    let wanted: BTreeSet<_> = (0..10_001).map(|index| key(&format!("s{index:05}"))).collect();
    let ports = Numbering::default().next(&wanted, &BTreeSet::new());
    assert_eq!(ports.given.len(), SERVICE_PORTS.len());
    assert!(!ports.given.contains_key(&key("s10000")));
}

#[test]
fn the_generation_counts_up_only_when_what_is_given_changes() {
    let one = next(&Numbering::default(), &["a"]);
    let same = next(&after(&one, 0, 0), &["a"]);
    let two = next(&after(&same, 0, 0), &["a", "b"]);
    assert_eq!([one.generation, same.generation, two.generation], [1, 1, 2]);
}

#[test]
fn a_number_goes_to_another_service_only_when_every_agent_has_put_its_end_in_force() {
    let one = next(&Numbering::default(), &["a"]);
    // The agent lags a generation behind: it may still map the number to `a`.
    let gone = next(&after(&one, one.generation, 100), &[]);
    assert_eq!(gone.retired[&20_000].service, key("a"));
    let other = next(&after(&gone, one.generation, 101), &["b"]);
    assert_eq!(other.given, table(&[("b", 20_001)]), "20000 is kept from `b`");
    // The agent has caught up with the generation without `a`.
    let free = next(&after(&other, gone.generation, 102), &["b", "c"]);
    assert_eq!(free.given, table(&[("b", 20_001), ("c", 20_000)]));
    assert!(free.retired.is_empty());
}

#[test]
fn a_number_is_free_after_a_day_even_if_an_agent_never_answers() {
    let one = next(&Numbering::default(), &["a"]);
    let gone = next(&after(&one, 0, 1_000), &[]);
    let almost = next(&after(&gone, 0, 1_000 + REUSE_AFTER_SECONDS - 1), &["b"]);
    assert_eq!(almost.given, table(&[("b", 20_001)]));
    let later = next(&after(&gone, 0, 1_000 + REUSE_AFTER_SECONDS), &["b"]);
    assert_eq!(later.given, table(&[("b", 20_000)]));
}

#[test]
fn a_service_that_comes_back_gets_its_own_number_again_at_once() {
    let one = next(&Numbering::default(), &["a", "b"]);
    let gone = next(&after(&one, 0, 0), &["a"]);
    let back = next(&after(&gone, 0, 0), &["a", "b"]);
    assert_eq!(back.given, one.given);
    assert!(back.retired.is_empty());
}

#[test]
fn a_number_that_something_else_listens_on_is_passed_over_and_its_service_gets_another() {
    let one = next(&Numbering::default(), &["a"]);
    let mut numbering = after(&one, 0, 0);
    numbering.taken.insert(20_000);
    let moved = next(&numbering, &["a"]);
    assert_eq!(moved.given, table(&[("a", 20_001)]));
    assert!(moved.retired.contains_key(&20_000), "agents may still map it");
    assert_eq!(moved.generation, one.generation + 1);
}

#[test]
fn agents_have_acknowledged_what_the_slowest_of_them_has() {
    let agent = |name: &str, applied: &[(&str, u64)]| Acknowledgement {
        agent: name.into(),
        applied: applied.iter().map(|(name, generation)| ((*name).into(), *generation)).collect(),
    };
    let all = [agent("n1", &[("w1", 7), ("w2", 1)]), agent("n2", &[("w1", 5)])];
    assert_eq!(Acknowledgement::lowest(&all, "w1"), Some(5));
    assert_eq!(Acknowledgement::lowest(&all, "w2"), Some(0), "n2 knows nothing of it");
    assert_eq!(Acknowledgement::lowest(&[], "w1"), None);
}

#[test]
fn what_is_published_is_what_is_remembered() {
    let text = r#"{
        "waypoint": "w", "generation": 4, "health": ["10.0.0.1:15021"], "weight": 100, "machine": "m",
        "mark": null, "cgroup": 7,
        "ports": [{"service": {"namespace": "shop", "name": "a", "port": 80}, "port": 20000,
                   "addresses": ["10.0.0.1:20000"]}],
        "retired": [{"service": {"namespace": "shop", "name": "b", "port": 80}, "port": 20001,
                     "generation": 4, "since": 12}]
    }"#;
    let published: Published = serde_json::from_str(text).unwrap();
    let ports = published.ports().unwrap();
    assert_eq!((ports.generation, &ports.given), (4, &table(&[("a", 20_000)])));
    assert_eq!(ports.retired[&20_001].service, key("b"));
    let again: Published =
        serde_json::from_str(&serde_json::to_string(&published).unwrap()).unwrap();
    assert_eq!(again, published);
    for (from, to) in [("20001", "20000"), ("20001", "80"), ("\"mark\"", "\"mrak\"")] {
        let broken = serde_json::from_str::<Published>(&text.replace(from, to));
        assert!(broken.is_err() || broken.unwrap().ports().is_err(), "{from} -> {to}");
    }
}

#[test]
fn an_entrance_stays_while_an_agent_may_still_send_connections_to_it() {
    let text = service("shop", "cart");
    let filter = "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: redact, namespace: shop}
spec: {module: {url: builtin://pii-redact}, targetRefs: [{kind: Service, name: cart}]}
";
    let resources = |text: &str| {
        let reading = read(&[file("test.yaml", text)]);
        assert!(reading.problems.is_empty());
        merge(&Resources::default(), reading)
    };
    let numbering =
        |ports: Ports, acknowledged| Numbering { ports, acknowledged, ..Numbering::default() };
    let with = check(&resources(&format!("{text}{filter}")), &Numbering::default());
    let generation = with.ports.generation;
    let without = resources(&text);
    let lagging = check(&without, &numbering(with.ports, generation));
    let entrance = &lagging.model.entrances[0];
    assert_eq!((&*entrance.name, entrance.port), ("service/shop/cart:80", 20_000));
    assert!(matches!(entrance.kind, EntranceKind::Service(_)) && entrance.filters.is_empty());
    assert!(lagging.ports.given.is_empty(), "it is no longer published");
    let generation = lagging.ports.generation;
    let done = check(&without, &numbering(lagging.ports, generation));
    assert!(done.model.entrances.is_empty() && done.ports.retired.is_empty());
}
