//! Numbers of service ports, agents, and what a person asks of them.

use rustix::process::Signal;

use super::role::Role;
use super::world::{CLIENT, WAYPOINT, World, eventually, passed_over};
use super::{CART, at, direct, listens, open_shop, redact, service, shop, through};
use crate::harness::{Waypoint, run_to_end};

#[tokio::test]
async fn a_number_goes_to_another_service_only_after_every_agent_has_let_go_of_it() {
    let Some(world) = World::new() else { return };
    let with = |name: &str| service("cart", 7, "") + &service("plain", 8, "") + &redact(name);
    let _server = world.server(&listens());
    let waypoint = world.waypoint("waypoint", &with("cart")).await;
    let agent = world.agent(&with("cart"));
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    // The agent stops to follow: it maps the number to `cart` for as long as it is not there.
    agent.kill();
    waypoint.write(&with("plain"));
    let ports = || std::fs::read_to_string(world.ports().join("waypoints/waypoint.json")).unwrap();
    eventually("another number", || ports().contains("20001"));
    let mut client = world.client();
    let unfiltered = through(WAYPOINT, CLIENT).replace("<EMAIL>", "ada@example.com");
    assert_eq!(client.get(CART).body, unfiltered, "a stale entry still ends at its own service");
    assert!(ports().contains("\"retired\": [\n    {\n      \"port\": 20000"), "{}", ports());

    let _agent = world.agent(&with("plain"));
    world.goes_to("shop/plain:80", &[at(WAYPOINT, 20_001)]).await;
    world.goes_direct("shop/cart:80").await;
    eventually("the number is free", || !ports().contains("20000"));
    // And now another may have it.
    let third = service("zoo", 9, "") + &redact("zoo");
    waypoint.write(&(with("plain") + &third));
    eventually("it is used again", || ports().contains("20000"));
    assert!(ports().contains("zoo"));
}

#[tokio::test]
async fn numbers_are_remembered_and_one_that_something_else_holds_is_passed_over() {
    let Some(world) = World::new() else { return };
    let both = shop() + &redact("plain");
    let _server = world.server(&listens());
    let mut waypoint = world.waypoint("waypoint", &both).await;
    waypoint.signal(Signal::TERM);
    assert_eq!(waypoint.exit_code().await, Some(0));
    // `cart` had 20000, `plain` 20001. Something else takes the first while nobody looks.
    let mut squatter = Role::start(&world.within("waypoint", ""));
    assert_eq!(squatter.ask("listen [::]:20000 squatter"), "listening");
    let _waypoint = world.waypoint("waypoint", &both).await;
    let _agent = world.agent(&both);
    world.goes_to("shop/plain:80", &[at(WAYPOINT, 20_001)]).await;
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_002)]).await;
    assert_eq!(world.client().get(CART).body, through(WAYPOINT, CLIENT));
}

#[tokio::test]
async fn one_name_has_one_waypoint_and_forgotten_numbers_are_not_given_anew() {
    let Some(world) = World::new() else { return };
    let mut waypoint = world.waypoint("waypoint", &shop()).await;
    let refused = |arguments: &[&str]| {
        let mut second = world.waypoint_with("waypoint", &shop(), arguments);
        async move { (second.exit_code().await, second) }
    };
    let elsewhere = ["--bind", "service/shop/cart:80=127.0.0.1:0"];
    let (code, second) = refused(&elsewhere).await;
    assert_eq!(code, Some(1));
    second.logged("another waypoint publishes as `waypoint`").await;

    let agent = world.agent(&shop());
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    waypoint.signal(Signal::TERM);
    assert_eq!(waypoint.exit_code().await, Some(0));
    agent.kill();
    std::fs::remove_file(world.ports().join("waypoints/waypoint.json")).unwrap();
    let (code, forgetful) = refused(&[]).await;
    assert_eq!(code, Some(1));
    forgetful.logged("still maps numbers from it").await;
}

#[tokio::test]
async fn a_second_agent_is_refused_and_wrong_resources_change_nothing() {
    let Some(world) = World::new() else { return };
    let (_server, _waypoint, agent) = open_shop(&world).await;
    let second = world.agent_with(&shop(), &["--name", "second", "--metrics", "127.0.0.1:0"]);
    assert_eq!(second.exit_code(), Some(1));
    assert!(agent.log().contains("held by another agent"), "{}", agent.log());
    let namesake = world.agent_with(&shop(), &["--metrics", "127.0.0.1:0"]);
    assert_eq!(namesake.exit_code(), Some(1));
    assert!(agent.log().contains("another agent is called `agent`"), "{}", agent.log());

    agent.write(&shop().replace("builtin://pii-redact", "builtin://pii-redakt"));
    let refused =
        || world.page("/stats/prometheus").contains("waypoint_redirect_refused_resources 1");
    eventually("a refused resource", refused);
    assert!(agent.log().contains("did you mean"), "{}", agent.log());
    assert_eq!(
        world.client().get(CART).body,
        through(WAYPOINT, CLIENT),
        "the last good one counts"
    );
}

#[tokio::test]
async fn an_agent_that_cannot_be_meant_so_changes_nothing_in_the_kernel() {
    let Some(world) = World::new() else { return };
    let (_server, _waypoint, agent) = open_shop(&world).await;
    assert_eq!(agent.end(), Some(0));
    let all = world.group("");
    let clients = world.group("clients");
    let cases: [(&str, &[&str], &str); 4] = [
        ("", &[], "no Service in the resources"),
        ("", &["--metrics", "192.0.2.1:1", "--allow-empty"], "metrics cannot listen"),
        (&shop(), &["--exempt-cgroup", all.to_str().unwrap()], "all would be exempt"),
        (&shop(), &["--cgroup", clients.to_str().unwrap()], "is attached to"),
    ];
    for (resources, arguments, said) in cases {
        let agent = world.agent_with(resources, arguments);
        let log = agent.log_path();
        assert_eq!(agent.exit_code(), Some(1), "{said}");
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains(said), "{said}: {log}");
    }
    assert_eq!(world.client().get(CART).body, through(WAYPOINT, CLIENT), "it is as it was");
}

#[tokio::test]
async fn resources_that_vanish_open_nothing() {
    let Some(world) = World::new() else { return };
    let (_server, _waypoint, agent) = open_shop(&world).await;
    agent.write("");
    eventually("it is told", || agent.log().contains("every Service is gone"));
    assert_eq!(world.client().get(CART).body, through(WAYPOINT, CLIENT));
}

#[tokio::test]
async fn a_waypoint_in_the_clients_group_that_may_set_no_mark_gets_nothing() {
    let Some(world) = World::new() else { return };
    let _server = world.server(&listens());
    let _waypoint = world.unmarked_waypoint(&shop()).await;
    let _agent = world.agent_with(&shop(), &["--cgroup", world.group("clients").to_str().unwrap()]);
    world.goes_to("shop/cart:80", &[]).await;
    let mut client = world.client();
    assert_eq!(client.get(CART).status, "ConnectionRefused", "everybody's group is not exempt");
    let alarm = || world.page("/stats/prometheus").contains("alarms{kind=\"not_exempt\"} 1");
    eventually("an alarm", alarm);
}

#[tokio::test]
async fn what_somebody_takes_away_is_found_and_mended() {
    let Some(world) = World::new() else { return };
    let (_server, _waypoint, _agent) = open_shop(&world).await;
    let mut links = Vec::new();
    for layout in std::fs::read_dir(world.pins()).unwrap().flatten() {
        links
            .extend(std::fs::read_dir(layout.path().join("links")).into_iter().flatten().flatten());
    }
    let connect4 = links.iter().find(|link| link.file_name() == "connect4").unwrap().path();
    std::fs::remove_file(&connect4).unwrap();
    eventually("the pin is back", || connect4.exists());
    assert_eq!(world.client().get(CART).body, through(WAYPOINT, CLIENT));
    assert!(!world.page("/stats/prometheus").contains("waypoint_redirect_drift_found_total 0"));
}

#[tokio::test]
async fn detach_leaves_nothing_behind() {
    let Some(world) = World::new() else { return };
    let (_server, _waypoint, agent) = open_shop(&world).await;
    let ports = world.ports();
    let words = ["detach", "--ports", ports.to_str().unwrap()];
    let output = world.redirect(&words);
    assert!(!output.status.success(), "an agent runs");
    assert_eq!(agent.end(), Some(0));
    let mut client = world.client();
    assert_eq!(client.get(CART).body, through(WAYPOINT, CLIENT), "an ended agent changes nothing");

    let output = world.redirect(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(client.get(CART).body, direct(CLIENT));
    assert!(!world.pins().exists());
    assert_eq!(std::fs::read_dir(ports.join("agents")).unwrap().count(), 0);
    assert!(!world.redirect(&["status"]).status.success());
    assert!(world.redirect(&words).status.success(), "once more is no mistake");
}

#[tokio::test]
async fn explain_list_and_doctor_say_what_a_person_wants_to_know() {
    let Some(world) = World::new() else { return };
    let _waypoint = world.waypoint("waypoint", &shop()).await;
    let _agent = world.agent(&shop());
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    let file = world.dir.path().join("agent.yaml");
    let text = |words: &[&str]| {
        let output = world.redirect(words);
        let all = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(all).unwrap())
    };
    let explain = |service| text(&["explain", service, "-f", file.to_str().unwrap()]);
    let (fine, said) = explain("shop/cart");
    assert!(
        fine && said
            .contains("shop/cart:80 goes to a waypoint\n  because of Filter shop/redact-cart"),
        "{said}"
    );
    let (fine, said) = explain("plain");
    assert!(fine && said.contains("shop/plain:80 goes direct: nothing that needs L7"), "{said}");
    let (fine, said) = explain("shop/nobody");
    assert!(!fine && said.contains("there are: shop/cart:80, shop/plain:80"), "{said}");
    let (fine, said) = text(&["list"]);
    assert!(
        fine && said.contains("10.96.0.7:80  shop/cart:80 -> 10.203.0.3:20000 (100)"),
        "{said}"
    );
    let (fine, said) = text(&["status"]);
    assert!(fine && said.contains("connect4") && !said.contains("NOT ATTACHED"), "{said}");
    let group = world.group("clients");
    let (fine, said) = text(&["doctor", "--cgroup", group.to_str().unwrap()]);
    assert!(fine, "{said}");
    assert!(!said.contains("MISSING"), "{said}");
}

#[tokio::test]
async fn the_agent_keeps_two_capabilities_and_needs_no_other_where_a_bpffs_is_mounted() {
    let Some(world) = World::new() else { return };
    world.mount();
    let only = ["--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all,+bpf,+net_admin"];
    let agent = world.agent_by(&["setpriv", only[0], only[1]], &shop(), &[]);
    eventually("the agent is ready", || world.page("/healthz/ready") == "ready\n");
    assert_eq!(agent.end(), Some(0));

    let agent = world.agent(&shop());
    eventually("the agent is ready", || world.page("/healthz/ready") == "ready\n");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let (net_admin, bpf) = (1u64 << 12, 1u64 << 39);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{set}:"))).unwrap();
        let value = u64::from_str_radix(line.trim(), 16).unwrap();
        assert_eq!(value, net_admin | bpf, "{set}");
    }
}

#[tokio::test]
async fn the_demo_sees_what_it_expects_and_leaves_nothing_behind() {
    if passed_over() {
        return;
    }
    let output = run_to_end(&["redirect", "demo"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Everything was as expected") && !said.contains("WRONG"), "{said}");
}

/// Not a test of the kernel: the folder of ports alone.
#[tokio::test]
async fn a_successor_publishes_once_its_predecessor_has_ended() {
    let dir = tempfile::TempDir::new().unwrap();
    let (socket, ports) = (dir.path().join("takeover"), dir.path().join("ports"));
    let arguments = ["--takeover", socket.to_str().unwrap(), "--ports", ports.to_str().unwrap()];
    let mut first = Waypoint::start_with(&shop(), &arguments).await;
    let published = || std::fs::read_to_string(ports.join("waypoints/waypoint.json")).unwrap();
    let before = published();
    assert!(before.contains("\"name\": \"cart\"") && !before.contains("\"name\": \"plain\""));
    let second = Waypoint::start_with(&shop(), &arguments).await;
    assert_eq!(first.exit_code().await, Some(0));
    second.write(&(shop() + &redact("plain")));
    eventually("the successor publishes", || published().contains("\"name\": \"plain\""));
    assert!(published().contains("\"port\": 20000"), "numbers are kept: {}", published());
}

/// Not a test of the kernel: a folder of ports that cannot be used ends the start.
#[tokio::test]
async fn a_waypoint_that_nobody_can_reach_does_not_publish() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("ports");
    let arguments = ["--address", "::", "--ports", path.to_str().unwrap()];
    let mut waypoint = Waypoint::spawn(&shop(), &arguments);
    assert_eq!(waypoint.exit_code().await, Some(1));
    waypoint.logged("--ports needs --advertise").await;
}
