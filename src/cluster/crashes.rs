//! Does a static pod keep ending? Told by the log files that the kubelet keeps of it, so it needs no
//! API server, which may be what ends. Pure.
//!
//! The kubelet names a container's log after how often it was started before
//! (`/var/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`, kubelet's `BuildContainerLogsDirectory`), and
//! a static pod of another manifest has another UID, and so a directory of its own, which is newer than the
//! manifest. What is left of earlier pods does not count.

use std::collections::BTreeMap;

/// After so many restarts of one pod it is not waited for any longer. The kubelet starts a container that
/// ended again after 0, 10 and 20 s (its back-off begins at 10 s and doubles), so this is half a minute
/// after the first end at the earliest. A scheduler or controller manager may end once or twice while its
/// API server starts: each gives up on it after 10 s.
pub const TOO_MANY: u32 = 3;

/// Restarts of one component's pods on one host since the first look.
#[derive(Debug, Default)]
pub struct Restarts {
    /// How often each pod had been started again at the first look; none before it.
    before: Option<BTreeMap<String, u32>>,
}

impl Restarts {
    /// Every restart counts, also those before the first look: for a pod that is new itself.
    #[must_use]
    pub fn from_the_beginning() -> Self {
        Self { before: Some(BTreeMap::new()) }
    }

    /// The most restarts of one pod since the first look, from lines of `UID RESTARTS`.
    pub fn hear(&mut self, lines: &str) -> u32 {
        let mut now: BTreeMap<String, u32> = BTreeMap::new();
        for (pod, count) in lines.lines().filter_map(|line| line.split_once(' ')) {
            let Ok(count) = count.trim().parse() else { continue };
            let most = now.entry(pod.to_owned()).or_default();
            *most = (*most).max(count);
        }
        let before = self.before.get_or_insert_with(|| now.clone());
        now.iter().map(|(pod, count)| count.saturating_sub(before.get(pod).copied().unwrap_or_default())).max().unwrap_or_default()
    }
}

/// A read-only script that prints such lines of a component, of the pods by its present manifest.
#[must_use]
pub fn script(component: &'static str) -> String {
    format!(
        "for log in /var/log/pods/kube-system_{component}-*/{component}/*.log; do\n\
         [ -e \"$log\" ] || continue\n\
         pod=${{log%/*/*}}; count=${{log##*/}}\n\
         [ -n \"$(find \"$pod\" -prune -newer /etc/kubernetes/manifests/{component}.yaml)\" ] || continue\n\
         echo \"${{pod##*_}} ${{count%.log}}\"\n\
         done\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_restarts_since_the_first_look_count() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.hear("old 7\nold 6\n"), 0, "what was before is not its doing");
        assert_eq!(restarts.hear("old 7\nnew 0\n"), 0);
        assert_eq!(restarts.hear("old 7\nnew 1\nnew 2\n"), 2);
        assert_eq!(restarts.hear("old 7\nnew 3\n"), TOO_MANY);
        assert_eq!(restarts.hear("old 9\nnew 1\n"), 2);
        assert_eq!(Restarts::from_the_beginning().hear("new 2\n"), 2, "a new pod had none before");
        assert_eq!(Restarts::default().hear("a x\nnothing\n"), 0, "what is no number does not count");
    }

    #[test]
    fn the_script_tells_pods_and_restarts_by_the_names_of_logs() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("var/log/pods");
        for path in ["kube-system_etcd-a_111/etcd/0.log", "kube-system_etcd-a_222/etcd/0.log", "kube-system_etcd-a_222/etcd/3.log", "kube-system_etcd-a_222/etcd/2.log.20260101", "kube-system_other-a_333/other/5.log"] {
            let file = base.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let manifest = root.path().join("etc/kubernetes/manifests/etcd.yaml");
        std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
        std::fs::write(&manifest, "").unwrap();
        let at = |path: &std::path::Path, seconds: u64| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::open(path).unwrap().set_modified(time).unwrap();
        };
        at(&base.join("kube-system_etcd-a_111"), 100);
        at(&manifest, 200);
        at(&base.join("kube-system_etcd-a_222"), 300);
        let root = root.path().display();
        let script = script("etcd").replace("/var/log", &format!("{root}/var/log")).replace("/etc/", &format!("{root}/etc/"));
        let output = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["222 0", "222 3"], "the pod before the manifest is an earlier one");
    }
}
