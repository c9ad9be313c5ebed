//! The access log's way out: a bounded buffer and one thread that writes it.
//!
//! A request never waits for the log: when the buffer is full, its line is shed and counted.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

/// Bytes that may wait to be written; past it lines are shed.
pub(super) const BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// How long the writer gathers lines before it writes them together.
const GATHER: Duration = Duration::from_millis(5);

/// A handle to the log's buffer.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
    shed: Counter,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The writer holds bytes that it has not yet written.
    writing: bool,
}

impl AccessLog {
    /// Starts the writer's thread over `out`. `shed` counts lines that found the buffer full.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, shed: Counter) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            shed,
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run(out))?;
        Ok(Self(shared))
    }

    /// Adds a line.
    pub fn write(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.state.lock();
        if state.waiting.len() >= BUFFER_BYTES_MAX {
            self.0.shed.inc();
            return;
        }
        let idle = state.waiting.is_empty();
        line(&mut state.waiting);
        drop(state);
        if idle {
            self.0.filled.notify_one();
        }
    }

    /// Waits until everything is written, `limit` at most: before the process ends.
    pub fn flush(&self, limit: Duration) {
        let mut state = self.0.state.lock();
        let done = |state: &mut State| !state.waiting.is_empty() || state.writing;
        self.0.written.wait_while_for(&mut state, done, limit);
    }
}

impl Shared {
    /// A sink that fails (a closed pipe) loses lines, never requests.
    fn run(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            {
                let mut state = self.state.lock();
                self.filled.wait_while(&mut state, |state| state.waiting.is_empty());
                state.writing = true;
            }
            thread::sleep(GATHER);
            std::mem::swap(&mut batch, &mut self.state.lock().waiting);
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            self.state.lock().writing = false;
            self.written.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A pipe whose reader has stopped: writes wait until the test lets them go.
    struct Stopped(mpsc::Receiver<()>);

    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stopped_sheds_lines_and_never_blocks_a_request() {
        let (let_go, stopped) = mpsc::channel();
        let shed = Counter::default();
        let log = AccessLog::start(Stopped(stopped), shed.clone()).unwrap();
        let line = vec![b'x'; 1024];
        for _ in 0..4 * BUFFER_BYTES_MAX / line.len() {
            log.write(|out| out.extend_from_slice(&line));
        }
        let lines = (4 * BUFFER_BYTES_MAX / line.len()) as u64;
        assert!(shed.get() >= lines / 2 - 1, "{} of {lines}", shed.get());
        drop(let_go);
        log.flush(Duration::from_secs(10));
        assert!(log.0.state.lock().waiting.is_empty());
    }
}
