//! What a host does with a change, as a list of single effects in the order of the scripts in
//! `transport/script/*.sh`: a note of what was there, the change itself in one step, a note that it is
//! done. Pure. A run that is cut off may be cut off between any two effects.

use std::collections::BTreeSet;

use crate::artifact::Artifact;
use crate::artifact::snapshot::Snapshot;
use crate::change::{Change, Reason};
use crate::desired::packages::satisfies;
use crate::facts::FoundPackage;
use crate::names::{Digest, Mode, RemotePath};
use crate::transport::records;

use super::host::{Entry, EntryKind, Host, LIBRARY, Unit};
use super::undo;

/// One thing that happens to a host all at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Something is at that path from now on.
    Put(RemotePath, Entry),
    /// Nothing is at that path any more.
    Remove(RemotePath),
    /// A unit starts at boot.
    Enable(String),
    /// It does not.
    Disable(String),
    /// A unit starts, and reads these files.
    Start(String, Vec<RemotePath>),
    /// A unit ends.
    Stop(String),
    /// A module is loaded.
    Load(String),
    /// A module is unloaded.
    Unload(String),
    /// A kernel parameter has this value.
    Set(String, String),
    /// These devices are used for swap.
    Swap(Vec<String>),
    /// A package is there in this version, held or not, or is not there any more.
    Package(String, Option<FoundPackage>),
    /// An image is in the runtime.
    Image(String),
    /// An image is no longer in the runtime.
    RemoveImage(String),
    /// All pods end.
    RemovePods,
    /// These files are kept, and what etcd holds, as the newest of that many snapshots.
    Snapshot(Snapshot),
    /// etcd's data in that directory is gone.
    RemoveMember(RemotePath),
}

/// Why a host does not do it: what the script writes to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// The effects of a change on that host as it is now, and whether the script then fails.
pub fn effects(host: &Host, change: &Change) -> (Vec<Effect>, Result<(), Refused>) {
    let mut hand = Hand { host, effects: Vec::new(), made: BTreeSet::new() };
    hand.own_directories();
    let result = match &change.artifact {
        Artifact::Undone(undone) => undo::undo(&mut hand, undone),
        artifact => {
            hand.note_surroundings();
            hand.make(artifact, &change.reason)
        }
    };
    (hand.effects, result)
}

/// Gathers effects.
pub(super) struct Hand<'a> {
    pub host: &'a Host,
    pub effects: Vec<Effect>,
    /// Directories among the effects.
    made: BTreeSet<RemotePath>,
}

/// A record as it is before the change.
pub(super) struct Record {
    pub path: RemotePath,
    pub exists: bool,
    pub before: Option<String>,
    pub written: Option<String>,
}

impl Hand<'_> {
    fn make(&mut self, artifact: &Artifact, reason: &Reason) -> Result<(), Refused> {
        match artifact {
            Artifact::Directory { path, mode } => self.directory(path, *mode),
            Artifact::File { path, mode, content } => {
                self.parents(path)?;
                self.place(path, "file", &content.digest().to_string(), Entry::shared(*mode, content.shared()))
            }
            Artifact::Link { path, target } => {
                self.parents(path)?;
                self.place(path, "link", &Digest::of(target).to_string(), Entry::link(target.clone()))
            }
            Artifact::Absent { path } => self.absent(path),
            Artifact::Program { path, digest, unpack, .. } => {
                if let Some(directory) = unpack {
                    self.ensure(directory)?;
                }
                self.parents(path)?;
                let entry = Entry::file(Mode(0o755), format!("program {digest}\n"));
                let is = Digest::of(format!("program {digest}\n"));
                self.place(path, "program", &digest.to_string(), entry)?;
                let note = library("programs", &records::name(path));
                self.effects.push(Effect::Put(note, text(&format!("path={path}\ndigest={digest}\nis={is}\n"))));
                Ok(())
            }
            Artifact::Package { name, version, program, held } => {
                self.package(name, version.as_deref(), program.as_ref(), *held);
                Ok(())
            }
            Artifact::Module { name } => {
                if !self.host.modules.contains(name) {
                    self.record_once(&format!("module:{name}"), &format!("module={name}\nkind=module\nbefore=absent\n"));
                    self.effects.push(Effect::Load(name.clone()));
                }
                Ok(())
            }
            Artifact::Sysctl { key, value } => {
                let Some(is) = self.host.sysctls.get(key) else { return Err(Refused(format!("slipway: this kernel has no parameter {key}"))) };
                self.record_once(&format!("sysctl:{key}"), &format!("sysctl={key}\nkind=sysctl\nbefore={is}\n"));
                self.effects.push(Effect::Set(key.clone(), value.clone()));
                Ok(())
            }
            Artifact::NoSwap => {
                let devices: String = self.host.swap.iter().map(|device| format!("device={device}\n")).collect();
                self.record_once("swap", &format!("kind=swap\nbefore=active\n{devices}"));
                self.effects.push(Effect::Swap(Vec::new()));
                Ok(())
            }
            Artifact::Unit { name, inputs, stamp, .. } => self.unit(name, inputs, *stamp, reason),
            Artifact::Halted { unit, files, pods } => {
                self.effects.push(Effect::Remove(library("stamps", unit)));
                self.effects.push(Effect::Stop(unit.clone()));
                self.effects.extend(files.iter().cloned().map(Effect::Remove));
                if *pods {
                    self.effects.push(Effect::RemovePods);
                }
                Ok(())
            }
            Artifact::Restarted { units, .. } => {
                let runs = |name: &&String| self.host.units.get(*name).is_some_and(|unit| unit.active);
                let restarts = units.iter().filter(runs).map(|name| Effect::Start(name.clone(), self.host.units[name].started_with.keys().cloned().collect()));
                let restarts: Vec<Effect> = restarts.collect();
                self.effects.extend(restarts);
                Ok(())
            }
            Artifact::Image { names, digest, .. } => {
                let note = records::archive_note(names);
                self.effects.push(Effect::Remove(note.clone()));
                let new: Vec<&String> = names.iter().filter(|name| !self.host.images.contains(*name)).collect();
                self.effects.extend(new.iter().map(|name| Effect::Image((*name).clone())));
                for name in names {
                    self.record_image(name);
                }
                self.ensure(&note.parent())?;
                self.effects.push(Effect::Put(note, text(&format!("{digest}\n"))));
                Ok(())
            }
            Artifact::Pulled { name } => {
                if !self.host.images.contains(name) {
                    self.record_image(name);
                    self.effects.push(Effect::Image(name.clone()));
                }
                Ok(())
            }
            Artifact::Snapshot(snapshot) => {
                if snapshot.etcd.is_some() && !self.host.pods.contains_key("etcd") {
                    return Err(Refused("slipway: no container of etcd runs on this host".into()));
                }
                self.effects.push(Effect::Snapshot(snapshot.clone()));
                Ok(())
            }
            Artifact::Object(_)
            | Artifact::NodeMarks(_)
            | Artifact::Departed(_)
            | Artifact::Maintenance(_)
            | Artifact::Membership(_) => {
                Err(Refused("slipway: an object of the cluster was sent to a host; this is a bug of slipway".into()))
            }
            Artifact::Undone(_) => Ok(()),
        }
    }

    /// Its record, the package, and then that it is held.
    fn package(&mut self, name: &str, version: Option<&str>, program: Option<&RemotePath>, held: bool) {
        let found = self.host.packages.get(name).cloned();
        let word = |held| if held { "hold" } else { "install" };
        let before = found.as_ref().map_or_else(|| "absent".to_owned(), |found| format!("{} {}", found.version, word(found.held)));
        self.record_once(&format!("package:{name}"), &format!("package={name}\nkind=package\nbefore={before}\n"));
        let is = |found: &FoundPackage| version.is_none_or(|wanted| satisfies(&found.version, wanted));
        let there = match found {
            Some(found) if is(&found) => found,
            _ => {
                program.into_iter().for_each(|path| self.forget_stamps(path));
                let revised = |version: &str| if version.contains('-') { version.to_owned() } else { format!("{version}-1.1") };
                let new = FoundPackage { version: revised(version.unwrap_or("1.0.0")), held: false };
                self.effects.push(Effect::Package(name.to_owned(), Some(new.clone())));
                new
            }
        };
        if held && !there.held {
            self.effects.push(Effect::Package(name.to_owned(), Some(FoundPackage { held, ..there })));
        }
    }

    fn record_image(&mut self, name: &str) {
        self.record_once(&format!("image:{name}"), &format!("image={name}\nkind=image\nbefore=absent\n"));
    }

    /// Every script begins by making the directories of slipway's own.
    fn own_directories(&mut self) {
        for directory in [LIBRARY.to_owned(), format!("{LIBRARY}/records")] {
            if self.host.at(&directory).is_none() {
                self.effects.push(Effect::Put(RemotePath::fixed(&directory), Entry::directory(Mode(0o700))));
            }
            self.made.insert(RemotePath::fixed(&directory));
        }
    }

    /// What was there before slipway's first change that no record is about.
    fn note_surroundings(&mut self) {
        if self.host.at(&format!("{LIBRARY}/surroundings")).is_some() || self.host.below(&format!("{LIBRARY}/records")).next().is_some() {
            return;
        }
        let paths = ["/etc/kubernetes", "/var/lib/kubelet"].into_iter().flat_map(|directory| {
            let own = self.host.files.get_key_value(&RemotePath::fixed(directory));
            own.into_iter().chain(self.host.below(directory))
        });
        let mut note: String = paths.map(|(path, _)| format!("path={path}\n")).collect();
        note.push_str("images=known\n");
        note.extend(self.host.images.iter().map(|image| format!("image={image}\n")));
        self.effects.push(Effect::Put(library_file("surroundings"), text(&note)));
    }

    pub(super) fn read_record(&self, what: &str) -> Record {
        let path = library("records", &records::escaped(what));
        let found = self.host.text(path.as_str());
        let last = |key: &str| found.and_then(|text| text.lines().filter_map(|line| line.strip_prefix(key)).next_back()).map(str::to_owned);
        Record { exists: found.is_some(), before: last("before="), written: last("written="), path }
    }

    fn record_once(&mut self, what: &str, lines: &str) {
        let record = self.read_record(what);
        if !record.exists {
            self.effects.push(Effect::Put(record.path, text(lines)));
        }
    }

    fn there(&self, path: &RemotePath) -> Option<&Entry> {
        self.host.files.get(path)
    }

    fn parents(&mut self, path: &RemotePath) -> Result<(), Refused> {
        self.ensure(&path.parent())
    }

    /// Makes a directory and what is missing above it, if it is not there.
    fn ensure(&mut self, path: &RemotePath) -> Result<(), Refused> {
        let is_link_or_directory = |entry: &Entry| !matches!(entry.kind, EntryKind::File { .. });
        if path.as_str() == "/" || self.made.contains(path) || self.there(path).is_some_and(is_link_or_directory) {
            return Ok(());
        }
        self.directory(path, Mode(0o755))
    }

    fn directory(&mut self, path: &RemotePath, mode: Mode) -> Result<(), Refused> {
        self.parents(path)?;
        let record = self.read_record(path.as_str());
        if let Some(found) = self.there(path).filter(|found| found.kind == EntryKind::Directory) {
            if record.before.is_none() {
                if found.mode == mode && found.owner == 0 {
                    return Ok(());
                }
                let before = format!("directory {:o} {}:{}", found.mode.0, found.owner, found.owner);
                self.effects.push(Effect::Put(record.path, text(&format!("path={path}\nkind=directory\nbefore={before}\n"))));
            }
        } else {
            let before = self.keep(path, &record);
            self.effects.push(Effect::Put(record.path, text(&format!("path={path}\nkind=directory\nbefore={before}\n"))));
            self.made.insert(path.clone());
        }
        self.effects.push(Effect::Put(path.clone(), Entry::directory(mode)));
        Ok(())
    }

    /// What was there before slipway; kept if slipway never changed it.
    fn keep(&mut self, path: &RemotePath, record: &Record) -> String {
        if let Some(before) = &record.before {
            return before.clone();
        }
        match self.there(path).cloned() {
            None => "absent".to_owned(),
            Some(Entry { kind: EntryKind::Directory, .. }) => "directory".to_owned(),
            Some(entry) => {
                self.effects.push(Effect::Put(original(path), entry));
                "original".to_owned()
            }
        }
    }

    fn place(&mut self, path: &RemotePath, kind: &str, digest: &str, entry: Entry) -> Result<(), Refused> {
        let record = self.read_record(path.as_str());
        let before = self.keep(path, &record);
        if self.there(path).is_some_and(|found| found.kind == EntryKind::Directory) {
            if self.host.below(path.as_str()).next().is_some() {
                return Err(Refused(format!("slipway: {path} is a directory that is not empty")));
            }
            self.effects.push(Effect::Remove(path.clone()));
        }
        let told = |written: &str| text(&format!("path={path}\nkind={kind}\nbefore={before}\n{written}"));
        let last = format!("written={digest}\n");
        let other = record.written.as_deref().filter(|written| *written != digest);
        let first = other.map_or_else(|| last.clone(), |other| format!("written={other}\n{last}"));
        self.effects.push(Effect::Put(record.path.clone(), told(&first)));
        if self.there(path).map(|found| &found.kind) != Some(&entry.kind) {
            self.forget_stamps(path);
        }
        self.effects.push(Effect::Put(path.clone(), entry));
        if other.is_some() {
            self.effects.push(Effect::Put(record.path, told(&last)));
        }
        Ok(())
    }

    /// Units that read the path at start have to be restarted, whatever becomes of this run.
    fn forget_stamps(&mut self, path: &RemotePath) {
        let line = format!("input={path}");
        let reads = |entry: &Entry| {
            entry.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).is_some_and(|text| text.lines().any(|found| found == line))
        };
        let stamps = self.host.below(&format!("{LIBRARY}/stamps")).filter(|(_, entry)| reads(entry));
        let removed: Vec<Effect> = stamps.map(|(path, _)| Effect::Remove(path.clone())).collect();
        self.effects.extend(removed);
    }

    fn absent(&mut self, path: &RemotePath) -> Result<(), Refused> {
        if self.there(path).is_some_and(|found| found.kind == EntryKind::Directory) {
            return Err(Refused(format!("slipway: {path} shall not be there, but is a directory")));
        }
        let record = self.read_record(path.as_str());
        let before = self.keep(path, &record);
        if before == "absent" {
            self.effects.push(Effect::Remove(path.clone()));
            self.effects.push(Effect::Remove(record.path));
        } else {
            self.effects.push(Effect::Put(record.path, text(&format!("path={path}\nkind=absent\nbefore={before}\n"))));
            self.effects.push(Effect::Remove(path.clone()));
        }
        Ok(())
    }

    fn unit(&mut self, name: &str, inputs: &[RemotePath], stamp: Digest, reason: &Reason) -> Result<(), Refused> {
        let unit = self.host.units.get(name).cloned().unwrap_or_default();
        let there = self.host.has_unit(name);
        let Unit { active, enabled, .. } = unit;
        let was = match (there, enabled) {
            (false, _) => "absent",
            (true, true) => "enabled",
            (true, false) => "disabled",
        };
        let state = if active { "active" } else { "inactive" };
        self.record_once(&format!("unit:{name}"), &format!("unit={name}\nkind=unit\nbefore={was} {state}\n"));
        if !there {
            return Err(Refused(format!("slipway: cannot enable {name}")));
        }
        if !enabled {
            self.effects.push(Effect::Enable(name.to_owned()));
        }
        let file = library("stamps", name);
        let is = self.host.text(file.as_str()).and_then(|text| text.lines().next()).map(str::to_owned);
        if *reason != Reason::Disabled || is != Some(stamp.to_string()) || !active {
            self.effects.push(Effect::Remove(file.clone()));
            self.effects.push(Effect::Start(name.to_owned(), inputs.to_vec()));
        }
        let lines: String = inputs.iter().map(|input| format!("input={input}\n")).collect();
        self.effects.push(Effect::Put(file, text(&format!("{stamp}\n{lines}"))));
        Ok(())
    }
}

/// A file of slipway's own.
fn text(content: &str) -> Entry {
    Entry::file(Mode(0o600), content)
}

pub(super) fn library(directory: &str, name: &str) -> RemotePath {
    RemotePath::fixed(&format!("{LIBRARY}/{directory}/{name}"))
}

fn library_file(name: &str) -> RemotePath {
    RemotePath::fixed(&format!("{LIBRARY}/{name}"))
}

/// Where the original of a path is kept.
pub(super) fn original(path: &RemotePath) -> RemotePath {
    RemotePath::fixed(&format!("{LIBRARY}/original{path}"))
}
