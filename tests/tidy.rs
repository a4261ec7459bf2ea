//! House rules that a machine can check. Each failure names the file, the rule and the fix.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A file of the repository.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The text before the first part that is only compiled for tests.
    fn shipped(&self) -> &str {
        if self.is_test() {
            return "";
        }
        match self.text.find("#[cfg(test)]") {
            Some(end) => &self.text[..end],
            None => &self.text,
        }
    }

    fn is_test(&self) -> bool {
        let tested = ["/tests/", "/tests.rs", "/fakes.rs", "/testing.rs"];
        self.path.starts_with("tests/") || tested.iter().any(|part| self.path.contains(part))
    }

    /// Shipped lines of code with their numbers: no comments, nothing empty.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.shipped().lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
    }
}

/// Everything git knows, and what is new and not ignored. Files that are not text are left out.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git is there where this repository was cloned");
    let names = String::from_utf8(output.stdout).expect("names are text");
    let read = |name: &str| Some(File { path: name.to_owned(), text: fs::read_to_string(root.join(name)).ok()? });
    let files: Vec<File> = names.lines().filter_map(read).collect();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the list of files is not whole");
    files
}

fn rust() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Source files of the product, without those that exist for tests only.
fn product() -> Vec<File> {
    rust().into_iter().filter(|file| file.path.starts_with("src/") && !file.is_test()).collect()
}

#[track_caller]
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = rust().into_iter().filter(|file| !file.text.starts_with("//! "));
    report(silent.map(|file| format!("{}: begin it with `//!`: what it is for, and what always holds in it", file.path)).collect());
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let lengths = rust().into_iter().map(|file| (file.code().count(), file.path));
    let long = lengths.filter(|(lines, _)| *lines > 400);
    report(long.map(|(lines, path)| format!("{path}: {lines} lines of code; split it by noun (the limit is 400 without tests)")).collect());
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut findings = Vec::new();
    for file in rust() {
        for (number, line) in file.code().filter(|(_, line)| line.contains(".unwrap()") || line.contains("todo!(")) {
            findings.push(format!("{}:{number}: say why it cannot happen with `expect`: {}", file.path, line.trim()));
        }
    }
    report(findings);
}

/// Words that say nothing about what a thing is.
const EMPTY_WORDS: &[&str] = &["helper", "helpers", "util", "utils", "common", "info", "data", "misc", "manager"];

/// Names of Kubernetes and of X.509.
const OWN_NAMES: &[&str] = &["controller_manager", "ControllerManager", "CommonName"];

#[test]
fn names_are_words_of_the_field() {
    let mut findings = Vec::new();
    for file in rust() {
        let stem = Path::new(&file.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let mut names = vec![stem];
        for (_, line) in file.code() {
            let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
            if words.any(|word| matches!(word, "struct" | "enum" | "trait" | "mod" | "type")) {
                names.extend(words.next().map(str::to_owned));
            }
        }
        for name in names {
            let plain = OWN_NAMES.iter().fold(name.clone(), |name, own| name.replace(own, ""));
            if let Some(word) = words_of(&plain).into_iter().find(|word| EMPTY_WORDS.contains(&word.as_str())) {
                findings.push(format!("{}: `{name}`: `{word}` says nothing; name what it is", file.path));
            }
        }
    }
    report(findings);
}

/// `FieldPath` and `field_path` are the words `field` and `path`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c == '-' || c.is_uppercase() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("there is one from the start").extend(c.to_lowercase());
        }
    }
    words
}

/// Files and directories below src/ that are functions from values to values.
const PURE: &[&str] = &[
    "names.rs",
    "meaning.rs",
    "adopt.rs",
    "adopt/",
    "artifact.rs",
    "artifact/",
    "facts.rs",
    "change.rs",
    "phase.rs",
    "paths.rs",
    "plan.rs",
    "plan/",
    "preflight.rs",
    "restart.rs",
    "preflight/",
    "signing_key.rs",
    "request.rs",
    "joining.rs",
    "standing.rs",
    "standing/",
    "impact.rs",
    "impact/",
    "eviction.rs",
    "departed.rs",
    "departed/member.rs",
    "departed/refusal.rs",
    "graph/leaving.rs",
    "report/difference/leave.rs",
    "upgrade.rs",
    "upgrade/",
    "teardown.rs",
    "release.rs",
    "release/",
    "template.rs",
    "patch.rs",
    "patch/",
    "kubernetes.rs",
    "kubernetes/",
    "desired.rs",
    "desired/",
    "diff.rs",
    "graph.rs",
    "graph/",
    "trust.rs",
    "trust/",
    "yaml.rs",
    "cluster/compare.rs",
    "cluster/quorum.rs",
    "cluster/readiness.rs",
    "status.rs",
    "status/",
    "execute/frontier.rs",
    "report/difference.rs",
    "report/difference/",
    "report/summary.rs",
    "report/visible.rs",
    "simulation/effects.rs",
    "simulation/undo.rs",
    "simulation/host.rs",
    "simulation/faults.rs",
    "simulation/fingerprint.rs",
    "transport/script.rs",
    "transport/probe.rs",
    "transport/parse.rs",
    "transport/parse/",
    "transport/shell.rs",
    "transport/records.rs",
];

/// Files among those that read the operator's disk or draw keys; nobody else there does.
const NOT_PURE: &[&str] = &["plan/load.rs", "plan/local_files.rs", "trust/issue.rs"];

/// What a pure file does not name: the world, the clock, the network, other processes, dice.
const WORLD: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::net::Tcp",
    "tokio",
    "openssh",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "rcgen::KeyPair::generate",
    "SystemRandom",
];

#[test]
fn the_core_is_pure() {
    let mut findings = Vec::new();
    let mut seen = 0;
    for file in product() {
        let path = file.path.trim_start_matches("src/");
        let pure = PURE.iter().any(|pure| path == *pure || pure.ends_with('/') && path.starts_with(pure));
        if !pure || NOT_PURE.contains(&path) {
            continue;
        }
        seen += 1;
        for (number, line) in file.code() {
            if let Some(word) = WORLD.iter().find(|word| line.contains(**word)) {
                findings.push(format!("src/{path}:{number}: `{word}` in a pure file; hand the value in as an argument"));
            }
        }
    }
    assert!(seen > PURE.len(), "the list of pure files fits the tree");
    let gone = PURE.iter().chain(NOT_PURE).filter(|path| !Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path).exists());
    findings.extend(gone.map(|path| format!("src/{path} is in the list of pure files and not there")));
    report(findings);
}

#[test]
fn only_the_edge_prints() {
    let mut findings = Vec::new();
    for file in product().into_iter().filter(|file| !file.path.starts_with("src/cli") && file.path != "src/main.rs") {
        for (number, line) in file.code().filter(|(_, line)| line.contains("println!(") || line.contains("print!(")) {
            findings.push(format!("{}:{number}: return it instead, src/cli prints: {}", file.path, line.trim()));
        }
    }
    report(findings);
}

#[test]
fn only_yaml_names_the_yaml_library_and_only_template_names_tera() {
    let mut findings = Vec::new();
    for file in product() {
        for (library, home) in [("serde_saphyr", "src/yaml.rs"), ("tera::", "src/template.rs")] {
            if file.path != home && file.code().any(|(_, line)| line.contains(library)) {
                findings.push(format!("{}: `{library}` is the business of {home} alone", file.path));
            }
        }
    }
    report(findings);
}

#[test]
fn every_template_is_used() {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/template.rs")).expect("it is there");
    let templates: Vec<String> =
        files().into_iter().filter_map(|file| file.path.strip_prefix("templates/").map(str::to_owned)).collect();
    assert!(!templates.is_empty());
    let unused = templates.into_iter().filter(|name| !source.contains(&format!("= \"{name}\";")));
    report(unused.map(|name| format!("templates/{name}: no input in src/template.rs names it")).collect());
}

#[test]
fn every_example_is_a_good_plan() {
    let mut findings = Vec::new();
    for file in files().into_iter().filter(|file| file.path.starts_with("plans/")) {
        if let Err(problems) = slipway::plan::load::parse(&file.text) {
            findings.extend(problems.into_iter().map(|problem| format!("{}: {problem:?}", file.path)));
        }
    }
    report(findings);
}

/// Nothing in the repository may know the machine it was written on.
#[test]
fn no_file_names_the_machine_it_was_written_on() {
    // Spelled in parts, so that this file does not find itself.
    let directories = [["/", "work/"], ["/", "root/target"], ["/", "root/.c"]].map(|parts| parts.concat());
    let zones = ["internal", "corp", "intranet", "lan"].map(|zone| format!(".{zone}"));
    // root has the same home everywhere, lab hosts included.
    let home = std::env::home_dir().map(|home| format!("{}/", home.display())).filter(|home| !home.ends_with("root/"));
    let mut findings = Vec::new();
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, index + 1);
            let absolute = |directory: &String| {
                line.match_indices(directory.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !(c.is_alphanumeric() || "/._-$}~".contains(c)))
                })
            };
            if let Some(directory) = directories.iter().chain(home.iter().filter(|home| home.len() > 1)).find(|d| absolute(d)) {
                findings.push(format!("{place}: a path below {directory} is of one machine only: {}", line.trim()));
            }
            // A registry of somebody's own network: a host of a private zone with a port or a path.
            let private = |zone: &String| {
                line.match_indices(zone.as_str()).any(|(at, _)| {
                    matches!(line[at + zone.len()..].chars().next(), Some(':' | '/'))
                        && line[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
                })
            };
            if zones.iter().any(private) {
                findings.push(format!("{place}: a host of a private network: {}", line.trim()));
            }
            if file.path.ends_with("Cargo.lock") && line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index") {
                findings.push(format!("{place}: only crates.io: {line}"));
            }
            if file.path.starts_with(".cargo/") && (line.contains("registry") || line.contains("[source")) {
                findings.push(format!("{place}: registries are set up by each machine for itself: {line}"));
            }
        }
    }
    report(findings);
}

/// Where shipped code waits on a clock, and for what: each asks again whether something it can see has
/// come, and ends. Nothing waits for a time that somebody thought would be enough.
const WAITS: &[(&str, &str)] = &[
    ("src/cli/certs/renew.rs", "is the new certificate served?"),
    ("src/cli/certs/rotate_ca/settle.rs", "has the cluster followed?"),
    ("src/cluster/drain.rs", "are the pods gone?"),
    ("src/cluster/joining.rs", "is the learner in sync?"),
    ("src/cluster/live/upkeep.rs", "does the Node run again?"),
    ("src/cluster/live.rs", "does the condition hold, is the API there?"),
    ("src/cluster/live/membership.rs", "is the kubelet of a machine that does not answer silent too?"),
    ("src/cluster/live/patience.rs", "does the condition hold, does the component keep ending?"),
    ("src/cluster/marks.rs", "has the kubelet prepared its Node?"),
    ("src/planning.rs", "is the lock free?"),
    ("src/simulation/shared.rs", "simulated time, on a paused clock"),
];

#[test]
fn nothing_waits_for_a_fixed_time() {
    let waits = |line: &str| {
        let code = line.split(" #").next().unwrap_or_default();
        ["sleep(", "sleep_until(", "interval(", "park_timeout("].iter().any(|call| code.contains(call))
    };
    let shell = |file: &File| file.path.starts_with("src/") && file.path.ends_with(".sh");
    let mut findings = Vec::new();
    let mut waiting = Vec::new();
    for file in files().iter().filter(|file| file.path.starts_with("src/") && !file.is_test()) {
        if file.path.ends_with(".rs") && file.code().any(|(_, line)| waits(line)) {
            waiting.push(file.path.clone());
        }
        if shell(file) {
            // In shell each sleep stands in a loop that counts its tries or reads its input.
            let mut depth = 0_i32;
            for (index, line) in file.text.lines().enumerate() {
                let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
                depth += i32::try_from(words.iter().filter(|word| **word == "do").count()).unwrap_or_default();
                if !line.trim_start().starts_with('#') && words.contains(&"sleep") && depth == 0 {
                    findings.push(format!("{}:{}: waits for a fixed time; wait for what can be seen, in a loop that ends", file.path, index + 1));
                }
                depth -= i32::try_from(words.iter().filter(|word| **word == "done").count()).unwrap_or_default();
            }
        }
    }
    let named = |path: &str| WAITS.iter().any(|(named, _)| *named == path);
    findings.extend(waiting.iter().filter(|path| !named(path)).map(|path| {
        format!("{path}: waits on a clock; wait for what can be seen, and name the file in WAITS with what it asks")
    }));
    let gone = WAITS.iter().filter(|(path, _)| path.ends_with(".rs") && !waiting.iter().any(|waits| waits == path));
    findings.extend(gone.map(|(path, _)| format!("{path}: is named in WAITS and waits for nothing")));
    report(findings);
}
