//! A name server of the tests: real packets on loopback, and records that the test changes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

/// What is said of a name.
#[derive(Clone)]
pub(crate) enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Failure,
    /// Nothing at all.
    Silence,
}

/// A running name server; it ends with the test's runtime. Names that it was not told of do not
/// exist.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let (zone, asked) = (Arc::default(), Arc::default());
        let dns = Self { address, zone: Arc::clone(&zone), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                let question = Message::from_vec(&packet[..length]).expect("a question");
                if let Some(answer) = answer(&question, &zone, &asked) {
                    let _ = socket.send_to(&answer.to_vec().expect("an answer"), peer).await;
                }
            }
        });
        dns
    }

    /// From now on this is said of the name.
    pub(crate) fn say(&self, name: &str, says: Says) {
        self.zone.lock().insert(format!("{name}."), says);
    }

    /// How often the name's IPv4 addresses were asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let wanted = (format!("{name}."), RecordType::A);
        self.asked.lock().iter().filter(|asked| **asked == wanted).count()
    }

    /// Waits until the name's addresses were asked for so many times more.
    pub(crate) async fn asked_again(&self, name: &str, times: usize) {
        let before = self.asked(name);
        let asked = async {
            while self.asked(name) < before + times {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let asked = tokio::time::timeout(crate::harness::PATIENCE, asked).await;
        assert!(asked.is_ok(), "{name} is not asked for");
    }
}

fn answer(
    question: &Message,
    zone: &Mutex<HashMap<String, Says>>,
    asked: &Mutex<Vec<(String, RecordType)>>,
) -> Option<Message> {
    let query = question.queries.first()?.clone();
    let name = query.name().to_ascii().to_ascii_lowercase();
    asked.lock().push((name.clone(), query.query_type()));
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(query.clone());
    match zone.lock().get(&name).cloned().unwrap_or(Says::NoSuchName) {
        Says::Addresses(addresses, ttl) => {
            let family = |address: &IpAddr| match address {
                IpAddr::V4(_) => RecordType::A,
                IpAddr::V6(_) => RecordType::AAAA,
            };
            let wanted = addresses.into_iter().filter(|one| family(one) == query.query_type());
            let record = |one| Record::from_rdata(query.name().clone(), ttl, RData::from(one));
            answer.add_answers(wanted.map(record));
        }
        Says::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Says::Failure => answer.metadata.response_code = ResponseCode::ServFail,
        Says::Silence => return None,
    }
    Some(answer)
}
