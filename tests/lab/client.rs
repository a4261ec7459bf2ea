//! A client of the API on a host, which connects anew for every request through the host's own proxy and
//! tries nothing again: whatever goes wrong is counted.
//!
//! A read that is on its way while etcd's leadership moves gets `leader changed` from etcd. API servers of
//! v1.35 and v1.36 ask again (`etcd3retry` in k8s.io/apiserver); those of v1.20 hand it to their client as
//! a 500, whoever moves leadership. Such reads are counted apart, and there may be one for each move.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::slipway::Desk;

/// Reads and writes through the host's own proxy until the file `stop` is there. Each request has a
/// connection of its own and nothing is tried again, so that whatever goes wrong is counted.
const CLIENT: &str = r#"#!/bin/bash
cd /root/client
ask() {
  printf '%s' "$1" | timeout 30 openssl s_client -quiet -verify_quiet -verify_return_error -connect 127.0.0.1:6443 \
    -CAfile /etc/kubernetes/pki/ca.crt -cert client.crt -key client.key 2>"error.$2"
}
head=$'Host: kubernetes\r\nConnection: close\r\n'
reader() {
  n=0
  while [ ! -e stop ]; do
    answer=$(ask $'GET /api/v1/namespaces/default HTTP/1.1\r\n'"$head"$'\r\n' read)
    n=$((n + 1))
    case $answer in
    'HTTP/1.1 200 '*) ;;
    *'etcdserver: leader changed'*) date +%T.%N >>leaders ;;
    *) echo "$(date +%T.%N) read ${answer:0:900} $(tail -n 3 error.read)" >>failures ;;
    esac
  done
  echo "$n" >read
}
writer() {
  n=0
  while [ ! -e stop ]; do
    body="{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"written-$n\"}}"
    request=$'POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\n'"$head"$'Content-Type: application/json\r\nContent-Length: '"${#body}"
    answer=$(ask "$request"$'\r\n\r\n'"$body" write)
    case $answer in 'HTTP/1.1 201 '*) echo "written-$n" >>acknowledged ;; *) echo "$(date +%T.%N) write ${answer:0:200} $(tail -n 3 error.write)" >>failures ;; esac
    n=$((n + 1))
  done
  echo "$n" >write
}
touch acknowledged failures leaders
reader & writer &
wait
touch ended
"#;

/// How often leadership may move in a story: before each restart of a member that leads, and when one is lost.
const MOVES: usize = 6;

/// A client that reads and writes.
pub struct Client<'a> {
    machines: &'a Machines,
    host: &'a str,
}

/// What became of its requests.
pub struct Heard {
    reads: u32,
    writes: u32,
    /// Reads that were on their way while etcd's leadership moved.
    leaders: usize,
    /// Requests that were not answered as they should be.
    pub failures: Vec<String>,
    /// What the API said it stored.
    pub acknowledged: Vec<String>,
}

impl<'a> Client<'a> {
    /// Starts it on a host with a local proxy; it has written something when this returns.
    pub fn start(machines: &'a Machines, desk: &Desk, plan: &str, host: &'a str) -> Self {
        let file = desk.path("client.kubeconfig");
        desk.run_for(0, &["kubeconfig", plan, "--out", &file.display().to_string()]);
        let text = std::fs::read_to_string(&file).expect("a kubeconfig was written");
        machines.shell(host, "mkdir -p /root/client");
        for (name, field) in [("client.crt", "client-certificate-data"), ("client.key", "client-key-data")] {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{field}: "))).expect("the field is there");
            machines.shell(host, &format!("printf %s {line} | base64 -d >/root/client/{name}"));
        }
        let script = desk.path("client.sh");
        std::fs::write(&script, CLIENT).expect("a script can be written");
        machines.put(host, &script, "/root/client/client.sh");
        machines.shell(host, "setsid bash /root/client/client.sh >/dev/null 2>&1 </dev/null &");
        eventually("the client writes", Duration::from_secs(20), || {
            let written = machines.shell(host, "wc -l </root/client/acknowledged || echo 0");
            if written.trim().parse::<u32>().is_ok_and(|lines| lines > 20) { Ok(()) } else { Err(written) }
        });
        Self { machines, host }
    }

    /// Ends it.
    pub fn stop(self) -> Heard {
        self.machines.shell(self.host, "touch /root/client/stop; until [ -e /root/client/ended ]; do sleep 0.2; done");
        let lines = |name: &str| -> Vec<String> {
            self.machines.shell(self.host, &format!("cat /root/client/{name}")).lines().map(str::to_owned).collect()
        };
        let number = |name: &str| lines(name).concat().trim().parse().expect("a number");
        let leaders = lines("leaders").len();
        assert!(leaders <= MOVES, "{leaders} reads met a change of etcd's leader");
        Heard { reads: number("read"), writes: number("write"), leaders, failures: lines("failures"), acknowledged: lines("acknowledged") }
    }
}

impl Heard {
    /// What was acknowledged and is not there.
    pub fn lost(&self, cluster: &Cluster) -> Vec<String> {
        let stored = cluster.kubectl(&["get", "configmaps", "--output", "jsonpath={.items[*].metadata.name}"]);
        let stored: BTreeSet<&str> = stored.split_whitespace().collect();
        self.acknowledged.iter().filter(|name| !stored.contains(name.as_str())).cloned().collect()
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reads, writes, leaders, failures, .. } = self;
        write!(f, "{reads} reads ({leaders} while etcd's leader changed), {writes} writes, {} failures: {failures:#?}", failures.len())
    }
}
