//! Command-line flags as a structure: generated ones by name, then the plan's overrides. A value
//! replaces the generated flag, a list repeats it, an empty list removes it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::plan::ArgumentValues;
use crate::release::FlagOrder;

/// The generated flags of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Adds a flag or replaces its value.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// Adds several flags.
    pub fn set_all<N: AsRef<str>, V: ToString>(&mut self, flags: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in flags {
            self.set(name.as_ref(), value);
        }
    }

    /// Adds `--feature-gates` if there are any.
    pub fn set_feature_gates(&mut self, gates: &BTreeMap<String, bool>) {
        if !gates.is_empty() {
            let gates: Vec<_> = gates.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
            self.set("feature-gates", gates.join(","));
        }
    }

    /// Takes a generated flag out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The flags by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The generated flags under the overrides, as `--name=value`. A repeated flag keeps the order
    /// of its values, which can matter (the first service account issuer signs).
    #[must_use]
    pub fn merged(&self, overrides: &IndexMap<String, ArgumentValues>, order: FlagOrder) -> Vec<String> {
        let kept = self.0.iter().filter(|(name, _)| !overrides.contains_key(*name));
        let given = overrides.iter().flat_map(|(name, values)| values.0.iter().map(move |value| (name, value)));
        let mut flags: Vec<_> = kept.chain(given).collect();
        if order == FlagOrder::Sorted {
            flags.sort_by_key(|(name, _)| *name);
        }
        flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }
}

/// The first value the plan gives for a flag, if it gives one.
#[must_use]
pub fn override_of<'a>(overrides: &'a IndexMap<String, ArgumentValues>, name: &str) -> Option<&'a str> {
    overrides.get(name)?.0.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(order: FlagOrder, expected: &[&str]) {
        let mut flags = Flags::default();
        flags.set_all([("v", "1"), ("bind-address", "127.0.0.1"), ("profiling", "true")]);
        let overrides: IndexMap<String, ArgumentValues> = [
            ("profiling".to_owned(), ArgumentValues(vec![])),
            ("issuer".to_owned(), ArgumentValues(vec!["z".into(), "a".into()])),
            ("bind-address".to_owned(), "0.0.0.0".into()),
        ]
        .into();
        assert_eq!(flags.merged(&overrides, order), expected);
    }

    #[test]
    fn overrides_replace_repeat_and_remove() {
        check(FlagOrder::Sorted, &["--bind-address=0.0.0.0", "--issuer=z", "--issuer=a", "--v=1"]);
        check(FlagOrder::OverridesLast, &["--v=1", "--issuer=z", "--issuer=a", "--bind-address=0.0.0.0"]);
    }
}
