//! The filter as the host sees it: heads, bodies and trailers of both sides through the scan.

use std::rc::Rc;

use waypoint_sdk::{
    Body, ConfigError, Counter, Direction, Filter, Flow, HttpFilter, Message, Request, RequestId,
    Response, Root, warn,
};

use crate::body::{BodyScan, Stop};
use crate::config::{Config, EncodingPolicy, Policy, Settings};
use crate::detect::Entity;
use crate::heads::{self, Facts, Map, Plan, REQUEST_STALE, RESPONSE_STALE, Values};
use crate::rules::{Rules, Tally};
use crate::scanner::{Blocked, may_match};

/// What requests share.
pub struct PiiRedact {
    settings: Settings,
    rules: Rc<Rules>,
    metrics: Metrics,
}

struct Metrics {
    matches: [Counter; Entity::ALL.len()],
    blocked: Counter,
    refused: Counter,
}

impl Metrics {
    fn new() -> Self {
        Self {
            matches: Entity::ALL
                .map(|entity| Counter::new(&format!("pii_redact_matches_{}", entity.name()))),
            blocked: Counter::new("pii_redact_blocked"),
            refused: Counter::new("pii_redact_refused"),
        }
    }

    fn count(&self, tally: &mut Tally) {
        for (entity, count) in tally.take() {
            self.matches[entity as usize].add(count);
        }
    }
}

impl Filter for PiiRedact {
    type Config = Config;
    type Http = Exchange;

    fn configure(config: Config, _: &mut Root) -> Result<Self, ConfigError> {
        let (settings, rules) = config.check()?;
        Ok(Self { settings, rules: Rc::new(rules), metrics: Metrics::new() })
    }

    fn open(&mut self, _: RequestId) -> Exchange {
        Exchange { request: Side::Pass, response: Side::Pass }
    }
}

/// One request and its response.
pub struct Exchange {
    request: Side,
    response: Side,
}

/// The body of one side.
enum Side {
    Pass,
    Scan(Box<BodyScan>),
    /// All of it has left.
    Done,
    /// Nothing of it leaves any more.
    Stopped,
}

impl HttpFilter for Exchange {
    type Shared = PiiRedact;

    fn on_request_headers(&mut self, shared: &mut PiiRedact, request: &mut Request) -> Flow {
        let mut head = Map::read(request.headers());
        if shared.settings.responses && shared.settings.bodies {
            shared.ask_for_plain_responses(&mut head);
        }
        if !shared.settings.requests {
            return Flow::Continue;
        }
        if let Err(blocked) = shared.redact_path(&head) {
            return shared.block(request, &mut self.request, blocked);
        }
        let upgraded =
            head.get(":method") == Some(b"CONNECT".as_slice()) || head.get("upgrade").is_some();
        let facts = Facts { upgraded, ..Facts::default() };
        shared.head(request, &mut self.request, head, facts)
    }

    fn on_request_body(
        &mut self,
        shared: &mut PiiRedact,
        request: &mut Request,
        body: &mut Body,
    ) -> Flow {
        shared.body(request, &mut self.request, body)
    }

    fn on_request_trailers(&mut self, shared: &mut PiiRedact, request: &mut Request) -> Flow {
        shared.trailers(request, &mut self.request, shared.settings.requests)
    }

    fn on_response_headers(&mut self, shared: &mut PiiRedact, response: &mut Response) -> Flow {
        if !shared.settings.responses {
            return Flow::Continue;
        }
        let head = Map::read(response.headers());
        let is = |status: &str| head.get(":status") == Some(status.as_bytes());
        let facts = Facts { partial: is("206"), upgraded: is("101"), ..Facts::default() };
        shared.head(response, &mut self.response, head, facts)
    }

    fn on_response_body(
        &mut self,
        shared: &mut PiiRedact,
        response: &mut Response,
        body: &mut Body,
    ) -> Flow {
        shared.body(response, &mut self.response, body)
    }

    fn on_response_trailers(&mut self, shared: &mut PiiRedact, response: &mut Response) -> Flow {
        shared.trailers(response, &mut self.response, shared.settings.responses)
    }
}

impl PiiRedact {
    /// Asks the upstream for a response that can be scanned: not packed, and whole.
    fn ask_for_plain_responses(&self, head: &mut Map) {
        if self.settings.content_encoding != EncodingPolicy::Pass {
            head.replace("accept-encoding", b"identity");
        }
        if self.settings.partial_content == Policy::Refuse {
            head.remove("range");
            head.remove("if-range");
        }
    }

    fn redact_path(&self, head: &Map) -> Result<(), Blocked> {
        let path = head.get(":path").filter(|path| self.settings.query && may_match(path));
        let Some(path) = path else { return Ok(()) };
        let mut values = Values::new(Rc::clone(&self.rules));
        let redacted = values.path(path);
        self.metrics.count(values.0.tally());
        let redacted = redacted?;
        if redacted != path {
            head.host.set(":path", redacted);
        }
        Ok(())
    }

    /// Scans the headers, and decides on the body.
    fn head(
        &self,
        message: &mut Message,
        side: &mut Side,
        mut head: Map,
        mut facts: Facts,
    ) -> Flow {
        for (name, value) in &head.pairs {
            match name.as_str() {
                "content-type" => facts.content_type = Some(value.clone()),
                "content-encoding" => {
                    facts.content_encoding.extend_from_slice(value);
                    facts.content_encoding.push(b',');
                }
                _ => {}
            }
        }
        if let Err(blocked) = self.redact_headers(&head) {
            return self.block(message, side, blocked);
        }
        match heads::plan(&self.settings, &facts) {
            Plan::Pass => {}
            Plan::Refuse(_) if message.end_of_stream() => {}
            Plan::Refuse(reason) => return self.refuse(message, side, 415, reason),
            Plan::Scan(manner) => {
                remove_stale(message.direction(), &mut head);
                if !message.end_of_stream() {
                    head.remove("content-length");
                    if manner.coding.is_some() {
                        head.remove("content-encoding");
                    }
                    *side = Side::Scan(Box::new(BodyScan::new(Rc::clone(&self.rules), manner)));
                }
            }
        }
        Flow::Continue
    }

    fn redact_headers(&self, head: &Map) -> Result<(), Blocked> {
        let suspect = |(name, value): &&(String, Vec<u8>)| {
            may_match(value) && heads::is_scanned(&self.settings, name)
        };
        let mut values = None;
        let mut done: Vec<&str> = Vec::new();
        for (name, _) in head.pairs.iter().filter(suspect) {
            if done.contains(&name.as_str()) {
                continue;
            }
            done.push(name);
            let values = values.get_or_insert_with(|| Values::new(Rc::clone(&self.rules)));
            let old = || head.pairs.iter().filter(|(other, _)| other == name).map(|(_, old)| old);
            let new: Result<Vec<_>, _> = old().map(|value| values.header(name, value)).collect();
            self.metrics.count(values.0.tally());
            let new = new?;
            if !old().eq(new.iter()) {
                head.host.remove(name);
                new.iter().for_each(|value| head.host.add(name, value));
            }
        }
        Ok(())
    }

    fn body(&self, message: &mut Message, side: &mut Side, body: &mut Body) -> Flow {
        let scan = match side {
            Side::Pass | Side::Done => return Flow::Continue,
            Side::Stopped => {
                body.replace(b"");
                return Flow::Pause;
            }
            Side::Scan(scan) => scan,
        };
        let chunk = body.bytes();
        let left = scan.push(&chunk).and_then(|mut left| {
            if body.end_of_stream() {
                left.extend(scan.end()?);
            }
            Ok(left)
        });
        self.metrics.count(scan.tally());
        match left {
            Ok(left) => {
                if left != chunk {
                    body.replace(&left);
                }
                if body.end_of_stream() {
                    *side = Side::Done;
                }
                Flow::Continue
            }
            Err(stop) => {
                body.replace(b"");
                self.stop(message, side, stop)
            }
        }
    }

    /// The trailers end the body. The ABI lets nothing more be added to it here, so a body that ends
    /// within a possible match is refused; JSON and text with a last line's end do not end so.
    fn trailers(&self, message: &mut Message, side: &mut Side, wanted: bool) -> Flow {
        if let Side::Stopped = side {
            return Flow::Pause;
        }
        if let Side::Scan(scan) = side {
            let rest = scan.end();
            self.metrics.count(scan.tally());
            match rest {
                Ok(rest) if rest.is_empty() => {}
                Ok(_) => return self.stop(message, side, Stop::Trailers),
                Err(stop) => return self.stop(message, side, stop),
            }
        }
        if wanted && let Err(blocked) = self.redact_headers(&Map::read(message.trailers())) {
            *side = Side::Done;
            return self.stop(message, side, blocked.into());
        }
        Flow::Continue
    }

    /// A body cannot go on.
    fn stop(&self, message: &mut Message, side: &mut Side, stop: Stop) -> Flow {
        match stop {
            Stop::Blocked(entity) => self.block(message, side, Blocked(entity)),
            Stop::Malformed => self.refuse(message, side, 400, "malformed body"),
            Stop::TooLarge => self.refuse(message, side, 413, "decoded body too large"),
            Stop::Unreadable => self.refuse(message, side, 415, "body that cannot be scanned"),
            Stop::Trailers => self.refuse(message, side, 400, "trailers behind a possible match"),
        }
    }

    fn block(&self, message: &mut Message, side: &mut Side, blocked: Blocked) -> Flow {
        self.metrics.blocked.increment();
        warn!("blocked: {} found", blocked.0.name());
        end(message, side, 403, b"personal data are not allowed here\n")
    }

    fn refuse(&self, message: &mut Message, side: &mut Side, status: u16, reason: &str) -> Flow {
        self.metrics.refused.increment();
        warn!("refused: {reason}");
        end(message, side, status, b"the content cannot be scanned\n")
    }
}

/// Ends the exchange. A request gets `status`; a response becomes 502 while its head is held, and is
/// cut afterwards.
fn end(message: &mut Message, side: &mut Side, status: u16, text: &[u8]) -> Flow {
    let head_left = matches!(side, Side::Scan(_) | Side::Done);
    *side = Side::Stopped;
    let headers = [("content-type", "text/plain")];
    match message.direction() {
        Direction::Request => message.reply(status, &headers, text),
        Direction::Response if head_left => message.reset(),
        Direction::Response => message.reply(502, &headers, text),
    }
}

/// Removes the headers that no longer hold once the body may change.
fn remove_stale(direction: Direction, head: &mut Map) {
    let names: &[&str] = match direction {
        Direction::Request => &REQUEST_STALE,
        Direction::Response => &RESPONSE_STALE,
    };
    names.iter().for_each(|name| head.remove(name));
}

#[cfg(test)]
mod tests;
