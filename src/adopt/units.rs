//! A kubelet's unit and the files of variables it reads: flags that are neither in its configuration nor in
//! kubeadm's own file. slipway's drop-in replaces `ExecStart`, so flags there are taken over into the
//! plan, or named where it cannot have them; the variables are still read, so they are only named.

use std::collections::BTreeMap;

use super::Draft;
use crate::facts::State;
use crate::names::{HostName, RemotePath};
use crate::paths;
use crate::plan::ArgumentValues;
use crate::plan::validate::flags::is_owned;

/// Files of variables that kubeadm's packages and slipway's drop-in read alike.
const VARIABLES: [&str; 2] = ["/etc/default/kubelet", "/etc/sysconfig/kubelet"];

/// Where units are, the first one goes before the others (systemd.unit(5), "Unit File Load Path").
const UNIT_DIRECTORIES: [&str; 5] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Flags with which every kubelet of kubeadm's and of slipway's starts.
const COMMON: [(&str, &str); 3] = [
    ("bootstrap-kubeconfig", "/etc/kubernetes/bootstrap-kubelet.conf"),
    ("kubeconfig", "/etc/kubernetes/kubelet.conf"),
    ("config", "/var/lib/kubelet/config.yaml"),
];

/// Flags of the kubelet's own `ExecStart` that belong into the plan. What cannot is told to the draft.
pub(super) fn taken_over(draft: &mut Draft, host: &HostName, state: &State) -> BTreeMap<String, ArgumentValues> {
    for path in VARIABLES.map(RemotePath::fixed) {
        let flags = state.text(&path).map(extra_arguments).unwrap_or_default();
        if !flags.is_empty() {
            let reason = format!("it gives the kubelet {}, which goes before the plan and stays there: `slipway apply` still reads it", flags.join(" "));
            draft.leave(format!("host {host}: {path}"), reason);
        }
    }
    let Some(unit) = Unit::of(state) else { return BTreeMap::new() };
    let place = format!("host {host}: {}", unit.place);
    let mut taken: BTreeMap<String, ArgumentValues> = BTreeMap::new();
    for word in unit.words() {
        let Some((name, value)) = flag(&word) else {
            draft.leave(&place, format!("its ExecStart has `{word}`, which no field of a plan can say; `slipway apply` would leave it out"));
            continue;
        };
        if COMMON.contains(&(name, value)) {
            continue;
        }
        if COMMON.iter().any(|(common, _)| *common == name) || is_owned("kubelet", name) {
            draft.leave(&place, format!("its ExecStart has {word}, which only slipway sets; `slipway apply` would write its own"));
            continue;
        }
        taken.entry(name.to_owned()).or_default().0.push(value.to_owned());
    }
    taken
}

/// `--name=value`, or a switch. Variables and quotes that only a shell or systemd can read are none.
fn flag(word: &str) -> Option<(&str, &str)> {
    let word = word.strip_prefix("--").filter(|word| !word.contains(['$', '"', '\'', '\\', '%']))?;
    Some(word.split_once('=').unwrap_or((word, "true")))
}

/// The flags of `KUBELET_EXTRA_ARGS`.
fn extra_arguments(text: &str) -> Vec<String> {
    let mut values = text.lines().map(str::trim).filter_map(|line| line.strip_prefix("KUBELET_EXTRA_ARGS="));
    let value = values.next_back().unwrap_or_default().trim();
    value.trim_matches(['"', '\'']).split_whitespace().map(str::to_owned).collect()
}

/// A unit with its drop-ins, as far as it decides how the kubelet starts.
#[derive(Debug, Default)]
struct Unit {
    /// The file whose `ExecStart` counts.
    place: String,
    command: String,
    variables: BTreeMap<String, String>,
}

impl Unit {
    fn of(state: &State) -> Option<Self> {
        let name = "kubelet.service";
        let main = UNIT_DIRECTORIES.iter().map(|directory| RemotePath::fixed(&format!("{directory}/{name}"))).find(|path| state.text(path).is_some());
        // By name, whatever directory they are in; of two of one name the first directory's counts.
        let mut parts: BTreeMap<&str, &RemotePath> = BTreeMap::new();
        for directory in UNIT_DIRECTORIES {
            let inside = RemotePath::fixed(&format!("{directory}/{name}.d"));
            let files = state.files.keys().filter(|path| path.is_within(&inside) && path.file_name().ends_with(".conf"));
            for path in files {
                parts.entry(path.file_name()).or_insert(path);
            }
        }
        let mut unit = Self::default();
        for path in main.iter().chain(parts.into_values()) {
            unit.read(path, state.text(path)?);
        }
        (!unit.command.is_empty() && unit.place != crate::desired::kubelet::DROP_IN_FILE).then_some(unit)
    }

    fn read(&mut self, path: &RemotePath, text: &str) {
        // A backslash at the end continues a line (systemd.syntax(7)).
        let text = text.replace("\\\n", " ");
        for line in text.lines().map(str::trim) {
            if let Some(value) = line.strip_prefix("ExecStart=") {
                self.command = value.trim().to_owned();
                self.place = path.to_string();
            } else if let Some(value) = line.strip_prefix("Environment=") {
                let value = value.trim().trim_matches(['"', '\'']);
                self.variables.extend(value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
        }
    }

    /// The words after the program, with the unit's own variables in their places. Those of the files of
    /// variables are read where they are.
    fn words(&self) -> Vec<String> {
        let of_files = ["KUBELET_KUBEADM_ARGS", "KUBELET_EXTRA_ARGS"];
        let mut words = Vec::new();
        for word in self.command.split_whitespace().skip(1) {
            let name = word.strip_prefix('$').map(|name| name.trim_start_matches('{').trim_end_matches('}'));
            match name {
                Some(name) if of_files.contains(&name) => {}
                Some(name) => words.extend(self.variables.get(name).into_iter().flat_map(|value| value.split_whitespace()).map(str::to_owned)),
                None => words.push(word.to_owned()),
            }
        }
        words
    }
}

/// Every file that is read here.
pub(crate) fn roots() -> impl Iterator<Item = RemotePath> {
    let units = UNIT_DIRECTORIES.iter().flat_map(|directory| ["kubelet.service", "kubelet.service.d"].map(|name| format!("{directory}/{name}")));
    VARIABLES.iter().map(|path| (*path).to_owned()).chain(units).map(|path| RemotePath::fixed(&path))
}

/// The flags without those that kubeadm's own file has too: it comes later on the command line.
pub(super) fn without_later(mut taken: BTreeMap<String, ArgumentValues>, state: &State) -> BTreeMap<String, ArgumentValues> {
    let later = state.text(&paths::kubelet_flags()).and_then(crate::meaning::flags).unwrap_or_default();
    taken.retain(|name, _| !later.contains_key(name));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEADMS: &str = "# Note: This dropin only works with kubeadm and kubelet v1.11+\n[Service]\n\
        Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"\n\
        Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"\n\
        EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\n\
        ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n";

    fn found(files: &[(&str, &str)]) -> (BTreeMap<String, ArgumentValues>, Vec<String>) {
        use crate::artifact::Secret;
        use crate::facts::{FoundFile, FoundKind};
        use crate::names::{Digest, Mode};
        let mut state = State::default();
        for (path, text) in files {
            let kind = FoundKind::File { digest: Some(Digest::of(text)), content: Some(Secret::new(*text)) };
            state.files.insert(RemotePath::fixed(path), FoundFile { mode: Mode(0o644), owner: 0, group: 0, kind });
        }
        let mut draft = Draft { document: serde_json::json!({}), left: Vec::new() };
        let taken = taken_over(&mut draft, &"a".parse().unwrap(), &state);
        (without_later(taken, &state), draft.left.into_iter().map(|left| format!("{}: {}", left.place, left.reason)).collect())
    }

    #[test]
    fn kubeadms_own_unit_says_nothing() {
        let unit = "[Service]\nExecStart=/usr/bin/kubelet\n";
        for directory in ["/usr/lib/systemd/system", "/lib/systemd/system"] {
            let (main, part) = (format!("{directory}/kubelet.service"), format!("{directory}/kubelet.service.d/10-kubeadm.conf"));
            assert_eq!(found(&[(&main, unit), (&part, KUBEADMS)]), (BTreeMap::new(), Vec::new()));
        }
        assert_eq!(found(&[]), (BTreeMap::new(), Vec::new()));
        assert_eq!(found(&[("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=\n")]), (BTreeMap::new(), Vec::new()));
    }

    #[test]
    fn flags_of_a_unit_of_ones_own_are_taken_over_and_the_last_unit_counts() {
        let own = "[Service]\nEnvironment=\"MINE=--max-pods=50 --v=2\"\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS \\\n  $KUBELET_CONFIG_ARGS $MINE --sync-frequency=30s --fail-swap-on --cluster-dns=10.0.0.1 $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n";
        let files = [
            ("/usr/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet --never\n"),
            ("/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", KUBEADMS),
            ("/etc/systemd/system/kubelet.service.d/15-own.conf", own),
            ("/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS=\"--v=4\"\n"),
        ];
        let (taken, left) = found(&files);
        let taken: Vec<String> = taken.into_iter().map(|(name, ArgumentValues(values))| format!("{name}={}", values.join(","))).collect();
        let owned = is_owned("kubelet", "cluster-dns");
        let mut expected = vec!["fail-swap-on=true", "max-pods=50", "sync-frequency=30s"];
        if owned {
            assert!(left.iter().any(|line| line.contains("--cluster-dns=10.0.0.1, which only slipway sets")), "{left:?}");
        } else {
            expected.insert(0, "cluster-dns=10.0.0.1");
        }
        assert_eq!(taken, expected);
    }

    #[test]
    fn what_a_plan_cannot_say_is_named() {
        let own = "[Service]\nExecStart=/usr/bin/kubelet --kubeconfig=/etc/other.conf --x=\"a b\" positional\n";
        let (taken, left) = found(&[("/etc/systemd/system/kubelet.service", own)]);
        assert_eq!(taken, BTreeMap::new());
        for part in ["/etc/systemd/system/kubelet.service: its ExecStart has --kubeconfig=/etc/other.conf", "has `--x=\"a`", "has `positional`"] {
            assert!(left.iter().any(|line| line.contains(part)), "{part} in {left:#?}");
        }
        let (_, left) = found(&[("/etc/default/kubelet", "# x\nKUBELET_EXTRA_ARGS=\"--node-ip=192.0.2.7\"\n")]);
        assert_eq!(left.len(), 1);
        assert!(left[0].starts_with("host a: /etc/default/kubelet: it gives the kubelet --node-ip=192.0.2.7,"), "{left:?}");
    }
}
