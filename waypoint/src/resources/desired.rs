//! What the files mean: read and checked, with the last good version in place of what is refused. A
//! waypoint and a node agent follow the same files by it.

use sha2::{Digest, Sha256};
use waypoint_policies::{Checked, Note, Numbering, Problem, Resources, SourceFile};

use super::Sources;

/// Files, and what of them was right last.
#[derive(Clone, Debug)]
pub struct Desired {
    sources: Sources,
    resources: Resources,
}

/// What one reading found.
pub struct Found {
    /// What is meant; its own problems and notes have been taken out.
    pub checked: Checked,
    /// Every mistake, of the files and between resources.
    pub problems: Vec<Problem>,
    /// What was skipped or deserves a look.
    pub notes: Vec<Note>,
    /// Of all files.
    pub digest: [u8; 32],
}

impl Desired {
    /// Nothing has been read yet.
    pub fn new(sources: Sources) -> Self {
        Self { sources, resources: Resources::default() }
    }

    /// Where they are read from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The resources that were right last.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Reads and checks the files; what is refused falls back to its last good version. Blocks.
    pub fn read(&mut self, numbering: &Numbering) -> Found {
        let (files, unread) = self.sources.load();
        let digest = digest_of(&files);
        let mut reading = waypoint_policies::read(&files);
        reading.unreadable.extend(unread.iter().map(|problem| problem.file.clone()));
        let mut problems = unread;
        problems.append(&mut reading.problems);
        let mut notes = std::mem::take(&mut reading.notes);
        let resources = waypoint_policies::merge(&self.resources, reading);
        let mut checked = waypoint_policies::check(&resources, numbering);
        let fallen = waypoint_policies::fall_back(&self.resources, &resources, &checked.problems);
        problems.append(&mut checked.problems);
        if let Some(fallen) = fallen {
            checked = waypoint_policies::check(&fallen, numbering);
            self.resources = fallen;
        } else {
            self.resources = resources;
        }
        notes.append(&mut checked.notes);
        Found { checked, problems, notes, digest }
    }
}

fn digest_of(files: &[SourceFile]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files {
        digest.update((file.path.len() as u64).to_le_bytes());
        digest.update(&file.path);
        digest.update((file.text.len() as u64).to_le_bytes());
        digest.update(&file.text);
    }
    digest.finalize().into()
}
