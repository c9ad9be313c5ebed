//! Stage 6: nothing reaches an upstream that was not permitted.
//!
//! Takes a routed and filtered request; gives a [`Checked`], which makes the [`Permitted`] that
//! alone [`crate::upstream`] sends. What we answer in the place of an upstream is checked in the
//! same way. It refuses (500) when the destination demands a filter that has not
//! run: fails closed. It is pure, so dropping a request here loses nothing.

use http::Request;

use crate::codec::Interim;
use crate::codec::body::Body;
use crate::error::RequestError;
use crate::filter_chain::{Chain, matches};
use crate::route::Destination;
use crate::snapshot::{FilterSlot, ServedEntrance, ServedService, Snapshot};

/// A request that may leave. Only this module makes one.
pub struct Permitted {
    request: Box<Request<Body>>,
    interim: Option<Interim>,
}

impl Permitted {
    /// A callout: made by a guest, not by a client. The host has checked that the filter's owner
    /// may call its target.
    pub fn callout(request: Request<Body>) -> Self {
        Self { request: Box::new(request), interim: None }
    }

    /// Heads of 1xx before the answer go to `interim`; without it they are dropped.
    #[must_use]
    pub fn with_interim(self, interim: Option<Interim>) -> Self {
        Self { interim, ..self }
    }

    /// The request, to be sent, and where heads of 1xx go.
    pub fn into_parts(self) -> (Box<Request<Body>>, Option<Interim>) {
        (self.request, self.interim)
    }
}

/// That a request has run every filter that its destination demands. Only [`check`] makes one.
pub struct Checked(());

impl Checked {
    /// The request as it leaves: with the edits of its rule, which no filter has to see.
    pub fn permit(self, request: Box<Request<Body>>) -> Permitted {
        Permitted { request, interim: None }
    }
}

/// Checks that a request may go to its destination, or be answered in its place.
///
/// # Errors
///
/// [`RequestError::DemandedFilterNotRun`] when the entrance, the route or the service demands a
/// filter for this request that has not run: because a filter changed the path after the demand
/// was computed, or because the new route of a changed request demands more.
pub fn check(
    snapshot: &Snapshot,
    entrance: &ServedEntrance,
    destination: &Destination,
    chain: &Chain,
    request: &Request<Body>,
) -> Result<Checked, RequestError> {
    let beyond = destination.demanded(snapshot);
    have_run(entrance.filters.iter().chain(&beyond), entrance, chain, request)
}

/// Checks that a copy of a request may go to a service: that what the service demands has run.
///
/// # Errors
///
/// As [`check`]; then the copy is not sent.
pub fn check_copy(
    snapshot: &Snapshot,
    entrance: &ServedEntrance,
    service: &ServedService,
    chain: &Chain,
    request: &Request<Body>,
) -> Result<Checked, RequestError> {
    let demanded = service.model.filters.iter();
    have_run(demanded.filter_map(|key| snapshot.filters.get(key)), entrance, chain, request)
}

fn have_run<'a>(
    slots: impl Iterator<Item = &'a FilterSlot>,
    entrance: &ServedEntrance,
    chain: &Chain,
    request: &Request<Body>,
) -> Result<Checked, RequestError> {
    for slot in slots {
        match slot {
            FilterSlot::Active(filter) => {
                let config = &filter.config;
                let port = entrance.model.port;
                let applies =
                    matches(&config.matches, request.method(), request.uri().path(), port);
                if applies && !chain.has_run(&config.key) {
                    let filter = config.key.to_string();
                    return Err(RequestError::DemandedFilterNotRun { filter });
                }
            }
            FilterSlot::Denied { open: true, .. } => {}
            FilterSlot::Denied { key, .. } => {
                return Err(RequestError::PolicyRefused { resource: format!("filter {key}") });
            }
        }
    }
    Ok(Checked(()))
}
