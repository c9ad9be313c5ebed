//! `waypoint check` and `waypoint schema`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;
use waypoint_policies::{Note, Numbering, Problem};

use super::say;
use crate::resources::Sources;

#[derive(Args)]
pub(super) struct CheckArgs {
    /// A file or a folder of resources; may be given several times.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,

    /// How the findings are printed; as JSON `{"problems": […], "notes": […]}`.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// Reads and checks the files: exit code 0 if nothing is refused, 1 if something is.
pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let (problems, notes) = findings(&Sources(args.files.clone()));
    match args.output {
        Output::Text => print_text(&problems, &notes),
        Output::Json => say(&format!("{:#}\n", json!({"problems": problems, "notes": notes}))),
    }
    if problems.iter().any(Problem::is_error) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn findings(sources: &Sources) -> (Vec<Problem>, Vec<Note>) {
    let (files, mut problems) = sources.load();
    let mut reading = waypoint_policies::read(&files);
    problems.append(&mut reading.problems);
    let mut notes = std::mem::take(&mut reading.notes);
    let mut checked = waypoint_policies::check(&reading.resources, &Numbering::default());
    problems.append(&mut checked.problems);
    notes.append(&mut checked.notes);
    (problems, notes)
}

fn print_text(problems: &[Problem], notes: &[Note]) {
    let mut text = waypoint_policies::render(problems);
    for note in notes {
        let _ = writeln!(text, "note: {}:{}: {}", note.file, note.line, note.message);
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let plural = |count| if count == 1 { "" } else { "s" };
    let _ =
        writeln!(text, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings));
    say(&text);
}

#[derive(Args)]
pub(super) struct SchemaArgs {
    /// One kind only, for example `filter`; all of them, as one JSON object, without it.
    kind: Option<String>,

    /// Write each schema to a file in this folder instead of printing it.
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    out: Option<PathBuf>,
}

/// Prints or writes the JSON Schemas of our kinds.
pub(super) fn schema(args: &SchemaArgs) -> ExitCode {
    let schemas: BTreeMap<String, serde_json::Value> =
        waypoint_policies::schemas().into_iter().collect();
    if let Some(folder) = &args.out {
        return write(folder, &schemas);
    }
    let Some(kind) = &args.kind else {
        say(&format!("{:#}\n", json!(schemas)));
        return ExitCode::SUCCESS;
    };
    let wanted = kind.to_ascii_lowercase();
    let stem = |file: &str| file.split('.').next().unwrap_or(file).to_ascii_lowercase();
    match schemas.iter().find(|(file, _)| stem(file) == wanted) {
        Some((_, schema)) => {
            say(&format!("{schema:#}\n"));
            ExitCode::SUCCESS
        }
        None => {
            let known: Vec<String> = schemas.keys().map(|file| stem(file)).collect();
            eprintln!("error: no schema of {kind:?}; there are: {}", known.join(", "));
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &std::path::Path, schemas: &BTreeMap<String, serde_json::Value>) -> ExitCode {
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        schemas.iter().try_for_each(|(file, schema)| {
            std::fs::write(folder.join(file), format!("{schema:#}\n"))
        })
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
