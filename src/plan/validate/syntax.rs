//! The written forms of things that a plan names as plain text: DNS names, image references,
//! URLs, jump hosts, host keys. Each function says what is wrong, or nothing.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::names::is_dns_label;

/// An RFC 1123 subdomain: lower-case labels joined by dots, at most 253 characters.
pub(super) fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// What may stand in a certificate as a subject alternative name (kubeadm's rule): an IP
/// address, a DNS name, or a wildcard `*.name`.
pub(super) fn is_subject_name(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_dns_name(text) && !looks_like_ipv4(text) || text.strip_prefix("*.").is_some_and(is_dns_name)
}

/// Four numbers with dots: a mistyped address rather than a name.
pub(super) fn looks_like_ipv4(text: &str) -> bool {
    text.split('.').count() == 4 && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// An address that clients can be told: DNS name or IP.
pub(super) fn is_host_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_dns_name(text) && !looks_like_ipv4(text)
}

/// `https://host[:port][/path]`; with `also_http`, `http://` too.
pub(super) fn wrong_url(text: &str, also_http: bool) -> Option<&'static str> {
    let rest = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => rest,
        (None, Some(rest)) if also_http => rest,
        _ if also_http => return Some("it must start with `https://` or `http://`"),
        _ => return Some("it must start with `https://`"),
    };
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '\'' || c == '\\') {
        return Some("it holds white space, a quote, a backslash or a control character");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("it holds a user name or password");
    }
    if host_and_port(authority).is_none() { Some("it has no valid host and port") } else { None }
}

/// Splits `host[:port]` (an IPv6 host in brackets); the port is 1 to 65535.
pub(super) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let valid = host.parse::<IpAddr>().is_ok() || is_loose_host(host);
    let port = match port {
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
        None => None,
    };
    valid.then_some((host, port))
}

/// A host as SSH and URLs accept it: also upper case, `_` and aliases of an SSH configuration.
fn is_loose_host(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// A login name that is no option and needs no quoting.
pub(super) fn is_user(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+@\\".contains(&b))
}

/// A network interface (the kernel's `dev_valid_name`, and of that only what needs no quoting).
pub(super) fn is_interface(text: &str) -> bool {
    (1..16).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@".contains(&b))
}

/// `[user@]host[:port]`.
pub(super) fn is_jump_host(text: &str) -> bool {
    let (user, rest) = text.rsplit_once('@').map_or((None, text), |(user, rest)| (Some(user), rest));
    user.is_none_or(is_user) && host_and_port(rest).is_some()
}

/// A name or address to connect to.
pub(super) fn is_ssh_target(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_loose_host(text)
}

/// A public key as in known-hosts files: type and base64, where the key starts with its type
/// (RFC 4253, section 6.6).
pub(super) fn is_host_key(text: &str) -> bool {
    let mut parts = text.split_ascii_whitespace();
    let (Some(kind), Some(key)) = (parts.next(), parts.next()) else { return false };
    let Ok(bytes) = BASE64_STANDARD.decode(key) else { return false };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    rest.get(..u32::from_be_bytes(*length) as usize) == Some(kind.as_bytes())
}

/// An image reference: `[registry[:port]/]name[:tag][@sha256:digest]` (the grammar of the OCI
/// distribution specification, read loosely).
pub(super) fn is_image(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let digest_fits = digest.is_none_or(|digest| {
        digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    let last_slash = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[last_slash..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let tag_fits = tag.is_none_or(|tag| {
        (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    digest_fits && tag_fits && is_repository(repository)
}

/// `[registry[:port]/]path`.
pub(super) fn is_repository(text: &str) -> bool {
    let (registry, path) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    };
    let part_fits = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && part.as_bytes()[0].is_ascii_alphanumeric()
            && part.as_bytes()[part.len() - 1].is_ascii_alphanumeric()
    };
    registry.is_none_or(|registry| host_and_port(registry).is_some()) && path.split('/').all(part_fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows which texts a check gets wrong.
    fn check(accepts: impl Fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        let wrong: Vec<_> = good.iter().filter(|text| !accepts(text)).chain(bad.iter().filter(|text| accepts(text))).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn written_forms() {
        check(is_subject_name, &["10.0.0.1", "::1", "api.example.test", "*.example.test"], &["", "a b", "10.0.0.300", "*", "a.*.b", "A.b"]);
        check(is_jump_host, &["jump", "ann@jump.example.test:2222", "10.0.0.1", "ann@[fd00::1]:22"], &["", "@jump", "-oProxyCommand=x", "jump:0", "a b", "ann@"]);
        check(
            is_image,
            &["pause", "registry.k8s.io/pause:3.10", "lab.local/haproxy:2.6", "localhost:5000/a/b", &format!("a/b:c@sha256:{}", "0".repeat(64))],
            &["", "a b", "A/b", "registry.k8s.io/", "a:", "a@sha256:12", "a/b:c:d", "https://a/b", "-a"],
        );
        check(|text| wrong_url(text, false).is_none(), &["https://a.example.test/x?y", "https://[fd00::1]:8443"], &["http://a", "https://", "https://a b", "https://u:p@a", "ftp://a", "https://a:99999"]);
        check(is_interface, &["eth0", "bond0.100", "enp1s0f0np0"], &["", ".", "a b", "a/b", "eth0;x", "sixteen-letters-x"]);
        let key = format!("ssh-ed25519 {}", BASE64_STANDARD.encode(b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x01x"));
        check(is_host_key, &[&key, &format!("{key} comment")], &["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa !!", &key.replace("ssh-ed25519 ", "ssh-rsa ")]);
    }
}
