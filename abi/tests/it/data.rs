//! Shared data, metrics, configuration, environment, capabilities.

use std::{collections::BTreeSet, sync::Arc};

use waypoint_abi::{FilterSpec, Flow, GuestMetric, Limits, MetricValue, Shared, StartError};

use crate::{
    guest::guest,
    support::{TestHost, configured, filter, get, open, request, spec, start, start_with, started},
};

#[tokio::test]
async fn shared_data_compares_versions_and_deletes() {
    let (_generation, host) = started(guest(), configured("shared")).await;
    assert_eq!(host.count("set CasMismatch"), 1);
    assert_eq!(host.count("get 1 shared_data_value1"), 1);
    assert_eq!(host.count("get 2 shared_data_value2"), 1);
    assert_eq!(host.count("get of bad key not found"), 2);
}

#[tokio::test]
async fn shared_data_outlives_a_generation() {
    let imports = r#"
        (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#;
    // What was there is logged, then "b" is stored.
    let body = r#"
        (data (i32.const 0) "kb")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $get (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)
                (i32.const 24)))
            (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
            (drop (call $set (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 1)
                (i32.const 0)))
            (i32.const 1))"#;
    let module = filter(imports, body);
    let (host, shared) = (TestHost::new(), Arc::new(Shared::new(&Limits::default())));
    for _ in 0..2 {
        start_with(&module, spec(), &host, &shared).await.expect("starts").close();
    }
    assert_eq!(host.lines(), ["", "b"]);
}

#[tokio::test]
async fn metrics_are_read_from_outside() {
    let shared = Arc::new(Shared::new(&Limits::default()));
    let host = TestHost::new();
    let generation = start_with(guest(), configured("metrics"), &host, &shared).await;
    assert!(generation.is_ok());
    assert_eq!(host.count("counter 7, gauge 7"), 1);
    assert_eq!(host.count("a counter does not fall"), 1);
    let metrics = shared.metrics();
    let named = |name: &str, value| GuestMetric { name: name.to_owned(), value };
    assert_eq!(metrics[0], named("counter", MetricValue::Counter(7)));
    assert_eq!(metrics[1], named("gauge", MetricValue::Gauge(7)));
    let MetricValue::Histogram { count, sum, buckets } = &metrics[2].value else { panic!() };
    assert_eq!((*count, *sum), (1, 17));
    assert_eq!(buckets[..4], [(1, 0), (4, 0), (16, 0), (64, 1)]);
}

#[tokio::test]
async fn refused_configuration_ends_the_start() {
    let host = TestHost::new();
    let refused = start(guest(), configured("refuse"), &host).await.map(|_| ());
    let error = refused.expect_err("it answers false");
    assert!(matches!(error, StartError::Refused { callback: "proxy_on_configure" }), "{error}");
}

#[tokio::test]
async fn withheld_callback_is_never_called() {
    let names = ["proxy_on_context_create", "proxy_log"];
    let capabilities: BTreeSet<String> = names.map(str::to_owned).into();
    let spec = FilterSpec { capabilities: Some(capabilities), ..configured("") };
    let (generation, host) = started(guest(), spec).await;
    assert!(!generation.hooks().request_headers);
    let stream = open(&generation).await;
    assert_eq!(get(&stream).await.expect("no fault").head, Some(request(&[])));
    stream.finish().await;
    assert_eq!(host.count("log /"), 0);
}

#[tokio::test]
async fn withheld_import_answers_internal_failure() {
    let import = r#"(import "env" "proxy_get_log_level" (func $level (param i32) (result i32)))"#;
    // The action is Pause if, and only if, the answer is 10.
    let body = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i32.eq (call $level (i32.const 0)) (i32.const 10)))"#;
    let capabilities: BTreeSet<String> = ["proxy_on_request_headers".to_owned()].into();
    let spec = FilterSpec { capabilities: Some(capabilities), ..spec() };
    let (generation, _host) = started(&filter(import, body), spec).await;
    let stream = open(&generation).await;
    assert!(matches!(get(&stream).await.expect("no fault").flow, Flow::Hold));
}

#[tokio::test]
async fn what_a_guest_prints_becomes_whole_lines() {
    let imports = r#"(import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))"#;
    let body = r#"
        (data (i32.const 0) "pan")
        (data (i32.const 3) "ic!\nmore\nrest")
        (data (i32.const 32) "\00\00\00\00\03\00\00\00\03\00\00\00\0d\00\00\00")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $write (i32.const 2) (i32.const 32) (i32.const 2) (i32.const 60)))
            (i32.const 1))"#;
    let (generation, host) = started(&filter(imports, body), spec()).await;
    assert_eq!(host.lines(), ["panic!", "more"]);
    generation.close();
    host.saw("rest", 1).await;
}
