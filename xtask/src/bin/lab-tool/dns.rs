//! As much of the DNS protocol as the lab needs: answering for the API server's
//! Service, and asking for addresses.

use super::PATIENCE;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};

/// What the stand-in can answer.
#[derive(Clone)]
pub struct Zone {
    /// The API server's name.
    pub service: String,
    /// Its address.
    pub service_address: Option<IpAddr>,
    /// The name of this pod.
    pub own: String,
}

/// The cluster's domain: the first word after `kubernetes` in a Corefile.
pub fn domain(corefile: &str) -> &str {
    corefile
        .lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix("kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or("cluster.local", |domain| domain.trim_end_matches('.'))
}

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// Answers one query; none when it cannot be understood.
pub fn answer_dns(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (name, end) = read_name(query, 12)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    let name = name.to_lowercase();
    let address = if name == zone.service {
        Some(zone.service_address)
    } else if name == zone.own {
        Some(own_address())
    } else {
        None
    };
    let found = match (kind, address.flatten()) {
        (TYPE_A, Some(IpAddr::V4(address))) => address.octets().to_vec(),
        (TYPE_AAAA, Some(IpAddr::V6(address))) => address.octets().to_vec(),
        _ => Vec::new(),
    };
    let code: u8 = if address.is_none() { 3 } else { 0 };
    let count = u8::from(!found.is_empty());
    let mut answer = query.get(..2)?.to_vec();
    // Response, authoritative, recursion as asked for.
    answer.extend([0x84 | (query[2] & 1), code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(query.get(12..end + 4)?);
    if count == 1 {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 5]);
        answer.extend((found.len() as u16).to_be_bytes());
        answer.extend(found);
    }
    Some(answer)
}

/// Reads a name of a message; returns it and where it ends.
fn read_name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut position = start;
    loop {
        let length = usize::from(*message.get(position)?);
        match length {
            0 => return Some((labels.join("."), position + 1)),
            1..=63 => {
                let label = message.get(position + 1..position + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                position += 1 + length;
            }
            // A pointer to an earlier name ends this one.
            _ => return Some((labels.join("."), position + 2)),
        }
    }
}

/// Answers one query of a TCP connection.
pub fn answer_dns_stream(mut stream: TcpStream, zone: &Zone) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query)?;
    let answer = answer_dns(&query, zone).unwrap_or_default();
    stream.write_all(&(answer.len() as u16).to_be_bytes())?;
    stream.write_all(&answer)
}

/// Asks a name server, by default those of resolv.conf with its search list.
pub fn resolve(name: &str, server: Option<&str>) -> Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let settings = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = |key: &str| -> Vec<String> {
        settings
            .lines()
            .filter_map(|line| line.strip_prefix(key))
            .flat_map(|rest| rest.split_whitespace().map(String::from))
            .collect()
    };
    let servers = server.map_or_else(|| words("nameserver "), |server| vec![server.to_string()]);
    let server = servers
        .first()
        .ok_or_else(|| Error::other("no name server is set"))?;
    let mut candidates = vec![name.trim_end_matches('.').to_string()];
    if !name.ends_with('.') {
        candidates.extend(
            words("search ")
                .iter()
                .map(|domain| format!("{name}.{domain}")),
        );
    }
    for candidate in candidates {
        let mut found = ask(&candidate, TYPE_A, server)?;
        found.extend(ask(&candidate, TYPE_AAAA, server)?);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("{name} does not exist at {server}"),
    ))
}

fn ask(name: &str, kind: u16, server: &str) -> Result<Vec<IpAddr>> {
    let server: IpAddr = server
        .parse()
        .map_err(|_| Error::other("bad name server address"))?;
    let mut query = vec![0x51, 0x1d, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..64).contains(length));
        query.push(length.ok_or_else(|| Error::other("this cannot be a name"))?);
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    let local: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    socket.send(&query)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    Ok(read_addresses(&buffer[..length]).unwrap_or_default())
}

fn read_addresses(message: &[u8]) -> Option<Vec<IpAddr>> {
    let count = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let mut position = read_name(message, 12)?.1 + 4;
    let mut found = Vec::new();
    for _ in 0..count {
        position = read_name(message, position)?.1;
        let kind = u16::from_be_bytes(message.get(position..position + 2)?.try_into().ok()?);
        let length = message.get(position + 8..position + 10)?.try_into().ok()?;
        let end = position + 10 + usize::from(u16::from_be_bytes(length));
        let data = message.get(position + 10..end)?;
        match kind {
            TYPE_A => found.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            TYPE_AAAA => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => {}
        }
        position = end;
    }
    Some(found)
}

/// The address this pod would use to talk to others.
fn own_address() -> Option<IpAddr> {
    let target: IpAddr = std::env::var("KUBERNETES_SERVICE_HOST")
        .ok()?
        .parse()
        .ok()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((target, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone {
            service: "kubernetes.default.svc.cluster.test".into(),
            service_address: Some([10, 96, 0, 1].into()),
            own: "coredns-1".into(),
        }
    }

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.push(0);
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    #[test]
    fn the_service_has_an_address_of_its_family_only() {
        let name = "Kubernetes.default.svc.cluster.test";
        let answer = answer_dns(&query(name, TYPE_A), &zone()).unwrap_or_default();
        assert_eq!(read_addresses(&answer), Some(vec![[10, 96, 0, 1].into()]));
        let answer = answer_dns(&query(name, TYPE_AAAA), &zone()).unwrap_or_default();
        assert_eq!((answer[3], read_addresses(&answer)), (0, Some(vec![])));
    }

    #[test]
    fn other_names_do_not_exist_and_garbage_gets_no_answer() {
        let answer = answer_dns(&query("example.test", TYPE_A), &zone()).unwrap_or_default();
        assert_eq!(answer[3], 3);
        assert!(answer_dns(&[0; 12], &zone()).is_none());
        assert!(answer_dns(&[], &zone()).is_none());
    }

    #[test]
    fn the_domain_comes_from_the_corefile() {
        let corefile = ".:53 {\n    kubernetes cluster.test in-addr.arpa {\n    }\n}\n";
        assert_eq!(domain(corefile), "cluster.test");
        assert_eq!(domain(""), "cluster.local");
    }
}
