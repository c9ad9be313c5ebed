//! One filter with a behaviour for each test; the configuration chooses.

use std::{cell::RefCell, time::Duration};

use log::{error, info};
use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType, LogLevel, MetricType},
};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

thread_local! {
    static WAITING: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Root {
    behaviour: String,
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        info!("root done");
        true
    }

    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        info!("root call {token}: {headers} headers, {body} bytes");
        let _ = self.call_foreign_function("waypoint_ready", Some(&[1]));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.behaviour = String::from_utf8(configuration).unwrap_or_default();
        match self.behaviour.as_str() {
            "refuse" => return false,
            "shared" => shared_data(),
            "metrics" => metrics(),
            "tick" => self.set_tick_period(Duration::from_millis(10)),
            "ready" => self.prepare(),
            _ => {}
        }
        true
    }

    fn on_tick(&mut self) {
        for id in WAITING.take() {
            hostcalls::set_effective_context(id).expect("a live stream");
            hostcalls::resume_http_request().expect("resumed");
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { id, behaviour: self.behaviour.clone(), bodies: 0 }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn prepare(&self) {
        self.call_foreign_function("waypoint_ready", Some(&[0])).expect("known");
        call(self, "cluster").expect("sent");
    }
}

fn shared_data() {
    let set = |key, value: Option<&[u8]>, cas| hostcalls::set_shared_data(key, value, cas);
    let get = |key| hostcalls::get_shared_data(key).expect("answered");
    set("shared_data_key1", Some(b"shared_data_value0"), None).expect("set");
    set("shared_data_key1", Some(b"shared_data_value1"), None).expect("set");
    set("shared_data_key2", Some(b"shared_data_value2"), None).expect("set");
    let (_, cas) = get("shared_data_key1");
    let stale = cas.map(|cas| cas + 1000);
    if set("shared_data_key1", Some(b"bad"), stale).is_err() {
        info!("set CasMismatch");
    }
    for (number, key) in ["shared_data_key1", "shared_data_key2"].into_iter().enumerate() {
        if let (Some(value), _) = get(key) {
            info!("get {} {}", number + 1, String::from_utf8_lossy(&value));
        }
    }
    for key in ["bad_key", "shared_data_gone"] {
        if key == "shared_data_gone" {
            set(key, Some(b"x"), None).expect("set");
            set(key, None, None).expect("deleted");
        }
        if let (None, _) = get(key) {
            info!("get of bad key not found");
        }
    }
}

fn metrics() {
    let define = |kind, name| hostcalls::define_metric(kind, name).expect("defined");
    let counter = define(MetricType::Counter, "counter");
    let gauge = define(MetricType::Gauge, "gauge");
    let histogram = define(MetricType::Histogram, "histogram");
    assert_eq!(counter, define(MetricType::Counter, "counter"));
    hostcalls::increment_metric(counter, 3).expect("incremented");
    hostcalls::record_metric(counter, 4).expect("added");
    hostcalls::record_metric(gauge, 9).expect("recorded");
    hostcalls::increment_metric(gauge, -2).expect("incremented");
    hostcalls::record_metric(histogram, 17).expect("recorded");
    let counted = hostcalls::get_metric(counter).expect("read");
    info!("counter {counted}, gauge {}", hostcalls::get_metric(gauge).expect("read"));
    if hostcalls::increment_metric(counter, -1).is_err() {
        info!("a counter does not fall");
    }
}

fn call(
    context: &(impl Context + ?Sized),
    cluster: &str,
) -> Result<u32, proxy_wasm::types::Status> {
    context.dispatch_http_call(
        cluster,
        vec![(":method", "POST"), (":path", "/"), (":authority", "foo")],
        Some(b"hello world"),
        vec![("trail", "cow")],
        Duration::from_secs(5),
    )
}

struct Stream {
    id: u32,
    behaviour: String,
    bodies: u32,
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _: u32, headers: usize, size: usize, _: usize) {
        if headers == 0 {
            info!("async_call failed");
            return;
        }
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        info!("response {}", String::from_utf8_lossy(&body));
        for (name, value) in self.get_http_call_response_headers() {
            info!("{name} -> {value}");
        }
        if self.behaviour == "late-done" {
            self.done();
            return;
        }
        self.set_http_request_header("x-called", Some("yes"));
        if self.behaviour == "call-deny" {
            self.send_http_response(403, vec![("x-why", "the call said so")], Some(b"no"));
        } else {
            self.resume_http_request();
        }
    }

    fn on_done(&mut self) -> bool {
        info!("done {}", self.id);
        if self.behaviour == "late-done" {
            call(self, "cluster").expect("sent");
            return false;
        }
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, count: usize, end: bool) -> Action {
        match self.behaviour.as_str() {
            "headers" => self.headers(count, end),
            "call" | "call-deny" | "call-and-body" => return self.start_call("cluster"),
            "bogus-call" => return self.start_call("bogus cluster"),
            "hold" => return Action::Pause,
            "tick" => {
                WAITING.with_borrow_mut(|waiting| waiting.push(self.id));
                return Action::Pause;
            }
            "reply" => {
                self.send_http_response(
                    418,
                    vec![("X-Teapot", "yes\r\nx-evil: 1")],
                    Some(b"short"),
                );
                // Only the first reply counts.
                self.send_http_response(500, vec![], None);
                return Action::Continue;
            }
            "reset" => self.reset_http_request(),
            "properties" => self.properties(),
            "panic" => panic!("as the test asked"),
            "resume-at-once" => {
                self.resume_http_request();
                return Action::Pause;
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        self.bodies += 1;
        match self.behaviour.as_str() {
            "buffer-body" | "until-end" => {
                self.log_body(size);
                if end { Action::Continue } else { Action::Pause }
            }
            "buffer-two" => {
                self.log_body(size);
                if self.bodies < 3 { Action::Pause } else { Action::Continue }
            }
            "replace-body" => {
                self.set_http_request_body(0, size, b"replaced");
                Action::Continue
            }
            "splice-body" => {
                self.set_http_request_body(1, 2, b"--");
                self.set_http_request_body(1 << 30, 0, b"!");
                self.set_http_request_body(0, 0, b"<");
                Action::Continue
            }
            "always-hold" => Action::Pause,
            "call-at-end" if end => self.start_call("cluster"),
            _ => Action::Continue,
        }
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        info!("request trailers {count}");
        self.set_http_request_trailer("x-seen", Some("1"));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        info!("response headers {:?}", self.get_http_response_header(":status"));
        match self.behaviour.as_str() {
            "late-write" => self.set_http_request_header("x-late", Some("1")),
            "headers" => self.add_http_response_header("x-guest", "was here"),
            "reply-to-response" => self.send_http_response(502, vec![], Some(b"bad")),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        match self.behaviour.as_str() {
            "reply-to-body" => self.send_http_response(502, vec![], None),
            "add-trailers" if end => self.add_http_response_trailer("x-sum", &size.to_string()),
            _ => {}
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        info!("log {path}");
    }
}

impl Stream {
    fn headers(&self, count: usize, end: bool) {
        info!("request headers {count} {end}");
        for (name, value) in self.get_http_request_headers() {
            info!("{name}={value}");
        }
        self.set_http_request_header("x-replace", Some("new"));
        self.set_http_request_header("x-remove", None);
        self.add_http_request_header("x-add", "1");
        self.add_http_request_header("X-Add", "2");
        self.set_http_request_header("x-evil\r\n", Some("a\r\nb: c"));
        self.set_http_request_header("transfer-encoding", Some("chunked"));
        self.set_http_request_header(":path", Some("no slash"));
        self.set_http_request_header("host", Some("other.test"));
        if self.get_http_request_header("x-none").is_none() {
            info!("x-none is none");
        }
        self.call_foreign_function("clear_route_cache", None).expect("known");
    }

    fn start_call(&self, cluster: &str) -> Action {
        match call(self, cluster) {
            Ok(_) => Action::Pause,
            Err(status) => {
                error!("{cluster}: {status:?}");
                Action::Continue
            }
        }
    }

    fn log_body(&self, size: usize) {
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        info!("onBody {}", String::from_utf8_lossy(&body));
    }

    fn properties(&self) {
        let show = |path: Vec<&str>| {
            let value =
                self.get_property(path.clone()).map(|v| String::from_utf8_lossy(&v).into_owned());
            info!("{} = {value:?}", path.join("."));
        };
        show(vec!["request", "path"]);
        show(vec!["request", "url_path"]);
        show(vec!["request", "query"]);
        show(vec!["request", "headers", "x-a"]);
        show(vec!["source", "address"]);
        show(vec!["plugin_name"]);
        show(vec!["no", "such"]);
        self.set_property(vec!["mine"], Some(b"1"));
        show(vec!["mine"]);
        show(vec!["wasm", "mine"]);
        self.set_property(vec!["request", "path"], Some(b"lie"));
        show(vec!["request", "path"]);
        let reversed = self.call_foreign_function("reverse", Some(b"abc")).expect("known");
        info!("reversed {:?}", reversed.map(|r| String::from_utf8_lossy(&r).into_owned()));
        if self.call_foreign_function("no_such", None).is_err() {
            info!("no_such is unknown");
        }
    }
}
