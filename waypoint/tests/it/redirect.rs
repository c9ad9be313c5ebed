//! The redirection, whole, on the real kernel and as root: real clients in control groups and network
//! namespaces of their own, real waypoints, a real agent. `WAYPOINT_TEST_SKIP=redirect` passes over
//! these tests; without it a machine that lacks what they need fails them.

mod agents;
mod role;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::harness::Waypoint;
use role::Role;
use world::{Agent, CLIENT, CLIENT_V6, OTHER_WAYPOINT, SERVER, WAYPOINT, World, eventually};

/// A Service `NAME` at `10.96.0.N` and `fd00:96::N`, whose endpoint is the server's address on 8080.
fn service(name: &str, last: u8, annotations: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop{annotations}}}
spec: {{clusterIPs: [10.96.0.{last}, 'fd00:96::{last}'], ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [{SERVER}]}}]
ports: [{{name: http, port: 8080}}]
"
    )
}

/// A filter that masks mail addresses, on a Service.
fn redact(name: &str) -> String {
    format!(
        "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: redact-{name}, namespace: shop}}
spec:
  module: {{url: builtin://pii-redact}}
  targetRefs: [{{kind: Service, name: {name}}}]
  config: {{entities: [email]}}
"
    )
}

const CART: &str = "10.96.0.7:80";
const CART_V6: &str = "[fd00:96::7]:80";
const PLAIN: &str = "10.96.0.8:80";

/// `cart` has a filter, `plain` has none.
fn shop() -> String {
    service("cart", 7, "") + &service("plain", 8, "") + &redact("cart")
}

/// Servers: the endpoint of both services, and what answers at the services' own addresses.
fn listens() -> Vec<(&'static str, &'static str)> {
    vec![("[::]:8080", "endpoint"), ("[::]:80", "direct")]
}

/// A server, a waypoint and an agent of [`shop`], once the kernel has `cart`.
async fn open_shop(world: &World) -> (Role, Waypoint, Agent) {
    let server = world.server(&listens());
    let waypoint = world.waypoint("waypoint", &shop()).await;
    let agent = world.agent(&shop());
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    (server, waypoint, agent)
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// What a client gets through a waypoint: the filter has run, the endpoint saw the waypoint, and the
/// waypoint saw the client.
fn through(waypoint: &str, client: &str) -> String {
    format!("endpoint saw {waypoint} for {client}; write to <EMAIL>")
}

/// What it gets past every waypoint.
fn direct(client: &str) -> String {
    format!("direct saw {client} for nobody; write to ada@example.com")
}

#[tokio::test]
async fn what_needs_l7_goes_through_the_filters_and_everything_else_goes_direct() {
    let Some(world) = World::new() else { return };
    let (_server, waypoint, _agent) = open_shop(&world).await;
    let mut client = world.client();

    let got = client.get(CART);
    assert_eq!((got.status.as_str(), got.body), ("200", through(WAYPOINT, CLIENT)));
    assert_eq!(got.peer, CART, "the application sees the address that it asked for");
    let record = waypoint.record(|record| record["response_code"] == 200).await;
    assert!(record["downstream_remote_address"].as_str().unwrap().contains(CLIENT), "{record}");

    let got = client.get(CART_V6);
    assert_eq!(got.body, through(WAYPOINT, CLIENT_V6));
    assert_eq!(got.peer, CART_V6);

    let mapped = "[::ffff:10.96.0.7]:80";
    let got = client.get(mapped);
    assert_eq!(got.body, through(WAYPOINT, CLIENT), "no way round by a mapped address");
    assert_eq!(got.peer, mapped);

    let got = client.get(PLAIN);
    assert_eq!((got.body, got.peer.as_str()), (direct(CLIENT), PLAIN));
    let got = client.get("10.203.0.4:8080");
    assert_eq!(got.body, direct(CLIENT).replace("direct", "endpoint"), "an endpoint is no service");

    let state = world.state();
    assert_eq!(state["totals"]["redirected"], 3);
    assert!(state["totals"]["missed"].as_u64().unwrap() >= 1);
    let entry = state["entries"].as_array().unwrap().iter().find(|one| one["address"] == CART);
    assert_eq!(entry.unwrap()["counters"]["redirected"], 2, "the mapped one counts as IPv4");
    // The waypoint's connections to the endpoint pass the hook too, and are no service's.
    assert_eq!(state["totals"]["refused"], 0);
}

#[tokio::test]
async fn without_a_ready_waypoint_connections_are_refused_or_go_direct_as_the_service_says() {
    let Some(world) = World::new() else { return };
    let annotated = ", annotations: {redirect.waypoint.rs/unready: Direct}";
    let resources =
        service("cart", 7, "") + &service("open", 9, annotated) + &redact("cart") + &redact("open");
    let _server = world.server(&listens());
    let _agent = world.agent(&resources);
    world.goes_to("shop/cart:80", &[]).await;
    let mut client = world.client();
    assert_eq!(client.get(CART).status, "ConnectionRefused", "no waypoint was ever there");
    assert_eq!(client.get("10.96.0.9:80").body, direct(CLIENT));
    assert!(
        world.page("/stats/prometheus").contains("waypoint_redirect_alarms{kind=\"unserved\"} 2")
    );

    let mut waypoint = world.waypoint("waypoint", &resources).await;
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    assert_eq!(client.get(CART).body, through(WAYPOINT, CLIENT));
    assert_eq!(client.get("10.96.0.9:80").body, through(WAYPOINT, CLIENT));

    waypoint.child.start_kill().unwrap();
    waypoint.child.wait().await.unwrap();
    assert_eq!(client.get(CART).status, "ConnectionRefused", "before the agent knows, too");
    world.goes_to("shop/cart:80", &[]).await;
    assert_eq!(client.get(CART).status, "ConnectionRefused");
    assert_eq!(client.get("10.96.0.9:80").body, direct(CLIENT));
    let totals = &world.state()["totals"];
    assert!(totals["refused"].as_u64().unwrap() >= 2 && totals["direct"] == 2, "{totals}");
}

#[tokio::test]
async fn a_waypoint_that_drains_gets_no_new_connections_and_the_other_replica_takes_them() {
    let Some(world) = World::new() else { return };
    let _server = world.server(&listens());
    let mut first = world.waypoint("waypoint", &shop()).await;
    let _second = world.waypoint("other", &shop()).await;
    let _agent = world.agent(&shop());
    let both = [at(WAYPOINT, 20_000), at(OTHER_WAYPOINT, 20_000)];
    world.goes_to("shop/cart:80", &both).await;
    let mut client = world.client();
    client.begin(CART);
    client.counts(50);
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code().await, Some(0));
    world.goes_to("shop/cart:80", &both[1..]).await;
    let before = client.count();
    client.counts(before + 50);
    let seen = client.stop();
    let of = |waypoint| seen.get(&through(waypoint, CLIENT)).copied().unwrap_or_default();
    assert!(of(WAYPOINT) > 0 && of(OTHER_WAYPOINT) > 0, "{seen:?}");
    assert_eq!(seen.len(), 2, "none is refused, and none goes past the filters: {seen:?}");
    assert_eq!(client.get(CART).body, through(OTHER_WAYPOINT, CLIENT));
}

#[tokio::test]
async fn the_agent_may_be_killed_and_started_again_while_connections_are_made() {
    let Some(world) = World::new() else { return };
    let (_server, _waypoint, mut agent) = open_shop(&world).await;
    let mut client = world.client();
    client.begin(CART);
    client.begin(PLAIN);
    let mut seen = client.count();
    for round in 0..4 {
        let pid = agent.pid();
        if round % 2 == 0 {
            agent.kill();
        } else {
            assert_eq!(agent.end(), Some(0));
        }
        client.counts(seen + 40);
        agent = world.agent(&shop());
        world
            .until("a new agent", |state| {
                state["agent"].as_u64().is_some_and(|new| new != u64::from(pid))
            })
            .await;
        eventually("the agent is ready", || world.page("/healthz/ready") == "ready\n");
        seen = client.count();
        client.counts(seen + 40);
        seen = client.count();
    }
    let answers = client.stop();
    let right = BTreeMap::from([
        (through(WAYPOINT, CLIENT), answers[&through(WAYPOINT, CLIENT)]),
        (direct(CLIENT), answers[&direct(CLIENT)]),
    ]);
    assert_eq!(answers, right, "not one went the wrong way, and none was refused");
}

#[tokio::test]
async fn when_the_last_reason_goes_new_connections_go_direct_and_back_again() {
    let Some(world) = World::new() else { return };
    let without = shop().replace(&redact("cart"), "");
    let _server = world.server(&listens());
    let waypoint = world.waypoint("waypoint", &without).await;
    let agent = world.agent(&without);
    world.until("an empty table", |state| state["entries"].as_array().unwrap().is_empty()).await;
    let mut client = world.client();
    client.begin(CART);
    client.counts(20);
    for _ in 0..3 {
        waypoint.write(&shop());
        agent.write(&shop());
        world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
        let before = client.count();
        client.counts(before + 20);
        waypoint.write(&without);
        agent.write(&without);
        world.goes_direct("shop/cart:80").await;
        let before = client.count();
        client.counts(before + 20);
    }
    let seen = client.stop();
    // The filter comes and goes at the waypoint before the kernel knows: its entrance still serves.
    let unfiltered = through(WAYPOINT, CLIENT).replace("<EMAIL>", "ada@example.com");
    let known = [direct(CLIENT), through(WAYPOINT, CLIENT), unfiltered];
    assert!(seen.keys().all(|said| known.contains(said)), "none is refused or lost: {seen:?}");
    assert!(seen.contains_key(&known[0]) && seen.contains_key(&known[1]));
}

#[tokio::test]
async fn a_waypoints_own_connections_are_never_redirected() {
    let Some(world) = World::new() else { return };
    // The endpoint of `cart` is the address of `loop`, which needs L7 itself and whose endpoint is the
    // address of `cart`: redirected, a request would go round for ever.
    let looped = |name: &str, last: u8, endpoint: &str| {
        service(name, last, "").replace(SERVER, endpoint).replace("port: 8080", "port: 80")
            + &redact(name)
    };
    let resources = looped("cart", 7, "10.96.0.9") + &looped("loop", 9, "10.96.0.7");
    let _server = world.server(&listens());
    let _waypoint = world.waypoint("waypoint", &resources).await;
    let _agent = world.agent(&resources);
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    world.goes_to("shop/loop:80", &[at(WAYPOINT, 20_001)]).await;
    let mut client = world.client();
    let once = through(WAYPOINT, CLIENT).replace("endpoint", "direct");
    assert_eq!(client.get(CART).body, once, "one pass, then straight to the address");
    assert_eq!(client.get("10.96.0.9:80").body, once);
    assert_eq!(world.state()["totals"]["exempt"], 2);
}

#[tokio::test]
async fn udp_to_a_port_that_needs_l7_is_refused_where_the_service_says_so() {
    let Some(world) = World::new() else { return };
    let annotated = ", annotations: {redirect.waypoint.rs/udp: Refuse}";
    let resources =
        service("cart", 7, annotated) + &service("plain", 8, annotated) + &redact("cart");
    let _waypoint = world.waypoint("waypoint", &resources).await;
    let _agent = world.agent(&resources);
    world.goes_to("shop/cart:80", &[at(WAYPOINT, 20_000)]).await;
    let mut client = world.client();
    assert_eq!(client.ask(&format!("udp {CART}")), "ConnectionRefused");
    assert_eq!(client.ask(&format!("udp {CART_V6}")), "ConnectionRefused");
    assert_eq!(client.ask(&format!("udp {PLAIN}")), "sent", "it needs no L7");
}
