//! The one program in the lab's own container images.
//!
//! Debian has neither a pause container nor CoreDNS, and tests need something
//! small to run in pods. This program is all of these, chosen by its first
//! argument. It uses the standard library alone, so that `rustc` builds it
//! static, without Cargo, and it runs in an image with nothing else in it.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const USAGE: &str = "usage: lab-tool pause | coredns [-conf FILE] | serve [--port PORT] \
    | get URL | resolve NAME [SERVER]";

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["pause", ..] => process::wait_forever(),
        ["coredns", options @ ..] => coredns(value(options, "-conf")),
        ["serve", options @ ..] => match value(options, "--port").unwrap_or("8080").parse() {
            Ok(port) => serve(port),
            Err(_) => Err(Error::other("--port takes a number from 1 to 65535")),
        },
        ["get", url] => get(url),
        ["resolve", name] => print_addresses(name, None),
        ["resolve", name, server] => print_addresses(name, Some(server)),
        _ => Err(Error::other(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-tool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn value<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    let position = options.iter().position(|option| *option == name)?;
    options.get(position + 1).copied()
}

/// The first process of a pod: waits, and takes care of orphans.
mod process {
    const INTERRUPT: i32 = 2;
    const TERMINATE: i32 = 15;
    const CHILD: i32 = 17;
    const NO_HANG: i32 = 1;

    // The standard library has no signals, and this program no dependencies.
    unsafe extern "C" {
        safe fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        safe fn pause() -> i32;
        safe fn _exit(status: i32) -> !;
    }

    extern "C" fn end(_: i32) {
        _exit(0)
    }

    extern "C" fn reap(_: i32) {
        // SAFETY: waitpid may be called in a signal handler, and a null status is allowed.
        while unsafe { waitpid(-1, std::ptr::null_mut(), NO_HANG) } > 0 {}
    }

    /// Lets the process end on SIGINT and SIGTERM even as the first of a pod.
    pub fn end_on_signals() {
        signal(INTERRUPT, end);
        signal(TERMINATE, end);
    }

    /// What the pause container does.
    pub fn wait_forever() -> ! {
        end_on_signals();
        signal(CHILD, reap);
        loop {
            pause();
        }
    }
}

/// A stand-in for CoreDNS: knows the API server's Service and itself.
fn coredns(configuration: Option<&str>) -> Result<()> {
    process::end_on_signals();
    let text = match configuration {
        Some(path) => std::fs::read_to_string(path)?,
        None => String::new(),
    };
    let zone = Zone {
        service: format!("kubernetes.default.svc.{}", domain(&text)),
        service_address: std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|a| a.parse().ok()),
        own: hostname().to_lowercase(),
    };
    eprintln!("answering for {} and {}", zone.service, zone.own);
    for port in [8080, 8181, 9153] {
        let listener = listen(port)?;
        thread::spawn(move || answer_http(&listener, |_| "OK\n".into()));
    }
    let tcp = listen(53)?;
    let copy = zone.clone();
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let _ = answer_dns_stream(stream, &copy);
        }
    });
    let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53))
        .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)))?;
    let mut buffer = [0; 4096];
    loop {
        if let Ok((length, peer)) = udp.recv_from(&mut buffer)
            && let Some(answer) = answer_dns(&buffer[..length], &zone)
        {
            let _ = udp.send_to(&answer, peer);
        }
    }
}

/// What the stand-in can answer.
#[derive(Clone)]
struct Zone {
    service: String,
    service_address: Option<IpAddr>,
    own: String,
}

/// The cluster's domain: the first word after `kubernetes` in a Corefile.
fn domain(corefile: &str) -> &str {
    corefile
        .lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix("kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or("cluster.local", |domain| domain.trim_end_matches('.'))
}

fn answer_dns_stream(mut stream: TcpStream, zone: &Zone) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query)?;
    let answer = answer_dns(&query, zone).unwrap_or_default();
    stream.write_all(&(answer.len() as u16).to_be_bytes())?;
    stream.write_all(&answer)
}

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

fn answer_dns(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
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

/// Tells every visitor who answers and who asked.
fn serve(port: u16) -> Result<()> {
    process::end_on_signals();
    answer_http(&listen(port)?, |peer| format!("{}\n{}\n", hostname(), peer.ip().to_canonical()));
    Ok(())
}

fn answer_http(listener: &TcpListener, body: impl Fn(SocketAddr) -> String) {
    for mut stream in listener.incoming().flatten() {
        let Ok(peer) = stream.peer_addr() else {
            continue;
        };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.read(&mut [0; 4096]);
        let body = body(peer);
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

/// Prints what an HTTP server answers.
fn get(url: &str) -> Result<()> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| Error::other("only http:// addresses can be fetched"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| Error::other("bad port number"))?)
        }
        _ => (authority, 80),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = resolve(host, None)?;
    let address = *addresses.first().ok_or_else(|| Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    print!("{body}");
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(Error::other(head.lines().next().unwrap_or("no answer").to_string())),
    }
}

fn print_addresses(name: &str, server: Option<&str>) -> Result<()> {
    for address in resolve(name, server)? {
        println!("{address}");
    }
    Ok(())
}

/// Asks a name server, by default those of resolv.conf with its search list.
fn resolve(name: &str, server: Option<&str>) -> Result<Vec<IpAddr>> {
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
    let server = servers.first().ok_or_else(|| Error::other("no name server is set"))?;
    let mut candidates = vec![name.trim_end_matches('.').to_string()];
    if !name.ends_with('.') {
        candidates.extend(words("search ").iter().map(|domain| format!("{name}.{domain}")));
    }
    for candidate in candidates {
        let mut found = ask(&candidate, TYPE_A, server)?;
        found.extend(ask(&candidate, TYPE_AAAA, server)?);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(Error::new(ErrorKind::NotFound, format!("{name} does not exist at {server}")))
}

fn ask(name: &str, kind: u16, server: &str) -> Result<Vec<IpAddr>> {
    let server: IpAddr = server.parse().map_err(|_| Error::other("bad name server address"))?;
    let mut query = vec![0x51, 0x1d, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
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

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_string()
}

/// The address this pod would use to talk to others.
fn own_address() -> Option<IpAddr> {
    let target: IpAddr = std::env::var("KUBERNETES_SERVICE_HOST").ok()?.parse().ok()?;
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
