//! One request: it is held until it passes, and answered if it does not.

use waypoint_sdk::{Body, Flow, HttpFilter, Request, RequestId};

use crate::filter::{JwtAuth, Verdict};
use crate::remote::{Place, Waiting};
use crate::token::Refusal;

/// One request.
#[derive(Debug)]
pub struct Checking {
    id: RequestId,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is known yet; without headers nothing passes.
    New,
    /// It is held for newer keys of its issuer.
    Waiting {
        _place: Place,
    },
    Passed,
    Answered,
}

/// What `Authorization` holds.
enum Credential<'a> {
    None,
    Token(&'a str),
    Bad,
}

impl Checking {
    pub(crate) fn new(id: RequestId) -> Self {
        Self { id, state: State::New }
    }
}

impl HttpFilter for Checking {
    type Shared = JwtAuth;

    fn on_request_headers(&mut self, shared: &mut JwtAuth, request: &mut Request) -> Flow {
        let headers = request.headers().all();
        for mapped in &shared.config().claims_to_headers {
            if headers.iter().any(|(name, _)| *name == mapped.header) {
                request.headers().remove(&mapped.header);
            }
        }
        if !shared.config().skip_paths.is_empty() && shared.config().skips(&request.path()) {
            self.state = State::Passed;
            return Flow::Continue;
        }
        self.check(shared, request, &headers)
    }

    // The body may arrive while the head waits (`bodies: BeforeHeaders`), and must not carry the
    // head along.
    fn on_request_body(&mut self, _: &mut JwtAuth, _: &mut Request, _: &mut Body) -> Flow {
        self.flow()
    }

    fn on_request_trailers(&mut self, _: &mut JwtAuth, _: &mut Request) -> Flow {
        self.flow()
    }

    fn on_woken(&mut self, shared: &mut JwtAuth, request: &mut Request) -> Flow {
        match self.state {
            State::Waiting { .. } => {
                let headers = request.headers().all();
                self.check(shared, request, &headers)
            }
            _ => Flow::Pause,
        }
    }
}

impl Checking {
    fn flow(&self) -> Flow {
        if let State::Passed = self.state { Flow::Continue } else { Flow::Pause }
    }

    fn check(
        &mut self,
        shared: &mut JwtAuth,
        request: &mut Request,
        headers: &[(String, Vec<u8>)],
    ) -> Flow {
        let token = match credential(headers) {
            Credential::None if shared.config().allow_missing => {
                return self.pass(shared, request, &[]);
            }
            Credential::None => {
                shared.counters.missing.increment();
                return self.unauthorized(shared, request, None);
            }
            Credential::Bad => {
                shared.counters.refused.increment();
                return self.unauthorized(shared, request, Some(Refusal::Malformed));
            }
            Credential::Token(token) => token,
        };
        match shared.judge(token) {
            Verdict::Allow(values) => {
                if !shared.config().forward_token {
                    request.headers().remove("authorization");
                }
                self.pass(shared, request, &values)
            }
            Verdict::Refuse(refusal) => self.refuse(shared, request, refusal),
            Verdict::Newer(issuer, refusal) => self.wait(shared, request, issuer, Some(refusal)),
            Verdict::NoKeys(issuer) => self.wait(shared, request, issuer, None),
        }
    }

    /// Waits once; then the request is answered.
    fn wait(
        &mut self,
        shared: &mut JwtAuth,
        request: &mut Request,
        issuer: usize,
        otherwise: Option<Refusal>,
    ) -> Flow {
        let waiting = match self.state {
            State::New => shared.wait(issuer, self.id),
            _ => Waiting::InVain,
        };
        match (waiting, otherwise) {
            (Waiting::ForKeys(place), _) => {
                self.state = State::Waiting { _place: place };
                request.wake_filter();
                Flow::Pause
            }
            (Waiting::InVain, Some(refusal)) => self.refuse(shared, request, refusal),
            (Waiting::InVain | Waiting::TooMany, _) => self.unavailable(shared, request),
        }
    }

    fn pass(&mut self, shared: &JwtAuth, request: &mut Request, values: &[Option<String>]) -> Flow {
        for (mapped, value) in shared.config().claims_to_headers.iter().zip(values) {
            if let Some(value) = value {
                request.headers().set(&mapped.header, value);
            }
        }
        if shared.config().clear_route_cache {
            // A host that cannot do it keeps the route that it has.
            request.clear_route_cache();
        }
        shared.counters.allowed.increment();
        self.state = State::Passed;
        Flow::Continue
    }

    fn refuse(&mut self, shared: &JwtAuth, request: &mut Request, refusal: Refusal) -> Flow {
        waypoint_sdk::debug!("refused: {}", refusal.description());
        shared.counters.refused.increment();
        self.unauthorized(shared, request, Some(refusal))
    }

    /// 401, with the reason if there was a token (RFC 6750, section 3).
    fn unauthorized(
        &mut self,
        shared: &JwtAuth,
        request: &mut Request,
        refusal: Option<Refusal>,
    ) -> Flow {
        let mut challenge = format!("Bearer realm=\"{}\"", shared.config().realm);
        let said = match refusal {
            Some(refusal) => {
                challenge.push_str(", error=\"invalid_token\", error_description=\"");
                challenge.push_str(refusal.description());
                challenge.push('"');
                refusal.description()
            }
            None => "A bearer token is needed",
        };
        self.state = State::Answered;
        let headers = [("www-authenticate", challenge.as_str()), TEXT];
        request.reply(401, &headers, format!("{said}\n").as_bytes())
    }

    fn unavailable(&mut self, shared: &JwtAuth, request: &mut Request) -> Flow {
        shared.counters.unavailable.increment();
        self.state = State::Answered;
        request.reply(503, &[("retry-after", "1"), TEXT], b"The issuer's keys are not available\n")
    }
}

const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

/// Exactly one `Authorization`; another scheme than Bearer is no token.
fn credential(headers: &[(String, Vec<u8>)]) -> Credential<'_> {
    let mut values = headers.iter().filter(|(name, _)| name == "authorization");
    let value = match (values.next(), values.next()) {
        (None, _) => return Credential::None,
        (Some((_, value)), None) => value,
        _ => return Credential::Bad,
    };
    let Ok(value) = std::str::from_utf8(value) else { return Credential::Bad };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        Credential::Token(token.trim_matches(' '))
    } else {
        Credential::None
    }
}

#[cfg(test)]
mod tests;
