//! An agent in a process of its own, so that it can be killed, or drop its privileges.

use waypoint_redirect::{Options, Redirect};

use crate::place::{entry, table};

#[derive(Default)]
pub(crate) struct Agent {
    redirect: Option<Redirect>,
}

impl Agent {
    /// `open CGROUP PINS`, `apply SERVICE TARGET`, `drift SERVICE TARGET`.
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
            other => panic!("{other} is no command of an agent"),
        }
    }
}
