//! The `date` that an answer gets if it has none (RFC 9110, 6.6.1), formatted once a second and
//! thread.

use std::{cell::RefCell, time::SystemTime};

use bytes::Bytes;

/// Now, as `date` has it.
pub(super) fn date() -> Bytes {
    thread_local! {
        static DATE: RefCell<(u64, Bytes)> = const { RefCell::new((0, Bytes::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(of, text)| {
        if *of != second || text.is_empty() {
            *of = second;
            *text = httpdate::HttpDate::from(now).to_string().into();
        }
        text.clone()
    })
}
