//! One error type for all tasks: a sentence for the person who ran the task.
//!
//! Tasks never react to the kind of an error, they only report it, so a text
//! that grows from the cause outwards is enough.

use std::fmt;

/// The result of anything a task does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, why, and where it helps, what to do about it.
#[derive(Debug)]
pub struct Error {
    message: String,
}

impl Error {
    /// An error that starts here.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to the error of a lower layer.
pub trait Explain<T> {
    /// Turns the error into "`what`: cause".
    fn explain(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Explain<T> for Result<T, E> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(format!("{}: {cause}", what())))
    }
}
