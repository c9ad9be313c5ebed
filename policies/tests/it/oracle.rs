//! What must hold for every resource file; `waypoint/fuzz` compiles this file, too.

use std::time::Duration;

use waypoint_policies::{Numbering, Problem, Resources, SourceFile, check, merge, read, render};

/// What reading and checking one small file may take of a CPU, unoptimised too.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Inputs up to this length, in bytes, must be read within [`TIME_MAX`]; longer ones are not looked
/// at.
const BYTES_MAX: usize = 64 << 10;

/// Reads and checks bytes as a file of YAML, or of JSON when the first byte is `{` or `[`.
///
/// # Panics
///
/// If a problem's place is not in the file, if reading the same twice gives two results, or if it
/// takes too long.
pub(crate) fn resource_files(bytes: &[u8]) {
    if BYTES_MAX < bytes.len() {
        return;
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let path = if matches!(bytes.first(), Some(b'{' | b'[')) { "fuzz.json" } else { "fuzz.yaml" };
    let began = on_cpu();
    let file = [SourceFile { path: path.to_owned(), text }];
    let problems = problems(&file);
    let took = on_cpu() - began;
    assert!(took < TIME_MAX, "{took:?}");
    for problem in &problems {
        in_file(problem, &file[0]);
    }
    assert!(self::problems(&file) == problems, "the same file, and other problems");
}

/// What this thread has had of a CPU so far: how busy the machine is does not count.
///
/// # Source
///
/// proc(5), `schedstat`: nanoseconds on a CPU come first.
fn on_cpu() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux");
    let spent = times.split(' ').next().and_then(|spent| spent.parse().ok());
    Duration::from_nanos(spent.expect("nanoseconds"))
}

fn problems(files: &[SourceFile]) -> Vec<Problem> {
    let mut reading = read(files);
    let mut problems = std::mem::take(&mut reading.problems);
    let checked = check(&merge(&Resources::default(), reading), &Numbering::default());
    problems.extend(checked.problems);
    let shown = render(&problems);
    assert_eq!(shown.is_empty(), problems.is_empty());
    problems
}

/// A place is a line that is there, and a column of it or the one behind its end.
fn in_file(problem: &Problem, file: &SourceFile) {
    assert_eq!(problem.file, file.path, "{problem:?}");
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    // Behind the last line's end is a place, too: where something was expected.
    let lines: Vec<&str> = text.lines().chain([""]).collect();
    assert_ne!((problem.line, problem.column), (0, 0), "{problem:?}");
    let line = lines.get(problem.line as usize - 1).unwrap_or_else(|| panic!("{problem:?}"));
    assert!(problem.column as usize <= line.chars().count() + 1, "{problem:?} in {line:?}");
}
