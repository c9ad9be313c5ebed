//! The hostcalls, on [`Fake`].

use std::time::{Duration, SystemTime};

use super::{Fake, FakeCall, Pairs, Reply, with};
use crate::callout::{CallError, CallId, Callout};
use crate::foreign::ForeignError;
use crate::host::{Buffer, Map, MetricKind};
use crate::message::Direction;

fn map_of(fake: &mut Fake, map: Map) -> &mut Pairs {
    match map {
        Map::RequestHeaders => &mut fake.stream().request_headers,
        Map::RequestTrailers => &mut fake.stream().request_trailers,
        Map::ResponseHeaders => &mut fake.stream().response_headers,
        Map::ResponseTrailers => &mut fake.stream().response_trailers,
        Map::CallHeaders => &mut fake.answer.0,
    }
}

fn buffer_of(fake: &mut Fake, buffer: Buffer) -> &mut Vec<u8> {
    match buffer {
        Buffer::Request => &mut fake.stream().request_body,
        Buffer::Response => &mut fake.stream().response_body,
        Buffer::Call => &mut fake.answer.1,
    }
}

pub(crate) fn critical(message: &str) {
    with(|fake| fake.critical.push(message.to_owned()));
}

pub(crate) fn now() -> SystemTime {
    with(|fake| fake.now).unwrap_or_else(SystemTime::now)
}

pub(crate) fn uptime() -> Duration {
    with(|fake| fake.uptime)
}

pub(crate) fn set_tick(period: Duration) {
    with(|fake| fake.tick = period);
}

pub(crate) fn buffer(buffer: Buffer, start: usize, max: usize) -> Vec<u8> {
    with(|fake| buffer_of(fake, buffer).iter().skip(start).take(max).copied().collect())
}

pub(crate) fn set_buffer(buffer: Buffer, start: usize, size: usize, bytes: &[u8]) {
    with(|fake| {
        let buffer = buffer_of(fake, buffer);
        let start = start.min(buffer.len());
        let end = (start + size).min(buffer.len());
        buffer.splice(start..end, bytes.iter().copied());
    });
}

pub(crate) fn map(map: Map) -> Pairs {
    with(|fake| map_of(fake, map).clone())
}

pub(crate) fn map_value(map: Map, name: &str) -> Option<Vec<u8>> {
    with(|fake| map_of(fake, map).iter().find(|(key, _)| key == name).map(|(_, v)| v.clone()))
}

pub(crate) fn replace_map_value(map: Map, name: &str, value: &[u8]) {
    remove_map_value(map, name);
    add_map_value(map, name, value);
}

pub(crate) fn add_map_value(map: Map, name: &str, value: &[u8]) {
    with(|fake| map_of(fake, map).push((name.to_owned(), value.to_vec())));
}

pub(crate) fn remove_map_value(map: Map, name: &str) {
    with(|fake| map_of(fake, map).retain(|(key, _)| key != name));
}

pub(crate) fn set_map(map: Map, headers: &[(&str, &[u8])]) {
    let headers = headers.iter().map(|(name, v)| ((*name).to_owned(), v.to_vec())).collect();
    with(|fake| *map_of(fake, map) = headers);
}

pub(crate) fn property(_path: &[&str]) -> Option<Vec<u8>> {
    None
}

pub(crate) fn reply(status: u32, headers: &[(&str, &str)], body: &[u8]) {
    let status = u16::try_from(status).unwrap_or(500);
    let headers = owned(headers);
    with(|fake| {
        fake.stream().reply.get_or_insert(Reply { status, headers, body: body.to_vec() });
    });
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn resume(direction: Direction) {
    with(|fake| match direction {
        Direction::Request => fake.stream().request_resumed += 1,
        Direction::Response => fake.stream().response_resumed += 1,
    });
}

pub(crate) fn reset(_direction: Direction) {
    with(|fake| fake.stream().reset = true);
}

pub(crate) fn call(callout: &Callout<'_>) -> Result<u32, CallError> {
    with(|fake| {
        if fake.refuse_calls {
            return Err(CallError::Refused);
        }
        fake.next_call += 1;
        fake.calls.push(FakeCall {
            id: CallId(fake.next_call),
            upstream: callout.upstream.to_owned(),
            headers: owned(callout.headers),
            body: callout.body.to_vec(),
            timeout: callout.timeout,
            context: fake.effective,
        });
        Ok(fake.next_call)
    })
}

pub(crate) fn set_effective_context(id: u32) -> bool {
    with(|fake| fake.effective = id);
    true
}

pub(crate) fn define_metric(_kind: MetricKind, name: &str) -> u32 {
    with(|fake| {
        fake.metrics.entry(name.to_owned()).or_default();
        fake.metric_names.push(name.to_owned());
        u32::try_from(fake.metric_names.len() - 1).unwrap_or(u32::MAX)
    })
}

fn metric(id: u32, change: impl FnOnce(&mut u64)) {
    with(|fake| {
        let name = fake.metric_names.get(id as usize).cloned().unwrap_or_default();
        change(fake.metrics.entry(name).or_default());
    });
}

pub(crate) fn increment_metric(id: u32, by: i64) {
    metric(id, |value| *value = value.saturating_add_signed(by));
}

pub(crate) fn record_metric(id: u32, to: u64) {
    metric(id, |value| *value = to);
}

pub(crate) fn shared_data(key: &str) -> Option<(Vec<u8>, Option<u32>)> {
    with(|fake| fake.shared_data.get(key).map(|(value, version)| (value.clone(), Some(*version))))
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], version: Option<u32>) -> bool {
    with(|fake| {
        let now = fake.shared_data.get(key).map(|(_, version)| *version);
        if version.is_some() && now.is_some() && version != now {
            return false;
        }
        fake.shared_data.insert(key.to_owned(), (value.to_vec(), now.unwrap_or_default() + 1));
        true
    })
}

pub(crate) fn foreign(name: &str, arguments: &[u8]) -> Result<Vec<u8>, ForeignError> {
    let function = with(|fake| {
        fake.foreign_calls.push((name.to_owned(), arguments.to_vec()));
        fake.functions.remove(name)
    });
    // It runs outside of `with`, so that it may use the host.
    let Some(mut function) = function else { return Err(ForeignError::Unknown) };
    let result = function(arguments);
    with(|fake| fake.functions.insert(name.to_owned(), function));
    result
}
