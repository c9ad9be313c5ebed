//! HTTP/2 as bytes: what a client library would not send.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::*;
use crate::{
    codec::{HTTP2_PREFACE, testing::Client},
    overload::CLIENT_RESETS_MAX,
};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, stream], payload].concat()
}

async fn begun(rig: &Rig) -> Client {
    let mut client = rig.client().await;
    client.stream.set_nodelay(true).expect("a socket");
    client.send([HTTP2_PREFACE.as_slice(), &frame(SETTINGS, 0, 0, &[])].concat()).await;
    client
}

/// The reason of the GOAWAY that the server says before it closes.
async fn farewell(client: &mut Client) -> Option<u32> {
    let mut bytes = Vec::new();
    // A reset may follow: the server does not read what it refused.
    let _ = patiently(client.stream.read_to_end(&mut bytes)).await;
    let mut rest = bytes.as_slice();
    while let [high, middle, low, kind, _, _, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let (payload, next) = after.split_at_checked(length)?;
        if *kind == GOAWAY {
            return payload[4..8].try_into().ok().map(u32::from_be_bytes);
        }
        rest = next;
    }
    None
}

#[tokio::test]
async fn a_flood_is_closed_with_goaway_and_recorded() {
    let rig = Rig::echo(Setup::default());
    for (count, (bytes, refusal)) in [
        (frame(PING, 0, 0, &[1; 8]), Refusal::PingFlood),
        (frame(SETTINGS, 0, 0, &[]), Refusal::SettingsFlood),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = begun(&rig).await;
        client.send(bytes.repeat(200)).await;
        assert_eq!(farewell(&mut client).await, Some(Reason::ENHANCE_YOUR_CALM.into()));
        assert_eq!(rig.refused()[count..], [refusal]);
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_closes_the_connection_in_time() {
    let mut setup = Setup::default();
    setup.limits.head_timeout = Duration::from_millis(50);
    let rig = Rig::echo(setup);
    let mut client = begun(&rig).await;
    client.send(frame(HEADERS, 0, 1, &[0x82])).await;
    assert_eq!(farewell(&mut client).await, Some(Reason::ENHANCE_YOUR_CALM.into()));
    assert_eq!(rig.refused(), [Refusal::HeadTimeout]);
}

#[tokio::test]
async fn a_preface_that_does_not_end_closes_the_connection_in_time() {
    let mut setup = Setup::default();
    setup.limits.head_timeout = Duration::from_millis(50);
    let rig = Rig::echo(setup);
    let mut client = rig.client().await;
    client.send(&HTTP2_PREFACE[..20]).await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_preface_that_arrives_in_pieces_is_one() {
    let rig = Rig::echo(Setup::default());
    let mut client = rig.client().await;
    client.stream.set_nodelay(true).expect("a socket");
    for byte in HTTP2_PREFACE.chunks(5) {
        client.send(byte).await;
        tokio::task::yield_now().await;
    }
    client.send(frame(SETTINGS, 0, 0, &[])).await;
    let mut header = [0; 9];
    patiently(client.stream.read_exact(&mut header)).await.expect("the server's settings");
    assert_eq!(header[3], SETTINGS);
}

#[tokio::test]
async fn almost_a_preface_is_a_request_of_http1() {
    let rig = Rig::echo(Setup::default());
    let mut client = rig.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nXX").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 505 "));
}

/// Begins and resets ten streams, from `first` on, and waits until the server has seen it.
async fn resets_ten(client: &mut Client, first: u8) {
    // GET http://x/ without a body.
    let streams = (0..10).map(|number| first + 2 * number);
    let head = |stream| frame(HEADERS, 0x5, stream, &[0x82, 0x84, 0x86, 0x01, 0x01, b'x']);
    let mut frames: Vec<u8> = streams.clone().flat_map(head).collect();
    frames.extend(streams.flat_map(|stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])));
    frames.extend(frame(PING, 0, 0, &[first; 8]));
    client.send(frames).await;
    let acknowledged = frame(PING, 1, 0, &[first; 8]);
    let mut read = Vec::new();
    while !read.windows(acknowledged.len()).any(|bytes| bytes == acknowledged) {
        let more = patiently(client.stream.read_buf(&mut read)).await.expect("it answers");
        assert!(more > 0, "it was closed");
    }
}

#[tokio::test]
async fn resets_are_counted_over_all_connections_of_a_client() {
    let rig = Rig::start(Setup::default(), |_, _| std::future::pending::<Response<Body>>());
    for _ in 0..CLIENT_RESETS_MAX / 100 {
        let mut client = begun(&rig).await;
        for first in (1..200).step_by(20) {
            resets_ten(&mut client, first).await;
        }
    }
    assert_eq!(rig.refused(), []);
    let mut client = begun(&rig).await;
    let head = frame(HEADERS, 0x5, 1, &[0x82, 0x84, 0x86, 0x01, 0x01, b'x']);
    client.send([head, frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat()).await;
    assert_eq!(farewell(&mut client).await, Some(Reason::ENHANCE_YOUR_CALM.into()));
    assert_eq!(rig.refused(), [Refusal::ResetFlood]);
}
