//! A table: artifact × what was found → why something is to be done.

use super::*;
use crate::artifact::{ProgramSource, Secret};
use crate::facts::{FoundProgram, FoundUnit};

const PATH: &str = "/etc/kubernetes/file";

fn path() -> RemotePath {
    RemotePath::fixed(PATH)
}

fn found(kind: FoundKind, mode: u32, owner: u32) -> State {
    let mut state = State::default();
    state.files.insert(path(), FoundFile { mode: Mode(mode), owner, group: 0, kind });
    state
}

fn text(content: &str) -> FoundKind {
    FoundKind::File { digest: Some(Digest::of(content)), content: Some(Secret::new(content)) }
}

fn recorded(mut state: State, written: &[&str]) -> State {
    let lines: String = written.iter().map(|content| format!("written={}\n", Digest::of(content))).collect();
    let record = RemotePath::fixed(records::RECORDS).join(&records::name(&path())).unwrap();
    let kind = text(&format!("path={PATH}\nkind=file\nbefore=absent\n{lines}"));
    state.files.insert(record, FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind });
    state
}

fn why(artifact: Artifact, state: &State) -> String {
    reason(artifact, &System::default(), state)
}

fn reason(artifact: Artifact, system: &System, state: &State) -> String {
    let changes = host_changes(vec![artifact], system, state, &mut BTreeSet::new());
    changes.first().map_or_else(|| "as wanted".to_owned(), |change| change.reason.to_string())
}

fn file(content: &str) -> Artifact {
    Artifact::File { path: path(), mode: Mode(0o644), content: Content::plain(content) }
}

fn link() -> Artifact {
    Artifact::Link { path: path(), target: "other".into() }
}

fn directory() -> Artifact {
    Artifact::Directory { path: path(), mode: Mode(0o755) }
}

#[test]
fn files_links_and_directories() {
    let nothing = State::default();
    let rows = [
        (file("a"), nothing.clone(), "missing"),
        (file("a"), found(text("a"), 0o644, 0), "as wanted"),
        (file("a"), found(text("a"), 0o600, 0), "mode is 0600"),
        (file("a"), found(text("a"), 0o644, 1000), "owned by user 1000"),
        (file("a"), found(text("b"), 0o644, 0), "content differs"),
        (file("a"), found(FoundKind::Directory, 0o755, 0), "something else is at its path"),
        (file("a"), found(FoundKind::Link("x".into()), 0o777, 0), "something else is at its path"),
        // A file too big to be brought is not the wanted one.
        (file("a"), found(FoundKind::File { digest: None, content: None }, 0o644, 0), "content differs"),
        (link(), nothing.clone(), "missing"),
        (link(), found(FoundKind::Link("other".into()), 0o777, 0), "as wanted"),
        (link(), found(FoundKind::Link("third".into()), 0o777, 0), "is a link to third"),
        (link(), found(text("a"), 0o644, 0), "something else is at its path"),
        (directory(), nothing.clone(), "missing"),
        (directory(), found(FoundKind::Directory, 0o755, 0), "as wanted"),
        (directory(), found(FoundKind::Directory, 0o700, 0), "mode is 0700"),
        (directory(), found(FoundKind::Directory, 0o755, 7), "owned by user 7"),
        (directory(), found(text("a"), 0o644, 0), "something else is at its path"),
        (directory(), found(FoundKind::Link("/srv".into()), 0o777, 0), "as wanted"),
        (Artifact::Absent { path: path() }, nothing, "as wanted"),
        (Artifact::Absent { path: path() }, found(text("a"), 0o644, 0), "no longer wanted"),
    ];
    for (artifact, state, expected) in rows {
        assert_eq!(why(artifact.clone(), &state), expected, "{artifact:?} where {state:?}");
    }
}

/// `kubeadm join` writes the CA's certificate for root alone, `kubeadm init` for all to read.
#[test]
fn a_certificate_of_kubeadms_keeps_the_mode_that_its_command_gave_it() {
    let judged = |name: &str, mode: u32, record: bool| {
        let path: RemotePath = format!("/etc/kubernetes/pki/{name}").parse().unwrap();
        let mut state = State::default();
        let mut put = |path: &RemotePath, text: &str, mode: u32| {
            let kind = FoundKind::File { digest: Some(Digest::of(text)), content: Some(Secret::new(text)) };
            state.files.insert(path.clone(), FoundFile { mode: Mode(mode), owner: 0, group: 0, kind });
        };
        put(&path, "a", mode);
        if record {
            let note = RemotePath::fixed(records::RECORDS).join(&records::name(&path)).unwrap();
            put(&note, &format!("path={path}\nkind=file\nbefore=absent\nwritten={}\n", Digest::of("a")), 0o600);
        }
        why(Artifact::File { path, mode: Mode(0o644), content: Content::plain("a") }, &state)
    };
    assert_eq!(judged("ca.crt", 0o600, false), "as wanted");
    assert_eq!(judged("ca.crt", 0o600, true), "mode is 0600", "what slipway wrote is as slipway wants it");
    assert_eq!(judged("ca.crt", 0o666, false), "mode is 0666");
    assert_eq!(judged("ca.key", 0o600, false), "mode is 0600");
}

#[test]
fn drift_is_told_from_a_new_wish() {
    let drift = "drift: changed by someone else since slipway wrote it";
    let rows: [(&[&str], &str, &str); 5] = [
        (&["old"], "old", "content differs"),
        (&["old"], "edited", drift),
        // Cut off between old and new: both are slipway's.
        (&["old", "newer"], "newer", "content differs"),
        (&["old", "newer"], "edited", drift),
        // Slipway never wrote there: what is there was there before.
        (&[], "original", "content differs"),
    ];
    for (written, there, expected) in rows {
        let state = found(text(there), 0o644, 0);
        let state = if written.is_empty() { state } else { recorded(state, written) };
        assert_eq!(why(file("wanted"), &state), expected, "{written:?} {there}");
    }
}

#[test]
fn what_was_there_is_shown_only_if_it_is_public_text() {
    let before = |content: Content, there: &[u8]| {
        let kind = FoundKind::File { digest: Some(Digest::of(there)), content: Some(Secret::new(there)) };
        let artifact = Artifact::File { path: path(), mode: Mode(0o644), content };
        host_changes(vec![artifact], &System::default(), &found(kind, 0o644, 0), &mut BTreeSet::new()).remove(0).before
    };
    assert_eq!(before(Content::plain("new"), b"old").as_deref(), Some("old"));
    assert_eq!(before(Content::secret(Secret::new("new"), "a key"), b"old"), None);
    assert_eq!(before(Content::plain("new"), b"\xff\xfe"), None);
}

#[test]
fn programs_are_known_by_the_note_of_their_installation() {
    let wanted = Artifact::Program {
        path: path(),
        source: ProgramSource::Download("https://example.test/x".into()),
        digest: Digest::of("x"),
        unpack: None,
    };
    let with = |noted| {
        let mut state = State::default();
        state.programs.insert(path(), FoundProgram { size: 1, mode: Mode(0o755), noted });
        why(wanted.clone(), &state)
    };
    assert_eq!(why(wanted.clone(), &State::default()), "missing");
    assert_eq!(with(Some(Digest::of("x"))), "as wanted");
    assert_eq!(with(Some(Digest::of("y"))), "content differs");
    // A program without a note (somebody replaced it, or it was there before) is installed.
    assert_eq!(with(None), "content differs");
}

#[test]
fn the_running_kernel_is_compared_too() {
    let mut system = System { swap: vec!["/dev/sda2".into()], ..System::default() };
    let mut ask = |artifact: Artifact, change: fn(&mut System)| {
        change(&mut system);
        reason(artifact, &system, &State::default())
    };
    let sysctl = || Artifact::Sysctl { key: "net.ipv4.ip_forward".into(), value: "1".into() };
    assert_eq!(ask(sysctl(), |_| {}), "missing");
    assert_eq!(ask(sysctl(), |system| _ = system.sysctls.insert("net.ipv4.ip_forward".into(), "0".into())), "is 0");
    assert_eq!(ask(sysctl(), |system| _ = system.sysctls.insert("net.ipv4.ip_forward".into(), "1".into())), "as wanted");
    let module = || Artifact::Module { name: "overlay".into() };
    assert_eq!(ask(module(), |system| system.modules.clear()), "missing");
    assert_eq!(ask(module(), |system| _ = system.modules.insert("overlay".into())), "as wanted");
    assert_eq!(ask(Artifact::NoSwap, |_| {}), "is on: /dev/sda2");
    assert_eq!(ask(Artifact::NoSwap, |system| system.swap.clear()), "as wanted");
}

#[test]
fn an_archive_is_loaded_if_an_image_is_missing_or_of_another_archive() {
    let names = vec!["a:1".to_owned(), "b:1".to_owned()];
    let image = Artifact::Image { names: names.clone(), archive: "x.tar".into(), digest: Digest::of("x") };
    let mut state = State { images: ["a:1".to_owned()].into(), ..State::default() };
    assert_eq!(why(image.clone(), &state), "missing");
    assert_eq!(why(Artifact::Pulled { name: "b:1".into() }, &state), "missing");
    state.images.extend(names.clone());
    assert_eq!(why(image.clone(), &state), "content differs", "nobody knows of which archive they are");
    let mut note = |text: &str| {
        let kind = FoundKind::File { digest: Some(Digest::of(text)), content: Some(Secret::new(text)) };
        let file = FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind };
        state.files.insert(records::archive_note(&names), file);
        why(image.clone(), &state)
    };
    assert_eq!(note(&format!("{}\n", Digest::of("another"))), "content differs");
    assert_eq!(note(&format!("{}\n", Digest::of("x"))), "as wanted");
    assert_eq!(why(Artifact::Pulled { name: "b:1".into() }, &state), "as wanted");
}

fn unit() -> Artifact {
    Artifact::Unit { name: "a.service".into(), inputs: vec![path()], stamp: Digest::of("stamp"), check: None }
}

fn unit_state(active: &str, enabled: &str, stamp: Option<&str>) -> State {
    let found = FoundUnit { active: active.into(), enabled: enabled.into(), stamp: stamp.map(Digest::of), began: None };
    State { units: [("a.service".to_owned(), found)].into(), ..State::default() }
}

#[test]
fn units_restart_for_their_inputs_and_for_a_restart_that_never_came() {
    let rows = [
        (State::default(), "missing"),
        (unit_state("inactive", "", None), "missing"),
        (unit_state("active", "enabled", Some("stamp")), "as wanted"),
        (unit_state("active", "enabled-runtime", Some("stamp")), "as wanted"),
        (unit_state("active", "enabled", Some("older")), "not restarted since its inputs changed"),
        (unit_state("active", "enabled", None), "not restarted since its inputs changed"),
        (unit_state("failed", "enabled", Some("stamp")), "is failed"),
        (unit_state("inactive", "disabled", None), "is inactive"),
        (unit_state("activating", "enabled", Some("older")), "is activating"),
        (unit_state("active", "disabled", Some("stamp")), "not enabled"),
    ];
    for (state, expected) in rows {
        assert_eq!(why(unit(), &state), expected, "{state:?}");
    }
}

#[test]
fn an_input_that_changes_in_an_earlier_phase_restarts_the_unit() {
    let mut state = unit_state("active", "enabled", Some("stamp"));
    let mut changed = BTreeSet::new();
    let first = host_changes(vec![file("a")], &System::default(), &state, &mut changed);
    assert_eq!(first.len(), 1);
    let second = host_changes(vec![unit()], &System::default(), &state, &mut changed);
    assert_eq!(second[0].reason, Reason::Inputs { changed: vec![path()] });
    assert_eq!(second[0].reason.to_string(), "restart: file changed");
    // Nothing changed: nothing restarts.
    state.files.extend(found(text("a"), 0o644, 0).files);
    let all = host_changes(vec![file("a"), unit()], &System::default(), &state, &mut BTreeSet::new());
    assert_eq!(all, []);
}

/// kubeadm's manifest runs on while slipway changed no credential; afterwards, also in a run that
/// follows one cut off in between, it must say what it reads.
#[test]
fn a_manifest_of_kubeadms_is_kept_until_slipway_changes_a_credential() {
    let manifest = RemotePath::fixed("/etc/kubernetes/manifests/etcd.yaml");
    let wanted = Artifact::File {
        path: manifest.clone(),
        mode: Mode(0o600),
        content: Content::plain("kind: Pod\nmetadata: {annotations: {slipway.dev/inputs: abc}, name: etcd}\n"),
    };
    let kubeadms = |content: &str| {
        let mut state = State::default();
        state.files.insert(manifest.clone(), FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind: text(content) });
        state
    };
    let same = kubeadms("metadata: {name: etcd, creationTimestamp: null}\nkind: Pod\nstatus: {}\n");
    assert_eq!(why(wanted.clone(), &same), "as wanted");
    assert_eq!(why(wanted.clone(), &kubeadms("metadata: {name: other}\nkind: Pod\n")), "content differs");
    let after_a_cut = recorded(same.clone(), &["a credential"]);
    assert_eq!(why(wanted.clone(), &after_a_cut), "content differs");
    let mut in_this_run: BTreeSet<RemotePath> = [path()].into();
    assert_eq!(host_changes(vec![wanted], &System::default(), &same, &mut in_this_run).len(), 1);
}
