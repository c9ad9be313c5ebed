//! WebSocket on a stream of HTTP/2.
//!
//! To the journey it is the request that HTTP/1 makes: a GET that asks for an upgrade, with a key.
//! The endpoint's 101 becomes 200, and then bytes go both ways in DATA frames.
//!
//! # Source
//!
//! RFC 8441.

use bytes::{Bytes, BytesMut};
use futures_util::try_join;
use h2::{Reason, RecvStream, ext::Protocol};
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};

use super::stream::{Answer, CutShort};
use crate::codec::{
    Journey, Refusal, TunnelIo, Upgrade,
    websocket::{self, TUNNEL_BUFFER_BYTES},
};

/// Makes a GET of an extended CONNECT that asks for a WebSocket, and gives its key. Any other CONNECT
/// is left as it is, to be refused.
pub(super) fn asked(parts: &mut Parts) -> Result<Option<HeaderValue>, Refusal> {
    let protocol = parts.extensions.remove::<Protocol>();
    if parts.method != Method::CONNECT
        || !protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
    {
        return Ok(None);
    }
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Refusal::UpgradeWithBody);
    }
    let key = websocket::new_key().ok_or(Refusal::ConnectRefused)?;
    parts.method = Method::GET;
    parts.headers.insert(websocket::KEY, key.clone());
    parts.extensions.insert(Upgrade::WebSocket);
    Ok(Some(key))
}

/// Passes the head of a 101 that accepts the key, as that of a 200.
pub(super) fn accept(key: &HeaderValue, headers: &mut HeaderMap) -> Result<(), Refusal> {
    if !websocket::is_accepted(key, headers) {
        return Err(Refusal::SwitchUnasked);
    }
    headers.remove(websocket::ACCEPT);
    Ok(())
}

/// Copies both ways until both have ended or one fails; the end of one direction is passed on and
/// leaves the other one open.
pub(super) async fn run<J: Journey>(
    answer: &mut Answer<'_, J>,
    mut receive: RecvStream,
    upstream: Box<dyn TunnelIo>,
) -> Result<(), CutShort> {
    let (mut from, mut to) = split(upstream);
    let down = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(TUNNEL_BUFFER_BYTES);
            let mut room = (&mut from).take(TUNNEL_BUFFER_BYTES as u64);
            match room.read_buf(&mut buffer).await {
                Ok(0) => return answer.send_data(Bytes::new(), true).await,
                Ok(_) => answer.send_data(buffer.split().freeze(), false).await?,
                Err(_) => return Err(CutShort::Reset(Reason::CONNECT_ERROR)),
            }
        }
    };
    let up = async {
        while let Some(data) = receive.data().await {
            let data = data?;
            let written = async { to.write_all(&data).await.and(to.flush().await) }.await;
            written.map_err(|_| CutShort::Reset(Reason::CONNECT_ERROR))?;
            receive.flow_control().release_capacity(data.len())?;
        }
        to.shutdown().await.map_err(|_| CutShort::Reset(Reason::CONNECT_ERROR))
    };
    try_join!(down, up).map(|_| ())
}
