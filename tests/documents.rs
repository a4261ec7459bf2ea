//! What the documents say about the code is compared with the code: files, phases, checks, exit
//! codes, commands and links.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use slipway::failure::EXIT_CODES;
use slipway::phase::RULES;
use slipway::preflight::CHECK_NAMES;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The part of a document below a heading, up to the next one of the same kind.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().unwrap();
    let (_, rest) = text.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    rest.split(&format!("\n{level} ")).next().unwrap()
}

/// The first column of the tables in a text, without backticks.
fn first_column(text: &str) -> Vec<String> {
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-"));
    rows.map(|row| row.split('|').nth(1).unwrap().trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn every_module_is_on_the_map() {
    fn modules(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                modules(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(Path::new(ROOT).join("src")).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    modules(&Path::new(ROOT).join("src"), &mut found);
    let test_only = |path: &&String| ["tests", "fakes.rs", "testing.rs"].iter().any(|part| path.contains(part));
    let wanted: BTreeSet<&str> = found.iter().filter(|path| !test_only(path)).map(String::as_str).collect();
    let text = read("ARCHITECTURE.md");
    let map = section(&text, "## Map");
    let named: BTreeSet<String> = first_column(map).into_iter().filter(|name| name.ends_with(".rs")).collect();
    let missing: Vec<&&str> = wanted.iter().filter(|path| !named.contains(**path)).collect();
    let gone: Vec<&String> = named.iter().filter(|path| !wanted.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "not on the map in ARCHITECTURE.md: {missing:?}");
    assert!(gone.is_empty(), "on the map in ARCHITECTURE.md and not there: {gone:?}");
}

#[test]
fn the_table_of_phases_is_the_one_of_the_code() {
    let wanted: Vec<String> = RULES.iter().map(|rule| rule.phase.to_string()).collect();
    let text = read("ARCHITECTURE.md");
    let rows = first_column(section(&text, "## Phases"));
    assert_eq!(rows.into_iter().filter(|row| row != "phase").collect::<Vec<_>>(), wanted);
    let hosts = read("docs/hosts.md");
    let missing: Vec<&String> = wanted.iter().filter(|phase| !hosts.contains(&format!("`{phase}`"))).collect();
    assert!(missing.is_empty(), "docs/hosts.md does not say what these phases put on hosts: {missing:?}");
}

#[test]
fn every_check_is_explained() {
    let text = read("docs/operations.md");
    let rows = first_column(section(&text, "## Preflight checks"));
    assert_eq!(rows.into_iter().filter(|row| row != "name").collect::<Vec<_>>(), CHECK_NAMES);
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let numbers: Vec<String> =
        EXIT_CODES.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    for file in ["README.md", "docs/operations.md"] {
        let text = read(file);
        let rows = first_column(section(&text, "## Exit codes"));
        assert_eq!(rows.into_iter().filter(|row| row != "code").collect::<Vec<_>>(), numbers, "{file}");
    }
}

#[test]
fn every_command_is_in_the_readme() {
    let output = Command::new(env!("CARGO_BIN_EXE_slipway")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    // Descriptions that do not fit go on in lines that are indented further.
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let commands: BTreeSet<&str> = names.map(|line| line.split(' ').next().unwrap()).filter(|name| *name != "help").collect();
    assert!(commands.contains("apply"), "{help}");
    let text = read("README.md");
    let rows = first_column(section(&text, "## Commands"));
    let named: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.strip_prefix("slipway ")).map(|row| row.split(' ').next().unwrap()).collect();
    let missing: Vec<&&str> = commands.difference(&named).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

#[test]
fn relative_links_lead_somewhere() {
    let documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned);
    let more = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let more = more.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    for file in documents.into_iter().chain(more).filter(|file| file.ends_with(".md")) {
        let directory = Path::new(ROOT).join(&file).parent().unwrap().to_owned();
        for link in read(&file).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(directory.join(target).exists(), "{file}: {link}");
            }
        }
    }
}
