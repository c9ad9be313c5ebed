//! A bundled Waypoint filter: chooses the route by what a request carries.
//!
//! Rules look for a key in a JSON or form body, in a gRPC method or in a header. The key is put into
//! a header (`x-waypoint-route-key`), the caller's own copy of which is removed first, and the host
//! is asked to choose the route again: a route that matches the header then gets the request.
//!
//! While a rule waits for the body, the head is held. That needs `bodies: BeforeHeaders` on
//! Waypoint, `allow_on_headers_stop_iteration: true` on Envoy.
//!
//! Beyond ABI 0.2.1 it uses the foreign function `clear_route_cache`.

pub mod config;
pub mod decide;
pub mod form;
pub mod json;
pub mod scan;

use std::rc::Rc;

use waypoint_sdk::{
    Body, ConfigError, Counter, Filter, Flow, HttpFilter, Request, RequestId, Root,
};

use config::{Config, OnMissing, Settings};
use decide::{Decider, Head, Step};
use scan::Why;

waypoint_sdk::export!(PayloadRouter);

/// The filter.
#[derive(Debug)]
pub struct PayloadRouter {
    settings: Rc<Settings>,
    routed: Counter,
    missing: Counter,
    rejected: Counter,
    /// The log says already that the host cannot choose a route again.
    told: bool,
}

impl Filter for PayloadRouter {
    type Config = Config;
    type Http = Routing;

    fn configure(config: Config, _root: &mut Root) -> Result<Self, ConfigError> {
        Ok(Self {
            settings: Rc::new(Settings::try_from(config)?),
            routed: Counter::new("payload_router_routed"),
            missing: Counter::new("payload_router_missing"),
            rejected: Counter::new("payload_router_rejected"),
            told: false,
        })
    }

    fn open(&mut self, _id: RequestId) -> Routing {
        Routing { decider: None }
    }
}

/// One request: it has a decider until it is decided.
#[derive(Debug)]
pub struct Routing {
    decider: Option<Decider>,
}

impl HttpFilter for Routing {
    type Shared = PayloadRouter;

    fn on_request_headers(&mut self, shared: &mut PayloadRouter, request: &mut Request) -> Flow {
        let mut headers = request.headers().all();
        let own = &shared.settings.header;
        if headers.iter().any(|(name, _)| name == own) {
            request.headers().remove(own);
            headers.retain(|(name, _)| name != own);
        }
        let head = Head::new(headers);
        self.decider = Some(Decider::new(Rc::clone(&shared.settings), &head));
        self.advance(shared, request, 0, request.end_of_stream(), |_, _| Vec::new())
    }

    fn on_request_body(
        &mut self,
        shared: &mut PayloadRouter,
        request: &mut Request,
        body: &mut Body,
    ) -> Flow {
        let read = |start, max| body.read(start, max);
        self.advance(shared, request, body.len(), body.end_of_stream(), read)
    }

    fn on_request_trailers(&mut self, shared: &mut PayloadRouter, request: &mut Request) -> Flow {
        // All of the body was seen: what waits for its end gets it now, without new bytes.
        let read = self.decider.as_ref().map_or(0, Decider::read);
        self.advance(shared, request, read, true, |_, _| Vec::new())
    }
}

impl Routing {
    fn advance(
        &mut self,
        shared: &mut PayloadRouter,
        request: &mut Request,
        len: usize,
        end: bool,
        read: impl Fn(usize, usize) -> Vec<u8>,
    ) -> Flow {
        let Some(decider) = &mut self.decider else { return Flow::Continue };
        let step = decider.advance(len, end, read);
        if step == Step::Wait {
            return Flow::Pause;
        }
        self.decider = None;
        match step {
            Step::Missing(why) if shared.settings.on_missing == OnMissing::Reject => {
                shared.rejected.increment();
                return reject(request, why);
            }
            Step::Key(key) => {
                shared.routed.increment();
                request.headers().set(&shared.settings.header, key);
            }
            Step::Missing(_) | Step::Wait => {
                shared.missing.increment();
                if let Some(key) = &shared.settings.default_key {
                    request.headers().set(&shared.settings.header, key);
                }
            }
        }
        // Also without a key: the caller's own header may have chosen the route.
        if !request.clear_route_cache() && !shared.told {
            shared.told = true;
            waypoint_sdk::warn!("this host does not choose a route again");
        }
        Flow::Continue
    }
}

fn reject(request: &mut Request, why: Why) -> Flow {
    let status = if why == Why::BodyTooLarge { 413 } else { 400 };
    let headers = [("content-type", "text/plain; charset=utf-8")];
    request.reply(status, &headers, format!("{}\n", why.sentence()).as_bytes())
}
