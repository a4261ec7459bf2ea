//! The one program in the lab's own container images.
//!
//! Debian has neither a pause container nor CoreDNS, and tests need something
//! small to run in pods. This program is all of these, chosen by its first
//! argument. It uses the standard library alone, so that `rustc` builds it
//! static, without Cargo, and it runs in an image with nothing else in it.

mod dns;

use dns::{Zone, answer_dns, answer_dns_stream, domain, resolve};
use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
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
        service_address: std::env::var("KUBERNETES_SERVICE_HOST")
            .ok()
            .and_then(|a| a.parse().ok()),
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

/// Tells every visitor who answers and who asked.
fn serve(port: u16) -> Result<()> {
    process::end_on_signals();
    answer_http(&listen(port)?, |peer| {
        format!("{}\n{}\n", hostname(), peer.ip().to_canonical())
    });
    Ok(())
}

fn answer_http(listener: &TcpListener, body: impl Fn(SocketAddr) -> String) {
    for mut stream in listener.incoming().flatten() {
        let Ok(peer) = stream.peer_addr() else {
            continue;
        };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        // All of the question: what is left unread when the connection ends resets it, and the
        // answer may be lost with that.
        let mut question = Vec::new();
        let mut chunk = [0; 4096];
        while !question.ends_with(b"\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(length @ 1..) if question.len() < 1 << 16 => {
                    question.extend_from_slice(&chunk[..length])
                }
                _ => break,
            }
        }
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
        Some((host, port)) if !port.ends_with(']') => (
            host,
            port.parse().map_err(|_| Error::other("bad port number"))?,
        ),
        _ => (authority, 80),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = resolve(host, None)?;
    let address = *addresses
        .first()
        .ok_or_else(|| Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let question = format!("GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    print!("{body}");
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(Error::other(
            head.lines().next().unwrap_or("no answer").to_string(),
        )),
    }
}

fn print_addresses(name: &str, server: Option<&str>) -> Result<()> {
    for address in resolve(name, server)? {
        println!("{address}");
    }
    Ok(())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_string()
}
