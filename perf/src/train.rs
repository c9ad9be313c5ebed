//! What an instrumented build serves, so that the compiler learns where a proxy's time goes: the ways
//! through it that the parts measure, and those of HTTP/2 and TLS, a few seconds each.
//!
//! # Source
//!
//! <https://doc.rust-lang.org/rustc/profile-guided-optimization.html>: code that no load reaches is
//! compiled for size and put apart, so every way that must be fast has to be taken.

use std::path::Path;
use std::process::Command;

use crate::peers::{Nginx, Peer as _, Result, Waypoint};
use crate::{CONNECTIONS, resources, wrk};

/// Length of one load, in seconds.
const SECONDS: u32 = 4;
/// Streams that each connection of HTTP/2 has under way.
const STREAMS: u32 = 10;
/// Rules of the routes that are chosen among.
const RULES: usize = 1_000;

/// What asks.
#[derive(Clone, Copy)]
enum Client<'a> {
    /// wrk, a plain GET.
    Get,
    /// wrk, what the script sends to this path.
    Script(&'a Path, &'static str),
    /// h2load, a plain GET over HTTP/2, with prior knowledge where there is no TLS.
    Http2,
}

/// Starts `waypoint` for each kind of resources, and gives it the loads that fit. It writes its
/// profile where it was built to, when it has drained.
///
/// # Errors
///
/// A process that cannot be started, and a load of which anything failed.
pub(crate) fn train(waypoint: &Path) -> Result<()> {
    let (origin, http2_origin) = (Nginx::origin()?, Nginx::http2_origin()?);
    let (post, routed) = (resources::post_script()?, resources::routed_script(RULES)?);
    let post = Client::Script(post.path(), "/upload");
    let serve = |resources: &str, scheme: &str, clients: &[Client<'_>]| -> Result<()> {
        let waypoint = Waypoint::start(waypoint, resources)?;
        clients
            .iter()
            .try_for_each(|client| client.ask(&format!("{scheme}://127.0.0.1:{}", waypoint.port())))
    };
    // The plain GET twice: it is what every other way has in common.
    serve(
        &resources::plain(origin.port()),
        "http",
        &[Client::Get, Client::Get, post, Client::Http2],
    )?;
    serve(&resources::routed(origin.port(), RULES), "http", &[Client::Script(routed.path(), "/")])?;
    serve(
        &resources::wide(http2_origin.port(), "kubernetes.io/h2c"),
        "http",
        &[Client::Get, Client::Http2],
    )?;
    serve(&resources::secured(origin.port())?, "https", &[Client::Get, Client::Http2])?;
    serve(&resources::chain(origin.port()), "http", &[post])
}

impl Client<'_> {
    fn ask(self, base: &str) -> Result<()> {
        match self {
            Self::Get => wrk(&format!("{base}/orders"), None, SECONDS).map(drop),
            Self::Script(script, path) => {
                wrk(&format!("{base}{path}"), Some(script), SECONDS).map(drop)
            }
            Self::Http2 => h2load(&format!("{base}/orders")),
        }
    }
}

fn h2load(url: &str) -> Result<()> {
    let mut h2load = Command::new("h2load");
    h2load.args([format!("-c{CONNECTIONS}"), format!("-m{STREAMS}"), format!("-D{SECONDS}")]);
    let out = h2load.arg(url).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let all_are_2xx =
        text.contains(" 2xx, 0 3xx, 0 4xx, 0 5xx") && !text.contains("status codes: 0 2xx");
    if !all_are_2xx || !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        return Err(format!("{h2load:?} failed:\n{text}{errors}").into());
    }
    Ok(())
}
