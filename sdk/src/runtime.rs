//! Between the host's callbacks and the traits: who gets which callback, and what follows it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::callout::{Answer, CallId};
use crate::filter::{Filter, Flow, HttpFilter, RequestId, Root};
use crate::message::{Body, Direction, Message, Request, Response};
use crate::{config, host};

/// The tick that [`Message::wake_filter`] asks for; hosts have their own floor.
const WAKE_TICK: Duration = Duration::from_millis(1);

/// A filter in its VM, shared by its root context and its streams.
pub(crate) type Shared<F> = Rc<RefCell<Plugin<F>>>;

pub(crate) struct Plugin<F: Filter> {
    root_id: u32,
    /// `None` until configured.
    filter: Option<F>,
    root: Root,
    /// The next tick was asked for by a request: then the filter's own period holds again.
    waking: bool,
    streams: BTreeMap<RequestId, Weak<RefCell<F::Http>>>,
    /// Calls that streams made. The host bounds them.
    calls: BTreeMap<CallId, (RequestId, Direction)>,
}

impl<F: Filter> Plugin<F> {
    pub(crate) fn new(root_id: u32) -> Shared<F> {
        Rc::new(RefCell::new(Self {
            root_id,
            filter: None,
            root: Root::default(),
            waking: false,
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
        }))
    }

    /// `false`: the configuration is refused, and the log says why.
    pub(crate) fn configure(&mut self, text: &[u8]) -> bool {
        let made = config::parse(text).and_then(|config| F::configure(config, &mut self.root));
        match made {
            Ok(filter) => self.filter = Some(filter),
            Err(error) => {
                host::critical(&format!("configuration refused: {error}"));
                return false;
            }
        }
        true
    }

    pub(crate) fn tick(&mut self) {
        if std::mem::take(&mut self.waking) {
            host::set_tick(self.root.tick);
        }
        if let Some(filter) = &mut self.filter {
            filter.on_tick(&mut self.root);
        }
        self.wake_streams();
    }

    /// An answer to the root, or to a stream that called while the root woke it.
    pub(crate) fn callout(&mut self, call: CallId, answer: &Answer) {
        if let Some((id, direction)) = self.calls.remove(&call) {
            self.answer_stream(id, direction, call, answer);
        } else if let Some(filter) = &mut self.filter {
            filter.on_callout(&mut self.root, call, answer);
        }
        self.wake_streams();
    }

    fn wake_streams(&mut self) {
        let woken = std::mem::take(&mut self.root.woken);
        for &id in &woken {
            self.in_stream(id, |http, filter| {
                let mut request = Request(Message::new(id, Direction::Request, false));
                let flow = http.on_woken(filter, &mut request);
                (flow, request.0)
            });
        }
        if !woken.is_empty() {
            host::set_effective_context(self.root_id);
        }
    }

    fn answer_stream(&mut self, id: RequestId, from: Direction, call: CallId, answer: &Answer) {
        self.in_stream(id, |http, filter| {
            let mut message = Message::new(id, from, false);
            let flow = http.on_callout(filter, &mut message, call, answer);
            (flow, message)
        });
    }

    /// Runs a callback of a stream outside of that stream's own, and releases it if it says so.
    fn in_stream(
        &mut self,
        id: RequestId,
        run: impl FnOnce(&mut F::Http, &mut F) -> (Flow, Message),
    ) {
        let Some(http) = self.streams.get(&id).and_then(Weak::upgrade) else { return };
        let (Some(filter), Ok(mut http)) = (&mut self.filter, http.try_borrow_mut()) else {
            return;
        };
        if !host::set_effective_context(id.0) {
            return;
        }
        let (flow, message) = run(&mut http, filter);
        self.settle(&message);
        if flow == Flow::Continue {
            host::resume(message.direction());
        }
    }

    /// What a callback asked for besides its flow.
    fn settle(&mut self, message: &Message) {
        for &call in &message.calls {
            self.calls.insert(call, (message.id(), message.direction()));
        }
        if message.wake_filter && !self.waking {
            self.waking = true;
            host::set_tick(WAKE_TICK);
        }
    }
}

/// One exchange.
pub(crate) struct Stream<F: Filter> {
    id: RequestId,
    shared: Shared<F>,
    /// `None`: opened although the filter was never configured.
    http: Option<Rc<RefCell<F::Http>>>,
}

impl<F: Filter> Stream<F> {
    pub(crate) fn open(shared: &Shared<F>, id: u32) -> Self {
        let id = RequestId(id);
        let http = shared.try_borrow_mut().ok().and_then(|mut plugin| {
            let http = Rc::new(RefCell::new(plugin.filter.as_mut()?.open(id)));
            plugin.streams.insert(id, Rc::downgrade(&http));
            Some(http)
        });
        Self { id, shared: Rc::clone(shared), http }
    }

    pub(crate) fn headers(&self, direction: Direction, end_of_stream: bool) -> Flow {
        let message = Message::new(self.id, direction, end_of_stream);
        self.run(message, |http, filter, message| match message {
            Side::Request(request) => http.on_request_headers(filter, request),
            Side::Response(response) => http.on_response_headers(filter, response),
        })
    }

    pub(crate) fn body(&self, direction: Direction, len: usize, end_of_stream: bool) -> Flow {
        let message = Message::new(self.id, direction, end_of_stream);
        let mut body = Body::new(direction, len, end_of_stream);
        self.run(message, |http, filter, message| match message {
            Side::Request(request) => http.on_request_body(filter, request, &mut body),
            Side::Response(response) => http.on_response_body(filter, response, &mut body),
        })
    }

    pub(crate) fn trailers(&self, direction: Direction) -> Flow {
        let message = Message::new(self.id, direction, true);
        self.run(message, |http, filter, message| match message {
            Side::Request(request) => http.on_request_trailers(filter, request),
            Side::Response(response) => http.on_response_trailers(filter, response),
        })
    }

    pub(crate) fn callout(&self, call: CallId, answer: &Answer) {
        let Ok(mut plugin) = self.shared.try_borrow_mut() else { return };
        if let Some((id, direction)) = plugin.calls.remove(&call) {
            plugin.answer_stream(id, direction, call, answer);
        }
    }

    pub(crate) fn done(&self) {
        let Ok(mut plugin) = self.shared.try_borrow_mut() else { return };
        if let (Some(filter), Some(http)) = (&mut plugin.filter, &self.http)
            && let Ok(mut http) = http.try_borrow_mut()
        {
            http.on_done(filter);
        }
    }

    /// Runs one callback. A stream without a filter is refused: it must not pass unfiltered.
    fn run(
        &self,
        message: Message,
        callback: impl FnOnce(&mut F::Http, &mut F, &mut Side) -> Flow,
    ) -> Flow {
        let mut side = match message.direction() {
            Direction::Request => Side::Request(Request(message)),
            Direction::Response => Side::Response(Response(message)),
        };
        if let (Some(http), Ok(mut plugin)) = (&self.http, self.shared.try_borrow_mut())
            && let (Some(filter), Ok(mut http)) = (&mut plugin.filter, http.try_borrow_mut())
        {
            let flow = callback(&mut http, filter, &mut side);
            plugin.settle(side.message());
            return flow;
        }
        side.message().reply(503, &[], b"filter not configured\n")
    }
}

impl<F: Filter> Drop for Stream<F> {
    fn drop(&mut self) {
        if let Ok(mut plugin) = self.shared.try_borrow_mut() {
            plugin.streams.remove(&self.id);
            plugin.calls.retain(|_, (id, _)| *id != self.id);
        }
    }
}

enum Side {
    Request(Request),
    Response(Response),
}

impl Side {
    fn message(&mut self) -> &mut Message {
        match self {
            Self::Request(request) => request,
            Self::Response(response) => response,
        }
    }
}
