//! The operator's ports and the access log.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request};
use http_body_util::Full;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::ahead::{Eager, unread};
use crate::harness::{
    Kept, Waypoint, gateway_to, get, post_json, redact_to, request, send_http1, service, service_at,
};
use crate::origin::{Origin, Speaks};

async fn with_origin() -> (Origin, String) {
    let origin = Origin::echo(Speaks::Http1).await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    (origin, resources)
}

fn to_host(method: Method, path: &str, host: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", host);
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_process_that_serves_says_that_it_is_ready() {
    let (_origin, resources) = with_origin().await;
    let waypoint = Waypoint::start(&resources).await;

    assert_eq!(waypoint.admin(Method::GET, "/ready").await.status(), 200);
    let health = waypoint.address("health");
    for (method, path, status) in [
        (Method::GET, "/healthz/ready", 200),
        (Method::HEAD, "/healthz/ready", 200),
        (Method::POST, "/healthz/ready", 405),
        (Method::GET, "/", 404),
    ] {
        let answer = send_http1(health, to_host(method.clone(), path, "10.0.0.1:15021")).await;
        assert_eq!(answer.status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn the_dumps_show_what_is_served_and_never_a_configuration() {
    let (origin, resources) = with_origin().await;
    let waypoint = Waypoint::start(&(resources + &redact_to("<SECRET-WORD>"))).await;
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);

    let dump = waypoint.page("/config_dump").await;
    assert_eq!(dump["snapshot"], 1);
    let entrance = &dump["entrances"][0];
    assert_eq!(entrance["name"], "gateway/default/8080");
    assert_eq!(entrance["filters"][0].as_str().map(|name| name.contains("redact")), Some(true));
    assert_eq!(entrance["routes"][0]["backends"][0]["service"], "default/origin:80");
    assert_eq!(dump["services"][0]["endpoints"][0], origin.address.to_string());
    assert_eq!(dump["filters"][0]["module"], "builtin://pii-redact");
    assert!(!dump.to_string().contains("SECRET-WORD"), "{dump:#}");

    let endpoints = waypoint.page("/endpoints").await;
    assert_eq!(endpoints[0]["address"], origin.address.to_string());
    assert_eq!(endpoints[0]["outstanding"], 0);
    let name = waypoint.page("/filters").await[0]["filter"].as_str().unwrap().to_owned();
    let filter = waypoint.filter(&name).await;
    assert_eq!((&filter["generation"], &filter["traps"]), (&Value::from(1), &Value::from(0)));
    assert!(filter["calls"].as_u64() > Some(0), "{filter:#}");
    assert!(filter["memoryBytes"].as_u64() > Some(0), "{filter:#}");
    let config = waypoint.page("/config").await;
    assert_eq!(config["lastReload"]["result"], "applied");
    let statuses = config["statuses"].as_array().expect("a list");
    let gateway = statuses.iter().find(|one| one["resource"]["kind"] == "Gateway");
    let listener = &gateway.expect("the Gateway's")["status"]["listeners"][0];
    assert_eq!(listener["attachedRoutes"], 1, "{listener:#}");
}

#[tokio::test]
async fn the_level_of_the_log_is_shown_set_and_checked() {
    let (_origin, resources) = with_origin().await;
    let waypoint = Waypoint::start(&resources).await;
    let level = async || waypoint.admin(Method::GET, "/logging").await.into_body();

    assert_eq!(&level().await[..], b"info\n");
    let set = waypoint.admin(Method::POST, "/logging?level=debug").await;
    assert_eq!((set.status().as_u16(), &set.body()[..]), (200, &b"debug\n"[..]));
    let none = to_host(Method::GET, "/", "nowhere.test");
    send_http1(waypoint.http(), none).await;
    for wrong in ["/logging?level=loud", "/logging?level=info,=", "/logging"] {
        let answer = waypoint.admin(Method::POST, wrong).await;
        assert_eq!(answer.status(), 400, "{wrong}: {:?}", answer.body());
    }
    assert_eq!(&level().await[..], b"debug\n");
    // At debug, a reload that changes nothing is logged.
    waypoint.admin(Method::POST, "/reload").await;
    waypoint.logged("nothing changed").await;
}

#[tokio::test]
async fn the_admin_port_refuses_unknown_paths_wrong_methods_and_foreign_hosts() {
    let (_origin, resources) = with_origin().await;
    let waypoint = Waypoint::start(&resources).await;

    let lost = waypoint.admin(Method::GET, "/lost").await;
    assert_eq!(lost.status(), 404);
    assert!(String::from_utf8_lossy(lost.body()).contains("GET  /config_dump"));
    for (method, path) in [
        (Method::POST, "/filters"),
        (Method::GET, "/reload"),
        (Method::DELETE, "/logging"),
        (Method::POST, "/ready"),
        (Method::POST, "/healthz/ready"),
        (Method::POST, "/help"),
    ] {
        let answer = waypoint.admin(method.clone(), path).await;
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert!(answer.headers().contains_key("allow"), "{method} {path}");
    }
    let admin = waypoint.address("admin");
    for (host, status) in [
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:15000", 403),
        ("localhost:15000", 200),
        ("127.0.0.1", 200),
        ("[::1]:15000", 200),
    ] {
        let answer = send_http1(admin, to_host(Method::GET, "/ready", host)).await;
        assert_eq!(answer.status(), status, "{host}");
    }
}

#[tokio::test]
async fn metrics_have_istios_names_and_labels_and_each_filters_cost() {
    let (_origin, resources) = with_origin().await;
    let waypoint = Waypoint::start(&(resources + &redact_to("<EMAIL>"))).await;
    post_json(waypoint.http(), "/", r#"{"mail":"a@example.com"}"#).await;
    waypoint.record(|record| record["path"] == "/").await;

    let metrics = waypoint.metrics().await;

    let requests = metrics.lines().find(|line| line.starts_with("istio_requests_total{"));
    let requests = requests.unwrap_or_else(|| panic!("{metrics}"));
    for label in [
        "reporter=\"waypoint\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
        "destination_service=\"origin.default.svc.cluster.local\"",
        "destination_service_namespace=\"default\"",
        "source_workload=\"unknown\"",
    ] {
        assert!(requests.contains(label), "{label}: {requests}");
    }
    assert!(requests.ends_with("} 1"), "{requests}");
    for name in [
        "istio_request_duration_milliseconds_bucket{",
        "istio_request_bytes_sum{",
        "istio_response_bytes_sum{",
        "waypoint_filter_calls_total{filter=",
        "waypoint_filter_cpu_seconds_total{filter=",
        "waypoint_filter_failures_total{filter=",
        "waypoint_filter_memory_bytes{filter=",
        "waypoint_filter_generation{filter=",
        "waypoint_snapshot 1",
        "waypoint_reloads_total{result=\"applied\"} 1",
        "waypoint_refused_resources 0",
        "wasmcustom_pii_redact_matches_email_total{filter=",
    ] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn the_access_log_as_text_has_istios_fields_in_their_order() {
    let (origin, resources) = with_origin().await;
    let mut waypoint = Waypoint::start_with(&resources, &["--access-log", "text"]).await;
    let mut one = request(Method::POST, "/text?q=1", "12345");
    one.headers_mut().insert("user-agent", "say \"hi\"".parse().unwrap());
    assert_eq!(send_http1(waypoint.http(), one).await.status(), 200);
    waypoint.signal(Signal::TERM);
    assert_eq!(waypoint.exit_code().await, Some(0));

    let line = waypoint.access_log_line("/text?q=1").await;
    let start = line.find(']').unwrap() + 1;
    assert!(line.starts_with("[20") && line[..start].ends_with("Z]"), "{line}");
    let rest = &line[start..];
    assert!(
        rest.starts_with(" \"POST /text?q=1 HTTP/1.1\" 200 - via_upstream - \"-\" 5 5 "),
        "{line}"
    );
    let (agent, upstream) =
        (r#""say \"hi\"""#, format!("\"{}\" default/origin:80", origin.address));
    assert!(rest.contains(agent), "{line}");
    assert!(rest.contains(&format!(" \"example.test\" {upstream} ")), "{line}");
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_sheds_lines_and_blocks_no_request() {
    /// More than the log's buffer, the writer's batch and the pipe hold together.
    const REQUESTS: usize = 700;
    let (_origin, resources) = with_origin().await;
    let mut waypoint = Waypoint::start_unread(&resources).await;
    let mut client = Kept::http1(waypoint.http()).await;
    let path = format!("/{}", "x".repeat(6_000));

    for _ in 0..REQUESTS {
        assert_eq!(client.send(request(Method::GET, &path, "")).await.status(), 200);
    }

    let shed = waypoint.series("waypoint_access_log_shed_total").await;
    assert!(shed > Some(0), "{shed:?}");
    // A log that cannot be written does not keep the process from ending either.
    waypoint.signal(Signal::TERM);
    assert_eq!(waypoint.exit_code().await, Some(0));
}

#[tokio::test]
async fn near_the_memory_budget_new_requests_are_shed_and_the_operator_is_still_answered() {
    let (origin, resources) = with_origin().await;
    let waypoint = Waypoint::start_with(&resources, &["--memory-max-mib", "1"]).await;

    let shed = get(waypoint.http(), "/").await;

    assert_eq!((shed.status().as_u16(), &shed.body()[..]), (503, &b"memory_short\n"[..]));
    assert_eq!(shed.headers()["retry-after"], "1");
    assert!(origin.seen().is_empty());
    assert_eq!(waypoint.admin(Method::GET, "/ready").await.status(), 200);
}

#[tokio::test]
async fn a_flood_that_meets_the_memory_budget_is_forgotten_when_its_clients_are_gone() {
    /// What the flood may take, in MiB; a connection of it takes less than one.
    const FLOOD_MIB: u64 = 24;
    /// Without the allocator's own thread it is a matter of what else happens: 40 s, or never.
    const SOON: Duration = Duration::from_secs(20);
    /// Each takes the streams of eight connections.
    const ORIGINS: usize = 6;
    let origins = join_all((0..ORIGINS).map(|_| Eager::start())).await;
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let resources = gateway_to("origin") + &service_at("origin", "kubernetes.io/h2c", &addresses);
    let at_rest = Waypoint::start(&resources).await.resident_kib() / 1024;
    let budget = ((at_rest + FLOOD_MIB) * 100 / waypoint::memory::SHED_PERCENT).to_string();
    let waypoint = Waypoint::start_with(&resources, &["--memory-max-mib", &budget]).await;

    let mut flood = Vec::new();
    while flood.len() < 6 * ORIGINS && get(waypoint.http(), "/").await.status() == 200 {
        flood.push(unread(waypoint.http()).await);
    }
    let shed = get(waypoint.http(), "/").await;
    assert_eq!(shed.body(), "memory_short\n", "{} connections", flood.len());
    drop(flood);

    // Not only what it lacks to serve again.
    let given_back = async {
        while at_rest + FLOOD_MIB * 2 / 3 < waypoint.resident_kib() / 1024 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, given_back).await.expect("what the flood took is given back");
    waypoint.logged("memory is free again").await;
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);
}
