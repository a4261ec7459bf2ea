//! The files of the virtual address, as keepalived, haproxy and the kubelet read them.

use serde_json::Value;

use super::*;
use crate::facts::InterfaceAddress;

const THREE: [&str; 3] = ["192.0.2.11", "192.0.2.12", "192.0.2.13"];

fn plan(endpoint: &str, addresses: &[&str]) -> Plan {
    let mut text = format!("version: 1\nkubernetes: {{version: v1.34.2}}\nendpoint: {endpoint}\nhosts:\n");
    for (index, address) in addresses.iter().enumerate() {
        text.push_str(&format!("  - {{name: cp-{}, address: '{address}', roles: [control-plane]}}\n", index + 1));
    }
    text.push_str("  - {name: w, address: 192.0.2.99, roles: [worker]}\n");
    yaml::read(&text).unwrap()
}

fn system(interface: &str, address: &str) -> System {
    let address = InterfaceAddress { interface: interface.into(), address: address.parse().unwrap(), prefix: 24 };
    System { addresses: vec![address], ..System::default() }
}

/// The texts of a host's files, by path.
fn texts(plan: &Plan, index: usize, system: &System) -> std::collections::BTreeMap<String, String> {
    let text = |artifact: &Artifact| match artifact {
        Artifact::File { path, content, .. } => (path.to_string(), content.review().to_owned()),
        other => panic!("{other:?}"),
    };
    artifacts(plan, &plan.hosts[index], system).iter().map(text).collect()
}

fn has_lines(text: &str, wanted: &[&str]) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for line in wanted {
        assert!(lines.contains(line), "`{line}` is not in\n{text}");
    }
}

#[test]
fn keepalived_speaks_to_every_other_control_plane_on_the_interface_of_the_hosts_address() {
    let plan = plan("{vip: {address: 192.0.2.100}}", &THREE);
    let texts = texts(&plan, 1, &system("bond0", "192.0.2.12"));
    let text = &texts[KEEPALIVED_FILE];
    has_lines(text, &[
        "interface bond0", "virtual_router_id 100", "priority 199", "unicast_src_ip 192.0.2.12", "state BACKUP", "nopreempt",
        "192.0.2.100/32 dev bond0", "vrrp_check_unicast_src", "192.0.2.11", "192.0.2.13",
    ]);
    assert!(!text.lines().any(|line| line.trim() == "192.0.2.12"), "it is no peer of its own:\n{text}");
    assert_eq!(text.matches('{').count(), text.matches('}').count());
}

#[test]
fn haproxy_listens_on_a_port_of_its_own_and_tells_of_the_server_beside_it() {
    let plan = plan("{vip: {address: 192.0.2.100, port: 9443, healthPort: 9444}}", &THREE);
    let texts = texts(&plan, 2, &System::default());
    has_lines(&texts[HAPROXY_FILE], &[
        "bind 0.0.0.0:9443", "bind 127.0.0.1:9444", "server cp-1 192.0.2.11:6443", "server cp-3 192.0.2.13:6443",
        "http-request return status 200 if { path /own } { srv_is_up(api-servers/cp-3) }",
    ]);
    has_lines(&texts[KEEPALIVED_FILE], &["script \"/etc/slipway/api-vip/check http://127.0.0.1:9444/own\"", "interface eth0"]);
}

#[test]
fn ipv6_has_brackets_where_a_port_follows_and_a_single_control_plane_has_no_peers() {
    let plan = plan("{vip: {address: '2001:db8::100', interface: lan0, virtualRouterId: 9}}", &["2001:db8::1"]);
    let texts = texts(&plan, 0, &system("eth7", "2001:db8::1"));
    has_lines(&texts[HAPROXY_FILE], &["bind [::]:8443", "server cp-1 [2001:db8::1]:6443"]);
    has_lines(&texts[KEEPALIVED_FILE], &["2001:db8::100/128 dev lan0", "virtual_router_id 9", "unicast_src_ip 2001:db8::1"]);
    assert!(!texts[KEEPALIVED_FILE].contains("unicast_peer"));
    let pod: Value = yaml::read(&texts[MANIFEST_FILE]).unwrap();
    assert_eq!(pod.pointer("/spec/containers/0/livenessProbe/tcpSocket/host"), Some(&Value::from("::1")));
}

#[test]
fn another_control_plane_makes_other_pods_on_all() {
    let endpoint = "{vip: {address: 192.0.2.100}}";
    let annotation = |addresses: &[&str]| {
        let pod: Value = yaml::read(&texts(&plan(endpoint, addresses), 0, &System::default())[MANIFEST_FILE]).unwrap();
        pod["metadata"]["annotations"]["slipway.dev/inputs"].clone()
    };
    assert_eq!(annotation(&THREE), annotation(&THREE));
    assert_ne!(annotation(&THREE), annotation(&THREE[..1]));
}

#[test]
fn what_another_endpoint_left_goes_and_what_this_one_needs_stays() {
    let gone = |endpoint: &str, host: usize| -> Vec<String> {
        let plan = plan(endpoint, &THREE);
        former(&plan, &plan.hosts[host]).iter().map(|artifact| artifact.id().rsplit('/').next().unwrap().to_owned()).collect()
    };
    let (control_plane, worker) = (0, 3);
    let (proxy, vip) = (["slipway-api-proxy.yaml", "haproxy.cfg"], ["slipway-api-vip.yaml", "haproxy.cfg", "keepalived.conf", "check"]);
    let both = [&proxy[..], &vip[..]].concat();
    assert_eq!(gone("{vip: {address: 192.0.2.100}}", control_plane), proxy);
    assert_eq!(gone("{vip: {address: 192.0.2.100}}", worker), both);
    assert_eq!(gone("{localProxy: {}}", worker), vip);
    assert_eq!(gone("{localProxy: {}}", control_plane), both);
    assert_eq!(gone("{external: {address: api.example.test}}", control_plane), both);
    assert_eq!(artifacts(&plan("{localProxy: {}}", &THREE), &plan("{localProxy: {}}", &THREE).hosts[0], &System::default()), []);
}

/// The check is tried with the shell: it asks the address, and its answer is the answer.
#[test]
fn the_check_answers_as_the_one_it_asks() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/own", listener.local_addr().unwrap());
    let answers = ["200 OK", "503 Service Unavailable"];
    let serving = std::thread::spawn(move || {
        for status in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = connection.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /own "));
            write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    let ask = || std::process::Command::new("sh").args(["-c", CHECK, "check", &address]).env_remove("http_proxy").status().unwrap().success();
    assert_eq!([ask(), ask()], [true, false]);
    serving.join().unwrap();
}
