//! The way from a plan file to a checked `Plan`. `parse` is pure and reports everything that is
//! wrong at once: first the shape of the file against its schema, then the meaning of whatever
//! of it can be used. `load` adds the file system: it reads the file and finds the files it names.

use std::path::{Path, PathBuf};
use std::io::Read as _;
use std::{fmt, fs, io};

use serde_json::Value;

use super::field::FieldPath;
use super::problem::{Problem, Problems, Severity};
use super::{Plan, local_files, report, structure, validate};
use crate::yaml::{self, Node};

/// The largest plan file that is read, in bytes.
pub const MOST_BYTES: u64 = 4 << 20;

/// A plan that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The plan; paths of local files in it are absolute.
    pub plan: Plan,
    /// The directory of the plan file.
    pub directory: PathBuf,
    /// The plan file as it was named.
    pub file: PathBuf,
    /// Its text, for showing the warnings.
    pub text: String,
    /// What a person should look at.
    pub warnings: Vec<Problem>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the plan file {}", file.display())]
    Read {
        /// The file as it was named.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is too big to be a plan.
    #[error("the plan file {} has {bytes} bytes; at most {MOST_BYTES} are read", file.display())]
    TooBig {
        /// The file as it was named.
        file: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is not UTF-8.
    #[error("the plan file {} is not UTF-8 text", file.display())]
    NotText {
        /// The file as it was named.
        file: PathBuf,
    },
    /// The file says something wrong.
    #[error("{}", .0.summary())]
    Invalid(Invalid),
}

/// A plan file with its problems; `Display` shows them the way rustc does.
#[derive(Debug)]
pub struct Invalid {
    /// The file as it was named.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// All problems, warnings too, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// One line: how many problems there are.
    #[must_use]
    pub fn summary(&self) -> String {
        let errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let noun = if errors == 1 { "error" } else { "errors" };
        format!("the plan file {} has {errors} {noun}", self.file.display())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&report::render(&self.problems, &self.text, &self.file.to_string_lossy(), false))
    }
}

/// Reads and checks a plan file. Relative paths in it count from its directory, `~/` from the
/// user's home.
///
/// # Errors
/// The file cannot be read, or something is wrong with it or with files it names.
pub fn load(file: &Path) -> Result<Loaded, LoadError> {
    load_text(file, read(file)?)
}

/// Checks a text as if it stood in that plan file.
///
/// # Errors
/// Something is wrong with it or with files it names.
pub fn load_text(file: &Path, text: String) -> Result<Loaded, LoadError> {
    let invalid = |text: String, problems| LoadError::Invalid(Invalid { file: file.to_owned(), text, problems });
    let (mut plan, mut warnings) = match parse(&text) {
        Ok(parsed) => parsed,
        Err(problems) => return Err(invalid(text, problems)),
    };
    let absolute = std::path::absolute(file).map_err(|source| LoadError::Read { file: file.to_owned(), source })?;
    let directory = absolute.parent().unwrap_or(&absolute).to_owned();
    let home = std::env::home_dir();
    let mut problems = Problems::default();
    local_files::for_each(&mut plan, |path, local| {
        *local = local_files::resolve(local, &directory, home.as_deref());
        local_files::check_presence(local, path, &mut problems);
    });
    local_files::for_each_of_key_store(&mut plan, |local| *local = local_files::resolve(local, &directory, home.as_deref()));
    if problems.0.is_empty() {
        return Ok(Loaded { plan, directory, file: file.to_owned(), text, warnings });
    }
    if let Ok(root) = yaml::read_strictly(&text) {
        warnings.extend(problems.located(&root));
    }
    Err(invalid(text, warnings))
}

/// Reads a plan file without checking it.
///
/// # Errors
/// The file cannot be read, is too big, or is not text.
pub fn read(file: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read { file: file.to_owned(), source };
    let bytes = fs::metadata(file).map_err(failed)?.len();
    if bytes > MOST_BYTES {
        return Err(LoadError::TooBig { file: file.to_owned(), bytes });
    }
    // What is no plain file (a pipe, a device) has no size, and may have no end.
    let mut text = Vec::new();
    fs::File::open(file).and_then(|open| open.take(MOST_BYTES + 1).read_to_end(&mut text)).map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(LoadError::TooBig { file: file.to_owned(), bytes: text.len() as u64 });
    }
    String::from_utf8(text).map_err(|_| LoadError::NotText { file: file.to_owned() })
}

/// Checks the text of a plan file. Returns the plan with its warnings.
///
/// # Errors
/// All problems, warnings too, in the order of the text; at least one is an error.
pub fn parse(text: &str) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    let root = match yaml::read_strictly(text) {
        Ok(root) => root,
        Err(error) => {
            let mut problem = Problem::new(Severity::Error, "not-yaml", FieldPath::default(), error.message);
            problem.at(error.place);
            return Err(vec![problem]);
        }
    };
    let findings = structure::check(&root, text);
    let mut problems = findings.problems;
    let document = root.to_value();
    if problems.0.is_empty() {
        return match serde_json::from_value::<Plan>(document) {
            Ok(plan) => {
                validate::validate(&plan, &mut problems);
                finish(plan, problems, &root)
            }
            Err(error) => {
                problems.error("unreadable", FieldPath::default(), error.to_string());
                Err(problems.located(&root))
            }
        };
    }
    let left_out = [findings.unusable, findings.probably_meant].concat();
    problems.0.extend(problems_of_the_rest(document, left_out));
    Err(problems.located(&root))
}

/// Checks the meaning of what is left without the fields that could not be used, so that both
/// kinds of problem are reported at once. What depends on those fields is left out.
fn problems_of_the_rest(mut document: Value, left_out: Vec<FieldPath>) -> Vec<Problem> {
    let left_out: Vec<FieldPath> = left_out.iter().map(|path| path.remove_from(&mut document)).collect();
    let Ok(plan) = serde_json::from_value::<Plan>(document) else { return Vec::new() };
    let mut problems = Problems::default();
    validate::validate(&plan, &mut problems);
    problems.0.retain(|problem| {
        !left_out.iter().any(|path| problem.touches(path) || path.parent().is_some_and(|parent| problem.path == parent))
    });
    problems.0
}

fn finish(plan: Plan, problems: Problems, root: &Node) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    let problems = problems.located(root);
    if problems.iter().any(|problem| problem.severity == Severity::Error) { Err(problems) } else { Ok((plan, problems)) }
}

#[cfg(test)]
mod tests;
