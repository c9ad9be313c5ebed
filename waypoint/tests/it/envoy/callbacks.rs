//! What guests do in their callbacks: heads, bodies, answers, callouts, and traps.

use bytes::Bytes;
use http::{Method, Response};
use tempfile::TempDir;

use super::{Beside, guest};
use crate::client::{get_with, post_with};
use crate::guests::{Guest, calling, harmful, signing};
use crate::harness::request;
use crate::origin::{Origin, Speaks};

#[tokio::test]
async fn guests_that_sign_answer_and_change_bodies_do_so_in_the_same_order_on_envoy() {
    let dir = TempDir::new().unwrap();
    let refuse = Guest::on_request(
        "(if (call $has (i32.const 0) {x-refuse}) (then
           (drop (call $reply (i32.const 418) {} {no tea\\n} (i32.const 0) (i32.const 0)
             (i32.const -1)))
           (return (i32.const 1))))
         (i32.const 0)",
    );
    let rewrite = Guest::on_request("(call $replace (i32.const 0) {:path} {/told}) (i32.const 0)")
        .on(
            "request_body",
            "(if (i32.eqz (local.get $2)) (then (return (i32.const 1))))
             (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 99) {HELLO WORLD}))
             (i32.const 0)",
        )
        .on("response_headers", "(call $replace (i32.const 2) {:status} {202}) (i32.const 0)")
        .on(
            "response_body",
            "(if (i32.eqz (local.get $2)) (then (return (i32.const 1))))
             (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 99) {Hello World}))
             (i32.const 0)",
        );
    let plugins = [
        guest(&dir, "first", signing("first")),
        guest(&dir, "refuse", refuse),
        guest(&dir, "rewrite", rewrite),
        guest(&dir, "last", signing("last")),
    ];
    let origins = vec![("origin", Origin::echo(Speaks::Http1).await)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    let changed = beside.same(post_with("/asked", "hello world", &[])).await;
    assert_eq!(changed.reached[0].line, "origin: POST /told");
    assert_eq!(changed.reached[0].header("x-order"), ["first", "last"]);
    assert_eq!(changed.reached[0].body, "HELLO WORLD");
    assert_eq!(changed.answer.line, "202 Accepted");
    assert_eq!(changed.answer.header("x-order"), ["last", "first"]);
    assert_eq!(changed.answer.body, "Hello World");

    let refused = beside.same(get_with("/", &[("x-refuse", "1")])).await;
    assert_eq!(
        (refused.answer.line.as_str(), &refused.answer.body[..]),
        ("418 I'm a teapot", &b"no tea\n"[..])
    );
    assert!(refused.reached.is_empty());
}

/// Edits a head in every way there is; `$map` is the map, and values are told back in it.
fn editing(map: u8) -> String {
    let told = |name: &str, at: &str| {
        format!(
            "(i32.store (i32.const 4) (i32.const 0))
             (i32.store8 (i32.const 40000) (i32.add (i32.const 48)
               (call $get $map {{{name}}} (i32.const 0) (i32.const 4))))
             (call $add $map {{{at}}} (i32.const 40000) (i32.const 1))
             (call $add $map {{{at}}} (i32.load (i32.const 0)) (i32.load (i32.const 4)))"
        )
    };
    let edits = [
        told("x-multi", "x-told-multi"),
        told("x-none", "x-told-none"),
        told("X-Single", "x-told-single"),
        "(call $add $map {x-two} {a}) (call $add $map {x-two} {b})
         (call $add $map {x-multi} {three})
         (call $replace $map {x-replaced} {one})
         (call $replace $map {x-new} {v})
         (call $add $map {X-Upper} {v})
         (call $add $map {x-empty} {})
         (call $remove $map {x-gone})
         (call $remove $map {x-never-there})"
            .to_owned(),
        told("x-replaced", "x-told-replaced"),
        told("x-gone", "x-told-gone"),
    ];
    edits.concat().replace("$map", &format!("(i32.const {map})")) + "(i32.const 0)"
}

#[tokio::test]
async fn heads_are_read_and_edited_on_envoy_as_here() {
    let dir = TempDir::new().unwrap();
    let edits = Guest::on_request(&editing(0)).on("response_headers", &editing(2));
    let moves = Guest::on_request(
        "(call $replace (i32.const 0) {:path} {/moved?to=here})
         (call $replace (i32.const 0) {:authority} {other.test})
         (call $replace (i32.const 0) {:method} {PUT})
         (i32.const 0)",
    );
    let plugins = [guest(&dir, "edits", edits), guest(&dir, "moves", moves)];
    let lines = [
        ("x-multi", "one"),
        ("x-multi", "two"),
        ("x-single", "1"),
        ("x-replaced", "a"),
        ("x-replaced", "b"),
        ("x-gone", "a"),
        ("x-gone", "b"),
    ];
    let origin = Origin::start(Speaks::Http1, move |_| {
        let mut answer = Response::builder();
        for (name, value) in lines {
            answer = answer.header(name, value);
        }
        answer.body(Bytes::new()).unwrap()
    })
    .await;
    let beside = Beside::start(dir, &plugins, &[], vec![("origin", origin)]).await;

    let exchange = beside.same(post_with("/", "body", &lines)).await;

    assert_eq!(exchange.reached[0].line, "origin: PUT /moved?to=here");
    assert_eq!(exchange.reached[0].header("host"), ["other.test"]);
    for head in [&exchange.reached[0], &exchange.answer] {
        assert_eq!(head.header("x-two"), ["a", "b"]);
        assert_eq!(head.header("x-replaced"), ["one"]);
        assert!(head.header("x-gone").is_empty());
    }
}

/// Both proxies with a guest that answers by itself in `callback`, between two that sign.
async fn replying(callback: &str) -> Beside {
    let reply = "(drop (call $reply (i32.const 418) {} {no tea\n} (i32.const 0) (i32.const 0)
                   (i32.const -1)))
                 (i32.const 1)";
    let dir = TempDir::new().unwrap();
    let plugins = [
        guest(&dir, "first", signing("first")),
        guest(&dir, "replies", Guest::default().on(callback, reply)),
        guest(&dir, "last", signing("last")),
    ];
    let origins = vec![("origin", Origin::echo(Speaks::Http1).await)];
    Beside::start(dir, &plugins, &[], origins).await
}

#[tokio::test]
async fn an_answer_of_a_guest_takes_the_place_of_the_origins_on_envoy_as_here() {
    for callback in ["request_headers", "request_body"] {
        let beside = replying(callback).await;

        let exchange = beside.same(post_with("/", "body", &[])).await;

        assert_eq!(exchange.answer.line, "418 I'm a teapot", "{callback}");
        assert_eq!(exchange.answer.body, "no tea\n", "{callback}");
        assert!(exchange.reached.is_empty(), "{callback}");
    }
}

#[tokio::test]
async fn a_callout_holds_the_request_and_is_answered_on_envoy_as_here() {
    let dir = TempDir::new().unwrap();
    let plugins = [guest(&dir, "calls", calling("auth", 1_000))];
    let auth = Origin::start(Speaks::Http1, |request| {
        let status = if request.uri() == "/check" { 204 } else { 404 };
        Response::builder().status(status).body(Bytes::new()).unwrap()
    })
    .await;
    let origins = vec![("origin", Origin::named(Speaks::Http1, "origin").await), ("auth", auth)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    let exchange = beside.same(request(Method::GET, "/", "")).await;

    assert_eq!(exchange.reached[0].header("x-callout"), ["204"]);
    assert_eq!(exchange.reached[1].line, "auth: GET /check");
    assert_eq!(exchange.reached[1].header("host"), ["auth"]);
}

#[tokio::test]
async fn what_differs_on_envoy_differs_as_the_guide_says() {
    let dir = TempDir::new().unwrap();
    // Envoy lets a guest replace the beginning of a body; here any window of it.
    let window = Guest::default().on(
        "request_body",
        "(drop (call $set_buffer (i32.const 0) (i32.const 6) (i32.const 4) {WORL})) (i32.const 0)",
    );
    // Envoy replaces a VM that trapped only under FAIL_RELOAD; here it always is.
    let plugins = [guest(&dir, "window", window), guest(&dir, "traps", harmful("(unreachable)"))];
    let origins = vec![("origin", Origin::echo(Speaks::Http1).await)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    for (envoy, body) in [(false, "hello WORLd"), (true, "hello world")] {
        let exchange = beside.through(envoy, post_with("/", "hello world", &[])).await;
        assert_eq!(exchange.answer.body, body, "{envoy}");
    }

    for (envoy, body) in [(false, "wasm_fail_stream\n"), (true, "")] {
        let exchange = beside.through(envoy, get_with("/", &[("x-bad", "1")])).await;
        assert_eq!(exchange.answer.line, "503 Service Unavailable", "{envoy}");
        assert_eq!(exchange.answer.body, body, "{envoy}");
    }
    for (envoy, after) in [(false, "200 OK"), (true, "503 Service Unavailable")] {
        let exchange = beside.through(envoy, request(Method::GET, "/", "")).await;
        assert_eq!(exchange.answer.line, after, "{envoy}");
    }
}

#[tokio::test]
async fn an_answer_to_a_response_passes_the_filters_that_are_left_here_and_none_on_envoy() {
    let beside = replying("response_headers").await;

    for (envoy, signed) in [(false, vec!["first"]), (true, vec![])] {
        let exchange = beside.through(envoy, post_with("/", "body", &[])).await;
        assert_eq!(exchange.answer.line, "418 I'm a teapot", "{envoy}");
        assert_eq!(exchange.answer.body, "no tea\n", "{envoy}");
        assert_eq!(exchange.answer.header("x-order"), signed, "{envoy}");
        assert_eq!(exchange.reached.len(), 1, "{envoy}");
    }
}
