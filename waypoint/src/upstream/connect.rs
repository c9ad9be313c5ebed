//! Makes connections to endpoints: TCP within the connect timeout, TLS within its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::UpstreamError;
use super::balance::Endpoint;
use super::tls::TlsFailure;
use crate::codec::Channel;

/// How long sent bytes may stay unacknowledged, or the endpoint's window closed, before the kernel
/// gives the connection up: a peer that vanished without a word must not hold a shared connection
/// for a quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// When the kernel begins to probe a silent connection, and how often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Why no connection was made. Several requests may have waited for the same one.
#[derive(Clone, Debug)]
pub(super) enum ConnectError {
    Timeout { address: SocketAddr, limit: Duration },
    Refused { address: SocketAddr },
    Failed { address: SocketAddr, source: Arc<io::Error> },
    Tls { address: SocketAddr, failure: TlsFailure },
}

/// Connects to the endpoint; a failure makes it a second choice for a while.
///
/// # Cancel safety
///
/// Dropping the future closes the half-made connection.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Channel, ConnectError> {
    let address = endpoint.address;
    let limit = endpoint.shared.limits.connect_timeout;
    let failure =
        match tokio::time::timeout(limit, endpoint.shared.limits.mark.connect(address)).await {
            Ok(Ok(stream)) => match prepare(&stream) {
                Ok(()) => match secure(endpoint, stream).await {
                    Ok(channel) => return Ok(channel),
                    Err(failure) => ConnectError::Tls { address, failure },
                },
                Err(error) => ConnectError::Failed { address, source: Arc::new(error) },
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ConnectError::Refused { address }
            }
            Ok(Err(error)) => ConnectError::Failed { address, source: Arc::new(error) },
            Err(_elapsed) => ConnectError::Timeout { address, limit },
        };
    endpoint.cool_down();
    Err(failure)
}

/// Makes TLS of the connection where the endpoint is spoken to in it.
async fn secure(endpoint: &Endpoint, stream: TcpStream) -> Result<Channel, TlsFailure> {
    let Some(tls) = &endpoint.tls else { return Ok(Channel::plain(stream)) };
    let limit = endpoint.shared.limits.tls_handshake_timeout;
    match tls.connect(stream, limit).await {
        Ok(stream) => {
            endpoint.handshake_ended(None);
            Ok(Channel::tls(stream))
        }
        Err(failure) => {
            endpoint.shared.counters.tls_failed(failure);
            // Once for each change: an endpoint that stays wrong does not fill the log.
            if endpoint.handshake_ended(Some(failure)) {
                let address = endpoint.address;
                tracing::warn!(%address, reason = failure.reason(), "TLS with an endpoint failed: {failure}");
            }
            Err(failure)
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive)
}

impl From<ConnectError> for UpstreamError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Timeout { address, limit } => Self::ConnectTimeout { address, limit },
            ConnectError::Refused { address } => Self::ConnectRefused { address },
            ConnectError::Failed { address, source } => Self::ConnectFailed { address, source },
            ConnectError::Tls { address, failure } => Self::Tls { address, failure },
        }
    }
}
