//! What the bundled modules ask of a host.

use wasmparser::{Parser, Payload};

/// The hostcalls of proxy-wasm ABI 0.2.1, without `proxy_`. A module imports more of them than it calls:
/// the `proxy-wasm` crate's traits have default methods for most.
const HOSTCALLS: [&str; 39] = [
    "add_header_map_value",
    "call_foreign_function",
    "close_stream",
    "continue_stream",
    "define_metric",
    "dequeue_shared_queue",
    "done",
    "enqueue_shared_queue",
    "get_buffer_bytes",
    "get_buffer_status",
    "get_current_time_nanoseconds",
    "get_header_map_pairs",
    "get_header_map_size",
    "get_header_map_value",
    "get_log_level",
    "get_metric",
    "get_property",
    "get_shared_data",
    "get_status",
    "grpc_call",
    "grpc_cancel",
    "grpc_close",
    "grpc_send",
    "grpc_stream",
    "http_call",
    "increment_metric",
    "log",
    "record_metric",
    "register_shared_queue",
    "remove_header_map_value",
    "replace_header_map_value",
    "resolve_shared_queue",
    "send_local_response",
    "set_buffer_bytes",
    "set_effective_context",
    "set_header_map_pairs",
    "set_property",
    "set_shared_data",
    "set_tick_period_milliseconds",
];

/// The least that a host of that ABI offers.
const WASI: &[&str] =
    &["clock_time_get", "environ_get", "environ_sizes_get", "fd_write", "proc_exit", "random_get"];

const EXPORTS: &[&str] =
    &["_initialize", "memory", "proxy_abi_version_0_2_1", "proxy_on_memory_allocate"];

/// A guest's module is mapped for each VM: a bigger one is a decision, not an accident.
const BYTES_MAX: usize = 1 << 20;

fn imports_and_exports(module: &[u8]) -> (Vec<(String, String)>, Vec<String>) {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.expect("the module is valid") {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.expect("the import is valid");
                    imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export.expect("the export is valid").name.to_owned());
                }
            }
            _ => {}
        }
    }
    (imports, exports)
}

#[test]
fn a_bundled_module_asks_only_for_abi_0_2_1_and_the_minimum_of_wasi() {
    for name in waypoint_filters::NAMES {
        let module = waypoint_filters::module(name).expect("every name has a module");
        assert!(module.len() <= BYTES_MAX, "{name} has {} bytes", module.len());
        let (imports, exports) = imports_and_exports(module);
        for (from, import) in imports {
            let known = match from.as_str() {
                "env" => import.strip_prefix("proxy_").is_some_and(|i| HOSTCALLS.contains(&i)),
                "wasi_snapshot_preview1" => WASI.contains(&import.as_str()),
                _ => false,
            };
            assert!(known, "{name} imports {from}.{import}");
        }
        for export in EXPORTS {
            assert!(exports.iter().any(|found| found == export), "{name} lacks {export}");
        }
    }
}

#[test]
fn an_unknown_name_has_no_module() {
    assert!(waypoint_filters::module("jwt").is_none());
}
