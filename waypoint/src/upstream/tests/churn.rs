//! Connections that end while they are used, over and over: no request is lost, none is doubled.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::http2::ok;
use super::origin::Origin;
use super::*;

/// Clients at a time: fewer than the retries that are always allowed.
const CLIENTS: usize = 8;
const REQUESTS: usize = 40;

/// Sends [`REQUESTS`] from each of [`CLIENTS`], without bodies; every one must be answered.
async fn load(bench: &Bench, cluster: &Cluster, method: &Method) {
    let (done, mut all_done) = mpsc::channel(CLIENTS);
    for _ in 0..CLIENTS {
        let (cluster, method, done) = (cluster.clone(), method.clone(), done.clone());
        bench.tasks.spawn(async move {
            let mut answered = 0;
            for _ in 0..REQUESTS {
                let request = request(method.clone(), "/", Body::empty());
                match cluster.send(Permitted::callout(request), Deadlines::default()).await {
                    Ok((answer, _)) => {
                        assert_eq!(text(answer.into_body()).await.expect("a whole body"), "hello");
                        answered += 1;
                    }
                    Err(error) => tracing::error!("{error:?}"),
                }
            }
            let _ = done.send(answered).await;
        });
    }
    drop(done);
    let mut answered = 0;
    let counting = async {
        while let Some(count) = all_done.recv().await {
            answered += count;
        }
    };
    tokio::time::timeout(6 * PATIENCE, counting).await.expect("it ends in time");
    assert_eq!(answered, CLIENTS * REQUESTS);
}

#[tokio::test]
async fn connections_that_go_away_again_and_again_lose_and_double_no_request() {
    let bench = Bench::new(UpstreamLimits::default());
    let processed = Arc::new(AtomicUsize::new(0));
    let (tasks, counter) = (bench.tasks.clone(), Arc::clone(&processed));
    let origin = Origin::start(&bench, move |peer, _| {
        let (tasks, counter) = (tasks.clone(), Arc::clone(&counter));
        async move {
            let Ok(mut connection) = h2::server::handshake(peer.stream).await else { return };
            let mut streams = 0;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                streams += 1;
                if streams == 5 {
                    connection.graceful_shutdown();
                }
                tasks.spawn(async move {
                    tokio::task::yield_now().await;
                    let Ok(mut stream) = respond.send_response(ok(), false) else { return };
                    let _ = stream.send_data("hello".into(), true);
                });
            }
        }
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    load(&bench, &cluster, &Method::POST).await;
    assert_eq!(processed.load(Ordering::SeqCst), CLIENTS * REQUESTS);
    assert!(CLIENTS < origin.accepted(), "connections went away: {}", origin.accepted());
}

#[tokio::test]
async fn connections_that_close_without_a_word_after_a_few_answers_lose_no_get() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        for _ in 0..3 {
            if peer.head().await.is_none() {
                return;
            }
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    load(&bench, &cluster, &Method::GET).await;
    assert!(REQUESTS < origin.accepted(), "connections closed: {}", origin.accepted());
}
