//! What a host does to take something back: the effects of `transport/script/undo.sh` and
//! `leftovers.sh`. The thing goes first, then its record, so a reset that is cut off does it again. Pure.

use crate::artifact::undone::Undone;
use crate::facts::FoundPackage;
use crate::names::{Mode, RemotePath};
use crate::transport::records;

use super::effects::{Effect, Hand, Refused, library, original};
use super::host::{Entry, EntryKind, LIBRARY};

/// The parameters that come and go with a module.
pub(super) const OF_BRIDGES: [&str; 2] = ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];

pub(super) fn undo(hand: &mut Hand<'_>, undone: &Undone) -> Result<(), Refused> {
    match undone {
        Undone::Stopped { unit } => {
            if hand.host.has_unit(unit) {
                hand.effects.push(Effect::Stop(unit.clone()));
                if is_new(hand, unit) {
                    hand.effects.push(Effect::Disable(unit.clone()));
                }
            }
        }
        Undone::Pods => hand.effects.push(Effect::RemovePods),
        // No mounts, routes and interfaces are simulated.
        Undone::Mounts | Undone::Route { .. } | Undone::PodNetwork => {}
        Undone::Images { names } => images(hand, names),
        Undone::Kubernetes { foreign, etcd } => {
            leftovers(hand, *foreign);
            if let Some(directory) = etcd {
                hand.effects.push(Effect::RemoveMember(directory.clone()));
            }
        }
        Undone::Path { path, .. } => undo_path(hand, path)?,
        Undone::Package { name, .. } => {
            let record = hand.read_record(&format!("package:{name}"));
            let found = hand.host.packages.get(name).cloned();
            match record.before.as_deref() {
                None => {}
                Some("absent") => hand.effects.push(Effect::Package(name.clone(), None)),
                Some(before) => {
                    let held = before.ends_with(" hold");
                    hand.effects.push(Effect::Package(name.clone(), found.map(|found| FoundPackage { held, ..found })));
                }
            }
            hand.effects.push(Effect::Remove(record.path));
        }
        Undone::Unit { name } => undo_unit(hand, name),
        Undone::Sysctl { key } => {
            let record = hand.read_record(&format!("sysctl:{key}"));
            if let (Some(before), true) = (record.before, hand.host.sysctls.contains_key(key)) {
                hand.effects.push(Effect::Set(key.clone(), before));
            }
            hand.effects.push(Effect::Remove(record.path));
        }
        Undone::Module { name } => {
            let record = hand.read_record(&format!("module:{name}"));
            if record.exists {
                hand.effects.push(Effect::Unload(name.clone()));
                hand.effects.push(Effect::Remove(record.path));
            }
        }
        Undone::Swap => {
            let record = hand.read_record("swap");
            let lines = hand.host.text(record.path.as_str()).unwrap_or_default();
            let devices: Vec<String> = lines.lines().filter_map(|line| line.strip_prefix("device=")).map(str::to_owned).collect();
            if record.exists {
                hand.effects.push(Effect::Swap(devices));
                hand.effects.push(Effect::Remove(record.path));
            }
        }
        Undone::Surroundings => {
            for directory in ["/etc/kubernetes/manifests", "/etc/kubernetes/pki", "/etc/kubernetes/tmp", "/etc/kubernetes", "/var/lib/kubelet"] {
                remove_own(hand, &RemotePath::fixed(directory), false);
            }
        }
        Undone::Records => {
            if let Some((path, _)) = hand.host.below(&format!("{LIBRARY}/records")).next() {
                return Err(Refused(format!("slipway: {path} was written meanwhile; run the reset again")));
            }
            let all: Vec<RemotePath> = hand.host.below(LIBRARY).map(|(path, _)| path.clone()).collect();
            hand.effects.extend(all.into_iter().rev().map(Effect::Remove));
            for own in [format!("{LIBRARY}/records"), LIBRARY.to_owned()] {
                hand.effects.push(Effect::Remove(RemotePath::fixed(&own)));
            }
        }
    }
    Ok(())
}

/// Whether there was no such unit before slipway.
fn is_new(hand: &Hand<'_>, unit: &str) -> bool {
    if hand.host.units.get(unit).is_some_and(|unit| unit.packaged) {
        return false;
    }
    let file = hand.read_record(&format!("/etc/systemd/system/{unit}"));
    let own = hand.read_record(&format!("unit:{unit}"));
    file.before.as_deref() == Some("absent") || own.before.is_some_and(|before| before.starts_with("absent"))
}

fn images(hand: &mut Hand<'_>, names: &[String]) {
    let note = hand.host.text(&format!("{LIBRARY}/surroundings")).unwrap_or_default();
    let known = note.lines().any(|line| line == "images=known");
    let unwanted = |image: &&String| match known {
        true => !note.lines().any(|line| line.strip_prefix("image=") == Some(image)),
        false => names.contains(image),
    };
    let removed: Vec<Effect> = hand.host.images.iter().filter(unwanted).cloned().map(Effect::RemoveImage).collect();
    hand.effects.extend(removed);
    for name in names {
        let record = hand.read_record(&format!("image:{name}"));
        hand.effects.push(Effect::Remove(record.path));
    }
}

/// What Kubernetes wrote below its own directories.
fn leftovers(hand: &mut Hand<'_>, foreign: bool) {
    let all: Vec<RemotePath> = hand.host.below("/var/lib/kubelet").map(|(path, _)| path.clone()).collect();
    hand.effects.extend(all.into_iter().rev().map(Effect::Remove));
    for name in ["admin", "super-admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler"] {
        remove_own(hand, &RemotePath::fixed(&format!("/etc/kubernetes/{name}.conf")), foreign);
    }
    for name in ["manifests", "pki", "tmp"] {
        let below: Vec<RemotePath> = hand.host.below(&format!("/etc/kubernetes/{name}")).map(|(path, _)| path.clone()).collect();
        for path in below.iter().rev() {
            remove_own(hand, path, foreign);
        }
    }
}

/// Something of Kubernetes that was not there before and of which slipway has no record.
fn remove_own(hand: &mut Hand<'_>, path: &RemotePath, foreign: bool) {
    if !foreign {
        let Some(note) = hand.host.text(&format!("{LIBRARY}/surroundings")) else { return };
        if note.lines().any(|line| line.strip_prefix("path=") == Some(path.as_str())) || hand.read_record(path.as_str()).exists {
            return;
        }
    }
    remove(hand, path);
}

/// Removes a file, or a directory if it is empty by then.
fn remove(hand: &mut Hand<'_>, path: &RemotePath) {
    let gone = |path: &RemotePath| hand.effects.contains(&Effect::Remove(path.clone()));
    let left = hand.host.below(path.as_str()).any(|(path, _)| !gone(path));
    if hand.host.files.contains_key(path) && !left {
        hand.effects.push(Effect::Remove(path.clone()));
    }
}

fn undo_path(hand: &mut Hand<'_>, path: &RemotePath) -> Result<(), Refused> {
    let record = hand.read_record(path.as_str());
    if !record.exists {
        return Ok(());
    }
    let found = hand.host.files.get(path);
    match record.before.as_deref() {
        Some("absent") => remove(hand, path),
        Some("original") => match hand.host.files.get(&original(path)) {
            Some(entry) => hand.effects.push(Effect::Put(path.clone(), entry.clone())),
            None => return Err(Refused(format!("slipway: the original of {path} is no longer below {LIBRARY}/original"))),
        },
        Some("directory") if found.is_none_or(|found| found.kind != EntryKind::Directory) => {
            hand.effects.push(Effect::Put(path.clone(), Entry::directory(Mode(0o755))));
        }
        Some("directory") => {}
        Some(before) => {
            let words = before.strip_prefix("directory ").and_then(|words| words.split_once(' '));
            let Some((mode, owners)) = words else { return Err(Refused(format!("slipway: cannot read the record {}", record.path))) };
            let mode = Mode(u32::from_str_radix(mode, 8).unwrap_or(0o755));
            let owner = owners.split(':').next().and_then(|owner| owner.parse().ok()).unwrap_or(0);
            if found.is_some_and(|found| found.kind == EntryKind::Directory) {
                hand.effects.push(Effect::Put(path.clone(), Entry { owner, ..Entry::directory(mode) }));
            }
        }
        None => {}
    }
    hand.effects.push(Effect::Remove(record.path));
    hand.effects.push(Effect::Remove(library("programs", &records::name(path))));
    hand.effects.push(Effect::Remove(original(path)));
    Ok(())
}

fn undo_unit(hand: &mut Hand<'_>, name: &str) {
    let record = hand.read_record(&format!("unit:{name}"));
    if !record.exists {
        return;
    }
    let before = match (hand.host.has_unit(name), record.before) {
        (true, Some(before)) => before,
        _ => "absent inactive".to_owned(),
    };
    hand.effects.push(match before.starts_with("enabled") {
        true => Effect::Enable(name.to_owned()),
        false => Effect::Disable(name.to_owned()),
    });
    hand.effects.push(match before.ends_with(" active") {
        true => Effect::Start(name.to_owned(), Vec::new()),
        false => Effect::Stop(name.to_owned()),
    });
    hand.effects.push(Effect::Remove(library("stamps", name)));
    hand.effects.push(Effect::Remove(record.path));
}
