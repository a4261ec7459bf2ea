//! Names and addresses of the lab's hosts.
//!
//! A host's address follows from its name alone, so plan files and tests can
//! be written before a host exists, and hosts can be added in any order.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The bridge all hosts are on.
pub const BRIDGE: &str = "slipway0";
/// The machine's own address on that bridge.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
/// Bits of the network in an address.
pub const PREFIX_LENGTH: u8 = 16;

/// Numbered names and the last octet just before their number 1.
const NUMBERED: [(&str, u8); 3] = [("cp-", 10), ("worker-", 50), ("etcd-", 90)];
/// Highest number of a numbered name.
const NUMBERED_MAXIMUM: u8 = 39;
/// Numbered names for measuring with many hosts: `fleet-N` is 10.91.1.N.
const FLEET: &str = "fleet-";
/// Highest number of those.
pub const FLEET_MAXIMUM: u8 = 250;
/// All other names share the octets from here to 249.
const OTHER_FIRST: u8 = 130;
const OTHER_COUNT: u64 = 120;

/// The first `count` of cp-1, cp-2, cp-3, worker-1, worker-2, …
pub fn default_names(count: u8) -> Vec<String> {
    (1..=count)
        .map(|number| match number {
            1..=3 => format!("cp-{number}"),
            _ => format!("worker-{}", number - 3),
        })
        .collect()
}

/// The address of a host.
pub fn address(name: &str) -> Ipv4Addr {
    let number = |prefix: &str, most: u8| {
        let number: u8 = name.strip_prefix(prefix)?.parse().ok()?;
        let plain = name.len() == prefix.len() + number.to_string().len();
        (plain && (1..=most).contains(&number)).then_some(number)
    };
    if let Some(number) = number(FLEET, FLEET_MAXIMUM) {
        return Ipv4Addr::new(10, 91, 1, number);
    }
    let numbered = NUMBERED
        .iter()
        .find_map(|(prefix, before)| Some(before + number(prefix, NUMBERED_MAXIMUM)?));
    let octet = numbered.unwrap_or_else(|| {
        // FNV-1a: small, fixed for ever, and spreads short names well.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        OTHER_FIRST + (hash % OTHER_COUNT) as u8
    });
    Ipv4Addr::new(10, 91, 0, octet)
}

/// Checks the names of all hosts of the lab together.
pub fn check<'name>(names: impl IntoIterator<Item = &'name str>) -> Result<()> {
    let mut taken = BTreeMap::new();
    for name in names {
        let characters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ends = name.starts_with('-') || name.ends_with('-');
        if name.is_empty() || name.len() > 40 || ends || !name.chars().all(characters) {
            return Err(Error::new(format!(
                "`{name}` cannot be a host name: use 1 to 40 of a-z, 0-9 and `-`, no `-` at the ends"
            )));
        }
        if let Some(other) = taken.insert(address(name), name).filter(|o| *o != name) {
            return Err(Error::new(format!(
                "hosts `{other}` and `{name}` would both get {}: choose another name, \
                 or one like cp-4, worker-3, etcd-1, which never collide",
                address(name)
            )));
        }
    }
    Ok(())
}

/// The `/etc/hosts` of every host.
pub fn hosts_file<'name>(own: &'name str, names: impl IntoIterator<Item = &'name str>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    let mut all: Vec<&str> = names.into_iter().chain([own]).collect();
    all.sort_unstable();
    all.dedup();
    for name in all {
        text.push_str(&hosts_line(name));
    }
    text
}

/// One host's line in `/etc/hosts`.
pub fn hosts_line(name: &str) -> String {
    format!("{} {name}\n", address(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_have_fixed_addresses() {
        assert_eq!(address("cp-1").to_string(), "10.91.0.11");
        assert_eq!(address("worker-39").to_string(), "10.91.0.89");
        assert_eq!(address("etcd-1").to_string(), "10.91.0.91");
        assert_eq!(address("fleet-100").to_string(), "10.91.1.100");
    }

    #[test]
    fn other_names_stay_in_their_range() {
        for name in ["jump", "fleet-251", "cp-01", "cp-0", "cp-40", "a", "worker-"] {
            let octet = address(name).octets()[3];
            assert!((130..250).contains(&octet), "{name} got {octet}");
        }
    }

    #[test]
    fn bad_and_colliding_names_are_refused() {
        assert!(check(["cp-1", "cp-2", "jump"]).is_ok());
        for name in ["", "-a", "a-", "Upper", "dot.ted"] {
            assert!(check([name]).is_err(), "{name}");
        }
        let names: Vec<String> = (0..200).map(|number| format!("host{number}")).collect();
        assert!(check(names.iter().map(String::as_str)).is_err());
    }

    #[test]
    fn default_names_start_with_three_control_planes() {
        assert_eq!(
            default_names(5),
            ["cp-1", "cp-2", "cp-3", "worker-1", "worker-2"]
        );
    }

    #[test]
    fn hosts_file_has_each_name_once() {
        let text = hosts_file("cp-1", ["worker-1", "cp-1"]);
        assert_eq!(text.matches("cp-1").count(), 1);
        assert!(text.ends_with("10.91.0.11 cp-1\n10.91.0.51 worker-1\n"));
    }
}
