//! The TLS handshake: within its time, or a failure with a reason that holds no secret.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, Error as TlsError, ProtocolVersion, ServerConfig, server::ResolvesServerCert,
};
use tokio::time;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    codec::{Alpn, Socket, TlsInfo},
    drain::Closing,
};

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
    Other,
}

/// How to make TLS of a socket.
#[derive(Clone)]
pub(super) struct Handshake {
    acceptor: TlsAcceptor,
    timeout: Duration,
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
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Closed;
        };
        match error {
            TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => Self::NotTls,
            TlsError::NoApplicationProtocol => Self::Alpn,
            TlsError::PeerIncompatible(_) => Self::Incompatible,
            TlsError::AlertReceived(AlertDescription::HandshakeFailure) => Self::Incompatible,
            TlsError::AlertReceived(_) => Self::ClientRefused,
            // rustls says only this when the resolver has no certificate.
            TlsError::General(_) => Self::NoCertificate,
            _ => Self::Other,
        }
    }
}

// === impl Handshake ===

impl Handshake {
    pub(super) fn new(resolver: Arc<dyn ResolvesServerCert>, timeout: Duration) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), timeout }
    }

    /// Ends early, as [`HandshakeFailure::Closed`], when running work must stop.
    pub(super) async fn accept(
        &self,
        socket: Socket,
        closing: &Closing,
    ) -> Result<(TlsStream<Socket>, TlsInfo), HandshakeFailure> {
        let handshake = time::timeout(self.timeout, self.acceptor.accept(socket));
        let Some(finished) = crate::drain::unless(closing.cut(), handshake).await else {
            return Err(HandshakeFailure::Closed);
        };
        let stream = finished
            .map_err(|_| HandshakeFailure::Timeout)?
            .map_err(|error| HandshakeFailure::of(&error))?;
        let info = tls_info(&stream);
        Ok((stream, info))
    }
}

fn tls_info(stream: &TlsStream<Socket>) -> TlsInfo {
    let (_, session) = stream.get_ref();
    TlsInfo {
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
    }
}
