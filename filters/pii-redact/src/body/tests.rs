//! Bodies in every format: what is redacted, what passes byte for byte, and that chunks change
//! nothing.

mod corpus;
mod formats;
mod streaming;

use super::*;
use crate::config::Config;

/// A scan with a configuration; the content type decides the format.
pub(crate) fn scan(config: &str, content_type: &str, coding: Option<Coding>) -> BodyScan {
    let config: Config = serde_json::from_str(config).unwrap();
    let (settings, rules) = config.check().unwrap();
    let facts = crate::heads::Facts {
        content_type: Some(content_type.into()),
        ..crate::heads::Facts::default()
    };
    let crate::heads::Plan::Scan(manner) = crate::heads::plan(&settings, &facts) else {
        panic!("{content_type} is not scanned")
    };
    BodyScan::new(Rc::new(rules), Manner { coding, ..manner })
}

/// Scans chunks.
pub(crate) fn run<'a>(
    scan: &mut BodyScan,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, Stop> {
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(scan.push(chunk)?);
    }
    out.extend(scan.end()?);
    Ok(out)
}

/// Redacts a body in one chunk by the default configuration.
pub(crate) fn redact(content_type: &str, body: &str) -> String {
    redact_by("{}", content_type, body)
}

/// Redacts a body in one chunk.
pub(crate) fn redact_by(config: &str, content_type: &str, body: &str) -> String {
    let out = run(&mut scan(config, content_type, None), [body.as_bytes()]).unwrap();
    String::from_utf8(out).unwrap()
}
