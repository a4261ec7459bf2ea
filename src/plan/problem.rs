//! What can be wrong with a plan file, as values: a stable code, a field, a message, a hint and
//! the place in the file. Checks name fields; places are looked up afterwards in the tree that
//! was read, so no check needs to know about lines.

use serde::Serialize;

use super::field::FieldPath;
use crate::yaml::{Node, Place};

/// One thing that is wrong, or doubtful, in a plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable name in kebab case, such as `cidr-overlap`.
    pub code: &'static str,
    /// Whether the plan can be used all the same.
    pub severity: Severity,
    /// The field, as `hosts[2].roles`; empty for the file as a whole.
    pub path: FieldPath,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line, counted from 1; 0 if there is none.
    pub line: usize,
    /// The column in characters, counted from 1; 0 if there is none.
    pub column: usize,
    /// The place behind `line` and `column`.
    #[serde(skip)]
    pub place: Place,
    /// Another field that plays a part, and its own place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
}

/// Another field that plays a part in a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The field.
    pub path: FieldPath,
    /// Which part it plays.
    pub message: String,
    /// Where it is.
    #[serde(skip)]
    pub place: Place,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The plan is refused.
    Error,
    /// The plan is used, but a person should look.
    Warning,
}

impl Problem {
    /// A problem of a field, without a place yet.
    #[must_use]
    pub fn new(severity: Severity, code: &'static str, path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            path,
            message: message.into(),
            hint: None,
            line: 0,
            column: 0,
            place: Place::default(),
            related: None,
        }
    }

    /// Says what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names another field that plays a part.
    pub fn related(&mut self, path: FieldPath, message: impl Into<String>) -> &mut Self {
        self.related = Some(Related { path, message: message.into(), place: Place::default() });
        self
    }

    /// Sets the place.
    pub fn at(&mut self, place: Place) -> &mut Self {
        self.place = place;
        (self.line, self.column) = (place.line, place.column);
        self
    }

    /// Whether this or the related field is `path` or below it.
    #[must_use]
    pub fn touches(&self, path: &FieldPath) -> bool {
        self.path.is_within(path) || self.related.as_ref().is_some_and(|related| related.path.is_within(path))
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds an error.
    pub fn error(&mut self, code: &'static str, path: FieldPath, message: impl Into<String>) -> &mut Problem {
        self.add(Problem::new(Severity::Error, code, path, message))
    }

    /// Adds a warning.
    pub fn warning(&mut self, code: &'static str, path: FieldPath, message: impl Into<String>) -> &mut Problem {
        self.add(Problem::new(Severity::Warning, code, path, message))
    }

    fn add(&mut self, problem: Problem) -> &mut Problem {
        self.0.push(problem);
        self.0.last_mut().expect("one was just added")
    }

    /// Looks up the places that are still missing and sorts by them.
    #[must_use]
    pub fn located(mut self, root: &Node) -> Vec<Problem> {
        for problem in &mut self.0 {
            if problem.line == 0 {
                problem.at(problem.path.place(root));
            }
            if let Some(related) = &mut problem.related {
                related.place = related.path.place(root);
            }
        }
        self.0.sort_by_key(|problem| (problem.line, problem.column));
        self.0
    }
}
