//! What a TLS connection rests on: it ends when that is gone, though its socket is well.
//!
//! A client's certificate that expires, and an authority that is no longer trusted, end the
//! connections that were made under them: first no new requests (GOAWAY, `connection: close`), then
//! all of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::terms::{TlsSource, TlsTerms};
use crate::drain::Closing;
use crate::identity::PeerCertificate;

/// How long before the client's certificate expires no new requests are taken; at its expiry, what
/// still runs is cut.
const EXPIRY_NOTICE: Duration = Duration::from_secs(5);

/// How long requests may go on that run when their client's certificate is no longer trusted.
const UNTRUSTED_GRACE: Duration = Duration::from_secs(1);

/// How often the clock is looked at: it may be set, and the machine may sleep.
const CLOCK_PERIOD: Duration = Duration::from_secs(30);

/// What one connection was made under.
pub(super) struct Bond {
    pub(super) source: Arc<dyn TlsSource>,
    pub(super) terms: Arc<TlsTerms>,
    pub(super) peer: Option<Arc<PeerCertificate>>,
}

// === impl Bond ===

impl Bond {
    /// Ends the connection by its `closing` when what it rests on is gone. Never returns before.
    pub(super) async fn hold(mut self, closing: Closing) {
        let expiry = self.peer.as_ref().map(|peer| peer.not_after);
        loop {
            // Cancel safe, both: they hold no state between polls.
            tokio::select! {
                () = self.terms.retired() => match self.source.terms() {
                    Some(next) if next.admit(self.peer.as_deref()) => self.terms = next,
                    Some(_) => {
                        tracing::debug!("a connection's trust is gone: it ends");
                        return closing.close_within(UNTRUSTED_GRACE).await;
                    }
                    // The entrance is gone: whoever removed it drains its connections.
                    None => return std::future::pending().await,
                },
                left = expires_soon(expiry) => {
                    return closing.close_within(left).await;
                }
            }
        }
    }
}

/// Resolves [`EXPIRY_NOTICE`] before `expiry`, with the time that is left; never without one.
async fn expires_soon(expiry: Option<SystemTime>) -> Duration {
    let Some(expiry) = expiry else { return std::future::pending().await };
    loop {
        let left = expiry.duration_since(SystemTime::now()).unwrap_or_default();
        match left.checked_sub(EXPIRY_NOTICE) {
            Some(early) if !early.is_zero() => sleep(early.min(CLOCK_PERIOD)).await,
            _ => return left,
        }
    }
}
