//! Makes TCP connections to endpoints, within the connect timeout.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::UpstreamError;
use super::balance::Endpoint;

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
}

/// Connects to the endpoint; a failure makes it a second choice for a while.
///
/// # Cancel safety
///
/// Dropping the future closes the half-made connection.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
    let address = endpoint.address;
    let limit = endpoint.shared.limits.connect_timeout;
    let failure = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => match prepare(&stream) {
            Ok(()) => return Ok(stream),
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
        }
    }
}
