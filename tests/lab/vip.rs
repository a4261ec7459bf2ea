//! Three control planes hold one address among themselves. It leaves a host that is lost, and one whose API
//! server stays down, it does not come back by itself, and it goes with the plan.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{VIP, plan, with_local_proxy, with_vip, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const ALL: [&str; 3] = ["pkg-31", "pkg-32", "pkg-33"];

/// The hosts, of these, that have the address.
fn holders<'a>(machines: &Machines, hosts: &[&'a str]) -> Vec<&'a str> {
    hosts.iter().filter(|host| machines.shell(host, "ip -o address show").contains(&format!(" {VIP}/"))).copied().collect()
}

/// The one of these that has the address, when it has settled.
fn holder<'a>(machines: &Machines, hosts: &[&'a str]) -> &'a str {
    eventually("one host has the address", Duration::from_secs(60), || match holders(machines, hosts)[..] {
        [one] => Ok(one),
        ref seen => Err(format!("{seen:?}")),
    })
}

/// What an API server says through the address, asked by a host with the kubeconfig of its administrator.
fn asked_from(machines: &Machines, host: &str) -> Result<(), String> {
    let kubectl = "timeout 5 /usr/local/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 3s get --raw /readyz";
    let output = machines.try_shell(host, kubectl);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn answers(machines: &Machines, host: &str) {
    let since = Instant::now();
    eventually("an API server answers at the address", Duration::from_secs(45), || asked_from(machines, host));
    eprintln!("it answered {host} after {:.1} s", since.elapsed().as_secs_f32());
}

#[test]
#[ignore = "takes minutes; `cargo xtask torture` runs it"]
fn the_address_stays_with_hosts_that_serve() {
    let machines = Machines::boot(&ALL);
    let desk = Desk::new();
    let plain = plan(&machines, &ALL.map(|name| (name, ["control-plane", "worker"].as_slice())));
    let file = write(&desk, "vip", &with_vip(plain.clone()));

    machines.step("a cluster that is reached at an address of its own");
    let applied = desk.run_for(0, &["apply", &file]);
    eprintln!("{}", applied.out);
    let cluster = Cluster::of(&desk, &machines, &file, ALL[0]);
    cluster.nodes_are_ready(&ALL);
    nothing_is_left_to_do(&desk, &file, 3);
    let admin = machines.shell(ALL[1], "cat /etc/kubernetes/admin.conf");
    assert!(admin.contains(&format!("server: https://{VIP}:8443")), "admin.conf names another server");
    for host in ALL {
        cluster.wait_for_pod("kube-system", &format!("slipway-api-vip-{host}"));
        asked_from(&machines, host).unwrap_or_else(|seen| panic!("{host}: {seen}"));
    }

    machines.step("the holder loses its power");
    let first = holder(&machines, &ALL);
    let others: Vec<&str> = ALL.into_iter().filter(|host| *host != first).collect();
    machines.power_off(first);
    answers(&machines, others[0]);
    let second = holder(&machines, &others);
    asked_from(&machines, others[1]).unwrap_or_else(|seen| panic!("{}: {seen}", others[1]));

    machines.step("it comes back, and the address stays where it is");
    machines.power_on(first);
    let there = cluster.at(&machines, second);
    there.wait_for_node(first, "True", Duration::from_secs(120));
    eventually("its API server is ready", Duration::from_secs(90), || cluster.at(&machines, first).ask(&["get", "--raw", "/readyz"]));
    assert_eq!(holders(&machines, &ALL), [second]);
    asked_from(&machines, first).unwrap_or_else(|seen| panic!("{first}: {seen}"));

    machines.step("an API server that stays down gives the address away, and is not missed meanwhile");
    machines.shell(second, "mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/");
    answers(&machines, first);
    let third = eventually("another host has the address", Duration::from_secs(120), || match holders(&machines, &ALL)[..] {
        [one] if one != second => Ok(one),
        ref seen => Err(format!("{seen:?}")),
    });
    answers(&machines, second);
    machines.shell(second, "mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/");
    eventually("its API server is ready", Duration::from_secs(90), || cluster.at(&machines, second).ask(&["get", "--raw", "/readyz"]));
    assert_eq!(holders(&machines, &ALL), [third]);
    nothing_is_left_to_do(&desk, &file, 3);

    machines.step("another endpoint takes pods and address with it");
    let file = write(&desk, "local", &with_local_proxy(plain));
    let shown = desk.run_for(0, &["diff", &file]);
    shown.says("former-endpoint");
    desk.run_for(0, &["apply", &file, "--yes"]);
    assert_eq!(holders(&machines, &ALL), [""; 0]);
    for host in ALL {
        let left = machines.shell(host, "ls /etc/slipway/api-vip /etc/kubernetes/manifests; ctr -n k8s.io containers ls");
        assert!(!left.contains("keepalived") && !left.contains("slipway-api-vip"), "{host}: {left}");
    }
    nothing_is_left_to_do(&desk, &file, 3);
}
