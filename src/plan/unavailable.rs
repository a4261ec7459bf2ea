//! How many workers may be changed at once: a number, or a share of them as in Kubernetes' own
//! roll-outs. Pure.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A number of hosts, or a share of all workers of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// That many.
    Hosts(usize),
    /// So many of a hundred.
    Percent(usize),
}

impl Unavailable {
    /// How many of so many hosts. Shares are rounded down and come to one host at least, as a
    /// Deployment's `maxUnavailable` is (`ResolveFenceposts` in pkg/controller/deployment/util).
    #[must_use]
    pub fn of(self, hosts: usize) -> usize {
        match self {
            Self::Hosts(number) => number.max(1),
            Self::Percent(share) => (hosts.saturating_mul(share) / 100).max(1),
        }
    }

    /// Whether nothing would ever be done, or more than there is.
    #[must_use]
    pub fn is_possible(self) -> bool {
        match self {
            Self::Hosts(number) => number > 0,
            Self::Percent(share) => (1..=100).contains(&share),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(number) => number.fmt(f),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl FromStr for Unavailable {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let share = text.strip_suffix('%').and_then(digits).map(Self::Percent);
        share.or_else(|| digits(text).map(Self::Hosts)).ok_or_else(|| format!("`{text}` is neither a number of hosts nor a share like 10%"))
    }
}

struct UnavailableVisitor;

impl Visitor<'_> for UnavailableVisitor {
    type Value = Unavailable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of hosts or a share like 10%")
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Unavailable, E> {
        usize::try_from(number).map(Unavailable::Hosts).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Unavailable, E> {
        usize::try_from(number).map(Unavailable::Hosts).map_err(|_| E::custom(format!("`{number}` is negative")))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Unavailable, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Unavailable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnavailableVisitor)
    }
}

impl Serialize for Unavailable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hosts(number) => number.serialize(serializer),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl JsonSchema for Unavailable {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Unavailable".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": "^(100|[1-9][0-9]?)%$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_is_one_host_at_least() {
        for (text, hosts, expected) in
            [("10%", 100, 10), ("10%", 99, 9), ("10%", 9, 1), ("10%", 0, 1), ("100%", 7, 7), ("34%", 3, 1), ("67%", 3, 2), ("3", 100, 3), ("3", 1, 3)]
        {
            assert_eq!(text.parse::<Unavailable>().unwrap().of(hosts), expected, "{text} of {hosts}");
        }
    }

    #[test]
    fn what_is_written_comes_back_and_nonsense_does_not() {
        for text in ["1", "25%", "100%"] {
            let value: Unavailable = crate::yaml::read(text).unwrap();
            assert_eq!(value.to_string(), text);
            let again: Unavailable = crate::yaml::read(&crate::yaml::write(&value)).unwrap();
            assert_eq!(again, value);
            assert!(value.is_possible());
        }
        for text in ["-1", "1.5", "x", "%", "-5%", "+5%", "1.5%", "99999999999999999999%"] {
            assert!(crate::yaml::read::<Unavailable>(text).is_err(), "{text}");
        }
        for text in ["0", "0%", "101%"] {
            assert!(!text.parse::<Unavailable>().unwrap().is_possible(), "{text}");
        }
    }
}
