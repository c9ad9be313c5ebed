//! The module's entry: the `proxy-wasm` crate's contexts, handed on to [`crate::runtime`].

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

pub use proxy_wasm::main;

use crate::callout::{Answer, CallId};
use crate::filter::{Filter, Flow};
use crate::host;
use crate::message::Direction;
use crate::runtime::{Plugin, Shared, Stream};

/// Registers a filter with the `proxy-wasm` crate. Only the log may be used here; it also gets the
/// panics.
pub fn start<F: Filter>() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(GuestRoot::<F> { plugin: Plugin::new(id) }));
}

struct GuestRoot<F: Filter> {
    plugin: Shared<F>,
}

impl<F: Filter> Context for GuestRoot<F> {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        if let Ok(mut plugin) = self.plugin.try_borrow_mut() {
            plugin.callout(CallId(token), &Answer::new(headers, body));
        }
    }
}

impl<F: Filter> RootContext for GuestRoot<F> {
    fn on_configure(&mut self, _: usize) -> bool {
        host::follow_log_level();
        self.plugin
            .try_borrow_mut()
            .is_ok_and(|mut plugin| plugin.configure(&host::configuration()))
    }

    fn on_tick(&mut self) {
        host::follow_log_level();
        if let Ok(mut plugin) = self.plugin.try_borrow_mut() {
            plugin.tick();
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(GuestStream(Stream::open(&self.plugin, id))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct GuestStream<F: Filter>(Stream<F>);

impl<F: Filter> Context for GuestStream<F> {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        self.0.callout(CallId(token), &Answer::new(headers, body));
    }

    fn on_done(&mut self) -> bool {
        self.0.done();
        true
    }
}

impl<F: Filter> HttpContext for GuestStream<F> {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        action(self.0.headers(Direction::Request, end_of_stream))
    }

    fn on_http_request_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        action(self.0.body(Direction::Request, len, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        action(self.0.trailers(Direction::Request))
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        action(self.0.headers(Direction::Response, end_of_stream))
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        action(self.0.body(Direction::Response, len, end_of_stream))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        action(self.0.trailers(Direction::Response))
    }
}

fn action(flow: Flow) -> Action {
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Pause => Action::Pause,
    }
}
