//! Heads of 1xx that an endpoint sends before its answer, on their way to the client.

use std::{collections::VecDeque, sync::Arc};

use http::{Response, StatusCode, Version, header::CONTENT_LENGTH};
use parking_lot::Mutex;

/// Heads of 1xx that one exchange passes on. The endpoint that sends more is malformed.
pub const INTERIM_MAX: usize = 16;

/// Heads that wait for the client. What takes an endpoint's head runs in the task that writes them
/// to the client, so that nobody needs to be woken.
///
/// # Source
///
/// RFC 9110, 15.2: a proxy passes on 1xx, but for those that it asked for itself.
#[derive(Clone, Debug, Default)]
pub struct Interim(Arc<Mutex<VecDeque<Response<()>>>>);

impl Interim {
    /// Puts a head behind the others; it is without fields of the endpoint's connection. When
    /// [`INTERIM_MAX`] wait, it is dropped.
    ///
    /// 100 is dropped too: the codec says it itself when the client's body is wanted.
    pub fn give(&self, mut head: Response<()>) {
        let mut heads = self.0.lock();
        if head.status() != StatusCode::CONTINUE && heads.len() < INTERIM_MAX {
            head.headers_mut().remove(CONTENT_LENGTH);
            heads.push_back(head);
        }
    }

    /// The next head for a client of this version; those of HTTP/1.0 have none (RFC 9110, 15.2).
    pub(super) fn take(&self, version: Version) -> Option<Response<()>> {
        let mut heads = self.0.lock();
        if version == Version::HTTP_10 {
            heads.clear(); // Nor may the next request on the connection get them.
        }
        heads.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(status).expect("a status");
        head
    }

    #[test]
    fn heads_wait_in_order_up_to_a_bound_and_100_never_does() {
        let interim = Interim::default();
        interim.give(head(100));
        for status in 102..102 + INTERIM_MAX + 1 {
            interim.give(head(u16::try_from(status).expect("a status")));
        }
        let mut taken = 0;
        while let Some(head) = interim.take(Version::HTTP_11) {
            assert_eq!(usize::from(head.status().as_u16()), 102 + taken);
            taken += 1;
        }
        assert_eq!(taken, INTERIM_MAX);
    }

    #[test]
    fn what_a_client_of_http_1_0_does_not_get_no_later_request_gets() {
        let interim = Interim::default();
        interim.give(head(103));
        interim.give(head(103));
        assert!(interim.take(Version::HTTP_10).is_none());
        assert!(interim.take(Version::HTTP_11).is_none());
    }
}
