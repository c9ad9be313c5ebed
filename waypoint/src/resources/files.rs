//! The files that hold the resources.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use waypoint_policies::{FILE_BYTES_MAX, Problem, SourceFile};

/// Files read at most; more are refused.
pub const FILES_MAX: usize = 1_000;
/// How deep folders are followed.
const DEPTH_MAX: usize = 8;

/// Files and folders, as given by `-f`.
#[derive(Clone, Debug)]
pub struct Sources(pub Vec<PathBuf>);

impl Sources {
    /// Reads every file: those named, and each `.yaml`, `.yml` and `.json` below a folder, in the
    /// order of their names. Names that begin with a dot are skipped (a mounted ConfigMap keeps its
    /// versions in `..data`), links are followed.
    ///
    /// What cannot be read becomes a problem; the rest is read all the same.
    pub fn load(&self) -> (Vec<SourceFile>, Vec<Problem>) {
        let mut paths = Vec::new();
        let mut problems = Vec::new();
        for path in &self.0 {
            collect(path, 0, &mut paths, &mut problems);
        }
        if paths.len() > FILES_MAX {
            let message = format!("{} files; at most {FILES_MAX} are read", paths.len());
            problems.push(Problem::of_file(&self.0[0].to_string_lossy(), &message));
            paths.truncate(FILES_MAX);
        }
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let name = path.to_string_lossy().into_owned();
            match read(&path) {
                Ok(text) => files.push(SourceFile { path: name, text }),
                Err(message) => problems.push(Problem::of_file(&name, &message)),
            }
        }
        (files, problems)
    }
}

fn collect(path: &Path, depth: usize, paths: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    if !path.is_dir() {
        paths.push(path.to_owned());
        return;
    }
    if depth == DEPTH_MAX {
        let message = format!("folders are followed {DEPTH_MAX} deep");
        problems.push(Problem::of_file(&path.to_string_lossy(), &message));
        return;
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            problems.push(Problem::of_file(&path.to_string_lossy(), &message));
            return;
        }
    };
    let mut entries: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !is_hidden(path) && (path.is_dir() || is_resource(path)))
        .collect();
    entries.sort();
    for entry in entries {
        collect(&entry, depth + 1, paths, problems);
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_resource(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json")
}

fn read(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    // One byte more than the reader takes: it then says that the file is too large.
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    // What is not UTF-8 is reported with its line and column by the reader.
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
