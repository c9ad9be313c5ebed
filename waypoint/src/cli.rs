//! The command line.
//!
//! Exit codes: 0 done, 1 something is wrong with the input or the process could not start, 64 the
//! command line itself is wrong (`EX_USAGE` of sysexits.h).

mod check;
pub mod logging;
mod redirect;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use waypoint_policies::Place;

use crate::access_log::Format;
use crate::app::{self, Settings};
use crate::overload::REQUESTS_MAX_DEFAULT;
use crate::redirect::{MARK_DEFAULT, Publication, is_name};
use crate::{compile, demo};

pub(crate) const EXIT_USAGE: u8 = 64;

/// A Wasm-extensible, shared L7 waypoint proxy.
///
/// One HTTP and gRPC proxy per namespace runs a chain of sandboxed proxy-wasm filters. It is
/// configured by Kubernetes resources (Gateway API, Service, EndpointSlice, Secret, ConfigMap,
/// ReferenceGrant, Istio's WasmPlugin, and our Filter), read from files here.
#[derive(Parser)]
#[command(name = "waypoint", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_long_help = "\
Examples:
  waypoint demo                      start an example with sample upstreams, and print what to try
  waypoint run -f ./resources        serve what the folder describes, and follow its changes
  waypoint check -f ./resources      say everything that is wrong with the files
  waypoint schema filter             print the JSON Schema of our Filter, for an editor

Signals of `waypoint run`: SIGHUP reads the files again; SIGTERM and SIGINT drain and end with 0;
a second one ends at once.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve what the files describe, and follow their changes without losing a request.
    Run(Box<RunArgs>),
    /// Read the files strictly, say everything that is wrong, and change nothing.
    Check(check::CheckArgs),
    /// Print JSON Schemas of our kinds.
    Schema(check::SchemaArgs),
    /// Send connections to services that need L7 to waypoints, by eBPF: the node agent.
    Redirect(redirect::RedirectArgs),
    /// Start an example: sample upstreams, keys, a token, three filters, files to edit.
    Demo(demo::DemoArgs),
    /// Compile a module from standard input (what `run` starts in a child process).
    #[command(hide = true)]
    Compile,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// A file or a folder of resources (.yaml, .yml, .json); may be given several times.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// Serve what is right even if something is refused at the start; without it, the start ends
    /// with exit code 1.
    #[arg(long)]
    partial: bool,

    /// Do not follow changes of the files; SIGHUP and POST /reload still read them again.
    #[arg(long)]
    no_watch: bool,

    /// The address that entrances listen on.
    #[arg(long, env = "WAYPOINT_ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,

    /// Where one entrance listens, in place of its resource's port. Names: gateway/NAMESPACE/PORT,
    /// service/NAMESPACE/NAME:PORT, admin, stats, health. Port 0 lets the kernel choose.
    #[arg(long, value_name = "NAME=ADDR:PORT", value_parser = parse_bind)]
    bind: Vec<(String, SocketAddr)>,

    /// A JSON file that gets every entrance's name and address, rewritten when they change.
    #[arg(long, value_name = "FILE")]
    addresses_file: Option<PathBuf>,

    /// The admin port; keep it on a loopback address.
    #[arg(long, env = "WAYPOINT_ADMIN", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,

    /// The metrics port: /stats/prometheus.
    #[arg(long, env = "WAYPOINT_STATS", default_value = "0.0.0.0:15020")]
    stats: SocketAddr,

    /// The health port: /healthz/ready.
    #[arg(long, env = "WAYPOINT_HEALTH", default_value = "0.0.0.0:15021")]
    health: SocketAddr,

    /// Threads for connections of HTTP/1, and as many for everything else; the number of cores by
    /// default.
    #[arg(long, env = "WAYPOINT_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Downstream connections at a time; past it, accepting waits. No more than fit into half of the
    /// file descriptors that the process may have: the others are for connections upstream.
    #[arg(long, env = "WAYPOINT_CONNECTIONS_MAX", default_value_t = 10_000)]
    connections_max: u32,

    /// Downstream connections at a time of one address, unless it is a trusted hop; past it, they are
    /// closed before a byte is read. By default only --connections-max bounds them, for many users
    /// may be behind one address.
    #[arg(long, env = "WAYPOINT_ADDRESS_CONNECTIONS_MAX", value_name = "N")]
    address_connections_max: Option<u32>,

    /// Requests at a time of one client: its principal, or its address unless that is a trusted hop;
    /// past it, 429. Half of --requests-max by default.
    #[arg(long, env = "WAYPOINT_CLIENT_REQUESTS_MAX", value_name = "N")]
    client_requests_max: Option<u32>,

    /// Requests at a time of the whole process; past it, new ones are answered 503.
    #[arg(long, env = "WAYPOINT_REQUESTS_MAX", value_name = "N", default_value_t = REQUESTS_MAX_DEFAULT)]
    requests_max: u32,

    /// Resident memory, in MiB, at 95 % of which new requests are answered 503; by default the limit
    /// of the control group, if it has one.
    #[arg(long, env = "WAYPOINT_MEMORY_MAX_MIB", value_name = "MIB")]
    memory_max_mib: Option<u32>,

    /// Networks whose x-forwarded-for and x-forwarded-proto are believed.
    #[arg(long, env = "WAYPOINT_TRUSTED_HOPS", value_name = "CIDR", value_delimiter = ',')]
    trusted_hops: Vec<IpNet>,

    /// The name server to ask for names of endpoints (ExternalName services, slices of names); by
    /// default those of /etc/resolv.conf, after /etc/hosts.
    #[arg(long, env = "WAYPOINT_RESOLVER", value_name = "ADDR:PORT")]
    resolver: Option<SocketAddr>,

    /// The zone that the proxy runs in; services whose `trafficDistribution` or hints ask for it
    /// prefer endpoints of the same zone.
    #[arg(long, env = "WAYPOINT_ZONE", value_name = "NAME")]
    zone: Option<String>,

    /// The node that the proxy runs on, for services that prefer endpoints of the same node.
    #[arg(long, env = "WAYPOINT_NODE", value_name = "NAME")]
    node: Option<String>,

    /// Where compiled modules are kept; a folder of our own, mode 0700.
    #[arg(long, env = "WAYPOINT_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// A Unix socket for rolling restarts: a process that is started with it takes the listening
    /// sockets of the one that runs with it; once it serves, the old one drains and ends.
    #[arg(long, env = "WAYPOINT_TAKEOVER", value_name = "PATH")]
    takeover: Option<PathBuf>,

    /// A folder that is shared with the node agents (`waypoint redirect`): the ports of services that
    /// need L7 are published there once they are bound, and remembered over restarts.
    #[arg(long, env = "WAYPOINT_PORTS", value_name = "DIR")]
    ports: Option<PathBuf>,

    /// This waypoint's name in that folder; replicas need one each.
    #[arg(long, env = "WAYPOINT_NAME", default_value = "waypoint", value_parser = parse_name)]
    name: String,

    /// Addresses that clients reach this waypoint at, for entrances that listen on all; by default
    /// --address.
    #[arg(long, env = "WAYPOINT_ADVERTISE", value_name = "ADDR", value_delimiter = ',', value_parser = parse_advertised)]
    advertise: Vec<IpAddr>,

    /// Its share of new connections among the waypoints of a service; 0 = none.
    #[arg(long, env = "WAYPOINT_WEIGHT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=1000))]
    weight: u16,

    /// The mark (SO_MARK) of its own connections, by which the redirection leaves them alone; set
    /// where --ports is given and the process may.
    #[arg(long, env = "WAYPOINT_MARK", default_value = MARK_DEFAULT, value_parser = parse_mark)]
    mark: u32,

    /// How long requests in flight may take to finish after SIGTERM, in seconds.
    #[arg(long, env = "WAYPOINT_DRAIN_SECONDS", default_value_t = 30)]
    drain_seconds: u64,

    #[command(flatten)]
    log: LogArgs,
}

/// How a proxy talks.
#[derive(Args, Clone)]
pub(crate) struct LogArgs {
    /// The access log on standard output.
    #[arg(long, env = "WAYPOINT_ACCESS_LOG", value_enum, default_value_t = AccessLogArg::Json)]
    pub(crate) access_log: AccessLogArg,

    #[command(flatten)]
    process: ProcessLogArgs,
}

/// How a process talks.
#[derive(Args, Clone)]
pub(crate) struct ProcessLogArgs {
    /// The form of the log on standard error.
    #[arg(long, env = "WAYPOINT_LOG_FORMAT", value_enum, default_value_t = logging::LogFormat::Text)]
    log_format: logging::LogFormat,

    /// What is logged: off, error, warn, info, debug, trace, or TARGET=LEVEL,… (target `filter`:
    /// what guests log).
    #[arg(long, env = "WAYPOINT_LOG", default_value = "info")]
    log_level: String,
}

impl LogArgs {
    /// Begins to log.
    ///
    /// # Errors
    ///
    /// As [`ProcessLogArgs::begin`].
    pub(crate) fn begin(&self) -> Result<logging::LogHandle, ExitCode> {
        self.process.begin()
    }
}

impl ProcessLogArgs {
    /// Begins to log.
    ///
    /// # Errors
    ///
    /// The exit code, once the reason is printed.
    pub(crate) fn begin(&self) -> Result<logging::LogHandle, ExitCode> {
        let log = logging::init(self.log_format, &self.log_level).map_err(|error| {
            eprintln!("error: --log-level: {error}");
            ExitCode::from(EXIT_USAGE)
        })?;
        logging::log_panics();
        Ok(log)
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum AccessLogArg {
    /// One JSON object a line.
    Json,
    /// Istio's text format.
    Text,
    /// None.
    Off,
}

impl AccessLogArg {
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Json => Some(Format::Json),
            Self::Text => Some(Format::Text),
            Self::Off => None,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not mistakes; clap prints both kinds to the right stream.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Run(args) => run(*args),
        Command::Check(args) => check::check(&args),
        Command::Schema(args) => check::schema(&args),
        Command::Redirect(args) => redirect::main(args),
        Command::Demo(args) => demo::main(&args),
        Command::Compile => compile::child(),
    }
}

fn run(args: RunArgs) -> ExitCode {
    let log = match args.log.begin() {
        Ok(log) => log,
        Err(code) => return code,
    };
    finish(app::run(args.settings(), log))
}

/// Prints why the process did not start, with every cause.
pub(crate) fn finish(result: Result<(), app::StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Prints an error with every cause.
fn report(error: &dyn std::error::Error) -> ExitCode {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        // Some errors tell what they came from themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// Writes to standard output. A reader that has seen enough and left, such as `head`, is no mistake.
pub(crate) fn say(text: &str) {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
        }
        _ => {}
    }
}

impl RunArgs {
    fn settings(self) -> Settings {
        Settings {
            files: self.files,
            partial: self.partial,
            watch: !self.no_watch,
            address: self.address,
            bind: self.bind.into_iter().collect(),
            addresses_file: self.addresses_file,
            admin: self.admin,
            stats: self.stats,
            health: self.health,
            workers: self.workers,
            connections_max: self.connections_max,
            address_connections_max: self.address_connections_max,
            client_requests_max: self.client_requests_max,
            requests_max: self.requests_max,
            memory_max_bytes: self.memory_max_mib.map(|mib| u64::from(mib) << 20),
            trusted_hops: self.trusted_hops,
            resolver: self.resolver,
            place: Place { zone: named(self.zone), node: named(self.node) },
            cache_dir: self.cache_dir.unwrap_or_else(app::default_cache_dir),
            takeover: self.takeover,
            publication: self.ports.map(|folder| Publication {
                folder,
                name: self.name,
                advertise: self.advertise,
                weight: self.weight,
                mark: self.mark,
            }),
            drain: Duration::from_secs(self.drain_seconds),
            access_log: self.log.access_log.format(),
        }
    }
}

/// An empty variable of the environment names nothing.
fn named(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty())
}

fn parse_bind(text: &str) -> Result<(String, SocketAddr), String> {
    let expected =
        || format!("expected NAME=ADDR:PORT, as in gateway/default/8080=127.0.0.1:0, not {text:?}");
    let (name, address) = text.split_once('=').ok_or_else(expected)?;
    Ok((name.to_owned(), address.parse().map_err(|_| expected())?))
}

fn parse_advertised(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => Err("expected an address that clients can connect to".to_owned()),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("expected lower-case letters, digits, `-` and `.`".to_owned()),
    }
}

/// A number in decimal, or in hexadecimal with `0x`.
fn parse_mark(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(mark) if mark > 0 => Ok(mark),
        _ => Err(format!("expected a number above 0, as in 0x57500000, not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
