//! The log on standard error, whose filter can be changed while the process runs.

use std::io::IsTerminal as _;
use std::sync::Arc;

use clap::ValueEnum;
use parking_lot::Mutex;
use thiserror::Error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Panics go to the log as their place in the source, and nothing else: their text may hold what a
/// client sent. With `RUST_BACKTRACE` set, for whoever looks for the mistake, they are printed as
/// Rust prints them, too.
pub fn log_panics() {
    let printed = std::panic::take_hook();
    let in_full = std::env::var_os("RUST_BACKTRACE").is_some();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic: please report this mistake in waypoint");
        if in_full {
            printed(panic);
        }
    }));
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// A log filter that cannot be used.
#[derive(Debug, Error)]
pub enum LogFilterError {
    /// It does not parse.
    #[error("{0}")]
    Parse(#[from] tracing_subscriber::filter::ParseError),
    /// A part is neither `LEVEL` nor `TARGET=LEVEL`.
    #[error("{part:?}: expected off, error, warn, info, debug, trace, or TARGET=LEVEL")]
    Level { part: String },
    /// The log is gone.
    #[error("the log cannot be changed: {0}")]
    Reload(#[from] reload::Error),
    /// Another log was set up before.
    #[error("the log is set up already")]
    Initialised,
}

/// Reads and sets the log's filter.
#[derive(Clone)]
pub struct LogHandle {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Arc<Mutex<String>>,
}

impl LogHandle {
    /// The filter in force.
    pub fn filter(&self) -> String {
        self.filter.lock().clone()
    }

    /// Sets the filter.
    ///
    /// # Errors
    ///
    /// The filter does not parse; the one in force stays.
    pub fn set(&self, filter: &str) -> Result<(), LogFilterError> {
        self.handle.reload(parse(filter)?)?;
        filter.clone_into(&mut self.filter.lock());
        Ok(())
    }
}

/// A bare word that is no level would be taken for a target, and silence everything else.
fn parse(filter: &str) -> Result<EnvFilter, LogFilterError> {
    for part in filter.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        // Nothing at all would be read as `error`.
        let missing = level.is_empty() || part.starts_with('=');
        if missing || level.parse::<LevelFilter>().is_err() {
            return Err(LogFilterError::Level { part: part.to_owned() });
        }
    }
    Ok(EnvFilter::builder().parse(filter)?)
}

/// Sets up the process's log.
///
/// # Errors
///
/// The filter does not parse, or a log was set up before.
pub fn init(format: LogFormat, filter: &str) -> Result<LogHandle, LogFilterError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .try_init()
        .map_err(|_| LogFilterError::Initialised)?;
    Ok(LogHandle { handle, filter: Arc::new(Mutex::new(filter.to_owned())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused_rather_than_taken_for_a_target() {
        for right in ["off", "INFO", "warn,filter=debug", "waypoint::journey=trace,error"] {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in ["inof", "", "info,", "info,=", "=info", "filter", "filter=loud"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
