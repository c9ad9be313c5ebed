//! Endpoints that have names: resolved again by their time, under load and through failures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::dns::{Dns, Says};
use crate::harness::{Waypoint, gateway_with, get};
use crate::origin::{Origin, Speaks};

const NAME: &str = "api.outside.test";

/// A Gateway whose route leads to an ExternalName service of this name and port.
fn resources(name: &str, port: u16) -> String {
    let rule = format!("{{backendRefs: [{{name: outside, port: {port}}}]}}");
    let service = format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: outside}}
spec:
  type: ExternalName
  externalName: {name}
  ports: [{{name: http, port: {port}}}]
"
    );
    gateway_with(&rule) + &service
}

async fn waypoint(dns: &Dns, resources: &str) -> Waypoint {
    Waypoint::start_with(resources, &["--resolver", &dns.address.to_string()]).await
}

fn addresses(origins: &[&Origin], ttl: u32) -> Says {
    Says::Addresses(origins.iter().map(|origin| origin.address.ip()).collect(), ttl)
}

/// Two origins on one port of two loopback addresses; they answer with their name and the host that
/// they were asked for.
async fn pair() -> (Origin, Origin) {
    let telling = |name: &'static str| {
        move |request: &Request<Bytes>| {
            let host = request.headers()["host"].to_str().expect("text");
            Response::new(Bytes::from(format!("{name} {host}")))
        }
    };
    loop {
        let one = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = one.local_addr().expect("an address").port();
        // Somebody else may have it there.
        let Ok(two) = TcpListener::bind(("127.0.0.2", port)).await else { continue };
        let one = Origin::on(one, Speaks::Http1, telling("one"));
        return (one, Origin::on(two, Speaks::Http1, telling("two")));
    }
}

/// Asks until this is the answer.
async fn answers(waypoint: &Waypoint, wanted: &str) {
    let asking = async {
        while get(waypoint.http(), "/").await.body() != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let asked = tokio::time::timeout(crate::harness::PATIENCE, asking).await;
    assert!(asked.is_ok(), "{wanted} never answered:\n{}", waypoint.printed());
}

#[tokio::test]
async fn a_name_is_followed_to_its_new_address_under_load_and_no_request_is_lost() {
    let (one, two) = pair().await;
    let dns = Dns::start().await;
    dns.say(NAME, addresses(&[&one], 1));
    let waypoint = Arc::new(waypoint(&dns, &resources(NAME, one.address.port())).await);
    // The host is the request's own.
    assert_eq!(get(waypoint.http(), "/").await.body(), "one example.test");

    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (waypoint, over) = (Arc::clone(&waypoint), Arc::clone(&over));
            tokio::spawn(async move {
                let mut count = 0;
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(get(waypoint.http(), "/").await.status(), 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    dns.say(NAME, addresses(&[&two], 1));
    answers(&waypoint, "two example.test").await;
    dns.say(NAME, addresses(&[&one, &two], 1));
    dns.asked_again(NAME, 2).await;
    dns.say(NAME, addresses(&[&one], 60));
    dns.asked_again(NAME, 1).await;
    answers(&waypoint, "one example.test").await;
    over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(0 < client.await.expect("no request fails"));
    }
}

#[tokio::test]
async fn a_failing_resolver_changes_nothing_and_a_name_that_is_gone_is_not_sent_to() {
    let (one, _) = pair().await;
    let dns = Dns::start().await;
    dns.say(NAME, addresses(&[&one], 1));
    let text = resources(NAME, one.address.port());
    let waypoint = waypoint(&dns, &text).await;
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);

    dns.say(NAME, Says::Failure);
    waypoint.logged("a name cannot be resolved").await;
    let failing =
        format!("waypoint_upstream_name_resolutions_total{{name=\"{NAME}\",result=\"failing\"}}");
    assert!(waypoint.series(&failing).await.is_some_and(|count| 0 < count));
    assert_eq!(get(waypoint.http(), "/").await.status(), 200, "the last good address serves");
    // A reload keeps what is known.
    dns.say(NAME, Says::Silence);
    assert_ne!(waypoint.reload(&format!("{text}# changed\n")).await["result"], "refused");
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);

    dns.say(NAME, Says::NoSuchName);
    answers(&waypoint, "upstream_name_unresolved\n").await;
    let record = waypoint.record(|record| record["response_code"] == 503).await;
    assert_eq!(record["response_flags"], "DF");
    assert_eq!(record["response_code_details"], "upstream_name_unresolved");
    dns.say(NAME, addresses(&[&one], 60));
    answers(&waypoint, "one example.test").await;
}

#[tokio::test]
async fn the_first_answer_is_waited_for_by_requests_and_not_by_the_start() {
    let (one, _) = pair().await;
    let dns = Dns::start().await;
    dns.say(NAME, Says::Silence);
    let waypoint = waypoint(&dns, &resources(NAME, one.address.port())).await;
    let answer = get(waypoint.http(), "/").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body(), "upstream_name_unresolved\n");
    // The question is put once more by itself.
    dns.say(NAME, addresses(&[&one], 60));
    answers(&waypoint, "one example.test").await;
}

#[tokio::test]
async fn a_name_is_asked_for_once_however_many_services_and_reloads_there_are() {
    let (one, _) = pair().await;
    let dns = Dns::start().await;
    dns.say(NAME, addresses(&[&one], 60));
    let port = one.address.port();
    let slice = format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: sliced}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: sliced-1, labels: {{kubernetes.io/service-name: sliced}}}}
addressType: FQDN
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [{NAME}]}}]
"
    );
    let text = resources(NAME, port) + &slice;
    let waypoint = waypoint(&dns, &text).await;
    assert_eq!(get(waypoint.http(), "/").await.body(), "one example.test");
    let sliced = text.replace(&format!("name: outside, port: {port}"), "name: sliced, port: 80");
    assert_ne!(waypoint.reload(&sliced).await["result"], "refused");
    assert_eq!(get(waypoint.http(), "/").await.body(), "one example.test");
    assert_eq!(dns.asked(NAME), 1);
    let dump = waypoint.page("/config_dump").await;
    let shown = dump["services"].as_array().expect("a list");
    for service in shown {
        assert_eq!(service["endpoints"][0], format!("{NAME}:{port}"));
        assert_eq!(service["groups"][0][0], one.address.to_string());
    }
}

#[tokio::test]
async fn names_lead_neither_to_link_local_addresses_nor_to_the_proxy_itself() {
    let dns = Dns::start().await;
    let ip = |text: &str| text.parse().expect("an address");
    dns.say(NAME, Says::Addresses(vec![ip("169.254.169.254"), ip("fe80::1")], 60));
    dns.say("self.outside.test", Says::Addresses(vec![ip("127.0.0.1"), ip("127.0.0.2")], 60));
    let waypoint = waypoint(&dns, &resources(NAME, 80)).await;
    let refused = async |waypoint: &Waypoint| {
        let answer = get(waypoint.http(), "/ready").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.body(), "upstream_name_unresolved\n");
    };
    refused(&waypoint).await;
    waypoint.logged("a name may not lead there").await;

    let admin: SocketAddr = waypoint.address("admin");
    let text = resources("self.outside.test", admin.port());
    assert_ne!(waypoint.reload(&text).await["result"], "refused");
    waypoint.logged("a name may not lead to the proxy itself").await;
    // Nobody listens at the other address: what matters is who does not answer.
    let answer = get(waypoint.http(), "/ready").await;
    assert_eq!(answer.body(), "upstream_connect_refused\n");
}
