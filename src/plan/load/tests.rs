//! Plan files in, plans or problems out.

use super::*;

mod bad_plans;
mod properties;

/// A plan that is fine; `{}` takes more fields.
pub(super) const MINIMAL: &str = "\
version: 1
kubernetes: {version: v1.34.2}
hosts:
  - {name: cp-1, address: 192.0.2.11, roles: [control-plane]}
";

#[test]
fn every_example_is_a_good_plan_without_a_warning() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/plans");
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        let warnings = match parse(&text) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        let rendered = report::render(&warnings, &text, &file.to_string_lossy(), false);
        assert_eq!(rendered, "");
        names.push(file.file_stem().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        ["dual-stack", "etcd-hosts", "external-etcd", "highly-available", "lab", "offline", "packages", "single-node", "virtual-address"]
    );
}

#[test]
fn local_files_are_found_beside_the_plan_or_reported_with_their_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.yaml");
    let text = format!("{MINIMAL}binaries:\n  kubelet: {{upload: \"{{arch}}/kubelet\"}}\n  kubectl: {{upload: kubectl}}\n");
    fs::write(&file, text).unwrap();
    fs::create_dir(directory.path().join("arm64")).unwrap();
    fs::write(directory.path().join("arm64/kubelet"), "").unwrap();

    let Err(LoadError::Invalid(invalid)) = load(&file) else { panic!("kubectl is missing") };
    let found: Vec<_> = invalid.problems.iter().map(|p| (p.code, p.path.to_string(), p.line)).collect();
    assert_eq!(found, [("local-file-missing", "binaries.kubectl.upload".to_owned(), 7)]);

    fs::write(directory.path().join("kubectl"), "").unwrap();
    let loaded = load(&file).unwrap();
    let kubectl = &loaded.plan.binaries[&crate::plan::Program::Kubectl];
    assert_eq!(*kubectl, crate::plan::Source::Upload(directory.path().join("kubectl")));
}

#[test]
fn files_that_are_no_plans_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.yaml");
    assert!(matches!(load(&file), Err(LoadError::Read { .. })));
    fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(matches!(load(&file), Err(LoadError::NotText { .. })));
    fs::write(&file, vec![b'#'; usize::try_from(MOST_BYTES).unwrap() + 1]).unwrap();
    assert!(matches!(load(&file), Err(LoadError::TooBig { .. })));
}

#[test]
fn a_thousand_hosts_are_read() {
    let mut text = MINIMAL.replace("hosts:", "network: {podCidrs: [10.128.0.0/9]}\nhosts:");
    for index in 0..1000 {
        let (high, low) = (index / 250, index % 250 + 1);
        text.push_str(&format!("  - {{name: worker-{index}, address: 172.16.{high}.{low}, roles: [worker], labels: {{a/b: c}}}}\n"));
    }
    let (plan, _) = parse(&text).unwrap();
    assert_eq!(plan.hosts.len(), 1001);
}

#[test]
fn problems_are_data_too() {
    let problems = parse(&MINIMAL.replace("version: 1\n", "version: 2\n")).unwrap_err();
    assert_eq!(
        serde_json::to_value(&problems).unwrap(),
        serde_json::json!([{
            "code": "out-of-range",
            "severity": "error",
            "path": "version",
            "message": "this must be 1",
            "line": 1,
            "column": 10,
        }])
    );
}

#[test]
fn plan_files_that_are_none_are_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let file = directory.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        load(&file).unwrap_err().to_string()
    };
    assert!(refused("utf8", b"version: \xff\xfe\n").contains("not UTF-8"));
    assert!(refused("nul", b"version: 1\0\n").contains("has 1 error"));
    let sparse = directory.path().join("large");
    std::fs::File::create(&sparse).unwrap().set_len(100 << 20).unwrap();
    assert!(load(&sparse).unwrap_err().to_string().contains("has 104857600 bytes; at most"));
    // No size and no end.
    assert!(load(Path::new("/dev/zero")).unwrap_err().to_string().contains("at most"));
}

#[test]
fn deep_and_swollen_documents_are_refused_and_line_ends_do_not_matter() {
    let (flow, block): (String, String) = ("[".repeat(10_000), "- ".repeat(10_000));
    let maps: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth % 3000))).collect();
    let scalar = format!("version: {}\n", "x".repeat(3 << 20));
    for text in [flow.as_str(), &block, &maps, &scalar, &"{a: ".repeat(10_000), &"? ".repeat(10_000), "a: &a [*a]", "a: 1\na: 2"] {
        let problems = parse(text).unwrap_err();
        assert!(!problems.is_empty());
        assert!(report::render(&problems, text, "plan.yaml", false).len() < 16 << 20);
    }
    let windows = MINIMAL.replace('\n', "\r\n");
    assert!(parse(&windows).is_ok());
    assert!(parse(&format!("\u{feff}{MINIMAL}")).is_ok());
}
