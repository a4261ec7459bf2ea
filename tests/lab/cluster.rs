//! The finished cluster as its users see it: through kubectl on this machine, which reaches the
//! hosts' network directly.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::machines::{Machines, eventually};
use super::slipway::Desk;

/// A cluster with an admin kubeconfig for it.
pub struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    server: String,
}

impl Cluster {
    /// The cluster of a plan, at one address of its API.
    pub fn of(desk: &Desk, machines: &Machines, plan: &str, control_plane: &str) -> Self {
        let kubeconfig = desk.path(&format!("{control_plane}.kubeconfig"));
        let server = format!("https://{}:6443", machines.address(control_plane));
        desk.run_for(0, &["kubeconfig", plan, "--server", &server, "--out", &kubeconfig.display().to_string()]);
        Self { kubectl: machines.program("kubectl"), kubeconfig, server }
    }

    /// The same cluster at the API of another control plane.
    pub fn at(&self, machines: &Machines, control_plane: &str) -> Self {
        let server = format!("https://{}:6443", machines.address(control_plane));
        Self { kubectl: self.kubectl.clone(), kubeconfig: self.kubeconfig.clone(), server }
    }

    /// Runs `kubectl …`.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--server").arg(&self.server).args(["--request-timeout", "15s"]).args(arguments);
        command.stdin(Stdio::null()).output().expect("kubectl runs")
    }

    /// Runs `kubectl …`; tells why it failed.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.try_kubectl(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// Runs `kubectl …`, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.ask(arguments).unwrap_or_else(|seen| panic!("kubectl {arguments:?}: {seen}"))
    }

    /// The status of each Node's condition Ready.
    pub fn nodes(&self) -> Result<Vec<(String, String)>, String> {
        let text = self.ask(&["get", "nodes", "--output", "json"])?;
        let nodes: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(nodes
            .iter()
            .map(|node| {
                let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
                let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
                (text(&node["metadata"]["name"]), ready.map_or_else(String::new, |ready| text(&ready["status"])))
            })
            .collect())
    }

    /// Exactly these Nodes are there and Ready, now.
    pub fn nodes_are_ready(&self, names: &[&str]) {
        let mut wanted: Vec<(String, String)> = names.iter().map(|name| ((*name).to_owned(), "True".to_owned())).collect();
        wanted.sort();
        let mut seen = self.nodes().unwrap_or_else(|seen| panic!("{seen}"));
        seen.sort();
        assert_eq!(seen, wanted);
    }

    /// Waits until a Node's Ready condition has this status.
    pub fn wait_for_node(&self, name: &str, status: &str, limit: Duration) {
        eventually(&format!("Node {name} has Ready={status}"), limit, || {
            let nodes = self.nodes()?;
            if nodes.iter().any(|(node, ready)| node == name && ready == status) { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
    }

    /// Starts a pod that answers over HTTP with its name, on this node.
    pub fn serve(&self, desk: &Desk, name: &str, node: &str) {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": "serve" } },
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "tool", "image": "lab.local/tool:1", "imagePullPolicy": "IfNotPresent", "args": ["serve", "--port", "8080"] }],
            },
        });
        let file = desk.path(&format!("{name}.json"));
        std::fs::write(&file, pod.to_string()).expect("an object can be written");
        self.kubectl(&["apply", "--filename", &file.display().to_string()]);
    }

    /// Waits until a pod of our own is Ready. Returns its address.
    pub fn pod_address(&self, name: &str) -> String {
        self.wait_for_pod("default", name)
    }

    /// Waits until a pod is Ready. Returns its address.
    pub fn wait_for_pod(&self, namespace: &str, name: &str) -> String {
        eventually(&format!("pod {name} is ready"), Duration::from_secs(120), || {
            let text = self.ask(&["--namespace", namespace, "get", "pod", name, "--output", "json"])?;
            let pod: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let ready = conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            match pod.pointer("/status/podIP").and_then(Value::as_str) {
                Some(address) if ready => Ok(address.to_owned()),
                _ => Err(pod["status"].to_string()),
            }
        })
    }

    /// What a pod gets from an address.
    pub fn get_from(&self, pod: &str, address: &str) -> Result<String, String> {
        self.ask(&["exec", pod, "--", "/usr/local/bin/lab-tool", "get", &format!("http://{address}/")])
    }
}
