//! No text makes the reader panic, hang or eat memory.

use waypoint_policies::{
    DEPTH_MAX, NODES_MAX, Numbering, PROBLEMS_MAX, Resources, check, merge, read, render,
};

use crate::oracle::resource_files;
use crate::support::file;

/// A small generator of numbers, so that a failure can be repeated (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

/// What YAML and JSON are made of, and what breaks them.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\t",
    "---\n",
    "...\n",
    "\"",
    "'",
    "|",
    ">",
    ">-\n",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "? ",
    "#",
    "%YAML 1.2\n",
    "@",
    "`",
    "~",
    "null",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "é",
    "\u{1f600}",
    "\\",
    "\\u12",
    "\r",
    "\r\n",
    "0x",
    "1e999",
    "-",
    "=",
    "%",
    "spec:",
    "kind: List",
    "{---",
    "...",
    "? - : -",
];

fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(4) {
        let at = dice.below(letters.len() + 1);
        let length = dice.below(40).min(letters.len() - at);
        match dice.below(5) {
            0 => drop(letters.drain(at..at + length)),
            1 => letters.truncate(at),
            2 => {
                let copy: Vec<char> = letters[at..at + length].to_vec();
                let to = dice.below(letters.len() + 1);
                letters.splice(to..to, copy);
            }
            _ => {
                let piece = PIECES[dice.below(PIECES.len())];
                letters.splice(at..at, piece.chars());
            }
        }
    }
    letters.into_iter().collect()
}

fn corpus() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diagnostics");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts = paths.iter().filter(|path| !path.to_string_lossy().ends_with(".snap"));
    texts.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()).collect()
}

#[test]
fn whatever_is_written_reading_and_checking_end_without_a_panic() {
    let rounds = std::env::var("ROUNDS").map_or(2_000, |rounds| rounds.parse().unwrap());
    let corpus = corpus();
    let mut dice = Dice(0x5EED);
    for round in 0..rounds {
        let text = mutate(&corpus[dice.below(corpus.len())], &mut dice);
        let path = if round % 4 == 0 { "fuzz.json" } else { "fuzz.yaml" };
        if std::env::var("ROUNDS").is_ok() {
            std::fs::write("/tmp/policies-last-fuzz", &text).unwrap();
        }
        let reading = read(&[file(path, &text)]);
        let _ = render(&reading.problems);
        let checked = check(&merge(&Resources::default(), reading), &Numbering::default());
        let _ = render(&checked.problems);
    }
}

/// What fuzzing has found stays found.
#[test]
fn every_kept_file_is_read_with_each_problem_at_a_place_in_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../waypoint/fuzz/corpus/resource_files");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // A failure names the input: `cargo fuzz run resource_files FILE` repeats it.
        println!("{}", path.display());
        resource_files(&std::fs::read(path).unwrap());
        inputs += 1;
    }
    assert!(20 < inputs, "{folder} has only {inputs} inputs");
}

#[test]
fn a_carriage_return_within_a_line_is_refused_and_no_secret_is_shown() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\rdata: {key: aHVudGVyMg==}\n";
    for path in ["secret.yaml", "secret.json"] {
        let reading = read(&[file(path, text)]);
        let [problem] = &reading.problems[..] else { panic!("{:?}", reading.problems) };
        assert_eq!((problem.line, problem.column, problem.code), (3, 20, "encoding"));
        assert!(!problem.snippet.contains("aHVudGVy"), "{}", problem.snippet);
        assert!(reading.unreadable.contains(path));
    }
    let whole = text.replace('\r', "\r\n").replace("\n\n", "\n");
    assert!(read(&[file("secret.yaml", &whole)]).problems.is_empty());
}

#[test]
fn a_document_past_its_budget_is_refused_and_the_next_one_is_read() {
    let fine = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: fine}\nspec: {}\n";
    let deep = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
    let laughs = |levels: usize| {
        let mut text = "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
        for level in 1..levels {
            let alias = format!("*x{}", level - 1);
            text += &format!("x{level}: &x{level} [{}]\n", [alias.as_str(); 10].join(", "));
        }
        text
    };
    let cases = [
        // document                 refused for
        (deep(DEPTH_MAX - 1), None),
        (deep(DEPTH_MAX), Some("nested deeper than")),
        (deep(100_000), Some("nested deeper than")),
        (laughs(4), None),
        (laughs(9), Some("values in one document")),
        (
            format!("a: [{}]", "a, ".repeat(usize::try_from(NODES_MAX).unwrap())),
            Some("values in one document"),
        ),
    ];
    for (text, refusal) in cases {
        let reading = read(&[file("bomb.yaml", &(text + fine))]);
        let hit = reading
            .problems
            .iter()
            .any(|problem| refusal.is_some_and(|word| problem.message.contains(word)));
        assert_eq!(hit, refusal.is_some(), "{:?}", reading.problems[0].message);
        assert_eq!(reading.resources.len(), 1, "{refusal:?}");
    }
}

#[test]
fn json_past_its_depth_is_refused() {
    let text = "[".repeat(1_000_000);
    let reading = read(&[file("bomb.json", &text)]);
    assert!(
        reading.problems[0].message.contains("nested too deep"),
        "{}",
        reading.problems[0].message
    );
}

#[test]
fn a_file_with_ever_so_many_mistakes_reports_a_bounded_number() {
    let text = "---\nkind: x\n".repeat(5_000);
    let reading = read(&[file("a.yaml", &text), file("b.yaml", "kind: x")]);
    assert_eq!(reading.problems.len(), PROBLEMS_MAX + 1);
}
