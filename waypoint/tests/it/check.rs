//! `waypoint check` and `waypoint schema`, and what `waypoint run` does with what they refuse.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Waypoint, filter, gateway_to, get, run_to_end, service};
use crate::origin::{Origin, Speaks};

/// A misspelt field on its line 9.
const MISSPELT_FIELD: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: waypoint
  listeners:
    - name: http
      port: 8080
      protocl: HTTP
";

/// A misspelt kind, and a value out of its set.
const MISSPELT_KIND: &str = "\
apiVersion: v1
kind: Servce
metadata: {name: origin}
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {name: redact}
spec:
  module: {url: builtin://pii-redact}
  failurePolicy: Opne
";

fn two_files(one: &str, two: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("one.yaml"), one).unwrap();
    std::fs::write(dir.path().join("two.yaml"), two).unwrap();
    let path = dir.path().to_string_lossy().into_owned();
    (dir, path)
}

#[tokio::test]
async fn right_files_are_checked_with_exit_code_0() {
    let address = "127.0.0.1:9".parse().unwrap();
    let (_dir, path) = two_files(&gateway_to("origin"), &service("origin", "http", address));

    let output = run_to_end(&["check", "-f", &path]).await;

    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("0 errors"), "{text}");
}

#[tokio::test]
async fn all_mistakes_of_two_files_are_told_at_once_with_their_places() {
    let (_dir, path) = two_files(MISSPELT_FIELD, MISSPELT_KIND);

    let output = run_to_end(&["check", "-f", &path]).await;

    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for wanted in ["one.yaml:9:7", "protocol", "two.yaml:2:7", "Service", "two.yaml:10:18", "Open"]
    {
        assert!(text.contains(wanted), "{wanted:?} is not in:\n{text}");
    }
}

#[tokio::test]
async fn mistakes_as_json_have_place_code_and_nearest_spelling() {
    let (_dir, path) = two_files(MISSPELT_FIELD, MISSPELT_KIND);

    let output = run_to_end(&["check", "-o", "json", "-f", &path]).await;

    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let at = |file: &str, line: u64| {
        let here = |problem: &&Value| {
            let name = Path::new(problem["file"].as_str().unwrap()).file_name().unwrap();
            name == file && problem["line"] == line
        };
        problems.iter().find(here).unwrap_or_else(|| panic!("{file}:{line}: {report:#}"))
    };
    assert_eq!(at("one.yaml", 9)["nearest"], "protocol");
    assert_eq!(at("one.yaml", 9)["code"], "unknown-field");
    assert_eq!(at("two.yaml", 2)["nearest"], "Service");
    assert_eq!(at("two.yaml", 10)["nearest"], "Open");
    assert_eq!(at("two.yaml", 10)["severity"], "error");
    assert_eq!(at("two.yaml", 10)["resource"]["name"], "redact");
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_64() {
    for arguments in [
        &["check"][..],
        &["chek"],
        &["run", "-f", "x", "--workers", "0"],
        &["run", "-f", "x", "--log-level", "inof"],
        &["demo", "--log-level", "inof"],
    ] {
        let output = run_to_end(arguments).await;
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn the_schema_of_a_filter_knows_every_property_that_the_example_sets() {
    let output = run_to_end(&["schema", "filter"]).await;

    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let properties = &schema["properties"]["spec"]["properties"];
    for name in ["targetRefs", "match", "module", "bodies", "config", "failurePolicy"] {
        assert!(properties[name].is_object(), "{name}: {properties:#}");
    }
    assert!(properties["module"]["properties"]["url"].is_object(), "{properties:#}");

    let unknown = run_to_end(&["schema", "filtre"]).await;
    assert_eq!(unknown.status.code(), Some(1));
}

#[tokio::test]
async fn a_start_with_a_bad_file_ends_with_1_and_serves_nothing() {
    let mut waypoint = Waypoint::spawn(MISSPELT_FIELD, &[]);

    assert_eq!(waypoint.exit_code().await, Some(1));
    let log = waypoint.logged("--partial").await;
    assert!(log.contains("1 problems"), "{log}");
    assert!(waypoint.printed().contains("all.yaml:9:7"), "{}", waypoint.printed());
    assert!(!waypoint.dir.path().join("addresses.json").exists());
}

#[tokio::test]
async fn a_partial_start_serves_what_is_right() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {prts: []}\n";
    let waypoint = Waypoint::start_with(&resources, &["--partial"]).await;

    assert_eq!(get(waypoint.http(), "/").await.status(), 200);
    assert_eq!(waypoint.series("waypoint_reloads_total{result=\"refused\"}").await, Some(1));
}

#[tokio::test]
async fn no_partial_start_passes_over_what_may_protect_the_rest() {
    let rest = gateway_to("origin") + &service("origin", "http", "127.0.0.1:9".parse().unwrap());
    for hidden in [
        "kind: Filtr\napiVersion: waypoint.rs/v1alpha1\nmetadata: {name: guard}\n",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: guard}\n",
        "{ this is no resource\n",
    ] {
        let mut waypoint = Waypoint::spawn(&format!("{rest}---\n{hidden}"), &["--partial"]);
        assert_eq!(waypoint.exit_code().await, Some(1), "{hidden}");
        waypoint.logged("--partial does not pass over it").await;
        assert!(!waypoint.dir.path().join("addresses.json").exists(), "{hidden}");
    }
}

#[tokio::test]
async fn a_filter_whose_configuration_is_refused_at_the_start_is_told_with_its_reason() {
    let address = "127.0.0.1:9".parse().unwrap();
    let resources = gateway_to("origin")
        + &service("origin", "http", address)
        + &filter("redact", "builtin://pii-redact", "  config: {entities: [shoeSize]}");
    let mut waypoint = Waypoint::spawn(&resources, &[]);

    assert_eq!(waypoint.exit_code().await, Some(1));
    let told = waypoint.logged("the filter says: ").await;
    assert!(told.contains("shoeSize"), "{told}");
}

#[tokio::test]
async fn a_start_on_a_port_that_is_in_use_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let resources = gateway_to("origin") + &service("origin", "http", address);
    for name in ["gateway/default/8080", "stats"] {
        let mut waypoint = Waypoint::spawn(&resources, &["--bind", &format!("{name}={address}")]);

        assert_eq!(waypoint.exit_code().await, Some(1), "{name}");
        let told = waypoint.logged("cannot listen").await;
        assert!(told.contains(name), "{told}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_mistake() {
    let output = run_to_end(&["check", "-f", "/nowhere/all.yaml"]).await;

    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("/nowhere/all.yaml") && text.contains("cannot be read"), "{text}");
}

#[test]
fn a_reader_of_what_is_printed_may_leave_early() {
    let (_dir, path) = two_files(MISSPELT_FIELD, MISSPELT_KIND);
    let checked = ["check", "-o", "json", "-f", path.as_str()];
    for (arguments, code) in [(&["schema", "filter"][..], 0), (&checked[..], 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut waypoint = std::process::Command::new(env!("CARGO_BIN_EXE_waypoint"));
        let output = waypoint.args(arguments).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(code), ""), "{arguments:?}");
    }
}
