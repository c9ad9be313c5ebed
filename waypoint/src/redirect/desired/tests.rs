use waypoint_policies::ports::Listens;
use waypoint_policies::{FilterKey, Reason};

use super::*;

const MARK: u32 = 0x5750_0000;

fn key(name: &str) -> ServicePortKey {
    ServicePortKey { namespace: "shop".into(), name: name.into(), port: 80 }
}

/// A service port that a filter applies to.
fn needy(address: &str) -> Redirection {
    let filter = FilterKey { kind: "Filter".into(), namespace: "shop".into(), name: "f".into() };
    Redirection {
        addresses: vec![address.parse().unwrap()],
        reasons: vec![Reason::Filter { filter }],
        exception: None,
        unready: Unready::Refuse,
        refuse_udp: false,
    }
}

fn waypoint(name: &str, ready: bool, serves: &[(&str, &[&str])]) -> (String, Seen) {
    let listens = |(service, addresses): &(&str, &[&str])| Listens {
        service: key(service),
        port: 20_000,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    let published = Published {
        waypoint: name.into(),
        generation: 1,
        health: Vec::new(),
        weight: 100,
        machine: "here".into(),
        mark: Some(MARK),
        cgroup: None,
        ports: serves.iter().map(listens).collect(),
        retired: Vec::new(),
    };
    (name.into(), Seen { published, ready })
}

struct Case {
    redirections: BTreeMap<ServicePortKey, Redirection>,
    waypoints: BTreeMap<String, Seen>,
    current: Option<kernel::Table>,
    settling: bool,
    attached: BTreeSet<u64>,
}

impl Case {
    fn new<const N: usize>(address: &str, waypoints: [(String, Seen); N]) -> Self {
        let redirections = BTreeMap::from([(key("cart"), needy(address))]);
        Self {
            redirections,
            waypoints: waypoints.into(),
            current: None,
            settling: false,
            attached: BTreeSet::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        let mark = kernel::Mark { value: MARK, mask: u32::MAX };
        outcome(&Inputs {
            redirections: &self.redirections,
            waypoints: &self.waypoints,
            current: self.current.as_ref(),
            settling: &|_| self.settling,
            machine: "here",
            exempt: &kernel::Exempt { mark: Some(mark), ..kernel::Exempt::default() },
            attached: &self.attached,
        })
    }

    /// Targets of the only entry.
    fn targets(&self) -> Vec<String> {
        let entries = self.outcome().table.entries;
        assert_eq!(entries.len(), 1);
        let targets = entries.into_values().flat_map(|entry| entry.targets);
        targets.map(|target| target.address.to_string()).collect()
    }
}

#[test]
fn a_service_goes_to_every_ready_waypoint_that_serves_it() {
    let case = Case::new(
        "10.96.0.1",
        [
            waypoint("a", true, &[("cart", &["10.0.0.1:20000"])]),
            waypoint("b", true, &[("cart", &["10.0.0.2:20007"])]),
            waypoint("c", false, &[("cart", &["10.0.0.3:20000"])]),
            waypoint("d", true, &[("other", &["10.0.0.4:20000"])]),
        ],
    );
    assert_eq!(case.targets(), ["10.0.0.1:20000", "10.0.0.2:20007"]);
    assert!(case.outcome().alarms.is_empty());
}

#[test]
fn what_needs_nothing_or_cannot_be_redirected_has_no_entry() {
    let mut case = Case::new("10.96.0.1", [waypoint("a", true, &[("cart", &["10.0.0.1:20000"])])]);
    case.redirections.get_mut(&key("cart")).unwrap().reasons.clear();
    assert!(case.outcome().table.entries.is_empty());
}

#[test]
fn without_a_ready_waypoint_there_is_an_entry_without_targets_and_an_alarm() {
    let case = Case::new("10.96.0.1", [waypoint("a", false, &[("cart", &["10.0.0.1:20000"])])]);
    assert!(case.targets().is_empty());
    assert_eq!(case.outcome().alarms, [Alarm::Unready(key("cart"))].into());
    let case = Case::new("10.96.0.1", []);
    assert!(case.targets().is_empty());
    assert_eq!(case.outcome().alarms, [Alarm::Unserved(key("cart"))].into());
}

#[test]
fn what_is_not_published_yet_stays_as_it_was_for_a_while() {
    let published = Case::new("10.96.0.1", [waypoint("a", true, &[("cart", &["10.0.0.1:20000"])])]);
    let mut case = Case::new("10.96.0.1", []);
    case.settling = true;
    let outcome = case.outcome();
    assert!(outcome.table.entries.is_empty() && !outcome.keeps_old, "direct, as before");
    case.current = Some(published.outcome().table);
    let outcome = case.outcome();
    assert_eq!(outcome.table.entries, case.current.clone().unwrap().entries, "as before");
    assert!(outcome.keeps_old);
    assert!(outcome.alarms.is_empty());
}

#[test]
fn weights_are_those_of_the_waypoints_and_one_of_weight_0_is_no_help() {
    let mut case = Case::new("10.96.0.1", [waypoint("a", true, &[("cart", &["10.0.0.1:20000"])])]);
    for (weight, alarms) in [(7, 0), (0, 1)] {
        case.waypoints.get_mut("a").unwrap().published.weight = weight;
        let outcome = case.outcome();
        let entry = outcome.table.entries.into_values().next().unwrap();
        assert_eq!(entry.targets[0].weight, weight);
        assert_eq!(outcome.alarms.len(), alarms);
    }
}

#[test]
fn an_ipv6_service_prefers_ipv6_and_takes_ipv4_where_there_is_none() {
    let both: &[&str] = &["10.0.0.1:20000", "[fd00::1]:20000"];
    let v6 = Case::new("fd00::96", [waypoint("a", true, &[("cart", both)])]);
    assert_eq!(v6.targets(), ["[fd00::1]:20000"]);
    let v4 = Case::new("fd00::96", [waypoint("a", true, &[("cart", &both[..1])])]);
    assert_eq!(v4.targets(), ["10.0.0.1:20000"]);
    let none = Case::new("10.96.0.1", [waypoint("a", true, &[("cart", &both[1..])])]);
    assert!(none.targets().is_empty(), "an IPv4 socket cannot reach it");
}

#[test]
fn a_waypoint_that_cannot_be_told_from_its_clients_gets_nothing() {
    let mut case = Case::new("10.96.0.1", [waypoint("a", true, &[("cart", &["10.0.0.1:20000"])])]);
    let published = |case: &mut Case, change: fn(&mut Published)| {
        change(&mut case.waypoints.get_mut("a").unwrap().published);
    };
    published(&mut case, |one| one.mark = None);
    assert!(case.targets().is_empty());
    assert!(case.outcome().alarms.contains(&Alarm::NotExempt("a".into())));
    // A control group of its own will do, and becomes exempt.
    published(&mut case, |one| one.cgroup = Some(42));
    assert_eq!(case.targets(), ["10.0.0.1:20000"]);
    assert_eq!(case.outcome().table.exempt.cgroups, [42].into());
    // Not the group that everybody is in.
    case.attached = [42, 1].into();
    assert!(case.targets().is_empty() && case.outcome().table.exempt.cgroups.is_empty());
    assert!(case.outcome().alarms.contains(&Alarm::NotExempt("a".into())));
    case.attached.clear();
    // On another machine neither matters here, and its group is no group of ours.
    published(&mut case, |one| one.machine = "there".into());
    assert_eq!(case.targets(), ["10.0.0.1:20000"]);
    assert!(case.outcome().table.exempt.cgroups.is_empty());
}

#[test]
fn the_address_of_a_waypoint_is_never_redirected() {
    let mut case = Case::new("10.0.0.1", [waypoint("a", true, &[("cart", &["10.0.0.1:80"])])]);
    assert!(case.outcome().table.entries.is_empty());
    let address = "10.0.0.1:80".parse().unwrap();
    assert_eq!(case.outcome().alarms, [Alarm::OwnAddress(key("cart"), address)].into());
    case.redirections.insert(key("zoo"), needy("10.96.0.1"));
    assert_eq!(case.outcome().table.entries.len(), 1);
}

#[test]
fn of_two_services_with_one_address_the_first_has_it() {
    let mut case = Case::new("10.96.0.1", [waypoint("a", true, &[("cart", &["10.0.0.1:20000"])])]);
    case.redirections.insert(key("other"), needy("10.96.0.1"));
    let outcome = case.outcome();
    let entry = outcome.table.entries.into_values().next().unwrap();
    assert_eq!(entry.service, "shop/cart:80");
    assert!(outcome.alarms.contains(&Alarm::SharedAddress(key("other"), key("cart"))));
    case.redirections.get_mut(&key("other")).unwrap().reasons.clear();
    let outcome = case.outcome();
    assert_eq!(outcome.table.entries.into_values().next().unwrap().service, "shop/cart:80");
    assert!(outcome.alarms.contains(&Alarm::SharedAddress(key("cart"), key("other"))));
}
