//! What a Node's condition `Ready` is worth. Pure.
//!
//! The condition outlives who said it: when a kubelet ends, nobody changes it before the controller manager
//! has missed the kubelet for `--node-monitor-grace-period` (40 s in v1.20, 50 s in v1.36). So one that is true
//! right after a restart says nothing about the kubelet that was started.
//!
//! What tells is `lastHeartbeatTime`. A kubelet writes it with every status it sends, and it sends one at
//! once when it has started, changed or not, because it does not know when the last one was sent
//! (`tryUpdateNodeStatus` in pkg/kubelet/kubelet_node_status.go, the same in v1.20 and v1.36). The time is by
//! the clock of the kubelet's host, in whole seconds, and so is the start that systemd noted: the two are
//! compared, and no other clock is asked. Nothing has to be remembered from before the restart, so a run
//! after one that was cut off judges as well as that would have.
//!
//! Where that does not decide (both in one second, or the host's clock was set meanwhile, or the host is not
//! reached), the Node's Lease does: the kubelet renews it every 10 s, in a loop beside the one for the status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::facts::Began;
use crate::names::HostName;
use crate::preflight::{Finding, Severity};
use crate::upgrade::turns::NodeSeen;

/// How often a Lease must be seen to be renewed before a condition is believed whose age is not clear. After
/// the second time the kubelet has had 10 s to say something else.
pub const RENEWALS: usize = 2;

/// Who said that a Node is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The kubelet that runs.
    ByThisKubelet,
    /// The one before it.
    ByAnEarlierOne,
    /// That cannot be told from times.
    Unclear,
}

/// When the Node's kubelet last said that it is ready, in seconds since 1970 by its own clock; none if it did
/// not say when.
///
/// # Errors
/// It is not ready; what is seen instead.
pub fn heartbeat(node: &Value) -> Result<Option<i64>, String> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    match ready {
        Some(ready) if ready["status"] == "True" => {
            let time = ready["lastHeartbeatTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
            Ok(time.map(Timestamp::as_second))
        }
        Some(ready) => Err(ready["message"].as_str().unwrap_or("not ready").to_owned()),
        None => Err("the kubelet has not reported yet".to_owned()),
    }
}

/// Who said it at that time, if the kubelet that runs was started then.
#[must_use]
pub fn judge(heartbeat: Option<i64>, began: Option<Began>) -> Said {
    let (Some(heartbeat), Some(began)) = (heartbeat, began) else { return Said::Unclear };
    let (first, last) = began.between();
    if heartbeat > last {
        Said::ByThisKubelet
    } else if heartbeat < first {
        Said::ByAnEarlierOne
    } else {
        Said::Unclear
    }
}

/// Warns of Nodes that count as ready by the word of a kubelet that has ended: a run that was cut off after a
/// restart leaves nothing to do, and the next one would not wait for them.
#[must_use]
pub fn unheard(nodes: &BTreeMap<HostName, NodeSeen>, kubelets: &BTreeMap<HostName, Began>) -> Vec<Finding> {
    let is_unheard = |host: &HostName, seen: &NodeSeen| seen.ready && judge(seen.reported, kubelets.get(host).copied()) == Said::ByAnEarlierOne;
    let finding = |host: &HostName| Finding {
        host: Some(host.clone()),
        check: "node-unheard",
        severity: Severity::Warning,
        message: "its kubelet was started and has not reported since; what the API says of its Node was said before".to_owned(),
        hint: "look at its log with `journalctl -u kubelet` if it stays so".to_owned(),
    };
    nodes.iter().filter(|(host, seen)| is_unheard(host, seen)).map(|(host, _)| finding(host)).collect()
}

/// A Lease that is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewals {
    last: Option<String>,
    seen: usize,
}

impl Renewals {
    /// Takes in what the Lease says. Whether it was renewed often enough since the first look. Its time is
    /// compared with itself alone, so it does not matter whose clock it is by.
    pub fn look(&mut self, lease: &Value) -> bool {
        let Some(renewed) = lease.pointer("/spec/renewTime").and_then(Value::as_str) else { return false };
        if self.last.as_deref() != Some(renewed) {
            self.seen += usize::from(self.last.is_some());
            self.last = Some(renewed.to_owned());
        }
        self.seen >= RENEWALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(status: &str, time: &str) -> Value {
        json!({ "status": { "conditions": [
            { "type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "2026-11-21T03:09:00Z" },
            { "type": "Ready", "status": status, "message": "PLEG is not healthy", "lastHeartbeatTime": time },
        ] } })
    }

    #[test]
    fn only_a_ready_node_has_a_heartbeat() {
        assert_eq!(heartbeat(&node("True", "1970-01-01T00:01:40Z")), Ok(Some(100)));
        assert_eq!(heartbeat(&node("True", "never")), Ok(None));
        assert_eq!(heartbeat(&node("Unknown", "1970-01-01T00:01:40Z")), Err("PLEG is not healthy".into()));
        assert_eq!(heartbeat(&json!({})), Err("the kubelet has not reported yet".into()));
    }

    #[test]
    fn what_was_said_before_the_start_is_of_the_past() {
        let began = Began { noted: 100, reckoned: 100 };
        assert_eq!(judge(Some(99), Some(began)), Said::ByAnEarlierOne);
        assert_eq!(judge(Some(100), Some(began)), Said::Unclear, "in the second of the start both may have spoken");
        assert_eq!(judge(Some(101), Some(began)), Said::ByThisKubelet);
        assert_eq!(judge(None, Some(began)), Said::Unclear);
        assert_eq!(judge(Some(101), None), Said::Unclear);
    }

    #[test]
    fn a_clock_that_was_set_proves_nothing() {
        // Back by an hour after the start: the last word of the old kubelet seems to be of the future.
        let back = Began { noted: 7_200, reckoned: 3_600 };
        assert_eq!(judge(Some(7_199), Some(back)), Said::Unclear);
        assert_eq!(judge(Some(3_610), Some(back)), Said::Unclear);
        // Forth: what the new kubelet said under the old clock seems to be long past.
        let forth = Began { noted: 3_600, reckoned: 7_200 };
        assert_eq!(judge(Some(3_605), Some(forth)), Said::Unclear);
        for began in [back, forth] {
            assert_eq!(judge(Some(3_599), Some(began)), Said::ByAnEarlierOne);
            assert_eq!(judge(Some(7_201), Some(began)), Said::ByThisKubelet);
        }
    }

    #[test]
    fn only_a_node_that_seems_ready_by_an_old_word_is_warned_of() {
        let node = |ready, reported| NodeSeen { ready, reported: Some(reported), ..NodeSeen::default() };
        let name = |name: &str| name.parse::<HostName>().unwrap();
        let nodes = [("old", node(true, 99)), ("new", node(true, 101)), ("away", node(true, 99)), ("unready", node(false, 99))];
        let nodes = nodes.map(|(host, node)| (name(host), node)).into();
        let began = Began { noted: 100, reckoned: 100 };
        let kubelets = ["old", "new", "unready"].map(|host| (name(host), began)).into();
        let told: Vec<String> = unheard(&nodes, &kubelets).iter().map(|finding| finding.host.as_ref().unwrap().to_string()).collect();
        assert_eq!(told, ["old"]);
    }

    #[test]
    fn a_lease_counts_what_is_seen_of_it_and_nothing_from_before() {
        let mut renewals = Renewals::default();
        let mut look = |time: &str| renewals.look(&json!({ "spec": { "renewTime": time } }));
        assert!(!look("a") && !look("a") && !look("b") && !look("b"));
        assert!(look("c") && look("c"));
        assert!(!Renewals::default().look(&json!({})));
    }
}
