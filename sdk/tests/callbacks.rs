//! Who gets which callback, and what follows it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use waypoint_sdk::Flow::{Continue, Pause};
use waypoint_sdk::testing::{Tester, with};
use waypoint_sdk::{
    Answer, Body, CallError, CallId, Callout, ConfigError, Counter, Direction, Filter, Flow, Gauge,
    HttpFilter, Message, Request, RequestId, Response, Root, shared_data,
};

/// Each request calls an upstream and is released by a 200; `/wait` waits to be woken by a tick.
struct Caller {
    waiting: Vec<RequestId>,
    answers: Counter,
    done: Counter,
}

struct Call {
    id: RequestId,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

const CALL: Callout<'static> = Callout {
    upstream: "a.b:80",
    headers: &[(":method", "GET"), (":path", "/"), (":authority", "a")],
    body: b"ask",
    timeout: Duration::from_secs(1),
};

impl Filter for Caller {
    type Config = Config;
    type Http = Call;

    fn configure(_config: Config, root: &mut Root) -> Result<Self, ConfigError> {
        root.set_tick(Duration::from_secs(10));
        Gauge::new("configured").set(1);
        let counters = (Counter::new("answers"), Counter::new("done"));
        Ok(Self { waiting: Vec::new(), answers: counters.0, done: counters.1 })
    }

    fn open(&mut self, id: RequestId) -> Call {
        Call { id }
    }

    fn on_tick(&mut self, root: &mut Root) {
        for id in self.waiting.drain(..) {
            root.wake(id);
        }
    }

    fn on_callout(&mut self, _root: &mut Root, _call: CallId, _answer: &Answer) {
        self.answers.add(100);
    }
}

impl HttpFilter for Call {
    type Shared = Caller;

    fn on_request_headers(&mut self, shared: &mut Caller, request: &mut Request) -> Flow {
        if request.path() == "/wait" {
            shared.waiting.push(self.id);
            request.wake_filter();
            return Pause;
        }
        match request.call(&CALL) {
            Ok(_) => Pause,
            Err(CallError::Refused | CallError::Failed) => request.reply(99, &[], b""),
        }
    }

    fn on_response_headers(&mut self, _: &mut Caller, response: &mut Response) -> Flow {
        response.headers().set("x-status", response.status().to_string());
        match response.call(&CALL) {
            Ok(_) => Pause,
            Err(_) => response.reset(),
        }
    }

    fn on_response_body(&mut self, _: &mut Caller, _: &mut Response, body: &mut Body) -> Flow {
        if !body.end_of_stream() {
            return Pause;
        }
        let bytes = body.bytes().to_ascii_uppercase();
        body.replace(&bytes);
        body.append(b"!");
        assert_eq!((body.len(), body.read(1, 2).len()), (bytes.len() + 1, 2));
        Continue
    }

    fn on_callout(
        &mut self,
        shared: &mut Caller,
        message: &mut Message,
        _call: CallId,
        answer: &Answer,
    ) -> Flow {
        shared.answers.increment();
        match answer.status {
            Some(200) => {
                message.headers().set("x-answer", answer.body(2));
                Continue
            }
            Some(_) => message.reply(502, &[("x-why", "upstream")], b"bad\n"),
            None => message.reply(504, &[], b""),
        }
    }

    fn on_woken(&mut self, _: &mut Caller, request: &mut Request) -> Flow {
        if request.call(&CALL).is_ok() { Pause } else { Continue }
    }

    fn on_done(&mut self, shared: &mut Caller) {
        shared.done.increment();
    }
}

fn start() -> Tester<Caller> {
    Tester::start("").unwrap()
}

fn last_header(headers: &[(String, Vec<u8>)]) -> (&str, &[u8]) {
    let (name, value) = headers.last().unwrap();
    (name, value)
}

#[test]
fn an_answer_releases_the_side_that_called() {
    let mut tester = start();
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[(":path", "/")], true), Pause);
    assert_eq!(with(|host| host.calls[0].body.clone()), b"ask");
    tester.answer(&[(":status", "200")], b"yes");
    let stream = tester.stream(id);
    assert_eq!((stream.request_resumed, stream.response_resumed), (1, 0));
    assert_eq!(last_header(&stream.request_headers), ("x-answer", b"ye".as_slice()));

    assert_eq!(tester.response_headers(id, &[(":status", "201")], false), Pause);
    tester.answer(&[(":status", "200")], b"ok");
    let stream = tester.stream(id);
    assert_eq!((stream.request_resumed, stream.response_resumed), (1, 1));
    assert_eq!(last_header(&stream.response_headers), ("x-answer", b"ok".as_slice()));
    assert_eq!(stream.response_headers[1], ("x-status".to_owned(), b"201".to_vec()));
    tester.end(id);
    assert_eq!(with(|host| (host.metrics["answers"], host.metrics["done"])), (2, 1));
}

#[test]
fn a_bad_or_missing_answer_is_told_from_a_good_one() {
    for (headers, want) in [(&[(":status", "503")][..], 502), (&[], 504)] {
        let mut tester = start();
        let id = tester.open();
        let _ = tester.request_headers(id, &[(":path", "/")], true);
        tester.answer(headers, b"");
        let stream = tester.stream(id);
        assert_eq!((stream.reply.unwrap().status, stream.request_resumed), (want, 0));
    }
}

#[test]
fn an_answer_that_comes_after_the_exchange_is_dropped() {
    let mut tester = start();
    let id = tester.open();
    let _ = tester.request_headers(id, &[(":path", "/")], true);
    tester.end(id);
    tester.answer(&[(":status", "200")], b"");
    assert_eq!(with(|host| host.metrics["answers"]), 0);
}

#[test]
fn a_request_that_is_woken_may_call_and_be_released_by_the_answer() {
    let mut tester = start();
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[(":path", "/wait")], true), Pause);
    assert_eq!(with(|host| host.tick), Duration::from_millis(1));
    tester.tick();
    assert_eq!(with(|host| host.tick), Duration::from_secs(10), "the filter's own period again");
    assert_eq!(tester.stream(id).request_resumed, 0);
    tester.answer(&[(":status", "200")], b"");
    assert_eq!((tester.stream(id).request_resumed, with(|host| host.metrics["answers"])), (1, 1));
}

#[test]
fn a_request_that_ended_is_not_woken() {
    let mut tester = start();
    let id = tester.open();
    let _ = tester.request_headers(id, &[(":path", "/wait")], true);
    tester.end(id);
    tester.tick();
    assert_eq!((tester.stream(id).request_resumed, with(|host| host.calls.len())), (0, 0));
}

#[test]
fn a_call_that_the_host_refuses_is_an_error_and_a_wrong_status_a_500() {
    let mut tester = start();
    with(|host| host.refuse_calls = true);
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[(":path", "/")], true), Pause);
    assert_eq!(tester.stream(id).reply.unwrap().status, 500);
    assert_eq!(tester.response_headers(id, &[(":status", "200")], true), Pause);
    assert!(tester.stream(id).reset);
}

#[test]
fn a_body_that_is_held_comes_back_whole() {
    let mut tester = start();
    let id = tester.open();
    assert_eq!(tester.response_body(id, b"ab", false), (Pause, Vec::new()));
    assert_eq!(tester.response_body(id, b"c", true), (Continue, b"ABC!".to_vec()));
    assert_eq!(tester.trailers(id, Direction::Response, &[("t", "1")]), Continue);
}

#[test]
fn a_configuration_that_is_refused_says_where() {
    let error = Tester::<Caller>::start(r#"{"a": 1}"#).err().unwrap();
    assert!(error.starts_with("configuration refused: a: unknown field `a`"), "{error}");
}

#[test]
fn shared_data_tells_who_was_first() {
    waypoint_sdk::testing::reset();
    assert_eq!(shared_data::get("k"), None);
    assert_eq!(shared_data::set("k", b"1", None), Ok(()));
    let (value, version) = shared_data::get("k").unwrap();
    assert_eq!((value.as_slice(), shared_data::set("k", b"2", version)), (b"1".as_slice(), Ok(())));
    assert_eq!(shared_data::set("k", b"3", version), Err(shared_data::Conflict));
}
