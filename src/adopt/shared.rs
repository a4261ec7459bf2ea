//! What is the same on all hosts belongs to the plan, what differs to a host.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::HostName;

/// Values by key that every host has alike, and the others by host.
pub(super) type Parted<T> = (BTreeMap<String, T>, BTreeMap<HostName, BTreeMap<String, T>>);

/// Parts what all hosts share from what single ones have.
pub(super) fn part<T: Clone + PartialEq>(of_hosts: &BTreeMap<HostName, BTreeMap<String, T>>) -> Parted<T> {
    let keys: BTreeSet<&String> = of_hosts.values().flat_map(BTreeMap::keys).collect();
    let (mut common, mut own): Parted<T> = Default::default();
    for key in keys {
        let values: Vec<Option<&T>> = of_hosts.values().map(|values| values.get(key)).collect();
        match values.split_first() {
            Some((Some(first), rest)) if rest.iter().all(|value| *value == Some(first)) => {
                common.insert(key.clone(), (*first).clone());
            }
            _ => {
                for (host, values) in of_hosts {
                    if let Some(value) = values.get(key) {
                        own.entry(host.clone()).or_default().insert(key.clone(), value.clone());
                    }
                }
            }
        }
    }
    (common, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_host_has_alike_is_common() {
        let host = |name: &str, values: &[(&str, u8)]| {
            (name.parse().unwrap(), values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect())
        };
        let (common, own) = part(&[host("a", &[("x", 1), ("y", 1), ("z", 1)]), host("b", &[("x", 1), ("y", 2)])].into());
        assert_eq!(common, [("x".to_owned(), 1)].into());
        assert_eq!(own, [host("a", &[("y", 1), ("z", 1)]), host("b", &[("y", 2)])].into());
    }
}
