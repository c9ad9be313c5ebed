//! Modules that are refused, and why; artefacts on disk.

use std::{fs, os::unix::fs::PermissionsExt};

use waypoint_abi::{
    ArtefactCache, CacheError, CompileError, LoadError, MODULE_BYTES_MAX, StartError, compile,
};

use crate::support::{TestHost, filter, filter_wat, load_wat, spec, start};

fn refused(wat: &str) -> String {
    load_wat(wat).map(|_| ()).expect_err("it must be refused").to_string()
}

#[test]
fn refusals_name_what_is_wrong() {
    let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    let memory = r#"(memory (export "memory") 1)"#;
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    let cases = [
        ("".to_owned(), "exports no proxy_abi_version_*"),
        (r#"(func (export "proxy_abi_version_0_1_0"))"#.to_owned(), "proxy-wasm 0.1.0"),
        (r#"(func (export "proxy_abi_version_0_9_9"))"#.to_owned(), "proxy-wasm 0.9.9"),
        (format!("{marker}{malloc}"), "no memory"),
        (format!(r#"{marker}{malloc}(func (export "memory"))"#), "no memory"),
        (format!("{marker}{memory}"), "no allocator"),
        (
            format!(r#"(import "env" "b" (func)) (import "env" "a" (func)) {marker}{memory}"#),
            "does not have: env.a, env.b",
        ),
        (
            format!(r#"(import "env" "proxy_log" (func (param i64))) {marker}{memory}"#),
            "env.proxy_log is (i64), not (i32, i32, i32) -> i32",
        ),
        (
            format!(r#"{marker}{memory}{malloc}(func (export "proxy_on_tick"))"#),
            "proxy_on_tick is (), not (i32)",
        ),
        (
            format!(r#"{marker}{memory}(global (export "malloc") i32 (i32.const 1))"#),
            "malloc is a global",
        ),
    ];
    for (body, why) in cases {
        let said = refused(&format!("(module {body})"));
        assert!(said.contains(why), "{body}: {said:?} says nothing of {why:?}");
    }
}

#[test]
fn both_versions_and_allocators_load() {
    for (marker, allocator) in
        [("0_2_0", "malloc"), ("0_2_1", "malloc"), ("0_2_0", "proxy_on_memory_allocate")]
    {
        let wat = format!(
            r#"(module (memory (export "memory") 1)
                (func (export "proxy_abi_version_{marker}"))
                (func (export "{allocator}") (param i32) (result i32) (i32.const 0)))"#
        );
        assert!(load_wat(&wat).is_ok(), "{marker} {allocator}");
    }
}

#[test]
fn features_that_guests_do_not_get_do_not_compile() {
    for body in ["(memory i64 1)", "(memory 1 1 shared)", "(memory 1) (memory 1)"] {
        let wasm = wat::parse_str(format!("(module {body})")).expect("valid wat");
        assert!(matches!(compile(&wasm), Err(CompileError::Invalid(_))), "{body}");
    }
    assert!(matches!(compile(b"no module"), Err(CompileError::Invalid(_))));
    let large = vec![0; MODULE_BYTES_MAX + 1];
    assert!(matches!(compile(&large), Err(CompileError::TooLarge { .. })));
}

#[tokio::test]
async fn module_that_wants_more_than_a_slot_is_refused() {
    let more_memory = filter_wat("", "").replace("\"memory\") 2", "\"memory\") 65536");
    assert!(matches!(load_wat(&more_memory).map(|_| ()), Err(LoadError::Artefact(_))));
    let table = filter_wat("", "(table 10000000 funcref)");
    assert!(matches!(load_wat(&table).map(|_| ()), Err(LoadError::Artefact(_))));
    // Less than a slot, more than this filter may have.
    let over_limit = filter_wat("", "").replace("\"memory\") 2", "\"memory\") 512");
    let module = load_wat(&over_limit).expect("fits the slot");
    let error = start(&module, spec(), &TestHost::new()).await.map(|_| ()).expect_err("32 MiB");
    assert!(matches!(error, StartError::NoVm(_)), "{error}");
}

#[tokio::test]
async fn start_that_loops_or_traps_is_ended() {
    let looping = r#"(func $spin (loop $l (br $l))) (start $spin)"#;
    let host = TestHost::new();
    let error = start(&filter("", looping), spec(), &host).await.map(|_| ()).expect_err("loops");
    let text = error.to_string();
    assert!(text.contains("(start)") && text.contains("CPU deadline"), "{text}");
    let trapping = r#"(func (export "_initialize") unreachable)"#;
    let error = start(&filter("", trapping), spec(), &host).await.map(|_| ()).expect_err("traps");
    assert!(error.to_string().contains("_initialize: the guest trapped"), "{error}");
}

#[tokio::test]
async fn hostcall_before_the_start_is_withheld() {
    let import = r#"(import "env" "proxy_set_tick_period_milliseconds"
        (func $tick (param i32) (result i32)))"#;
    let body = r#"
        (global $answer (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $answer (call $tick (i32.const 10))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (i32.eq (global.get $answer) (i32.const 10)))"#;
    assert!(start(&filter(import, body), spec(), &TestHost::new()).await.is_ok());
}

#[test]
fn artefacts_are_found_whole_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = ArtefactCache::open(directory.path().join("cache")).expect("made");
    let digest = [7; 32];
    assert!(cache.find(&digest).expect("readable").is_none());
    let cwasm = compile(&wat::parse_str("(module)").expect("wat")).expect("compiles");
    let path = cache.store(&digest, &cwasm).expect("stored").path().to_owned();
    assert!(cache.find(&digest).expect("readable").is_some());
    fs::write(&path, &cwasm[..cwasm.len() - 1]).expect("cut");
    assert!(cache.find(&digest).expect("readable").is_none(), "its digest is wrong");
    assert!(!path.exists(), "and it is gone");
}

#[test]
fn cache_that_others_may_enter_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cache");
    fs::create_dir(&path).expect("made");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    assert!(matches!(ArtefactCache::open(&path), Err(CacheError::NotPrivate { .. })));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link).expect("linked");
    assert!(matches!(ArtefactCache::open(&link), Err(CacheError::NotPrivate { .. })));
}
