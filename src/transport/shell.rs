//! Shell text, made so that data can never become code: every value goes through `quoted`.
//!
//! Invariant: what `sh` sees as one word is exactly the text that was given. POSIX single quotes
//! have no escapes inside, so the only character that needs care is the single quote itself.

use std::fmt::Write as _;

/// Text as one POSIX shell word in single quotes.
///
/// No shell can hold a NUL in a word, so it is dropped here; names that come from a plan were
/// refused long before (`RemotePath`, `HostName`), this is the last line of defence.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 2);
    word.push('\'');
    for character in text.chars() {
        match character {
            '\'' => word.push_str("'\\''"),
            '\0' => {}
            other => word.push(other),
        }
    }
    word.push('\'');
    word
}

/// A shell script that grows line by line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Script {
    text: String,
}

impl Script {
    /// An empty script.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds text written in the source of slipway. It is never made from data: the type says so.
    pub fn fixed(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
        self
    }

    /// Adds one command: its name is written in the source, its arguments are data.
    pub fn call<I, A>(&mut self, function: &'static str, arguments: I) -> &mut Self
    where
        I: IntoIterator<Item = A>,
        A: AsRef<str>,
    {
        self.text.push_str(function);
        for argument in arguments {
            write!(self.text, " {}", quoted(argument.as_ref())).expect("writing to a String cannot fail");
        }
        self.text.push('\n');
        self
    }

    /// The whole text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// A path as `find -path` wants it: the characters of its patterns lose their meaning.
#[must_use]
pub fn find_pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Judges a script with shellcheck, if this machine has it (the project's test command brings it).
#[cfg(test)]
pub(crate) fn shellcheck(script: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    // SC2016: text in single quotes is data here, on purpose. SC2317/SC2329: not every function is used each
    // time. SC2119, SC2120: nor with arguments each time.
    let started = Command::new("shellcheck")
        .args(["-s", "sh", "-e", "SC2016,SC2317,SC2329,SC2119,SC2120", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: shellcheck is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn echo(text: &str) -> String {
        let mut script = Script::new();
        script.call("printf", ["%s", text]);
        let output = Command::new("/bin/sh").arg("-c").arg(script.finish()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn hostile_words_come_back_unchanged() {
        for word in [
            "", " ", "'", "''", "a'b", "$(touch /tmp/owned)", "`id`", "${HOME}", "a\nb", "\\", "\\'", "-n", "*", "~",
            "!!", "a;b&c|d>e<f", "\"", "#x", "'; exit 7; '", "\t\r", "äöü", "\u{1b}[31m",
        ] {
            assert_eq!(echo(word), word);
        }
        assert_eq!(quoted("a\0b"), "'ab'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_word_comes_back_unchanged(word in "[^\0]{0,40}") {
            prop_assert_eq!(echo(&word), word);
        }
    }
}
