//! etcd's members, asked and changed through the JSON gateway that every member serves beside its
//! gRPC API (etcd's documentation, "Why gRPC gateway"; the paths begin with `/v3` since etcd 3.4).
//!
//! Its JSON is protobuf's: 64-bit numbers are texts, and fields with a zero value are left out.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::ClusterError;
use super::live::QUESTION;
use super::wire::describe;
use crate::transport::parse::printable;

/// A client of one member.
#[derive(Clone)]
pub struct Etcd {
    client: kube::Client,
}

/// A member's number, printed in hexadecimal digits as etcd's own tools do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Serialize for MemberId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer).map(Self)
    }
}

/// A member as the cluster knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: MemberId,
    /// Its name; empty until it has been started for the first time.
    pub name: String,
    /// Where other members reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has been started for the first time.
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// Whether it only learns: it has no vote.
    #[serde(rename = "isLearner")]
    pub learner: bool,
}

/// What a member says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemberStatus {
    header: Header,
    /// Its version, such as `3.4.23`.
    pub version: String,
    /// Bytes of its database file.
    #[serde(deserialize_with = "number")]
    pub db_size: u64,
    /// Bytes of it that hold data (the rest is free for more; etcd 3.4 and later).
    #[serde(deserialize_with = "number")]
    pub db_size_in_use: u64,
    /// Who leads, as far as it knows; zero if nobody does.
    pub leader: MemberId,
    /// The last entry of its log that is agreed on.
    #[serde(deserialize_with = "number")]
    pub raft_index: u64,
    /// The last entry it has applied.
    #[serde(deserialize_with = "number")]
    pub raft_applied_index: u64,
    /// Alarms and other trouble.
    pub errors: Vec<String>,
    /// Whether it only learns.
    pub is_learner: bool,
}

impl MemberStatus {
    /// Its number.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.header.member_id
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leader != MemberId::default() && self.leader == self.member()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Header {
    member_id: MemberId,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct MemberList {
    members: Vec<Member>,
}

/// A 64-bit number as protobuf writes it (a text) or as JSON would.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    use serde::de::Error as _;
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(D::Error::custom),
        value => value.as_u64().ok_or_else(|| D::Error::custom("not a number")),
    }
}

impl Etcd {
    /// A client that speaks to one member.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// All members, in the order of their names. Since etcd 3.5 this needs a quorum.
    ///
    /// # Errors
    /// The member does not answer, or there is no quorum.
    pub async fn members(&self) -> Result<Vec<Member>, ClusterError> {
        let list: MemberList = self.call("list the members of etcd", "/v3/cluster/member/list", &json!({})).await?;
        let mut members = list.members;
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(members)
    }

    /// What the member says about itself. Needs no quorum.
    ///
    /// # Errors
    /// The member does not answer.
    pub async fn status(&self) -> Result<MemberStatus, ClusterError> {
        self.call("read the status of etcd", "/v3/maintenance/status", &json!({})).await
    }

    /// Whether the member takes part in a quorum and has no alarm. The error says what was seen.
    ///
    /// # Errors
    /// It does not.
    pub async fn health(&self) -> Result<(), String> {
        let request = http::Request::get("/health").body(Vec::new()).expect("the path is plain");
        let answer = match timeout(QUESTION, self.client.request_text(request)).await {
            Ok(Ok(text)) => text,
            // An unhealthy member answers with status 503 and a body that reads as an empty `Status`.
            Ok(Err(kube::Error::Api(status))) if status.message.is_empty() => {
                let reason = if status.reason.is_empty() { "no leader, or an alarm" } else { &status.reason };
                return Err(format!("unhealthy ({reason})"));
            }
            Ok(Err(error)) => return Err(describe(&error)),
            Err(_) => return Err(no_answer()),
        };
        match serde_json::from_str::<Value>(&answer) {
            Ok(answer) if answer["health"] == "true" => Ok(()),
            _ => Err(format!("unhealthy ({})", printable(&answer))),
        }
    }

    /// Takes a member out of the cluster. Its data stays where it is.
    ///
    /// # Errors
    /// There is no such member, or the others could not keep a quorum.
    pub async fn remove(&self, id: MemberId) -> Result<(), ClusterError> {
        let what = format!("remove member {id} of etcd");
        self.call::<Value>(&what, "/v3/cluster/member/remove", &json!({ "ID": id.0.to_string() })).await.map(drop)
    }

    /// Announces a new member that has no vote until it is promoted. Returns it; it has no name yet.
    ///
    /// # Errors
    /// There is a member of that URL, there are too many learners, or there is no quorum.
    pub async fn add_learner(&self, peer_url: &str) -> Result<Member, ClusterError> {
        #[derive(Deserialize)]
        struct Added {
            member: Member,
        }
        let question = json!({ "peerURLs": [peer_url], "isLearner": true });
        let what = format!("add a member of etcd at {peer_url}");
        self.call::<Added>(&what, "/v3/cluster/member/add", &question).await.map(|added| added.member)
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// It has not caught up with the leader yet (ask again), or is no learner.
    pub async fn promote(&self, id: MemberId) -> Result<(), ClusterError> {
        let what = format!("promote member {id} of etcd");
        self.call::<Value>(&what, "/v3/cluster/member/promote", &json!({ "ID": id.0.to_string() })).await.map(drop)
    }

    /// Makes another member the leader; only the leader itself can.
    ///
    /// # Errors
    /// This member does not lead, or the other one does not take over in time.
    pub async fn hand_over(&self, to: MemberId) -> Result<(), ClusterError> {
        let what = format!("hand the leadership of etcd over to member {to}");
        self.call::<Value>(&what, "/v3/maintenance/transfer-leadership", &json!({ "targetID": to.0.to_string() })).await.map(drop)
    }

    async fn call<A: serde::de::DeserializeOwned>(&self, what: &str, path: &str, question: &Value) -> Result<A, ClusterError> {
        let failed = |reason: String| ClusterError::plain(format!("cannot {what}: {reason}"));
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(question.to_string().into_bytes())
            .expect("the path is plain");
        let text = match timeout(QUESTION, self.client.request_text(request)).await {
            Ok(answer) => answer.map_err(|error| failed(describe(&error)))?,
            Err(_) => return Err(failed(no_answer())),
        };
        serde_json::from_str(&text).map_err(|error| failed(format!("the answer cannot be read: {error}")))
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", QUESTION.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_texts_and_zeros_are_left_out() {
        let list: MemberList = serde_json::from_str(
            r#"{"header":{"cluster_id":"1","raft_term":"2"},"members":[
                {"ID":"10501334649042878790","name":"cp-1","peerURLs":["https://192.0.2.1:2380"],"clientURLs":["https://192.0.2.1:2379"]},
                {"ID":"7","peerURLs":["https://192.0.2.2:2380"],"isLearner":true}]}"#,
        )
        .unwrap();
        assert_eq!(list.members[0].id.to_string(), "91bc3c398fb3c146");
        assert!(list.members[1].learner && list.members[1].name.is_empty());

        let status: MemberStatus = serde_json::from_str(
            r#"{"header":{"member_id":"7"},"version":"3.4.23","dbSize":"2048","leader":"7","raftIndex":"9","raftAppliedIndex":8}"#,
        )
        .unwrap();
        assert!(status.leads());
        assert_eq!((status.db_size, status.raft_index, status.raft_applied_index), (2048, 9, 8));
        let lonely: MemberStatus = serde_json::from_str(r#"{"version":"3.4.23","errors":["etcdserver: no leader"]}"#).unwrap();
        assert!(!lonely.leads());
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        assert!(serde_json::from_str::<Member>(r#"{"ID":"x"}"#).is_err());
        assert!(serde_json::from_str::<Member>(r#"{"ID":-1}"#).is_err());
    }
}
