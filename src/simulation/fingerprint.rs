//! A world as text, without what is drawn at random: two runs that end the same have the same
//! fingerprint, although their keys differ. Pure.

use std::collections::BTreeMap;

use super::World;
use super::undo::OF_BRIDGES;
use super::host::{Entry, EntryKind, Host, Unit};
use crate::transport::records::RECORDS;

/// Everything that counts, by name: files, units, images, kernel, members, objects.
pub type Fingerprint = BTreeMap<String, String>;

impl World {
    /// The fingerprint of the whole world.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut print: Fingerprint = self.hosts.values().flat_map(Host::fingerprint).collect();
        for cluster in self.clusters.values().chain([&self.external]) {
            let vote = |learner| if learner { " (learner)" } else { "" };
            let mut members: Vec<String> = cluster.members.iter().map(|member| format!("{}{}", member.name, vote(member.learner))).collect();
            members.sort();
            print.insert(format!("etcd of {}", members.join(",")), format!("formed: {}", cluster.formed));
            for (id, object) in &cluster.objects {
                let mut object = object.clone();
                // When it ends and what it says is drawn with each token.
                if id.starts_with("Secret/") {
                    object = serde_json::json!({ "type": object["type"] });
                }
                if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(|map| map.as_object_mut()) {
                    annotations.remove(crate::cluster::compare::APPLIED_ANNOTATION);
                }
                print.insert(format!("object {id}"), masked(&object.to_string()));
            }
        }
        print
    }
}

impl Host {
    /// The fingerprint of one host, each name with the host's.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut print = Fingerprint::new();
        let mut put = |name: String, text: String| _ = print.insert(format!("{}: {name}", self.name), text);
        for (path, entry) in &self.files {
            // These parameters come with a module, as wanted: whether a run saw them before it set them
            // depends on where the one before was cut off.
            if OF_BRIDGES.iter().any(|key| path.file_name() == format!("sysctl:{key}")) {
                continue;
            }
            let mut text = shown(entry);
            if path.as_str().starts_with(RECORDS) && self.is_spent(&text) {
                continue;
            }
            // A run that was cut off between two contents leaves both in the record, and both count.
            if path.as_str().starts_with(RECORDS) {
                text = text.replacen("written=<digest>\nwritten=<digest>\n", "written=<digest>\n", 1);
            }
            put(path.to_string(), text);
        }
        let there = |name: &str, unit: &Unit| self.has_unit(name) || unit.active || unit.enabled;
        for (name, unit) in self.units.iter().filter(|(name, unit)| there(name, unit)) {
            put(format!("unit {name}"), format!("active: {}, enabled: {}", unit.active, unit.enabled));
        }
        for name in self.pods.keys() {
            put(format!("pod {name}"), "runs".into());
        }
        put("images".into(), format!("{:?}", self.images));
        put("modules".into(), format!("{:?}", self.modules));
        put("sysctls".into(), format!("{:?}", self.sysctls));
        put("swap".into(), format!("{:?}", self.swap));
        put("etcd".into(), format!("{:?}", self.etcd.keys().collect::<Vec<_>>()));
        print
    }
}

impl Host {
    /// Whether a record says nothing any more: its file is gone and was not there before slipway, so there is
    /// nothing to take back. A run that is cut off between a file and its record leaves such a one.
    fn is_spent(&self, record: &str) -> bool {
        let line = |key: &str| record.split_whitespace().find_map(|word| word.strip_prefix(key));
        let gone = |path: &str| self.files.keys().all(|there| there.as_str() != path);
        line("kind=") == Some("file") && line("before=") == Some("absent") && line("path=").is_some_and(gone)
    }
}

fn shown(entry: &Entry) -> String {
    let what = match &entry.kind {
        EntryKind::File { content, .. } => masked(&String::from_utf8_lossy(content.expose())),
        EntryKind::Directory => "directory".to_owned(),
        EntryKind::Link(target) => format!("link to {target}"),
    };
    format!("{} {} {what}", entry.mode, entry.owner)
}

/// A text without digests, PEM blocks and long runs of base64.
fn masked(text: &str) -> String {
    let encoded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((_, after)) = rest.strip_prefix("-----BEGIN ").and_then(|block| block.split_once("-----END ")) {
            let (label, after) = after.split_once("-----").unwrap_or((after, ""));
            out.push_str(&format!("<{label}>"));
            rest = after;
            continue;
        }
        let run = rest.find(|c| !encoded(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(run);
        let digest = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        out.push_str(match (digest, word.len() > 200) {
            (true, _) => "<digest>",
            (_, true) => "<base64>",
            _ => word,
        });
        let after = if word.len() > 200 { after.trim_start_matches('=') } else { after };
        let next = after.char_indices().nth(1).map_or(after.len(), |(index, _)| index);
        // Never steps over the beginning of a block.
        out.push_str(&after[..if after.starts_with("-----BEGIN ") { 0 } else { next }]);
        rest = if after.starts_with("-----BEGIN ") { after } else { &after[next..] };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn only_what_is_drawn_is_masked() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(masked(&format!("written={digest}\nmode=0644\n")), "written=<digest>\nmode=0644\n");
        assert_eq!(masked("a: -----BEGIN KEY-----\nAAAA\n-----END KEY-----\nb"), "a: <KEY>\nb");
        assert_eq!(masked(&format!("key: {}\n", "QUJD".repeat(80))), "key: <base64>\n");
        assert_eq!(masked(&format!("key: {}==\n", "QUJD".repeat(80))), "key: <base64>\n");
        assert_eq!(masked("a=1"), "a=1");
    }
}
