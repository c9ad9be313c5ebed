//! `waypoint demo` as a new user meets it: every line that it prints is run.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::harness::{Lines, PATIENCE};

struct Demo {
    child: Child,
    out: Lines,
    log: Lines,
}

impl Demo {
    fn start(dir: &Path, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypoint"));
        command
            .arg("demo")
            .arg("--dir")
            .arg(dir)
            .args(["--port", &port.to_string(), "--admin", "127.0.0.1:0"])
            .args(["--stats", "127.0.0.1:0", "--health", "127.0.0.1:0"])
            // Where compiled modules are kept: not in the home of whoever runs the tests.
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let out = Lines::follow(child.stdout.take().unwrap());
        let log = Lines::follow(child.stderr.take().unwrap());
        Self { child, out, log }
    }

    /// The lines that are to be typed: everything from the first to the end of the guide.
    async fn guide(&self) -> Vec<String> {
        let last = self.out.find(|line| line.starts_with("Ctrl-C ends everything")).await;
        assert!(last.is_some(), "{}\n{}", self.out.text(), self.log.text());
        let typed = |line: &&str| line.starts_with("  curl ") || line.starts_with("  sed ");
        self.out.text().lines().filter(typed).map(|line| line.trim().to_owned()).collect()
    }

    async fn exit_code(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code()
    }

    /// Waits for the n-th reload that has this result.
    async fn reloaded(&self, result: &str, count: usize) {
        let wanted = |text: &str| text.matches(&format!("result=\"{result}\"")).count() >= count;
        assert!(self.log.until(wanted).await, "{result} {count}:\n{}", self.log.text());
    }
}

/// A port that was free a moment ago: the demo's files name it, so the kernel cannot choose late.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn shell(command: &str) -> String {
    let run = Command::new("bash").args(["-c", command]).kill_on_drop(true).output();
    let output = timeout(PATIENCE, run).await.unwrap().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn every_line_that_the_demo_prints_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), free_port());
    let (mut curls, mut edits) = (0, 0);
    let mut customer = String::new();

    for line in demo.guide().await {
        let Some((command, status)) = line.rsplit_once(" # ") else {
            let edit = shell(&line).await;
            assert_eq!(edit, "");
            edits += 1;
            // The start was the first that was applied.
            let (result, count) = [("applied", 2), ("refused", 1), ("applied", 3)][edits - 1];
            demo.reloaded(result, count).await;
            continue;
        };
        let found = shell(&format!("{command} -o /dev/null -w '%{{http_code}}'")).await;
        assert_eq!(found, status, "{command}\n{}", demo.log.text());
        curls += 1;
        if command.contains("/customers/") {
            let answer = shell(command).await;
            let word = if edits == 0 { "<EMAIL>" } else { "(hidden)" };
            assert!(answer.contains(&format!("\"mail\":\"{word}\"")), "{edits} edits: {answer}");
            command.clone_into(&mut customer);
        }
        if command.contains("\"region\":\"us\"") {
            assert!(shell(command).await.contains("\"served_by\":\"orders-us\""));
        }
    }

    assert!(curls >= 10 && edits == 3, "{curls} {edits}");
    assert!(shell(&customer).await.contains("(hidden)"));
    let pid = rustix::process::Pid::from_raw(demo.child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    assert_eq!(demo.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_demo_on_the_same_port_leaves_the_files_of_the_first_alone() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let first = Demo::start(dir.path(), port);
    first.guide().await;
    let token = std::fs::read(dir.path().join("token")).unwrap();

    let mut second = Demo::start(dir.path(), port);

    assert_eq!(second.exit_code().await, Some(1));
    let told = second.log.find(|line| line.contains(&format!("127.0.0.1:{port}"))).await;
    assert!(told.is_some(), "{}", second.log.text());
    assert_eq!(std::fs::read(dir.path().join("token")).unwrap(), token);
}
