//! All YAML goes through here, so that the library behind it is one file's business.
//!
//! Reading comes in two kinds: documents that users or other tools hand us are read as Kubernetes
//! reads them; the plan file is read strictly by `plan::load`, which has its own options here.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a text is not the YAML it should be. The text never quotes the source, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, with its line and column where they are known.
    pub message: String,
}

/// Reads one document the way Kubernetes does (`yes` is true, `0644` is octal).
///
/// # Errors
/// The text is not YAML, or not of the wanted shape.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError { message: error.to_string() })
}

/// Reads all documents of a stream; empty ones are left out.
///
/// # Errors
/// The text is not YAML.
pub fn read_all(text: &str) -> Result<Vec<Value>, YamlError> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| YamlError { message: error.to_string() })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Writes one document that Kubernetes' own reader reads back unchanged.
#[must_use]
pub fn write(value: &impl Serialize) -> String {
    // A block scalar whose first line starts with a tab is refused by libyaml-type readers.
    let text = write_with(value, true);
    if read::<Value>(&text).is_ok() && !text.lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
        text
    } else {
        write_with(value, false)
    }
}

fn write_with(value: &impl Serialize, prefer_block_scalars: bool) -> String {
    let options = serde_saphyr::ser_options! {
        folded_wrap_chars: usize::MAX,
        prefer_block_scalars: prefer_block_scalars,
    };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options).expect("documents hold nothing YAML cannot say");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_strings_survive() {
        for text in ["yes", "no", "on", "n", "1_000", "0644", "1.20", "", " a", "a: b", "#c", "\ttab\nline", "a\n\nb\n", "null", "~", "é"] {
            let value = serde_json::json!({ "key": text, text: 1 });
            assert_eq!(read::<Value>(&write(&value)).unwrap(), value, "{text:?}");
        }
    }

    #[test]
    fn documents_are_read_as_kubernetes_reads_them() {
        assert_eq!(read::<Value>("mode: 0644").unwrap()["mode"], 420);
        assert_eq!(read_all("a: 1\n---\n---\nb: 2\n").unwrap().len(), 2);
    }
}
