//! The TLS handshake: within its time, or a failure with a reason that holds no secret.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustls::{AlertDescription, Error as TlsError, ProtocolVersion, ServerConnection};
use rustls_pki_types::UnixTime;
use tokio::time;
use tokio_rustls::server::TlsStream;

use super::terms::{TlsSource, TlsTerms};
use crate::{
    codec::{Alpn, Socket, TlsInfo},
    drain::Closing,
    identity::{self, CertificateFault, ClientTrust, PeerCertificate},
};

/// A listener logs no more than one refused client in this time.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// Why a TLS handshake failed, told apart as far as an operator can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// Not finished in time.
    Timeout,
    /// The client went away, or we are closing.
    Closed,
    /// Not TLS at all, such as plain HTTP on the TLS port.
    NotTls,
    /// No certificate for the name that the client asked for.
    NoCertificate,
    /// No version, cipher suite or key exchange in common.
    Incompatible,
    /// Neither `h2` nor `http/1.1` among what the client speaks.
    Alpn,
    /// The client refused our certificate.
    ClientRefused,
    /// The client has no certificate that is right, and must.
    ClientCertificate(CertificateFault),
    /// Clients must have a certificate, and there is nobody to trust: the authorities are gone, or no
    /// grant allows them.
    ClientTrustMissing,
    Other,
}

/// Logs clients whose certificates are not right: one a second for a listener, with how many were
/// passed over since, for anybody can make handshakes fail.
#[derive(Default)]
pub struct HandshakeLog(Mutex<Logged>);

#[derive(Default)]
struct Logged {
    last: Option<Instant>,
    passed_over: u64,
}

/// A handshake that succeeded.
pub(super) struct Settled {
    pub(super) stream: TlsStream<Socket>,
    pub(super) info: TlsInfo,
    pub(super) terms: Arc<TlsTerms>,
}

// === impl HandshakeFailure ===

impl HandshakeFailure {
    /// The reason as a metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::NoCertificate => "no_certificate",
            Self::Incompatible => "incompatible",
            Self::Alpn => "alpn",
            Self::ClientRefused => "client_refused",
            Self::ClientCertificate(fault) => fault.reason(),
            Self::ClientTrustMissing => "client_trust_missing",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error, terms: &TlsTerms) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Closed;
        };
        match error {
            TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => Self::NotTls,
            TlsError::NoApplicationProtocol => Self::Alpn,
            TlsError::PeerIncompatible(_) => Self::Incompatible,
            TlsError::NoCertificatesPresented
            | TlsError::InvalidCertificate(_)
            | TlsError::InvalidCertRevocationList(_) => {
                match terms.trust().is_some_and(ClientTrust::is_empty) {
                    true => Self::ClientTrustMissing,
                    false => Self::ClientCertificate(identity::fault(error)),
                }
            }
            TlsError::AlertReceived(AlertDescription::HandshakeFailure) => Self::Incompatible,
            TlsError::AlertReceived(_) => Self::ClientRefused,
            // rustls says only this when the resolver has no certificate.
            TlsError::General(_) => Self::NoCertificate,
            _ => Self::Other,
        }
    }
}

// === impl HandshakeLog ===

impl HandshakeLog {
    /// A handshake of a listener failed.
    pub fn failed(&self, listener: &str, failure: HandshakeFailure, peer: SocketAddr) {
        let reason = failure.reason();
        let ours = matches!(
            failure,
            HandshakeFailure::ClientCertificate(_) | HandshakeFailure::ClientTrustMissing
        );
        if !ours {
            return tracing::debug!(listener, %peer, reason, "a TLS handshake failed");
        }
        let passed_over = {
            let mut logged = self.0.lock();
            if logged.last.is_some_and(|last| last.elapsed() < LOG_PERIOD) {
                logged.passed_over += 1;
                return;
            }
            logged.last = Some(Instant::now());
            std::mem::take(&mut logged.passed_over)
        };
        tracing::warn!(listener, %peer, reason, passed_over, "a client was refused");
    }
}

/// Makes TLS of a socket, under the terms of the moment. Ends early, as
/// [`HandshakeFailure::Closed`], when running work must stop.
pub(super) async fn accept(
    source: &dyn TlsSource,
    socket: Socket,
    timeout: Duration,
    closing: &Closing,
) -> Result<Settled, HandshakeFailure> {
    let terms = source.terms().ok_or(HandshakeFailure::NoCertificate)?;
    let handshake = time::timeout(timeout, terms.acceptor.accept(socket));
    let Some(finished) = crate::drain::unless(closing.cut(), handshake).await else {
        return Err(HandshakeFailure::Closed);
    };
    let stream = finished
        .map_err(|_| HandshakeFailure::Timeout)?
        .map_err(|error| HandshakeFailure::of(&error, &terms))?;
    let info = tls_info(&stream, &terms).map_err(HandshakeFailure::ClientCertificate)?;
    Ok(Settled { stream, info, terms })
}

fn tls_info(stream: &TlsStream<Socket>, terms: &TlsTerms) -> Result<TlsInfo, CertificateFault> {
    let (_, session) = stream.get_ref();
    Ok(TlsInfo {
        sni: session.server_name().map(str::to_ascii_lowercase),
        alpn: match session.alpn_protocol() {
            Some(b"h2") => Some(Alpn::Http2),
            Some(_) => Some(Alpn::Http1),
            None => None,
        },
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        peer: peer(session, terms)?.map(Arc::new),
    })
}

/// The client's certificate, verified again: that of a resumed session may have expired since, and
/// where clients without a right one are served none was verified in the handshake.
fn peer(
    session: &ServerConnection,
    terms: &TlsTerms,
) -> Result<Option<PeerCertificate>, CertificateFault> {
    let chain = session.peer_certificates().unwrap_or_default();
    match terms.trust() {
        None => Ok(None),
        Some(trust) if trust.is_mandatory() => trust.verify(chain, UnixTime::now()).map(Some),
        Some(trust) => Ok(trust.verify(chain, UnixTime::now()).ok()),
    }
}
