//! Guests of the tests, written by hand: small, and as ill-behaved as a test wants them.

use std::fmt::Write as _;
use std::path::Path;

/// Imports, allocator and life cycle that every guest here has. What the host hands over lies at
/// 65536, one thing at a time.
const PRELUDE: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value"
    (func $add_value (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value"
    (func $replace_value (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value"
    (func $remove_value (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes"
    (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue_stream (param i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function"
    (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data"
    (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data"
    (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func $has (param $map i32) (param $name i32) (param $length i32) (result i32)
    (i32.eqz (call $get (local.get $map) (local.get $name) (local.get $length)
      (i32.const 0) (i32.const 4))))
  (func $add (param i32 i32 i32 i32 i32)
    (drop (call $add_value (local.get 0) (local.get 1) (local.get 2) (local.get 3)
      (local.get 4))))
  (func $replace (param i32 i32 i32 i32 i32)
    (drop (call $replace_value (local.get 0) (local.get 1) (local.get 2) (local.get 3)
      (local.get 4))))
  (func $remove (param i32 i32 i32)
    (drop (call $remove_value (local.get 0) (local.get 1) (local.get 2))))
  (func $milliseconds (result i64)
    (drop (call $now (i32.const 8)))
    (i64.div_u (i64.load (i32.const 8)) (i64.const 1000000)))
"#;

/// Where a guest's texts lie.
const TEXTS: usize = 1024;

/// A guest in the making.
#[derive(Default)]
pub(crate) struct Guest {
    texts: Vec<u8>,
    functions: String,
}

impl Guest {
    /// A guest whose `proxy_on_request_headers` is `body`.
    pub(crate) fn on_request(body: &str) -> Self {
        Self::default().on("request_headers", body)
    }

    /// A guest whose `proxy_on_response_headers` is `body`.
    pub(crate) fn on_response(body: &str) -> Self {
        Self::default().on("response_headers", body)
    }

    /// Adds the callback `proxy_on_NAME`. `{text}` in `body` stands for two arguments, where the
    /// text lies and how long it is. The callback's own arguments are `$0`, `$1`, …; `$i` is free.
    pub(crate) fn on(mut self, name: &str, body: &str) -> Self {
        let (arguments, answers) = match name {
            "request_trailers" | "response_trailers" => (2, true),
            "http_call_response" => (5, false),
            "tick" => (1, false),
            "configure" => (2, true),
            _ => (3, true),
        };
        let arguments: String = (0..arguments).map(|n| format!(" (param ${n} i32)")).collect();
        let result = if answers { "(result i32)" } else { "" };
        let body = self.place_texts(body);
        let _ = writeln!(
            self.functions,
            "(func (export \"proxy_on_{name}\"){arguments} {result} (local $i i32)\n{body})"
        );
        self
    }

    fn place_texts(&mut self, body: &str) -> String {
        let mut placed = String::new();
        let mut pieces = body.split('{');
        placed.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (text, rest) = piece.split_once('}').expect("a text ends with a brace");
            let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
            let at = TEXTS + self.texts.len();
            let _ = write!(placed, "(i32.const {at}) (i32.const {})", text.len());
            self.texts.extend_from_slice(text.as_bytes());
            placed.push_str(rest);
        }
        placed
    }

    /// Compiles the guest into `dir` and gives its URL.
    pub(crate) fn write(self, dir: &Path, name: &str) -> String {
        let texts: String = self.texts.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let functions = &self.functions;
        let text =
            format!("(module {PRELUDE} (data (i32.const {TEXTS}) \"{texts}\")\n{functions})");
        let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let path = dir.join(format!("{name}.wasm"));
        std::fs::write(&path, wasm).expect("a file");
        format!("file://{}", path.display())
    }
}

/// A guest that does `harm` to requests with the header `x-bad`, and marks the others.
pub(crate) fn harmful(harm: &str) -> Guest {
    Guest::on_request(&format!(
        "(if (call $has (i32.const 0) {{x-bad}}) (then {harm}))
         (call $add (i32.const 0) {{x-ran}} {{yes}})
         (i32.const 0)"
    ))
}

/// Uses the CPU until the clock says that so long is over, and asks for the time now and then: hostcalls
/// are counted. On a busy machine it has less of the CPU than that.
pub(crate) fn burn(milliseconds: u32) -> String {
    let spin = spin(100_000);
    format!(
        "(local.set $i (i32.wrap_i64 (i64.add (call $milliseconds) (i64.const {milliseconds}))))
         (loop $again
           {spin}
           (br_if $again
             (i32.lt_s (i32.wrap_i64 (call $milliseconds)) (local.get $i))))"
    )
}

/// Uses the CPU for so many turns, whatever the clock says: about a nanosecond each.
pub(crate) fn spin(turns: u32) -> String {
    format!(
        "(i32.store (i32.const 40000) (i32.const {turns}))
         (loop $spin
           (i32.store (i32.const 40000)
             (i32.sub (i32.load (i32.const 40000)) (i32.const 1)))
           (br_if $spin (i32.load (i32.const 40000))))"
    )
}

/// A guest that appends `name` to `x-order` on both ways.
pub(crate) fn signing(name: &str) -> Guest {
    Guest::on_request(&format!("(call $add (i32.const 0) {{x-order}} {{{name}}}) (i32.const 0)"))
        .on(
            "response_headers",
            &format!("(call $add (i32.const 2) {{x-order}} {{{name}}}) (i32.const 0)"),
        )
}

/// A guest that asks `upstream` and goes on when it has answered, with the status in `x-callout`;
/// `refused` there when the callout was not sent.
pub(crate) fn calling(upstream: &str, timeout_ms: u32) -> Guest {
    let pairs = check_pairs();
    Guest::on_request(&format!(
        "(if (call $http_call {{{upstream}}} {{{pairs}}} (i32.const 0) (i32.const 0)
              (i32.const 0) (i32.const 0) (i32.const {timeout_ms}) (i32.const 16))
           (then
             (call $add (i32.const 0) {{x-callout}} {{refused}})
             (return (i32.const 0))))
         (i32.store
           (i32.add (i32.const 32768)
             (i32.mul (i32.and (i32.load (i32.const 16)) (i32.const 1023)) (i32.const 4)))
           (local.get $0))
         (i32.const 1)"
    ))
    .on(
        "http_call_response",
        "(if (i32.eqz (call $has (i32.const 6) {:status})) (then unreachable))
         (drop (call $effective (i32.load
           (i32.add (i32.const 32768)
             (i32.mul (i32.and (local.get $1) (i32.const 1023)) (i32.const 4))))))
         (call $add (i32.const 0) {x-callout}
           (i32.load (i32.const 0)) (i32.load (i32.const 4)))
         (drop (call $continue_stream (i32.const 0)))",
    )
}

/// The head of a callout, `GET /check`.
pub(crate) fn check_pairs() -> String {
    pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")])
}

/// The ABI's serialization of a header map; a text of its own, for zeroes are its only controls.
fn pairs(lines: &[(&str, &str)]) -> String {
    let mut out = String::from_utf8(little(lines.len())).expect("small");
    for (name, value) in lines {
        out +=
            &String::from_utf8([little(name.len()), little(value.len())].concat()).expect("small");
    }
    for (name, value) in lines {
        let _ = write!(out, "{name}\0{value}\0");
    }
    out
}

fn little(number: usize) -> Vec<u8> {
    u32::try_from(number).expect("small").to_le_bytes().to_vec()
}
