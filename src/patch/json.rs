//! RFC 6902: a list of operations on places named by JSON pointers (RFC 6901). All or nothing: a
//! failing operation leaves no trace, because the document is only returned when all succeeded.

use serde::Deserialize;
use serde_json::Value;

/// Why an operation is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The patch is not a list.
    #[error("a JSON patch is a list of operations")]
    NotAList,
    /// An operation is not of the wanted shape.
    #[error("operation {operation} is malformed: {reason}")]
    Malformed {
        /// Its place in the list, counted from 0.
        operation: usize,
        /// What is wrong.
        reason: String,
    },
    /// An operation does not fit the document.
    #[error("operation {operation} ({name} `{path}`): {reason}")]
    Failed {
        /// Its place in the list, counted from 0.
        operation: usize,
        /// `add`, `remove`, …
        name: &'static str,
        /// Where it applies.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}

/// The document after all operations.
///
/// # Errors
/// An operation is malformed or does not fit.
pub fn apply(document: Value, patch: &Value) -> Result<Value, OperationError> {
    let mut document = document;
    for (index, operation) in patch.as_array().ok_or(OperationError::NotAList)?.iter().enumerate() {
        let operation: Operation = Operation::deserialize(operation)
            .map_err(|error| OperationError::Malformed { operation: index, reason: error.to_string() })?;
        let (name, path) = operation.name_and_path();
        let path = path.to_owned();
        operation
            .apply(&mut document)
            .map_err(|reason| OperationError::Failed { operation: index, name, path, reason })?;
    }
    Ok(document)
}

impl Operation {
    fn name_and_path(&self) -> (&'static str, &str) {
        match self {
            Self::Add { path, .. } => ("add", path),
            Self::Remove { path } => ("remove", path),
            Self::Replace { path, .. } => ("replace", path),
            Self::Move { path, .. } => ("move", path),
            Self::Copy { path, .. } => ("copy", path),
            Self::Test { path, .. } => ("test", path),
        }
    }

    fn apply(self, document: &mut Value) -> Result<(), String> {
        match self {
            Self::Add { path, value } => add(document, &path, value),
            Self::Remove { path } => remove(document, &path).map(drop),
            Self::Replace { path, value } => {
                *document.pointer_mut(&path).ok_or_else(|| nothing_at(&path))? = value;
                Ok(())
            }
            Self::Move { from, path } => {
                if path.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
                    return Err(format!("`{from}` cannot move into itself"));
                }
                let value = remove(document, &from)?;
                add(document, &path, value)
            }
            Self::Copy { from, path } => {
                let value = document.pointer(&from).cloned().ok_or_else(|| nothing_at(&from))?;
                add(document, &path, value)
            }
            Self::Test { path, value } => {
                let found = document.pointer(&path).ok_or_else(|| nothing_at(&path))?;
                if *found == value { Ok(()) } else { Err("the value there is another".to_owned()) }
            }
        }
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (parent, name) = split(path)?;
    match document.pointer_mut(parent).ok_or_else(|| nothing_at(parent))? {
        Value::Object(fields) => {
            fields.insert(name, value);
        }
        Value::Array(elements) if name == "-" => elements.push(value),
        Value::Array(elements) => {
            let index = index_of(&name).filter(|index| *index <= elements.len());
            elements.insert(index.ok_or_else(|| format!("`{name}` is not an index of `{parent}`"))?, value);
        }
        _ => return Err(format!("`{parent}` is neither an object nor a list")),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    if path.is_empty() {
        return Ok(document.take());
    }
    let (parent, name) = split(path)?;
    let removed = match document.pointer_mut(parent).ok_or_else(|| nothing_at(parent))? {
        Value::Object(fields) => fields.shift_remove(&name),
        Value::Array(elements) => {
            index_of(&name).filter(|index| *index < elements.len()).map(|index| elements.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| nothing_at(path))
}

/// The pointer of the parent and the unescaped last part.
fn split(path: &str) -> Result<(&str, String), String> {
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| format!("`{path}` does not start with `/`"))?;
    Ok((parent, name.replace("~1", "/").replace("~0", "~")))
}

/// An index as RFC 6901 writes it: digits without leading zeros.
fn index_of(text: &str) -> Option<usize> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    if plain { text.parse().ok() } else { None }
}

fn nothing_at(path: &str) -> String {
    format!("there is nothing at `{path}`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(document: Value, patch: Value, expected: Value) {
        assert_eq!(apply(document, &patch).unwrap(), expected, "{patch}");
    }

    #[test]
    fn every_operation_works() {
        check(json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), json!({"a": [1, 2, 3]}));
        check(json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]}));
        check(json!({"a": {"b/c": 1}}), json!([{"op": "remove", "path": "/a/b~1c"}]), json!({"a": {}}));
        check(json!({"a": [1, 2]}), json!([{"op": "replace", "path": "/a/0", "value": 9}]), json!({"a": [9, 2]}));
        check(json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1}));
        check(json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), json!({"a": 1, "b": 1}));
        check(json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1}]), json!({"a": 1}));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for operation in [
            json!({"op": "add", "path": "/x/y", "value": 1}),
            json!({"op": "add", "path": "/list/5", "value": 1}),
            json!({"op": "add", "path": "/list/01", "value": 1}),
            json!({"op": "remove", "path": "/x"}),
            json!({"op": "replace", "path": "/x", "value": 1}),
            json!({"op": "move", "from": "/map", "path": "/map/b"}),
            json!({"op": "copy", "from": "/x", "path": "/y"}),
            json!({"op": "test", "path": "/list", "value": [2]}),
            json!({"op": "add", "path": "x", "value": 1}),
            json!({"op": "add", "path": "/x"}),
            json!({"op": "twist", "path": "/x"}),
        ] {
            assert!(apply(json!({"list": [1], "map": {}}), &json!([operation])).is_err(), "{operation}");
        }
        assert_eq!(apply(json!({}), &json!({})), Err(OperationError::NotAList));
    }
}
