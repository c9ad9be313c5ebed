//! Every kind of mistake, as a person sees it: a file in, the rendered problems out.

use std::path::PathBuf;

use waypoint_policies::{Numbering, Problem, Resources, check, merge, read, render};

use crate::support::file;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diagnostics"))
}

#[test]
fn each_mistake_is_shown_with_its_place_and_what_was_meant() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut paths: Vec<_> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths
        .retain(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "json"));
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let shown = shown(&name, &String::from_utf8_lossy(&bytes));
        assert!(!shown.contains("hunter2"), "{name} shows a secret:\n{shown}");
        settings.bind(|| insta::assert_snapshot!(name, shown));
    }
}

/// What `waypoint check` would print.
fn shown(name: &str, text: &str) -> String {
    let reading = read(&[file(name, text)]);
    let mut shown = render(&reading.problems);
    let notes = reading.notes.clone();
    let checked = check(&merge(&Resources::default(), reading), &Numbering::default());
    shown += &render(&checked.problems);
    for note in notes.iter().chain(&checked.notes) {
        shown += &format!("note: {}:{}: {}\n", note.file, note.line, note.message);
    }
    shown
}

#[test]
fn mistakes_of_all_files_are_reported_at_once_in_the_order_of_the_files() {
    let one = file("one.yaml", "apiVersion: v1\nkind: Servce\nmetadata: {name: a}\n");
    let two = file("two.yaml", "apiVersion: v1\nkind: Service\nmetadata: {nam: a}\n---\n}{\n");
    let reading = read(&[one, two]);
    let places: Vec<_> =
        reading.problems.iter().map(|problem| (problem.file.as_str(), problem.line)).collect();
    assert_eq!(places, [("one.yaml", 2), ("two.yaml", 3), ("two.yaml", 5)]);
}

#[test]
fn the_same_resource_in_two_files_refuses_both() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {}\n";
    let reading = read(&[file("one.yaml", text), file("two.yaml", text)]);
    assert!(reading.resources.is_empty());
    assert_eq!(reading.problems.len(), 1);
    assert_eq!(reading.problems[0].file, "two.yaml");
    assert!(reading.problems[0].message.contains("one.yaml:3"), "{}", reading.problems[0].message);
}

#[test]
fn a_problem_is_json_for_other_programs() {
    let reading = read(&[file("one.yaml", "apiVersion: v1\nkind: Servce\nmetadata: {name: a}\n")]);
    let value = serde_json::to_value(&reading.problems[0]).unwrap();
    assert_eq!(value["code"], "unknown-kind");
    assert_eq!(value["nearest"], "Service");
    assert_eq!(value["severity"], "error");
    assert_eq!((&value["line"], &value["column"]), (&2.into(), &7.into()));
}

#[test]
fn a_problem_of_a_whole_file_is_shown_without_a_place() {
    let shown = render(&[
        Problem::of_file("gone.yaml", "cannot be read"),
        Problem::of_file("", "no files"),
    ]);
    assert_eq!(shown, "error[file]: cannot be read\n --> gone.yaml\n\nerror[file]: no files\n\n");
}
