//! An agent in a process of its own, so that it can be killed, or drop its privileges.

use std::path::PathBuf;

use waypoint_redirect::{Options, Redirect, State, drop_privileges, drop_privileges_of_thread};

use crate::place::{entry, table};

#[derive(Default)]
pub(crate) struct Agent {
    redirect: Option<Redirect>,
    pins: PathBuf,
}

impl Agent {
    /// `open CGROUP PINS`, `apply SERVICE TARGET`, `drift SERVICE TARGET`, …
    pub(crate) fn answer(&mut self, words: &[&str]) -> String {
        let table = || {
            let address = |at: usize| words[at].parse().unwrap();
            table(&[(address(1), entry(&[address(2)]))])
        };
        match words[0] {
            "open" => {
                let options = Options { cgroup: words[1].into(), pins: words[2].into() };
                match Redirect::open(&options) {
                    Ok(redirect) => {
                        self.pins = options.pins;
                        let done: Vec<_> =
                            redirect.opened().iter().map(|(_, done)| *done).collect();
                        self.redirect = Some(redirect);
                        format!("{done:?}")
                    }
                    Err(error) => error.to_string(),
                }
            }
            "apply" => match self.redirect.as_mut().unwrap().apply(&table()) {
                Ok(applied) => applied.entries.to_string(),
                Err(error) => error.to_string(),
            },
            "drift" => match self.redirect.as_ref().unwrap().drift(&table()) {
                Ok(found) => found.join(", "),
                Err(error) => error.to_string(),
            },
            "churn" => loop {
                self.redirect.as_mut().unwrap().apply(&table()).unwrap();
            },
            "repair" => match self.redirect.as_mut().unwrap().repair(&table()) {
                Ok(_) => "repaired".to_owned(),
                Err(error) => error.to_string(),
            },
            "totals" => match State::read(&self.pins) {
                Ok(state) => state.totals.redirected.to_string(),
                Err(error) => error.to_string(),
            },
            "drop-process" => match drop_privileges() {
                Ok(()) => "dropped".to_owned(),
                Err(error) => error.to_string(),
            },
            "drop" => match drop_privileges_of_thread() {
                Ok(()) => privileges(),
                Err(error) => error.to_string(),
            },
            other => panic!("{other} is no command of an agent"),
        }
    }
}

/// What the kernel says of this thread.
fn privileges() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.replace(":\t", " ")
    };
    ["CapPrm", "CapEff", "CapBnd", "NoNewPrivs"].map(of).join(" ")
}
