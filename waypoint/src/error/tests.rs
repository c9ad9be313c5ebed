//! `docs/reference/errors.md` says what the table says.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::codec::hygiene::Refusal;
use crate::upstream::TlsFailure;

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/errors.md");

/// One value of each variant, in the order of the source.
fn all() -> Vec<(String, RequestError)> {
    let text = || "x".to_owned();
    let mut rows = vec![
        ("MemoryShort".into(), RequestError::MemoryShort),
        ("RequestsMax".into(), RequestError::RequestsMax),
        ("ClientRequestsMax".into(), RequestError::ClientRequestsMax),
        ("NoHost".into(), RequestError::NoHost),
        ("Misdirected".into(), RequestError::Misdirected),
        ("NoRoute".into(), RequestError::NoRoute),
        ("EntranceGone".into(), RequestError::EntranceGone),
        ("NoBackend".into(), RequestError::NoBackend { rule: text() }),
        (
            "BackendUnusable".into(),
            RequestError::BackendUnusable { rule: text(), fault: BackendFault::BackendNotFound },
        ),
        ("PolicyRefused".into(), RequestError::PolicyRefused { resource: text() }),
        ("DemandedFilterNotRun".into(), RequestError::DemandedFilterNotRun { filter: text() }),
    ];
    rows.extend(filter_faults().into_iter().map(|(name, kind)| {
        (format!("FilterFailed({name})"), RequestError::FilterFailed { filter: text(), kind })
    }));
    rows.push(("ResponseTooLarge".into(), RequestError::ResponseTooLarge { filter: text() }));
    rows.push(("FilterReset".into(), RequestError::FilterReset { filter: text() }));
    rows.push(("BodyWait".into(), RequestError::BodyWait { filter: text(), waited_ms: 1 }));
    rows.push(("Retired".into(), RequestError::Retired));
    rows.push(("Panicked".into(), RequestError::Panicked));
    rows.push(("GrpcTimeoutMalformed".into(), RequestError::GrpcTimeoutMalformed));
    rows.extend(
        bodies().into_iter().map(|(name, error)| {
            (format!("RequestBody({name})"), RequestError::RequestBody(error))
        }),
    );
    rows.extend(
        upstreams()
            .into_iter()
            .map(|(name, error)| (format!("Upstream({name})"), RequestError::Upstream(error))),
    );
    rows
}

fn filter_faults() -> Vec<(&'static str, FaultKind)> {
    let trap = FaultKind::Trap { message: Arc::from(""), backtrace: Arc::from([]) };
    vec![
        ("Trap", trap),
        ("Deadline", FaultKind::Deadline),
        ("StreamCpu", FaultKind::StreamCpu),
        ("StreamWall", FaultKind::StreamWall),
        ("Busy", FaultKind::Busy),
        ("CpuShare", FaultKind::CpuShare),
        ("NoVm", FaultKind::NoVm),
        ("BodyTooLarge", FaultKind::BodyTooLarge { limit_bytes: 1 }),
        ("Closed", FaultKind::Closed),
    ]
}

fn bodies() -> Vec<(&'static str, BodyError)> {
    vec![
        ("DownstreamGone", BodyError::DownstreamGone),
        ("DownstreamMalformed", BodyError::DownstreamMalformed { reason: "the check's name" }),
        ("DownstreamIdle", BodyError::DownstreamIdle),
        ("TooLong", BodyError::TooLong),
        ("TooShort", BodyError::TooShort),
        ("UpstreamReset", BodyError::UpstreamReset),
        ("UpstreamTruncated", BodyError::UpstreamTruncated),
        ("UpstreamMalformed", BodyError::UpstreamMalformed),
        ("UpstreamIdle", BodyError::UpstreamIdle),
        ("Filter", BodyError::Filter),
        ("Deadline", BodyError::Deadline),
        ("Retired", BodyError::Retired),
    ]
}

fn upstreams() -> Vec<(String, UpstreamError)> {
    let address = ([127, 0, 0, 1], 1).into();
    let (limit, wait) = (Duration::ZERO, Duration::ZERO);
    let refused = Arc::new(std::io::ErrorKind::Other.into());
    let mut rows = vec![
        ("NoEndpoints", UpstreamError::NoEndpoints),
        ("Unresolved", UpstreamError::Unresolved { name: "x".into(), reason: "x" }),
        ("QueueFull", UpstreamError::QueueFull { queue_max: 1 }),
        ("QueueTimeout", UpstreamError::QueueTimeout { wait }),
        ("ConnectTimeout", UpstreamError::ConnectTimeout { address, limit }),
        ("ConnectRefused", UpstreamError::ConnectRefused { address }),
        ("ConnectFailed", UpstreamError::ConnectFailed { address, source: refused }),
        ("ResponseTimeout", UpstreamError::ResponseTimeout),
        ("ResetBeforeHead", UpstreamError::ResetBeforeHead { source: "x".into() }),
        ("MalformedResponse", UpstreamError::MalformedResponse { source: "x".into() }),
        ("InvalidRequest", UpstreamError::InvalidRequest { reason: "x" }),
        ("UpgradeUnsupported", UpstreamError::UpgradeUnsupported),
        ("TlsRefused", UpstreamError::TlsRefused { reason: "x".into() }),
    ];
    rows.extend(TlsFailure::ALL.map(|failure| ("Tls", UpstreamError::Tls { address, failure })));
    let name = |(name, error): (&str, UpstreamError)| match error {
        UpstreamError::Tls { failure, .. } => (format!("{name}({failure:?})"), error),
        error => (name.to_owned(), error),
    };
    rows.into_iter().map(name).collect()
}

fn table() -> String {
    let mut text = String::from(
        "| Error | Name | Fault | HTTP | gRPC | Flag |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (variant, error) in all() {
        let Outcome { fault, status, grpc_status, flag, name } = error.outcome();
        let fault = format!("{fault:?}").to_ascii_lowercase();
        text += &format!(
            "| `{variant}` | `{name}` | {fault} | {status} | {grpc_status} | `{flag}` |\n"
        );
    }
    text
}

fn refusals() -> String {
    let mut text = String::from("| Refusal | Name | HTTP |\n| --- | --- | --- |\n");
    for refusal in Refusal::ALL {
        let (name, status) = (refusal.name(), refusal.status().as_u16());
        text += &format!("| `{refusal:?}` | `{name}` | {status} |\n");
    }
    text
}

/// Replaces what stands between two marks.
fn between(doc: &str, mark: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {mark}: begin -->\n"), format!("<!-- {mark}: end -->"));
    let (before, rest) = doc.split_once(&begin).expect("the begin mark");
    let (_, after) = rest.split_once(&end).expect("the end mark");
    format!("{before}{begin}{table}{end}{after}")
}

#[test]
fn the_reference_of_errors_is_the_table_in_the_source() {
    let doc = std::fs::read_to_string(DOC).unwrap();
    let wanted = between(&doc, "errors", &table());
    let wanted = between(&wanted, "refusals", &refusals());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOC, &wanted).unwrap();
    }
    let now = std::fs::read_to_string(DOC).unwrap();
    assert!(now == wanted, "stale: UPDATE_DOCS=1 cargo test -p waypoint the_reference_of_errors");
}
