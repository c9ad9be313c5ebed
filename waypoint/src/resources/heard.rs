//! What a guest says while it starts: its own words for why it refuses its configuration.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use waypoint_abi::{CallRefused, FilterSpec, Host, HttpCall, HttpCallAnswer, LogLevel, Status};

/// A host that remembers the last error that a starting guest logged. A line is bounded by the
/// filter's limits.
pub(super) struct Heard {
    host: Arc<dyn Host>,
    words: Mutex<Words>,
}

enum Words {
    Starting(Option<String>),
    Started,
}

impl Heard {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, words: Mutex::new(Words::Starting(None)) }
    }

    /// The last error, if there was one; from here on nothing is remembered.
    pub(super) fn take(&self) -> Option<String> {
        match std::mem::replace(&mut *self.words.lock(), Words::Started) {
            Words::Starting(last) => last,
            Words::Started => None,
        }
    }
}

impl Host for Heard {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.host.spawn(task);
    }

    fn log(&self, filter: &FilterSpec, level: LogLevel, message: &str) {
        if matches!(level, LogLevel::Error | LogLevel::Critical)
            && let Words::Starting(last) = &mut *self.words.lock()
        {
            *last = Some(message.to_owned());
        }
        self.host.log(filter, level, message);
    }

    fn log_level(&self) -> LogLevel {
        self.host.log_level()
    }

    fn http_call(
        &self,
        filter: &FilterSpec,
        call: HttpCall,
    ) -> Result<Pin<Box<dyn Future<Output = HttpCallAnswer> + Send>>, CallRefused> {
        self.host.http_call(filter, call)
    }

    fn foreign(
        &self,
        filter: &FilterSpec,
        name: &str,
        arguments: &[u8],
    ) -> Option<Result<Vec<u8>, Status>> {
        self.host.foreign(filter, name, arguments)
    }
}
