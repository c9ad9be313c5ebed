//! The two traits of a filter, and the handle that its shared part gets.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::callout::{Answer, CallError, CallId, Callout};
use crate::config::ConfigError;
use crate::host;
use crate::message::{Body, Message, Request, Response};

/// What happens to the part of the message that a callback was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It goes on, as changed.
    Continue,
    /// It is held. From a headers callback: until a later callback of this request releases it.
    /// From a body callback: the host keeps the chunk, and the next body callback sees everything
    /// that was kept. Also what follows a reply.
    Pause,
}

/// Names a request within its VM, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u32);

/// The part of a filter that lives as long as its VM: configuration, caches, metrics.
///
/// Hosts run several VMs of one filter; what all of them must see goes to [`crate::shared_data`].
pub trait Filter: Sized + 'static {
    /// Read from the filter's JSON configuration (`{}` when there is none). Derive it with
    /// `#[serde(deny_unknown_fields)]`: a misspelt field must not be ignored.
    type Config: DeserializeOwned;
    /// The part that lives as long as one request.
    type Http: HttpFilter<Shared = Self>;

    /// Makes the filter, or refuses its configuration.
    ///
    /// # Errors
    ///
    /// The message is logged as critical and the host refuses the configuration.
    fn configure(config: Self::Config, root: &mut Root) -> Result<Self, ConfigError>;

    /// A request begins.
    fn open(&mut self, id: RequestId) -> Self::Http;

    /// The period of [`Root::set_tick`] has passed, or a request called [`Message::wake_filter`].
    fn on_tick(&mut self, root: &mut Root) {
        let _ = root;
    }

    /// A call that was made with [`Root::call`] has ended.
    fn on_callout(&mut self, root: &mut Root, call: CallId, answer: &Answer) {
        let _ = (root, call, answer);
    }
}

/// The part of a filter that lives as long as one request. Every callback may be left out.
pub trait HttpFilter: 'static {
    /// The filter that opened it.
    type Shared: Filter<Http = Self>;

    /// The request's head has arrived.
    fn on_request_headers(&mut self, shared: &mut Self::Shared, request: &mut Request) -> Flow {
        let _ = (shared, request);
        Flow::Continue
    }

    /// A part of the request's body has arrived.
    fn on_request_body(
        &mut self,
        shared: &mut Self::Shared,
        request: &mut Request,
        body: &mut Body,
    ) -> Flow {
        let _ = (shared, request, body);
        Flow::Continue
    }

    /// The request's trailers have arrived; [`Message::trailers`] reads and changes them.
    fn on_request_trailers(&mut self, shared: &mut Self::Shared, request: &mut Request) -> Flow {
        let _ = (shared, request);
        Flow::Continue
    }

    /// The response's head has arrived; also that of a reply made by this filter or a later one.
    fn on_response_headers(&mut self, shared: &mut Self::Shared, response: &mut Response) -> Flow {
        let _ = (shared, response);
        Flow::Continue
    }

    /// A part of the response's body has arrived.
    fn on_response_body(
        &mut self,
        shared: &mut Self::Shared,
        response: &mut Response,
        body: &mut Body,
    ) -> Flow {
        let _ = (shared, response, body);
        Flow::Continue
    }

    /// The response's trailers have arrived.
    fn on_response_trailers(&mut self, shared: &mut Self::Shared, response: &mut Response) -> Flow {
        let _ = (shared, response);
        Flow::Continue
    }

    /// A call that this request made with [`Message::call`] has ended. `message` is the side that
    /// made it; `Continue` releases that side.
    fn on_callout(
        &mut self,
        shared: &mut Self::Shared,
        message: &mut Message,
        call: CallId,
        answer: &Answer,
    ) -> Flow {
        let _ = (shared, message, call, answer);
        Flow::Continue
    }

    /// The shared part called [`Root::wake`] for this request, whose headers are held.
    /// `Continue` releases them.
    fn on_woken(&mut self, shared: &mut Self::Shared, request: &mut Request) -> Flow {
        let _ = (shared, request);
        Flow::Continue
    }

    /// The exchange is over, whoever ended it.
    fn on_done(&mut self, shared: &mut Self::Shared) {
        let _ = shared;
    }
}

/// What the shared part of a filter can do besides answering.
#[derive(Debug, Default)]
pub struct Root {
    pub(crate) tick: Duration,
    pub(crate) woken: Vec<RequestId>,
}

impl Root {
    /// Calls [`Filter::on_tick`] every `period` from now on; zero stops it. Every VM ticks.
    pub fn set_tick(&mut self, period: Duration) {
        self.tick = period;
        host::set_tick(period);
    }

    /// Calls an upstream; [`Filter::on_callout`] gets the answer, whichever requests live by then.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the host refused to send it.
    pub fn call(&mut self, callout: &Callout<'_>) -> Result<CallId, CallError> {
        host::call(callout).map(CallId)
    }

    /// Calls [`HttpFilter::on_woken`] of a request when this callback has returned. A request that
    /// has ended by then is passed over.
    pub fn wake(&mut self, id: RequestId) {
        self.woken.push(id);
    }
}
