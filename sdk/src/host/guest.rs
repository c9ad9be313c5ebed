//! Hostcalls through the `proxy-wasm` crate. Byte values throughout: its text variants panic on
//! what is not UTF-8.

use std::time::{Duration, Instant, SystemTime};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType, Status};

use super::{Buffer, Map, MetricKind};
use crate::callout::{CallError, Callout};
use crate::foreign::ForeignError;
use crate::message::Direction;

/// A hostcall that failed has no effect: say so once per failure and go on.
fn told<T>(what: &str, result: Result<T, Status>) -> Option<T> {
    result.inspect_err(|status| log::error!("hostcall {what} failed: {status:?}")).ok()
}

impl From<Map> for MapType {
    fn from(map: Map) -> Self {
        match map {
            Map::RequestHeaders => Self::HttpRequestHeaders,
            Map::RequestTrailers => Self::HttpRequestTrailers,
            Map::ResponseHeaders => Self::HttpResponseHeaders,
            Map::ResponseTrailers => Self::HttpResponseTrailers,
            Map::CallHeaders => Self::HttpCallResponseHeaders,
        }
    }
}

impl From<Buffer> for BufferType {
    fn from(buffer: Buffer) -> Self {
        match buffer {
            Buffer::Request => Self::HttpRequestBody,
            Buffer::Response => Self::HttpResponseBody,
            Buffer::Call => Self::HttpCallResponseBody,
        }
    }
}

pub(crate) fn critical(message: &str) {
    // Nothing is left to tell it to when the log itself fails.
    let _ = hostcalls::log(LogLevel::Critical, message);
}

/// Takes over the host's log level, which an operator may have changed since.
pub(crate) fn follow_log_level() {
    if let Some(level) = told("get_log_level", hostcalls::get_log_level()) {
        proxy_wasm::set_log_level(level);
    }
}

pub(crate) fn now() -> SystemTime {
    told("get_current_time", hostcalls::get_current_time()).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn uptime() -> Duration {
    thread_local! {
        static START: Instant = Instant::now();
    }
    START.with(Instant::elapsed)
}

pub(crate) fn set_tick(period: Duration) {
    told("set_tick_period", hostcalls::set_tick_period(period));
}

pub(crate) fn configuration() -> Vec<u8> {
    let all = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, i32::MAX as usize);
    told("get_buffer", all).flatten().unwrap_or_default()
}

pub(crate) fn buffer(buffer: Buffer, start: usize, max: usize) -> Vec<u8> {
    let bytes = hostcalls::get_buffer(buffer.into(), start, max);
    told("get_buffer", bytes).flatten().unwrap_or_default()
}

pub(crate) fn set_buffer(buffer: Buffer, start: usize, size: usize, bytes: &[u8]) {
    told("set_buffer", hostcalls::set_buffer(buffer.into(), start, size, bytes));
}

pub(crate) fn map(map: Map) -> Vec<(String, Vec<u8>)> {
    told("get_map", hostcalls::get_map_bytes(map.into())).unwrap_or_default()
}

pub(crate) fn map_value(map: Map, name: &str) -> Option<Vec<u8>> {
    told("get_map_value", hostcalls::get_map_value_bytes(map.into(), name)).flatten()
}

pub(crate) fn replace_map_value(map: Map, name: &str, value: &[u8]) {
    told("set_map_value", hostcalls::set_map_value_bytes(map.into(), name, Some(value)));
}

pub(crate) fn add_map_value(map: Map, name: &str, value: &[u8]) {
    told("add_map_value", hostcalls::add_map_value_bytes(map.into(), name, value));
}

pub(crate) fn remove_map_value(map: Map, name: &str) {
    told("remove_map_value", hostcalls::remove_map_value(map.into(), name));
}

pub(crate) fn set_map(map: Map, headers: &[(&str, &[u8])]) {
    told("set_map", hostcalls::set_map_bytes(map.into(), headers.to_vec()));
}

pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

pub(crate) fn reply(status: u32, headers: &[(&str, &str)], body: &[u8]) {
    let body = (!body.is_empty()).then_some(body);
    told("send_local_response", hostcalls::send_http_response(status, headers.to_vec(), body));
}

pub(crate) fn resume(direction: Direction) {
    told(
        "continue_stream",
        match direction {
            Direction::Request => hostcalls::resume_http_request(),
            Direction::Response => hostcalls::resume_http_response(),
        },
    );
}

pub(crate) fn reset(direction: Direction) {
    told(
        "close_stream",
        match direction {
            Direction::Request => hostcalls::reset_http_request(),
            Direction::Response => hostcalls::reset_http_response(),
        },
    );
}

pub(crate) fn call(callout: &Callout<'_>) -> Result<u32, CallError> {
    let body = (!callout.body.is_empty()).then_some(callout.body);
    let headers = callout.headers.to_vec();
    hostcalls::dispatch_http_call(callout.upstream, headers, body, Vec::new(), callout.timeout)
        .map_err(|status| match status {
            Status::BadArgument => CallError::Refused,
            _ => CallError::Failed,
        })
}

/// `false`: the context has ended.
pub(crate) fn set_effective_context(id: u32) -> bool {
    hostcalls::set_effective_context(id).is_ok()
}

pub(crate) fn define_metric(kind: MetricKind, name: &str) -> u32 {
    let kind = match kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
    };
    told("define_metric", hostcalls::define_metric(kind, name)).unwrap_or_default()
}

pub(crate) fn increment_metric(id: u32, by: i64) {
    told("increment_metric", hostcalls::increment_metric(id, by));
}

pub(crate) fn record_metric(id: u32, value: u64) {
    told("record_metric", hostcalls::record_metric(id, value));
}

pub(crate) fn shared_data(key: &str) -> Option<(Vec<u8>, Option<u32>)> {
    let (value, version) = told("get_shared_data", hostcalls::get_shared_data(key))?;
    value.map(|value| (value, version))
}

/// `false`: the version is another by now.
pub(crate) fn set_shared_data(key: &str, value: &[u8], version: Option<u32>) -> bool {
    hostcalls::set_shared_data(key, Some(value), version).is_ok()
}

pub(crate) fn foreign(name: &str, arguments: &[u8]) -> Result<Vec<u8>, ForeignError> {
    hostcalls::call_foreign_function(name, Some(arguments)).map(Option::unwrap_or_default).map_err(
        |status| match status {
            Status::NotFound => ForeignError::Unknown,
            Status::BadArgument => ForeignError::BadArgument,
            _ => ForeignError::Failed,
        },
    )
}
