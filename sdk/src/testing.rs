//! A stand-in for the host, for a filter's native tests.
//!
//! [`Tester`] drives a filter as a host would: it keeps paused body chunks, frees what is resumed
//! and delivers answers. What the filter did is read from [`Fake`] with [`with`]. One thread, one
//! host: tests do not see each other.

pub(crate) mod host;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use crate::callout::{Answer, CallId};
use crate::filter::{Filter, Flow, RequestId};
use crate::foreign::ForeignError;
use crate::message::Direction;
use crate::runtime::{Plugin, Shared, Stream};

/// Headers as name and value, in order.
pub type Pairs = Vec<(String, Vec<u8>)>;

type Function = Box<dyn FnMut(&[u8]) -> Result<Vec<u8>, ForeignError>>;

/// What the host knows of one exchange.
#[derive(Clone, Debug, Default)]
pub struct FakeStream {
    /// The request's headers, as the filter left them.
    pub request_headers: Pairs,
    /// The response's headers.
    pub response_headers: Pairs,
    /// The request's trailers.
    pub request_trailers: Pairs,
    /// The response's trailers.
    pub response_trailers: Pairs,
    /// The part of the request's body that is held.
    pub request_body: Vec<u8>,
    /// The part of the response's body that is held.
    pub response_body: Vec<u8>,
    /// The first local reply.
    pub reply: Option<Reply>,
    /// How often the filter released the request from outside of its own callbacks.
    pub request_resumed: usize,
    /// How often it released the response so.
    pub response_resumed: usize,
    /// The filter cut the exchange.
    pub reset: bool,
}

/// A local reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers that the filter gave.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A call that the filter made.
#[derive(Clone, Debug)]
pub struct FakeCall {
    /// Its name, to answer it.
    pub id: CallId,
    /// Whom it called.
    pub upstream: String,
    /// The headers that it sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Its timeout.
    pub timeout: Duration,
    context: u32,
}

/// The host's state.
#[derive(Default)]
pub struct Fake {
    /// The clock; the real one's time when the test did not set it.
    pub now: Option<SystemTime>,
    /// What [`crate::uptime`] tells; it stands still unless the test moves it.
    pub uptime: Duration,
    /// The tick that the filter asked for last.
    pub tick: Duration,
    /// Critical log lines.
    pub critical: Vec<String>,
    /// Calls without an answer yet. Set `refuse_calls` to refuse new ones.
    pub calls: Vec<FakeCall>,
    /// New calls fail.
    pub refuse_calls: bool,
    /// Metric values by name: the sum of a counter, else what was recorded last.
    pub metrics: BTreeMap<String, u64>,
    /// Foreign functions that were called, unknown ones too, with their arguments.
    pub foreign_calls: Vec<(String, Vec<u8>)>,
    functions: HashMap<String, Function>,
    metric_names: Vec<String>,
    shared_data: HashMap<String, (Vec<u8>, u32)>,
    streams: HashMap<u32, FakeStream>,
    effective: u32,
    opened: u32,
    next_call: u32,
    answer: (Pairs, Vec<u8>),
}

impl Fake {
    /// Gives the host a foreign function.
    pub fn foreign(
        &mut self,
        name: &str,
        function: impl FnMut(&[u8]) -> Result<Vec<u8>, ForeignError> + 'static,
    ) {
        self.functions.insert(name.to_owned(), Box::new(function));
    }

    fn stream(&mut self) -> &mut FakeStream {
        self.streams.entry(self.effective).or_default()
    }
}

thread_local! {
    static FAKE: RefCell<Fake> = RefCell::default();
}

/// Reads or changes this thread's host.
pub fn with<T>(look: impl FnOnce(&mut Fake) -> T) -> T {
    FAKE.with(|fake| look(&mut fake.borrow_mut()))
}

/// A new host.
pub fn reset() {
    with(|fake| *fake = Fake::default());
}

/// A filter under test.
pub struct Tester<F: Filter> {
    plugin: Shared<F>,
    streams: HashMap<RequestId, Stream<F>>,
}

const ROOT: u32 = 1;

impl<F: Filter> Tester<F> {
    /// A new host with a filter of this configuration; foreign functions, clock and the like are
    /// set by `prepare`.
    ///
    /// # Errors
    ///
    /// The critical log lines, when the filter refuses its configuration.
    pub fn start_with(config: &str, prepare: impl FnOnce(&mut Fake)) -> Result<Self, String> {
        reset();
        with(prepare);
        Self::another(config)
    }

    /// Another VM on the host that is there.
    ///
    /// # Errors
    ///
    /// As [`Self::start_with`].
    pub fn another(config: &str) -> Result<Self, String> {
        with(|fake| fake.effective = ROOT);
        let plugin = Plugin::new(ROOT);
        if !plugin.borrow_mut().configure(config.as_bytes()) {
            return Err(with(|fake| fake.critical.join("\n")));
        }
        Ok(Self { plugin, streams: HashMap::new() })
    }

    /// A new host with a filter of this configuration.
    ///
    /// # Errors
    ///
    /// As [`Self::start_with`].
    pub fn start(config: &str) -> Result<Self, String> {
        Self::start_with(config, |_| {})
    }

    /// Begins an exchange.
    pub fn open(&mut self) -> RequestId {
        let id = with(|fake| {
            fake.opened += 1;
            fake.effective = ROOT + fake.opened;
            RequestId(fake.effective)
        });
        self.streams.insert(id, Stream::open(&self.plugin, id.0));
        id
    }

    /// What the host knows of an exchange.
    pub fn stream(&self, id: RequestId) -> FakeStream {
        with(|fake| fake.streams.get(&id.0).cloned().unwrap_or_default())
    }

    /// The request's head arrives.
    pub fn request_headers(&mut self, id: RequestId, head: &[(&str, &str)], end: bool) -> Flow {
        self.enter(id, |stream| stream.request_headers = pairs(head))
            .headers(Direction::Request, end)
    }

    /// The response's head arrives.
    pub fn response_headers(&mut self, id: RequestId, head: &[(&str, &str)], end: bool) -> Flow {
        self.enter(id, |stream| stream.response_headers = pairs(head))
            .headers(Direction::Response, end)
    }

    /// A chunk of the request's body arrives: what leaves the filter, nothing if it is held.
    pub fn request_body(&mut self, id: RequestId, chunk: &[u8], end: bool) -> (Flow, Vec<u8>) {
        self.body(id, Direction::Request, chunk, end)
    }

    /// A chunk of the response's body arrives: what leaves the filter, nothing if it is held.
    pub fn response_body(&mut self, id: RequestId, chunk: &[u8], end: bool) -> (Flow, Vec<u8>) {
        self.body(id, Direction::Response, chunk, end)
    }

    fn body(&mut self, id: RequestId, side: Direction, chunk: &[u8], end: bool) -> (Flow, Vec<u8>) {
        let mut len = 0;
        let stream = self.enter(id, |stream| {
            let held = stream.body(side);
            held.extend_from_slice(chunk);
            len = held.len();
        });
        let flow = stream.body(side, len, end);
        let left = match flow {
            Flow::Continue => with(|fake| std::mem::take(fake.stream().body(side))),
            Flow::Pause => Vec::new(),
        };
        (flow, left)
    }

    /// Trailers of either side arrive.
    pub fn trailers(&mut self, id: RequestId, side: Direction, trailers: &[(&str, &str)]) -> Flow {
        let trailers = pairs(trailers);
        self.enter(id, |stream| match side {
            Direction::Request => stream.request_trailers = trailers,
            Direction::Response => stream.response_trailers = trailers,
        })
        .trailers(side)
    }

    fn enter(&mut self, id: RequestId, change: impl FnOnce(&mut FakeStream)) -> &Stream<F> {
        with(|fake| {
            fake.effective = id.0;
            change(fake.stream());
        });
        self.streams.get(&id).expect("the exchange was opened and not ended")
    }

    /// The exchange ends.
    pub fn end(&mut self, id: RequestId) {
        with(|fake| fake.effective = id.0);
        if let Some(stream) = self.streams.remove(&id) {
            stream.done();
        }
    }

    /// The filter's period has passed.
    pub fn tick(&mut self) {
        with(|fake| fake.effective = ROOT);
        self.plugin.borrow_mut().tick();
    }

    /// Answers the oldest call that has no answer; without headers it failed. The answer to a call
    /// of an exchange that has ended is lost.
    pub fn answer(&mut self, headers: &[(&str, &str)], body: &[u8]) {
        let call = with(|fake| {
            fake.effective = ROOT;
            fake.answer = (pairs(headers), body.to_vec());
            fake.calls.remove(0)
        });
        let answer = Answer::new(headers.len(), body.len());
        if call.context == ROOT {
            self.plugin.borrow_mut().callout(call.id, &answer);
        } else if let Some(stream) = self.streams.get(&RequestId(call.context)) {
            stream.callout(call.id, &answer);
        }
    }
}

impl FakeStream {
    fn body(&mut self, side: Direction) -> &mut Vec<u8> {
        match side {
            Direction::Request => &mut self.request_body,
            Direction::Response => &mut self.response_body,
        }
    }
}

fn pairs(headers: &[(&str, &str)]) -> Pairs {
    headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}
