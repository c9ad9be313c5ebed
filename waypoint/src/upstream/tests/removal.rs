//! An endpoint that leaves its service finishes what it was sent, and is sent nothing more.

use std::sync::atomic::{AtomicUsize, Ordering};

use h2::server::SendResponse;
use tokio::sync::Semaphore;

use super::origin::Origin;
use super::*;

/// Answers in two pieces, each when the test lets it go; counts the connections that have ended.
struct Held {
    origin: Origin,
    gate: Arc<Semaphore>,
    ended: Arc<AtomicUsize>,
}

impl Held {
    async fn start(bench: &Bench, protocol: Protocol) -> Self {
        let (gate, ended) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (let_go, counted) = (Arc::clone(&gate), Arc::clone(&ended));
        let origin = Origin::start(bench, move |mut peer, _| {
            let (gate, ended) = (Arc::clone(&let_go), Arc::clone(&counted));
            async move {
                match protocol {
                    Protocol::Http1 => {
                        while peer.head().await.is_some() {
                            let pieces =
                                ["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst", "after"];
                            for piece in pieces {
                                gate.acquire().await.expect("never closed").forget();
                                peer.write(piece).await;
                            }
                        }
                    }
                    Protocol::Http2 => serve_http2(peer.stream, &gate).await,
                }
                ended.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await;
        Self { origin, gate, ended }
    }
}

async fn serve_http2(stream: tokio::net::TcpStream, gate: &Arc<Semaphore>) {
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    let answer = |mut respond: SendResponse<Bytes>, gate: Arc<Semaphore>| async move {
        gate.acquire().await.expect("never closed").forget();
        let mut body = respond.send_response(http::Response::new(()), false).expect("sent");
        body.send_data("first".into(), false).expect("sent");
        gate.acquire().await.expect("never closed").forget();
        body.send_data("after".into(), true).expect("sent");
    };
    let mut answers = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((_, respond))) => answers.push(answer(respond, Arc::clone(gate))),
                _ => return,
            },
            Some(()) = futures_util::StreamExt::next(&mut answers) => {}
        }
    }
}

impl Bench {
    fn of(&self, protocol: Protocol, addresses: &[SocketAddr]) -> Cluster {
        match protocol {
            Protocol::Http1 => self.http1(addresses),
            Protocol::Http2 => self.http2(addresses),
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_removed_in_flight_ends_its_answers_and_gets_no_more() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let bench = Bench::new(UpstreamLimits::default());
        let leaving = Held::start(&bench, protocol).await;
        let staying = Held::start(&bench, protocol).await;
        let before = bench.of(protocol, &[leaving.origin.address]);
        // One has its head already, one still waits for it.
        let mut begun = bench.start(&before, get("/begun"));
        leaving.gate.add_permits(1);
        let begun = begun.answer().await.expect("a response");
        let mut waiting = bench.start(&before, get("/waiting"));
        until(|| bench.outstanding() == 2).await;

        let after = bench.of(protocol, &[staying.origin.address]);
        drop(before);
        staying.gate.add_permits(100);
        for _ in 0..5 {
            assert_eq!(fetch(&after, get("/")).await.1, "firstafter");
        }

        assert_eq!(leaving.ended.load(Ordering::SeqCst), 0, "{protocol:?}");
        leaving.gate.add_permits(100);
        assert_eq!(text(begun.into_body()).await.expect("a whole body"), "firstafter");
        let waiting = waiting.answer().await.expect("a response");
        assert_eq!(text(waiting.into_body()).await.expect("a whole body"), "firstafter");
        let accepted = leaving.origin.accepted();
        until(|| leaving.ended.load(Ordering::SeqCst) == accepted).await;
        assert_eq!(bench.outstanding(), 0);
        assert_eq!(bench.upstreams.figures().len(), 1, "only who stays is known");
    }
}
