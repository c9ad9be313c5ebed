//! After a 101: the connection belongs to the new protocol.

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes, join};

use super::{reader::Reader, writer::Writer};
use crate::codec::{Body, TunnelIo, websocket::TUNNEL_BUFFER_BYTES};

/// Copies both ways until both have ended or one fails. What the client sent behind its head goes
/// first; the end of one direction is passed on and leaves the other one open. The answer's `body`
/// lives as long as the tunnel, for it holds the request's record and its slots.
pub(super) async fn run(
    reader: Reader,
    writer: Writer,
    mut upstream: Box<dyn TunnelIo>,
    body: Body,
) {
    let Reader { io, buffer } = reader;
    let mut client = join(io, writer.io);
    if forward(buffer, &mut upstream).await.is_ok() {
        // A failed tunnel has nobody left to tell: both ends are closed here.
        let _ = copy_bidirectional_with_sizes(
            &mut client,
            &mut upstream,
            TUNNEL_BUFFER_BYTES,
            TUNNEL_BUFFER_BYTES,
        )
        .await;
    }
    drop(body);
}

async fn forward(early: BytesMut, upstream: &mut Box<dyn TunnelIo>) -> std::io::Result<()> {
    if early.is_empty() {
        return Ok(());
    }
    upstream.write_all(&early).await?;
    upstream.flush().await
}
