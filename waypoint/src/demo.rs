//! `waypoint demo`: the whole of the product on one machine, in one process.
//!
//! Sample upstreams (two order services, a customer service and a JWKS), a freshly minted token,
//! the three bundled filters and their files in a working folder; then what to try, each line a
//! whole command with the status that it must give. Ctrl-C ends everything.

mod token;
mod upstreams;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use waypoint_policies::Place;

use crate::app::{App, Settings, StartError};
use crate::cli::{LogArgs, finish, say};

use token::Issuer;
use upstreams::Upstreams;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// The working folder; its files are written anew.
    #[arg(long, default_value = "waypoint-demo")]
    dir: PathBuf,

    /// The port of the waypoint, on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// The admin port.
    #[arg(long, default_value = "127.0.0.1:15000")]
    admin: SocketAddr,

    /// The metrics port: /stats/prometheus.
    #[arg(long, default_value = "127.0.0.1:15020")]
    stats: SocketAddr,

    /// The health port: /healthz/ready.
    #[arg(long, default_value = "127.0.0.1:15021")]
    health: SocketAddr,

    #[command(flatten)]
    log: LogArgs,
}

const GATEWAY: &str = include_str!("demo/files/gateway.yaml");
const ROUTES: &str = include_str!("demo/files/routes.yaml");
const FILTERS: &str = include_str!("demo/files/filters.yaml");
const SERVICES: &str = include_str!("demo/files/services.yaml");

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Starts the example and serves until Ctrl-C.
pub(crate) fn main(args: &DemoArgs) -> ExitCode {
    let log = match args.log.begin() {
        Ok(log) => log,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(StartError::Runtime(error))),
    };
    finish(runtime.block_on(async {
        let settings = settings(args);
        all_free(args, &settings)?;
        let issuer = Issuer::new().map_err(StartError::Setup)?;
        let upstreams = Upstreams::start(&issuer).await.map_err(StartError::Setup)?;
        write(args, &issuer, &upstreams).map_err(StartError::Setup)?;
        let (app, signals) = App::start(settings, log).await?;
        say(&format!("{}\n", guide(args, &app.addresses())));
        app.until_signalled(signals).await;
        Ok(())
    }))
}

fn settings(args: &DemoArgs) -> Settings {
    Settings {
        files: vec![args.dir.join("resources")],
        partial: false,
        watch: true,
        address: LOOPBACK,
        bind: Default::default(),
        addresses_file: Some(args.dir.join("addresses.json")),
        admin: args.admin,
        stats: args.stats,
        health: args.health,
        workers: None,
        connections_max: 1_000,
        address_connections_max: None,
        client_requests_max: None,
        requests_max: crate::overload::REQUESTS_MAX_DEFAULT,
        memory_max_bytes: None,
        trusted_hops: Vec::new(),
        resolver: None,
        place: Place::default(),
        cache_dir: crate::app::default_cache_dir(),
        takeover: None,
        publication: None,
        drain: Duration::from_secs(5),
        access_log: args.log.access_log.format(),
    }
}

/// Refuses to begin while another demo holds a port: its files would be written over.
fn all_free(args: &DemoArgs, settings: &Settings) -> Result<(), StartError> {
    let entrance = SocketAddr::new(LOOPBACK, args.port);
    let ports = [
        ("the waypoint", entrance),
        ("admin", settings.admin),
        ("stats", settings.stats),
        ("health", settings.health),
    ];
    for (name, address) in ports {
        let failed = |source| StartError::Bind { name: name.to_owned(), address, source };
        drop(TcpListener::bind(address).map_err(failed)?);
    }
    Ok(())
}

fn write(args: &DemoArgs, issuer: &Issuer, upstreams: &Upstreams) -> std::io::Result<()> {
    let resources = args.dir.join("resources");
    std::fs::create_dir_all(&resources)?;
    let file = |name: &str, text: &str| write_whole(&resources.join(name), text);
    file("gateway.yaml", &GATEWAY.replace("8080", &args.port.to_string()))?;
    file("routes.yaml", ROUTES)?;
    file("filters.yaml", FILTERS)?;
    let mut services = SERVICES.to_owned();
    for (name, address) in upstreams.addresses() {
        services = services.replace(&format!("PORT_OF_{name}"), &address.port().to_string());
    }
    file("services.yaml", &services)?;
    write_whole(&args.dir.join("token"), &issuer.token("alice", 24 * 3_600))?;
    write_whole(&args.dir.join("expired-token"), &issuer.token("alice", -24 * 3_600))
}

/// Writes aside and renames: whoever watches never reads half a file.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    std::fs::write(&aside, text)?;
    std::fs::rename(aside, path)
}

/// What to try. Each `curl` line is a whole command, ` # `, and the status that it must give.
fn guide(args: &DemoArgs, addresses: &BTreeMap<String, SocketAddr>) -> String {
    let (dir, url) = (args.dir.display(), format!("http://127.0.0.1:{}", args.port));
    let at = |name| addresses.get(name).map(ToString::to_string).unwrap_or_default();
    let (admin, stats) = (at("admin"), at("stats"));
    let json = "-H 'content-type: application/json'";
    let token = format!("-H \"authorization: Bearer $(cat {dir}/token)\"");
    format!(
        "
The waypoint serves {url}; its files are in {dir}/resources. Try, in another terminal:

Without a token, and with an expired one, an order is refused by jwt-auth:
  curl -si {url}/orders {json} -d '{{\"region\":\"eu\"}}' # 401
  curl -si {url}/orders -H \"authorization: Bearer $(cat {dir}/expired-token)\" {json} -d '{{\"region\":\"eu\"}}' # 401

With a token it goes where its body says (payload-router): see \"served_by\":
  curl -si {url}/orders {token} {json} -d '{{\"region\":\"eu\",\"item\":1}}' # 200
  curl -si {url}/orders {token} {json} -d '{{\"region\":\"us\",\"item\":2}}' # 200

Personal data is redacted in what the service sees and in what it answers (pii-redact):
  curl -si {url}/orders {token} {json} -d '{{\"region\":\"eu\",\"mail\":\"bob@example.com\",\"card\":\"4111 1111 1111 1111\"}}' # 200
  curl -si {url}/customers/7 # 200

Edit a file and the running chain changes, without losing a request:
  sed -i 's/<EMAIL>/(hidden)/' {dir}/resources/filters.yaml
  curl -si {url}/customers/7 # 200

A mistake is refused with its place, and the last good version goes on serving:
  sed -i 's/entities:/entitys:/' {dir}/resources/filters.yaml
  curl -si {url}/customers/7 # 200
  curl -s http://{admin}/config # 200
  sed -i 's/entitys:/entities:/' {dir}/resources/filters.yaml

What the filters cost, and what is served:
  curl -s http://{admin}/filters # 200
  curl -s http://{admin}/config_dump # 200
  curl -s http://{stats}/stats/prometheus # 200

Ctrl-C ends everything. The access log follows.
"
    )
}
