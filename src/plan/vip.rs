//! The virtual address in the plan: an address that the control planes hold among themselves.

use std::net::IpAddr;
use std::num::NonZeroU8;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use super::schema::AddressText;

/// An address that the control planes hold among themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vip {
    /// The address: one that no machine has, of the family and the network of the control planes'
    /// own addresses.
    #[schemars(with = "AddressText")]
    pub address: IpAddr,
    /// The port at which haproxy answers on every control plane, and so the one clients use. The API
    /// servers beside it keep 6443.
    #[serde(default = "defaults::vip_port")]
    pub port: u16,
    /// The network interface that gets the address; left out, on each host the one with its `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// VRRP's number for this group of hosts, 1 to 255: no other group in the same network may have it. Left out,
    /// the last byte of the address (255 if that is 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_router_id: Option<NonZeroU8>,
    /// The port, on the loopback of each control plane, at which haproxy tells keepalived how the API
    /// servers are.
    #[serde(default = "defaults::vip_health_port")]
    pub health_port: u16,
    /// The keepalived image. It must have a shell, and curl or wget.
    #[serde(default = "defaults::keepalived_image")]
    pub keepalived_image: String,
    /// The haproxy image.
    #[serde(default = "defaults::proxy_image")]
    pub haproxy_image: String,
}

impl Vip {
    /// VRRP's number for this group of hosts.
    #[must_use]
    pub fn router_id(&self) -> NonZeroU8 {
        let last = match self.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        self.virtual_router_id.or(NonZeroU8::new(last)).unwrap_or(NonZeroU8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_group_is_given_or_follows_from_the_address() {
        for (text, expected) in [
            ("{address: 192.0.2.100}", 100),
            ("{address: 192.0.3.0}", 255),
            ("{address: '2001:db8::1:11'}", 17),
            ("{address: 192.0.2.100, virtualRouterId: 7}", 7),
        ] {
            let vip: Vip = crate::yaml::read(text).unwrap();
            assert_eq!(vip.router_id().get(), expected, "{text}");
        }
    }
}
