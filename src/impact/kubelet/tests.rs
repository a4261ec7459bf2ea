//! Each row of the table by itself, what no row is about, and where a static policy is found.

use super::*;

fn judged(before: &str, after: &str, pinned: bool) -> Vec<(String, Impact)> {
    fields(before, after, pinned).into_iter().map(|setting| (setting.name, setting.impact)).collect()
}

fn one(before: &str, after: &str) -> Option<Impact> {
    judged(before, after, false).first().map(|(_, impact)| *impact)
}

#[test]
fn rows_are_sorted_and_named_once() {
    let fields: Vec<&str> = ROWS.iter().map(|row| row.field).filter(|field| !field.is_empty()).collect();
    assert!(fields.is_sorted());
    for (index, row) in ROWS.iter().enumerate() {
        assert!(serde_json::from_str::<Value>(row.default).is_ok(), "{}", row.field);
        assert!(!ROWS[..index].iter().any(|other| !row.flag.is_empty() && other.flag == row.flag), "{}", row.flag);
    }
}

#[test]
fn every_row_is_as_severe_as_it_says_and_its_default_is_no_change() {
    for row in ROWS.iter().filter(|row| !row.field.is_empty()) {
        let other = if row.when == Lowered { "7" } else { "\"another\"" };
        let after = format!("{}: {other}\n", row.field);
        assert_eq!(judged("", &after, true), [(row.field.to_owned(), row.impact)], "{}", row.field);
        let quiet = if row.when == Pinned { Impact::Restart } else { row.impact };
        assert_eq!(judged("", &after, false), [(row.field.to_owned(), quiet)], "{}", row.field);
        assert_eq!(judged("", &format!("{}: {}\n", row.field, row.default), true), [], "{}", row.field);
    }
}

#[test]
fn what_nobody_judged_is_a_restart() {
    assert_eq!(judged("maxOpenFiles: 1\n", "maxOpenFiles: 2\nnew: 1\n", false), [("maxOpenFiles".into(), Impact::Restart), ("new".into(), Impact::Restart)]);
    assert_eq!(one("a: 1\n", "a: 1\n"), None);
}

#[test]
fn only_fewer_pods_need_an_empty_node() {
    assert_eq!(one("maxPods: 110\n", "maxPods: 200\n"), Some(Impact::Restart));
    assert_eq!(one("maxPods: 200\n", "{}\n"), Some(Impact::Drain));
    assert_eq!(one("podsPerCore: 10\n", "podsPerCore: 0\n"), Some(Impact::Restart));
    assert_eq!(one("{}\n", "podsPerCore: 10\n"), Some(Impact::Drain));
}

#[test]
fn flags_are_judged_like_the_fields_they_stand_for() {
    let line = |flags: &str| format!("KUBELET_KUBEADM_ARGS=\"{flags}\"\n");
    let judged = |before: &str, after: &str| -> Vec<(String, Impact)> {
        flags(&line(before), &line(after), false).into_iter().map(|setting| (setting.name, setting.impact)).collect()
    };
    assert_eq!(judged("--node-ip=192.0.2.1", "--node-ip=192.0.2.2"), [("--node-ip".into(), Impact::Restart)]);
    assert_eq!(judged("", "--cpu-manager-policy=static"), [("--cpu-manager-policy".into(), Impact::Forget)]);
    assert_eq!(judged("", "--cpu-manager-policy=none --max-pods=110"), []);
    assert_eq!(judged("--max-pods=50", "--max-pods=40 --v=2"), [("--max-pods".into(), Impact::Drain), ("--v".into(), Impact::Restart)]);
    assert_eq!(judged("--root-dir=/data", ""), [("--root-dir".into(), Impact::Remake)]);
}

#[test]
fn a_static_policy_is_seen_wherever_it_is_said() {
    let line = |flags: &str| format!("KUBELET_KUBEADM_ARGS=\"{flags}\"\n");
    assert!(is_pinning("cpuManagerPolicy: static\n", ""));
    assert!(is_pinning("memoryManagerPolicy: Static\n", &line("--v=1")));
    assert!(is_pinning("{}\n", &line("--cpu-manager-policy=static")));
    assert!(!is_pinning("cpuManagerPolicy: static\n", &line("--cpu-manager-policy=none")));
    assert!(!is_pinning("not: [yaml", ""));
    assert_eq!(root_directory(&line("--root-dir=/data/")), "/data");
    assert_eq!(root_directory(&line("--v=1")), "/var/lib/kubelet");
}
