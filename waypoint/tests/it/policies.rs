//! What an operator says of a filter: where it runs, in which order, within which bounds, and what
//! happens when it fails; and what no filter can do whatever it says.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

use http::Method;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::client::{
    Raw, becomes, failures, filter_on, get_with, post_with, route, status, values,
};
use crate::guests::{Guest, harmful, signing};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, get, request, send_http1, service};
use crate::origin::{Origin, Speaks};

/// A Gateway to an origin that answers 200, and nothing else.
fn base(origin: &Origin) -> String {
    gateway_to("origin") + &service("origin", "http", origin.address)
}

async fn plain_origin() -> (TempDir, Origin) {
    (TempDir::new().unwrap(), Origin::named(Speaks::Http1, "origin").await)
}

#[tokio::test]
async fn under_reload_a_failing_filter_refuses_its_request_and_is_started_again() {
    let (dir, origin) = plain_origin().await;
    let module = harmful("(unreachable)").write(dir.path(), "trap");
    let resources = base(&origin) + &filter("trap", &module, "  failurePolicy: Reload");
    let waypoint = Waypoint::start(&resources).await;

    for _ in 0..3 {
        assert_eq!(status(waypoint.http(), get_with("/", &[("x-bad", "1")])).await, 503);
        // From the second time on, the VM is started after a pause.
        timeout(PATIENCE, async { while get(waypoint.http(), "/").await.status() != 200 {} })
            .await
            .expect("the filter is started again");
    }

    assert_eq!(failures(&waypoint, "trap", "trap").await, 3);
    assert!(origin.seen().iter().all(|seen| values(seen.headers(), "x-ran") == ["yes"]));
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn filters_run_by_phase_and_priority_and_in_reverse_on_the_response() {
    let (dir, origin) = plain_origin().await;
    let mut resources = base(&origin);
    for (name, spec) in [
        ("last", ""),
        ("low", "  priority: -5"),
        ("high", "  priority: 10"),
        ("stats", "  phase: Stats"),
        ("authz", "  phase: Authz\n  priority: 1000"),
        ("authn-2", "  phase: Authn"),
        ("authn-1", "  phase: Authn\n  priority: 1"),
    ] {
        let module = signing(name).write(dir.path(), name);
        resources += &filter(name, &module, spec);
    }
    let waypoint = Waypoint::start(&resources).await;

    let answer = get(waypoint.http(), "/").await;

    let mut order = ["authn-1", "authn-2", "authz", "stats", "high", "low", "last"];
    assert_eq!(values(origin.seen()[0].headers(), "x-order"), order);
    order.reverse();
    assert_eq!(values(answer.headers(), "x-order"), order);
}

#[tokio::test]
async fn filters_of_namespace_gateway_route_and_service_add_up() {
    let (dir, origin) = plain_origin().await;
    let mut resources = base(&origin) + &route("own", "/own", "origin");
    for (name, target) in [
        ("namespace", ""),
        ("gateway", "kind: Gateway, name: web"),
        ("route", "kind: HTTPRoute, name: own"),
        ("service", "kind: Service, name: origin"),
    ] {
        let module = signing(name).write(dir.path(), name);
        resources += &filter_on(name, target, &module, "");
    }
    let bind = ["--bind", "service/default/origin:80=127.0.0.1:0"];
    let waypoint = Waypoint::start_with(&resources, &bind).await;

    for (entrance, path, wanted) in [
        ("gateway/default/8080", "/own", vec!["gateway", "namespace", "route", "service"]),
        ("gateway/default/8080", "/", vec!["gateway", "namespace", "service"]),
        ("service/default/origin:80", "/", vec!["namespace", "service"]),
    ] {
        assert_eq!(get(waypoint.address(entrance), path).await.status(), 200);
        let mut ran = values(origin.seen().last().unwrap().headers(), "x-order");
        ran.sort();
        assert_eq!(ran, wanted, "{entrance} {path}");
    }
}

#[tokio::test]
async fn a_filter_without_targets_runs_where_a_rule_names_it() {
    let (dir, origin) = plain_origin().await;
    let named = "matches: [{path: {type: PathPrefix, value: /named}}]
      filters: [{type: ExtensionRef, extensionRef: {group: waypoint.rs, kind: Filter, name: mine}}]";
    let resources = base(&origin)
        + &route("named", "/named", "origin")
            .replace("matches: [{path: {type: PathPrefix, value: /named}}]", named)
        + &filter_on("mine", "", &signing("mine").write(dir.path(), "mine"), "  targetRefs: []");
    let waypoint = Waypoint::start(&resources).await;

    get(waypoint.http(), "/named").await;
    get(waypoint.http(), "/other").await;

    let seen = origin.seen();
    assert_eq!(values(seen[0].headers(), "x-order"), ["mine"]);
    assert!(values(seen[1].headers(), "x-order").is_empty());
}

/// Routes `/from`, whose filter rewrites the path to `/to`, and `/to`, with a filter of its own.
fn rewriting(dir: &TempDir, origin: &Origin, first: &str) -> String {
    let rewrite = "(call $replace (i32.const 0) {:path} {/to}) (i32.const 0)";
    let rewrite = Guest::on_request(rewrite).write(dir.path(), "rewrite");
    base(origin)
        + &route("from", "/from", "origin")
        + &route("to", "/to", "origin")
        + &filter_on("rewrite", first, &rewrite, "  match: [{pathPrefixes: [/from]}]")
        + &filter_on("guard", "kind: HTTPRoute, name: to", &harmful("").write(dir.path(), "g"), "")
}

#[tokio::test]
async fn a_route_reached_by_a_route_filters_rewrite_demands_its_own_filters() {
    let (dir, origin) = plain_origin().await;
    let resources = rewriting(&dir, &origin, "kind: HTTPRoute, name: from");
    let waypoint = Waypoint::start(&resources).await;

    let answer = get(waypoint.http(), "/from").await;

    assert_eq!(answer.status(), 500);
    let record = waypoint.record(|record| record["response_code"] == 500).await;
    assert_eq!(record["response_code_details"], "demanded_filter_not_run");
    assert!(origin.seen().is_empty());
    assert_eq!(get(waypoint.http(), "/to").await.status(), 200);
}

#[tokio::test]
async fn a_route_chosen_after_an_entrance_filters_rewrite_runs_its_own_filters() {
    let (dir, origin) = plain_origin().await;
    let resources = rewriting(&dir, &origin, "kind: Gateway, name: web");
    let waypoint = Waypoint::start(&resources).await;

    assert_eq!(get(waypoint.http(), "/from").await.status(), 200);

    let seen = origin.seen();
    assert_eq!(seen[0].uri(), "/to");
    assert_eq!(values(seen[0].headers(), "x-ran"), ["yes"]);
}

#[tokio::test]
async fn an_entrance_filter_that_matches_only_the_rewritten_path_is_demanded() {
    let (dir, origin) = plain_origin().await;
    let guard = harmful("").write(dir.path(), "guard");
    // It ran before the rewrite and did not match then.
    let resources = rewriting(&dir, &origin, "kind: Gateway, name: web")
        + &filter("early", &guard, "  phase: Authn\n  match: [{pathPrefixes: [/to]}]");
    let waypoint = Waypoint::start(&resources).await;

    assert_eq!(get(waypoint.http(), "/from").await.status(), 500);

    waypoint.record(|r| r["response_code_details"] == "demanded_filter_not_run").await;
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_filter_sees_the_methods_and_paths_that_match_however_they_are_written() {
    let (dir, origin) = plain_origin().await;
    let module = signing("seen").write(dir.path(), "seen");
    let spec = "  match: [{methods: [GET], pathPrefixes: [/admin]}, {methods: [POST]}]";
    let waypoint = Waypoint::start(&(base(&origin) + &filter("seen", &module, spec))).await;
    let mut client = Raw::connect(waypoint.http()).await;
    for (line, runs) in [
        ("GET /admin", true),
        ("GET /admin/x?y", true),
        ("GET /%61dmin", true),
        ("GET /x/../admin", true),
        ("GET //admin", true),
        ("GET /administrator", false),
        ("GET /x?/admin", false),
        ("DELETE /admin", false),
        ("POST /other", true),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
        client.send(request).await;
        let answer = client.until("origin").await;
        client.forget();
        assert!(answer.starts_with("HTTP/1.1 200"), "{line}: {answer}");
        let ran = origin.seen().last().unwrap().headers().contains_key("x-order");
        assert_eq!(ran, runs, "{line}");
    }
}

#[tokio::test]
async fn an_istio_wasm_plugin_runs_as_it_is_written() {
    let (dir, origin) = plain_origin().await;
    let module = signing("plugin").write(dir.path(), "plugin");
    let trap = harmful("(unreachable)").write(dir.path(), "trap");
    let resources = base(&origin)
        + &format!(
            "
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: plugin}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: web}}]
  url: {module}
  imagePullPolicy: IfNotPresent
  phase: AUTHN
  priority: 10
  failStrategy: FAIL_CLOSE
  pluginName: root
  pluginConfig: {{any: thing}}
  match: [{{mode: SERVER, ports: [{{number: 8080}}]}}]
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: open}}
spec: {{url: \"{trap}\", failStrategy: FAIL_OPEN}}
"
        )
        + &filter("own", &signing("own").write(dir.path(), "own"), "");
    // A plugin for the whole namespace is one for its services, too.
    let bind = ["--bind", "service/default/origin:80=127.0.0.1:0"];
    let waypoint = Waypoint::start_with(&resources, &bind).await;

    let answer = send_http1(waypoint.http(), get_with("/", &[("x-bad", "1")])).await;

    assert_eq!(answer.status(), 200);
    assert_eq!(values(origin.seen()[0].headers(), "x-order"), ["plugin", "own"]);
    assert_eq!(values(answer.headers(), "x-order"), ["own", "plugin"]);
    assert!(!origin.seen()[0].headers().contains_key("x-ran"));
}

#[tokio::test]
async fn a_body_that_a_filter_holds_past_its_bound_is_413_whatever_the_policy() {
    for policy in ["Closed", "Open"] {
        let (dir, origin) = plain_origin().await;
        let hold = "(i32.eqz (local.get $2))";
        let module = Guest::default().on("request_body", hold).write(dir.path(), "hold");
        let spec = format!("  failurePolicy: {policy}\n  limits: {{bufferedBody: 64Ki}}");
        let waypoint = Waypoint::start(&(base(&origin) + &filter("hold", &module, &spec))).await;

        let fits = post_with("/", &"a".repeat(60_000), &[]);
        let exceeds = post_with("/", &"a".repeat(70_000), &[]);

        assert_eq!(status(waypoint.http(), fits).await, 200, "{policy}");
        assert_eq!(status(waypoint.http(), exceeds).await, 413, "{policy}");
        assert_eq!(failures(&waypoint, "hold", "body_too_large").await, 1);
        assert_eq!(origin.seen().len(), 1);
    }
}

#[tokio::test]
async fn under_per_request_isolation_no_state_survives_a_request() {
    let (dir, origin) = plain_origin().await;
    let count = "(i32.store8 (i32.const 40000) (i32.add (i32.load8_u (i32.const 40000))
        (select (i32.const 1) (i32.const 49) (i32.load8_u (i32.const 40000)))))
      (call $add (i32.const 0) {x-count} (i32.const 40000) (i32.const 1))
      (i32.const 0)";
    let module = Guest::on_request(count).write(dir.path(), "count");
    for (isolation, wanted) in [("Shared", ["1", "2", "3"]), ("PerRequest", ["1", "1", "1"])] {
        let spec = format!("  isolation: {isolation}");
        let waypoint = Waypoint::start(&(base(&origin) + &filter("count", &module, &spec))).await;
        for want in wanted {
            assert_eq!(get(waypoint.http(), "/").await.status(), 200);
            let seen = values(origin.seen().last().unwrap().headers(), "x-count");
            assert_eq!(seen, [want], "{isolation}");
        }
        becomes(&waypoint, "waypoint_filter_streams{filter=\"default/count\"}", 0).await;
    }
}

#[tokio::test]
async fn line_ends_that_a_guest_writes_never_reach_the_wire() {
    let (dir, sink) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let guest = Guest::on_request(
        "(call $add (i32.const 0) {x-value} {a\\r\\nx-smuggled: 1\\0})
         (call $add (i32.const 0) {x-na\\r\\nx-smuggled: 2} {b})
         (call $replace (i32.const 0) {:path} {/p HTTP/1.1\\r\\nx-smuggled: 3\\r\\n})
         (call $replace (i32.const 0) {:authority} {h\\r\\nx-smuggled: 4})
         (call $replace (i32.const 0) {:method} {GET / HTTP/1.1\\r\\nx-smuggled: 5})
         (call $add (i32.const 0) {transfer-encoding} {chunked})
         (i32.const 0)",
    )
    .on(
        "response_headers",
        "(call $add (i32.const 2) {x-value} {a\\r\\nx-smuggled: 6})
         (call $add (i32.const 2) {x\\r\\n\\r\\nx-smuggled: 7} {b})
         (i32.const 0)",
    );
    let resources = gateway_to("sink")
        + &service("sink", "http", sink.local_addr().unwrap())
        + &filter("evil", &guest.write(dir.path(), "evil"), "");
    let waypoint = Waypoint::start(&resources).await;
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("GET /asked HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;

    let mut upstream = Raw::over(sink.accept().await.unwrap().0);
    let head = upstream.until("\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = client.end().await;

    assert!(head.starts_with("GET /") && !head.contains("chunked"), "{head}");
    for text in [&head, &answer] {
        let smuggled = text.lines().any(|line| line.trim_start().starts_with("x-smuggled"));
        assert!(!smuggled, "{text}");
    }
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn line_ends_in_a_guests_own_answer_never_reach_the_wire() {
    let (dir, origin) = plain_origin().await;
    // One pair: 5 and 16 bytes.
    let lines =
        "\\01\\00\\00\\00\\05\\00\\00\\00\\10\\00\\00\\00x-bad\\00a\\0d\\0ax-smuggled: 1\\00";
    let reply = format!(
        "(drop (call $reply (i32.const 403) {{no\\r\\nx-smuggled: 2}} {{no}}
           (i32.const 50000) (i32.const 35) (i32.const -1)))
         (i32.const 1))
         (data (i32.const 50000) \"{lines}\") (func"
    );
    let module = Guest::on_request(&reply).write(dir.path(), "reply");
    let waypoint = Waypoint::start(&(base(&origin) + &filter("reply", &module, ""))).await;
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;

    let answer = client.end().await;

    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("\r\n\r\nno"), "{answer}");
    assert!(answer.contains("x-bad: a"), "{answer}");
    assert!(!answer.lines().any(|line| line.starts_with("x-smuggled")), "{answer}");
    waypoint.record(|record| record["filter"] == "default/reply").await;
    assert!(!waypoint.printed().lines().any(|line| line.starts_with("x-smuggled")));
}

/// What an upstream gets of `POST / abc` after a guest has said `head` of it, and what the client.
async fn sent_after(head: &str, body: Option<&str>) -> (String, String) {
    let (dir, sink) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut guest = Guest::on_request(&format!("{head} (i32.const 0)"));
    if let Some(body) = body {
        guest = guest.on("request_body", &format!("{body} (i32.const 0)"));
    }
    let resources = gateway_to("sink")
        + &service("sink", "http", sink.local_addr().unwrap())
        + &filter("length", &guest.write(dir.path(), "length"), "");
    let waypoint = Waypoint::start(&resources).await;
    let mut client = Raw::connect(waypoint.http()).await;
    // A guest that changes the body is given the time to: the answer waits for all of it.
    let read = if body.is_some() { "\r\nabc" } else { "\r\n\r\n" };
    let upstream = tokio::spawn(async move {
        let mut upstream = Raw::over(sink.accept().await.unwrap().0);
        if upstream.until_or_end(read).await.is_empty() {
            return String::new();
        }
        upstream.shut("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        upstream.end().await
    });
    client
        .send("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 3\r\n\r\n")
        .await;
    client.send("abc").await;
    let answer = client.end().await;
    drop(waypoint);
    (upstream.await.unwrap(), answer)
}

/// Whether a message frames exactly what it carries; none does.
fn is_framed(message: &str) -> bool {
    if message.is_empty() {
        return true;
    }
    let (head, body) = message.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    let lengths: Vec<&str> =
        head.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
    match (lengths.as_slice(), head.contains("transfer-encoding: chunked")) {
        ([length], false) => {
            length.bytes().all(|b| b.is_ascii_digit())
                && length.parse::<usize>().is_ok_and(|length| body.len() <= length)
        }
        ([], true) => body.ends_with("0\r\n\r\n") || !body.contains("\r\n0\r\n"),
        ([], false) => body.is_empty(),
        _ => false,
    }
}

#[tokio::test]
async fn a_content_length_that_a_guest_writes_never_frames_another_request() {
    for head in [
        "(call $replace (i32.const 0) {content-length} {1})",
        "(call $replace (i32.const 0) {content-length} {100})",
        "(call $replace (i32.const 0) {content-length} {+3})",
        "(call $replace (i32.const 0) {content-length} {3, 3})",
        "(call $replace (i32.const 0) {content-length} {words})",
        "(call $add (i32.const 0) {content-length} {1})",
        "(call $add (i32.const 0) {content-length} {3})",
        "(call $add (i32.const 0) {Content-Length} {100})",
    ] {
        for body in [None, Some("(drop (local.get $1))")] {
            let (sent, answer) = sent_after(head, body).await;
            assert!(is_framed(&sent), "{head} {body:?}: {sent}");
            assert!(answer.starts_with("HTTP/1.1 "), "{head}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_that_a_guest_makes_longer_than_its_head_says_is_cut_and_refused() {
    let longer = "(drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 1000)
        {abcGET /smuggled HTTP/1.1\\r\\nhost: h\\r\\n\\r\\n}))";
    let (sent, answer) = sent_after("", Some(longer)).await;

    assert!(!sent.contains("smuggled"), "{sent}");
    assert!(is_framed(&sent), "{sent}");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("body_longer_than_declared\n"), "{answer}");
}

#[tokio::test]
async fn the_length_of_what_a_head_request_does_not_get_passes_the_filters() {
    let (dir, origin) = (
        TempDir::new().unwrap(),
        Origin::start(Speaks::Http1, |_| {
            let answer = http::Response::builder().header("content-length", "1234");
            answer.body(bytes::Bytes::new()).unwrap()
        })
        .await,
    );
    let resources = base(&origin) + &filter("own", &signing("own").write(dir.path(), "own"), "");
    let waypoint = Waypoint::start(&resources).await;

    let answer = send_http1(waypoint.http(), request(Method::HEAD, "/", "")).await;

    assert_eq!(values(answer.headers(), "content-length"), ["1234"]);
    assert_eq!(values(answer.headers(), "x-order"), ["own"]);
}

#[tokio::test]
async fn a_response_that_a_filter_holds_past_its_bound_is_an_error_of_the_filter() {
    let dir = TempDir::new().unwrap();
    let origin =
        Origin::start(Speaks::Http1, |_| http::Response::new("x".repeat(10_000).into())).await;
    let hold = "(i32.const 1)";
    let module = Guest::on_response(hold).on("response_body", hold).write(dir.path(), "hold");
    let spec = "  bodies: BeforeHeaders\n  limits: {bufferedBody: 1Ki}";
    let waypoint = Waypoint::start(&(base(&origin) + &filter("hold", &module, spec))).await;

    assert_eq!(get(waypoint.http(), "/").await.status(), 500);

    let record = waypoint.record(|record| record["response_code"] == 500).await;
    assert_eq!(record["response_code_details"], "filter_response_too_large");
    assert_eq!(record["filter"], "default/hold");
}

#[tokio::test]
async fn a_host_function_that_is_withheld_does_nothing() {
    let (dir, origin) = plain_origin().await;
    let module = signing("mine").write(dir.path(), "mine");
    let spec = "  capabilities: [proxy_on_request_headers, proxy_log, proxy_on_context_create]";
    let waypoint = Waypoint::start(&(base(&origin) + &filter("mine", &module, spec))).await;

    let answer = get(waypoint.http(), "/").await;

    assert_eq!(answer.status(), 200);
    assert!(!origin.seen()[0].headers().contains_key("x-order"));
    assert!(!answer.headers().contains_key("x-order"));
    waypoint.logged("proxy_add_header_map_value is withheld").await;
}

#[tokio::test]
async fn a_filter_without_a_memory_to_grow_in_is_refused_at_the_start() {
    let (dir, origin) = plain_origin().await;
    // The guest begins with three pages of 64 KiB.
    let module = signing("large").write(dir.path(), "large");
    let spec = "  limits: {memory: 64Ki}";
    let resources = base(&origin) + &filter("large", &module, spec);
    let waypoint = Waypoint::spawn(&resources, &["--partial"]);
    waypoint.logged("serving").await;

    // What it protects is denied.
    assert!(get(waypoint.http(), "/").await.status().as_u16() >= 403);
    assert!(origin.seen().is_empty());
}
