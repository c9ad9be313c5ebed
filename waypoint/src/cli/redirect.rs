//! `waypoint redirect`: the node agent, and looking at what it has done.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use waypoint_policies::{Numbering, Problem, Redirection, ServicePortKey, Unready};
use waypoint_redirect::{
    self as kernel, DEFAULT_PINS, EntryState, Exempt, Finding, Mark, Options, State,
};

use super::check::Output;
use super::{ProcessLogArgs, parse_mark, parse_name, report, say};
use crate::redirect::{self, AgentSettings, Folder, MARK_DEFAULT, demo};
use crate::resources::{Desired, Sources};

#[derive(Args)]
pub(super) struct RedirectArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Attach to connect(), and follow the resources and the waypoints. What is in force stays when
    /// this ends.
    Run(Box<RunArgs>),
    /// Say what is attached, and what was counted.
    Status(ShowArgs),
    /// List the service addresses and ports that are redirected.
    List(ShowArgs),
    /// Say why a service's ports need L7, or why they do not.
    Explain(ExplainArgs),
    /// Take everything away: the machine is as it was.
    Detach(DetachArgs),
    /// Say what this machine has and lacks.
    Doctor(DoctorArgs),
    /// Show it on this machine, step by step, in network namespaces that are taken away again.
    Demo,
    /// The server of the demo.
    #[command(hide = true)]
    DemoServer(DemoServerArgs),
}

#[derive(Args)]
struct RunArgs {
    /// A file or a folder of resources; may be given several times.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// The folder that is shared with the waypoints (`waypoint run --ports`).
    #[arg(long, env = "WAYPOINT_PORTS", value_name = "DIR")]
    ports: PathBuf,

    /// This agent's name in that folder; each node needs one.
    #[arg(long, env = "WAYPOINT_AGENT", default_value = "agent", value_parser = parse_name)]
    name: String,

    #[command(flatten)]
    place: PlaceArgs,

    /// Control groups whose processes are left alone, with all below; those of waypoints are anyway.
    #[arg(long, value_name = "PATH")]
    exempt_cgroup: Vec<PathBuf>,

    /// The mark (SO_MARK) of connections that are left alone: what waypoints set.
    #[arg(long, env = "WAYPOINT_MARK", default_value = MARK_DEFAULT, value_parser = parse_mark)]
    mark: u32,

    /// Leave processes of this agent's own network namespace alone: on a node, the host network.
    #[arg(long)]
    skip_host_network: bool,

    /// Go on with resources that have not one Service: without it the start is refused, and a running
    /// agent keeps what it had.
    #[arg(long)]
    allow_empty: bool,

    /// Where metrics (/stats/prometheus), health (/healthz/ready) and /status are served.
    #[arg(long, env = "WAYPOINT_REDIRECT_METRICS", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15024))]
    metrics: SocketAddr,

    #[command(flatten)]
    log: ProcessLogArgs,
}

/// Where in the kernel.
#[derive(Args)]
struct PlaceArgs {
    /// The control group (v2) whose processes are redirected, with all below; the topmost one by
    /// default.
    #[arg(long, env = "WAYPOINT_CGROUP", value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Where programs and tables are pinned, on a bpffs.
    #[arg(long, env = "WAYPOINT_PINS", value_name = "DIR", default_value = DEFAULT_PINS)]
    pins: PathBuf,
}

#[derive(Args)]
struct ShowArgs {
    /// Where programs and tables are pinned.
    #[arg(long, env = "WAYPOINT_PINS", value_name = "DIR", default_value = DEFAULT_PINS)]
    pins: PathBuf,

    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
struct ExplainArgs {
    /// NAME (in any namespace), NAMESPACE/NAME or NAMESPACE/NAME:PORT.
    service: String,

    /// A file or a folder of resources; may be given several times.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
struct DetachArgs {
    /// Where programs and tables are pinned.
    #[arg(long, env = "WAYPOINT_PINS", value_name = "DIR", default_value = DEFAULT_PINS)]
    pins: PathBuf,

    /// The folder that was shared with the waypoints: they need not wait for this agent any longer.
    #[arg(long, env = "WAYPOINT_PORTS", value_name = "DIR")]
    ports: Option<PathBuf>,

    /// The agent's name in that folder.
    #[arg(long, env = "WAYPOINT_AGENT", default_value = "agent", value_parser = parse_name)]
    name: String,
}

#[derive(Args)]
struct DoctorArgs {
    #[command(flatten)]
    place: PlaceArgs,

    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
struct DemoServerArgs {
    /// Ports, with the name that is answered there.
    #[arg(value_name = "PORT=NAME", value_parser = parse_listen)]
    listens: Vec<(u16, String)>,
}

fn parse_listen(text: &str) -> Result<(u16, String), String> {
    let expected = || format!("expected PORT=NAME, not {text:?}");
    let (port, name) = text.split_once('=').ok_or_else(expected)?;
    Ok((port.parse().map_err(|_| expected())?, name.to_owned()))
}

pub(super) fn main(args: RedirectArgs) -> ExitCode {
    match args.command {
        Command::Run(args) => run(*args),
        Command::Status(args) => show(&args, status),
        Command::List(args) => show(&args, |state| list(&state.entries)),
        Command::Explain(args) => explain(&args),
        Command::Detach(args) => detach(&args),
        Command::Doctor(args) => doctor(args),
        Command::Demo => demo::run(),
        Command::DemoServer(args) => match demo::server::run(&args.listens) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&error),
        },
    }
}

fn run(args: RunArgs) -> ExitCode {
    if let Err(code) = args.log.begin() {
        return code;
    }
    let done =
        settings(args).and_then(|settings| redirect::run(settings).map_err(|error| report(&error)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

fn settings(args: RunArgs) -> Result<AgentSettings, ExitCode> {
    let mut exempt = Exempt {
        mark: Some(Mark { value: args.mark, mask: u32::MAX }),
        host_network: args.skip_host_network,
        ..Exempt::default()
    };
    for path in &args.exempt_cgroup {
        let id = kernel::cgroup_id(path).map_err(|error| {
            eprintln!("error: --exempt-cgroup {}: {error}", path.display());
            ExitCode::FAILURE
        })?;
        exempt.cgroups.insert(id);
    }
    Ok(AgentSettings {
        files: args.files,
        ports: args.ports,
        name: args.name,
        kernel: args.place.options()?,
        exempt,
        metrics: args.metrics,
        allow_empty: args.allow_empty,
    })
}

impl PlaceArgs {
    fn options(self) -> Result<Options, ExitCode> {
        let cgroup = match self.cgroup {
            Some(cgroup) => cgroup,
            None => kernel::default_cgroup().map_err(|error| report(&error))?,
        };
        Ok(Options { cgroup, pins: self.pins })
    }
}

fn show(args: &ShowArgs, text: fn(&State) -> String) -> ExitCode {
    let state = match State::read(&args.pins) {
        Ok(state) => state,
        Err(error) => return report(&error),
    };
    match args.output {
        Output::Text => say(&text(&state)),
        Output::Json => say(&format!("{:#}\n", json!(state))),
    }
    ExitCode::SUCCESS
}

fn status(state: &State) -> String {
    let mut text = String::new();
    let agent = state.agent.map_or("none runs".to_owned(), |pid| format!("process {pid}"));
    let _ = writeln!(text, "agent    {agent}");
    let _ = writeln!(text, "pins     {}", state.pins.display());
    for hook in &state.hooks {
        let link = match &hook.link {
            None => "NOT ATTACHED".to_owned(),
            Some(link) => {
                let cgroup = link.cgroup_path.as_deref().map(Path::display);
                let cgroup = cgroup
                    .map_or("a control group that is gone".to_owned(), |path| path.to_string());
                format!("program {} on {cgroup}", link.program)
            }
        };
        let _ = writeln!(text, "hook     {:<14}{link}", hook.hook);
    }
    let _ = writeln!(text, "entries  {}", state.entries.len());
    if !state.refused_table_full.is_empty() {
        let count = state.refused_table_full.len();
        let _ = writeln!(text, "FULL     {count} service ports did not fit and are refused");
    }
    if let Some((mark, mask)) = state.exempt.mark {
        let _ = writeln!(text, "exempt   sockets with the mark {mark:#x}, of the bits {mask:#x}");
    }
    for id in &state.exempt.cgroups {
        let path = kernel::cgroup_path(*id);
        let path = path.map_or("gone".to_owned(), |path| path.display().to_string());
        let _ = writeln!(text, "exempt   the control group {id}: {path}");
    }
    if state.exempt.netns.is_some() {
        let _ = writeln!(text, "exempt   the agent's network namespace");
    }
    for (verdict, count) in redirect::verdicts(&state.totals) {
        let _ = writeln!(text, "count    {verdict:<20}{count}");
    }
    text
}

fn list(entries: &[EntryState]) -> String {
    let mut text = String::new();
    for entry in entries {
        let waypoints = entry.targets.iter().map(|one| format!("{} ({})", one.address, one.weight));
        let waypoints: Vec<String> = waypoints.collect();
        let verdict = match (waypoints.is_empty(), entry.direct_when_unready) {
            (false, _) => waypoints.join(", "),
            (true, true) => "direct: no waypoint is ready".to_owned(),
            (true, false) => "refused: no waypoint is ready".to_owned(),
        };
        let udp = if entry.refuse_udp { "; UDP refused" } else { "" };
        let _ = write!(text, "{}  {} -> {verdict}{udp}", entry.address, entry.service);
        if let Some(counters) = &entry.counters {
            let kernel::Counters { redirected, direct, refused, refused_udp } = counters;
            let _ = write!(
                text,
                "  [redirected {redirected}, direct {direct}, refused {refused}, UDP refused {refused_udp}]"
            );
        }
        text.push('\n');
    }
    if entries.is_empty() {
        text.push_str("nothing is redirected\n");
    }
    text
}

fn explain(args: &ExplainArgs) -> ExitCode {
    let mut desired = Desired::new(Sources(args.files.clone()));
    let found = desired.read(&Numbering::default());
    if found.problems.iter().any(Problem::is_error) {
        eprintln!("{}", waypoint_policies::render(&found.problems));
    }
    let all = &found.checked.model.redirections;
    let wanted = |key: &&ServicePortKey| {
        [key.to_string(), format!("{}/{}", key.namespace, key.name), key.name.clone()]
            .contains(&args.service)
    };
    let chosen: Vec<_> = all.iter().filter(|(key, _)| wanted(key)).collect();
    if chosen.is_empty() {
        let known: Vec<String> = all.keys().map(ToString::to_string).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        eprintln!("error: no service port {:?} that is right; there are: {known}", args.service);
        return ExitCode::FAILURE;
    }
    match args.output {
        Output::Json => {
            let ports = chosen.iter().map(|(key, one)| {
                json!({"service": key.to_string(), "needsL7": one.applies(), "redirection": one})
            });
            say(&format!("{:#}\n", json!(ports.collect::<Vec<_>>())));
        }
        Output::Text => chosen.iter().for_each(|(key, one)| say(&explained(key, one))),
    }
    ExitCode::SUCCESS
}

fn explained(key: &ServicePortKey, one: &Redirection) -> String {
    let mut text = String::new();
    let verdict = match (one.reasons.is_empty(), one.exception) {
        (true, _) => "goes direct: nothing that needs L7 applies to it".to_owned(),
        (false, Some(exception)) => format!("goes direct: {exception}"),
        (false, None) => "goes to a waypoint".to_owned(),
    };
    let _ = writeln!(text, "{key} {verdict}");
    let label = if one.applies() { "because of" } else { "in spite of" };
    for reason in &one.reasons {
        let _ = writeln!(text, "  {label} {reason}");
    }
    if one.applies() {
        let addresses: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
        let unready = match one.unready {
            Unready::Refuse => "connections are refused",
            Unready::Direct => "connections go direct",
        };
        let _ = writeln!(text, "  addresses: {}", addresses.join(", "));
        let _ = writeln!(text, "  while no waypoint is ready: {unready}");
        let udp = if one.refuse_udp { "refused" } else { "left alone" };
        let _ = writeln!(text, "  UDP to the same port: {udp}");
    }
    text
}

fn detach(args: &DetachArgs) -> ExitCode {
    let detached = match kernel::detach(&args.pins) {
        Ok(detached) => detached,
        Err(error) => return report(&error),
    };
    if let Some(ports) = args.ports.as_ref().filter(|ports| ports.is_dir())
        && let Err(error) = Folder::open(ports).and_then(|folder| folder.forget_agent(&args.name))
    {
        return report(&error);
    }
    if args.ports.is_none() {
        say(
            "without --ports, waypoints wait for this agent up to 24 h before they use a number again\n",
        );
    }
    let unmounted =
        if detached.unmounted { ", and the bpffs that was mounted for them" } else { "" };
    say(&format!("took away {} links and {} maps{unmounted}\n", detached.links, detached.maps));
    ExitCode::SUCCESS
}

fn doctor(args: DoctorArgs) -> ExitCode {
    let options = match args.place.options() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let findings = kernel::doctor(&options);
    match args.output {
        Output::Text => say(&findings.iter().map(line).collect::<String>()),
        Output::Json => say(&format!("{:#}\n", json!(findings))),
    }
    match findings.iter().all(|one| one.ok || !one.needed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn line(finding: &Finding) -> String {
    let mark = match (finding.ok, finding.needed) {
        (true, _) => "ok     ",
        (false, true) => "MISSING",
        (false, false) => "note   ",
    };
    let mut text = format!("{mark}  {}: {}\n", finding.name, finding.found);
    if let Some(remedy) = &finding.remedy {
        let _ = writeln!(text, "         {remedy}");
    }
    text
}
