//! Asks waypoints whether they are ready.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::drain::{Closing, unless};

/// How often each is asked, and how long it may take: one that has died is known within a second.
const EVERY: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_millis(500);
/// How often in a row a ready one may not answer in time: a machine under load is slow now and then.
const SILENCES_MAX: u32 = 2;
/// What the answer begins with. No more of it is read.
const READY: &[u8] = b"HTTP/1.1 200";

/// Where each waypoint is asked, by name.
pub(super) type Asked = BTreeMap<String, Vec<SocketAddr>>;
/// Whether each is ready.
pub(super) type Ready = BTreeMap<String, bool>;

/// What one answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// Nobody listens, or it says that it is not ready.
    No,
    /// Nothing came in time.
    Silence,
    Yes,
}

/// Asks until `closing`, or until nobody listens; a change of `asked` is followed at once. One that
/// refuses or says no is not ready at once, one that is silent after a while: fails closed.
pub(super) async fn run(
    mut asked: watch::Receiver<Asked>,
    ready: watch::Sender<Ready>,
    closing: Closing,
) {
    let mut silences = BTreeMap::new();
    let rounds = async {
        loop {
            let wanted = asked.borrow_and_update().clone();
            let answers = join_all(wanted.values().map(|addresses| ask_all(addresses))).await;
            let found = weigh(
                wanted.keys().cloned().zip(answers.iter().copied()),
                &ready.borrow(),
                &mut silences,
            );
            tell(&wanted, &answers, &found, &ready.borrow());
            ready.send_if_modified(|known| {
                let changed = *known != found;
                *known = found;
                changed
            });
            // Cancel safe, both: a change that was not seen is seen next time.
            tokio::select! {
                changed = asked.changed() => if changed.is_err() { return },
                () = sleep(EVERY) => {}
            }
        }
    };
    unless(closing.closing(), rounds).await;
}

/// Logs whose readiness is another now, and why.
fn tell(asked: &Asked, answers: &[Answer], found: &Ready, known: &Ready) {
    for ((waypoint, addresses), answer) in asked.iter().zip(answers) {
        match (found.get(waypoint), known.get(waypoint)) {
            (Some(true), Some(true)) | (Some(false), Some(false)) => {}
            (Some(true), _) => tracing::info!(waypoint, "ready"),
            _ => tracing::warn!(waypoint, ?addresses, ?answer, "not ready (GET /healthz/ready)"),
        }
    }
}

/// Who is ready after these answers; `silences` counts those in a row.
fn weigh(
    answers: impl Iterator<Item = (String, Answer)>,
    known: &Ready,
    silences: &mut BTreeMap<String, u32>,
) -> Ready {
    let before = std::mem::take(silences);
    let ready = |(name, answer): (String, Answer)| {
        let is_ready = match answer {
            Answer::Yes => true,
            Answer::No => false,
            Answer::Silence => {
                let count = before.get(&name).copied().unwrap_or_default() + 1;
                silences.insert(name.clone(), count);
                known.get(&name) == Some(&true) && count <= SILENCES_MAX
            }
        };
        (name, is_ready)
    };
    answers.map(ready).collect()
}

/// The best answer of any of its addresses.
async fn ask_all(addresses: &[SocketAddr]) -> Answer {
    let answer = async |address: &SocketAddr| match timeout(PATIENCE, ask(*address)).await {
        Err(_) => Answer::Silence,
        Ok(Ok(true)) => Answer::Yes,
        Ok(_) => Answer::No,
    };
    let answers = join_all(addresses.iter().map(answer)).await;
    answers.into_iter().max().unwrap_or(Answer::No)
}

async fn ask(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET /healthz/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; READY.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer == READY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_silent_stays_ready_for_a_while_and_one_that_says_no_does_not() {
        let mut silences = BTreeMap::new();
        let mut known = Ready::new();
        let mut round = |answer| {
            known = weigh([("w".to_owned(), answer)].into_iter(), &known, &mut silences);
            known["w"]
        };
        assert!(!round(Answer::Silence), "nobody knows it yet");
        assert!(round(Answer::Yes));
        assert!(round(Answer::Silence) && round(Answer::Silence));
        assert!(!round(Answer::Silence) && !round(Answer::Silence));
        assert!(round(Answer::Yes) && round(Answer::Silence), "counted anew");
        assert!(!round(Answer::No));
        assert!(!round(Answer::Silence));
    }
}
