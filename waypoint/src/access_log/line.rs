//! The access log's two forms: JSON (default) and Istio's text line.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Record;
use crate::filter_chain::protocol;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line, with Istio's keys.
    Json,
    /// Istio's default text format.
    Text,
}

/// # Source
///
/// Istio's JSON access log keys (`pilot/pkg/model/telemetry_logging.go`), and ours: `route`,
/// `filter`, `attempts`, `grpc_status`. `source_principal` is named as in Istio's access log service,
/// `downstream_peer_subject` after Envoy's `%DOWNSTREAM_PEER_SUBJECT%`.
#[derive(Serialize)]
struct Line<'a> {
    start_time: String,
    entrance: &'a str,
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    response_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u32>,
    response_flags: &'static str,
    response_code_details: &'static str,
    bytes_received: u64,
    bytes_sent: u64,
    duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_service_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_forwarded_for: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_cluster: Option<String>,
    downstream_remote_address: String,
    downstream_local_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    downstream_peer_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
    attempts: u32,
}

pub(super) fn write(out: &mut Vec<u8>, format: Format, record: &Record, duration: Duration) {
    match format {
        Format::Json => json(out, record, duration),
        Format::Text => text(out, record, duration),
    }
    out.push(b'\n');
}

fn json(out: &mut Vec<u8>, record: &Record, duration: Duration) {
    let shown = record.shown.as_ref();
    let ids = record.ids.as_ref();
    let line = Line {
        start_time: timestamp(record.time),
        entrance: &record.connection.entrance,
        method: record.method.as_str(),
        path: shown.map_or(&record.path, |shown| &shown.target),
        protocol: protocol(record.version),
        response_code: record.status,
        grpc_status: record.grpc_status,
        response_flags: record.flag,
        response_code_details: record.details,
        bytes_received: record.bytes_received(),
        bytes_sent: record.sent,
        duration: millis(duration),
        upstream_service_time: record.upstream_time.map(millis),
        x_forwarded_for: shown.and_then(|shown| shown.forwarded_for.as_deref()),
        user_agent: shown.and_then(|shown| shown.user_agent.as_deref()),
        request_id: ids.and_then(|ids| ids.request_id.to_str().ok()),
        traceparent: ids.and_then(|ids| ids.traceparent.to_str().ok()),
        authority: shown.map(|shown| shown.authority.as_str()),
        upstream_host: record.upstream.map(|address| address.to_string()),
        upstream_cluster: record.service.as_ref().map(ToString::to_string),
        downstream_remote_address: record.connection.peer.to_string(),
        downstream_local_address: record.connection.local.to_string(),
        requested_server_name: record.connection.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
        source_principal: record.connection.principal().map(AsRef::as_ref),
        downstream_peer_subject: subject(record),
        route_name: record.route.as_deref(),
        filter: record.filter.as_deref(),
        attempts: record.attempts,
    };
    serde_json::to_writer(out, &line).expect("a line of strings and numbers serialises");
}

/// Of a verified client certificate; one that only has other names has no subject.
fn subject(record: &Record) -> Option<&str> {
    let subject = record.connection.certificate()?.subject.as_str();
    (!subject.is_empty()).then_some(subject)
}

/// # Source
///
/// Istio's default text format; quotes and controls in values are escaped.
fn text(out: &mut Vec<u8>, record: &Record, duration: Duration) {
    let shown = record.shown.as_ref();
    let dash = || "-".to_owned();
    let quoted = |value: Option<&str>| match value {
        Some(value) => format!("\"{}\"", value.escape_debug()),
        None => "\"-\"".to_owned(),
    };
    let _ = write!(
        out,
        "[{}] \"{} {} {}\" {} {} {} - \"-\" {} {} {} {} {} {} {} {} {} {} {} {} {} {}",
        timestamp(record.time),
        record.method,
        shown.map_or(&record.path, |shown| &shown.target).escape_debug(),
        protocol(record.version),
        record.status,
        record.flag,
        record.details,
        record.bytes_received(),
        record.sent,
        millis(duration),
        record.upstream_time.map_or_else(dash, |time| millis(time).to_string()),
        quoted(shown.and_then(|shown| shown.forwarded_for.as_deref())),
        quoted(shown.and_then(|shown| shown.user_agent.as_deref())),
        quoted(record.ids.as_ref().and_then(|ids| ids.request_id.to_str().ok())),
        quoted(shown.map(|shown| shown.authority.as_str())),
        quoted(record.upstream.map(|address| address.to_string()).as_deref()),
        record.service.as_ref().map_or_else(dash, ToString::to_string),
        record.connection.local,
        record.connection.peer,
        record.connection.tls.as_ref().and_then(|tls| tls.sni.as_deref()).unwrap_or("-"),
        record.route.as_deref().unwrap_or("-"),
    );
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-21T10:26:54.123Z`
///
/// # Source
///
/// RFC 3339; the civil calendar from days since 1970 (Howard Hinnant, `civil_from_days`).
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_256_814, "2026-11-21T10:26:54.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
    }
}
