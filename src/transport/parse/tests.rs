//! Answers of broken and hostile hosts.

use proptest::prelude::*;

use super::*;

fn request() -> ProbeRequest {
    ProbeRequest {
        roots: vec![RemotePath::fixed("/etc/kubernetes")],
        units: vec!["a.service".into()],
        programs: vec![RemotePath::fixed("/usr/bin/kubelet")],
        ..ProbeRequest::default()
    }
}

fn mark() -> Mark {
    Mark::of([0; 16])
}

fn facts(request: &ProbeRequest, answer: &[u8]) -> Result<Facts, ParseError> {
    super::facts(request, &mark(), answer)
}

fn fetched(paths: &[RemotePath], answer: &[u8]) -> Result<BTreeMap<RemotePath, Secret>, ParseError> {
    super::fetched(paths, &mark(), answer)
}

fn answer(sections: &str, stream: &[u8]) -> Vec<u8> {
    [format!("noise of .bashrc\n{BEGIN}\n{sections}@tar\n").as_bytes(), stream, mark().end().as_bytes()].concat()
}

fn entry(archive: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    // Written by hand, as a hostile host would: the crate refuses `..`.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

fn stream(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    entries.iter().for_each(|(name, content)| entry(&mut archive, name, tar::EntryType::Regular, content));
    archive.into_inner().unwrap()
}

#[test]
fn files_outside_the_roots_are_refused() {
    for name in ["etc/shadow", "etc/kubernetes2/a"] {
        let told = facts(&request(), &answer("", &stream(&[(name, b"x")])));
        assert!(matches!(told, Err(ParseError::Stray(_))), "{name}: {told:?}");
    }
    for name in ["etc/kubernetes/../shadow", "../etc/kubernetes/a", "etc/kubernetes/a\nb", "//etc/kubernetes/a", "/etc/shadow"] {
        let told = facts(&request(), &answer("", &stream(&[(name, b"x")]))).unwrap();
        assert!(told.state.files.is_empty(), "{name}");
    }
    let listed = facts(&request(), &answer("@files\n//600 0 0 etc/shadow\n", b""));
    assert_eq!(listed, Err(ParseError::Stray("/etc/shadow".into())));
}

#[test]
fn files_told_twice_are_refused() {
    let twice = stream(&[("etc/kubernetes/a", b"1"), ("etc/kubernetes/a", b"2")]);
    assert_eq!(facts(&request(), &answer("", &twice)), Err(ParseError::Twice("/etc/kubernetes/a".into())));
    let both = answer("@files\n//600 0 0 etc/kubernetes/a\n", &stream(&[("etc/kubernetes/a", b"1")]));
    assert_eq!(facts(&request(), &both), Err(ParseError::Twice("/etc/kubernetes/a".into())));
}

#[test]
fn a_second_name_of_a_file_has_its_content() {
    let mut archive = tar::Builder::new(Vec::new());
    entry(&mut archive, "etc/kubernetes/a", tar::EntryType::Regular, b"x");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    header.set_mode(0o644);
    archive.append_link(&mut header, "etc/kubernetes/b", "etc/kubernetes/a").unwrap();
    let told = facts(&request(), &answer("", &archive.into_inner().unwrap())).unwrap();
    assert_eq!(told.state.text(&RemotePath::fixed("/etc/kubernetes/b")), Some("x"));
}

#[test]
fn answers_that_are_cut_off_anywhere_are_no_answers() {
    let whole = answer("@kernel\n/proc/self/status:Uid:\t0\t0\t0\t0\n", &stream(&[("etc/kubernetes/a", &[b'x'; 3000])]));
    assert!(facts(&request(), &whole).unwrap().system.root);
    for length in 0..whole.len() - 1 {
        let cut = facts(&request(), &whole[..length]);
        assert!(cut.is_err(), "at {length}");
    }
    // A stream that ends within a file, in an answer that ends well.
    let half = stream(&[("etc/kubernetes/a", &[b'x'; 3000])]);
    assert!(facts(&request(), &answer("", &half[..1024])).is_err());
}

#[test]
fn a_million_files_are_too_many() {
    let listed: String = (0..1_000_000).map(|number| format!("//600 0 0 etc/kubernetes/{number}\n")).collect();
    let told = facts(&request(), &answer(&format!("@files\n{listed}"), b""));
    assert_eq!(told, Err(ParseError::TooLarge("more than 100000 files")));
    assert!(matches!(facts(&request(), &vec![b'\n'; LARGEST_ANSWER + 1]), Err(ParseError::TooLarge(_))));
}

#[test]
fn a_size_that_is_a_lie_costs_no_memory() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_path("etc/kubernetes/a").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(1 << 40);
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    assert!(facts(&request(), &answer("", &archive.into_inner().unwrap())).is_err());
}

#[test]
fn the_lock_and_refusals_are_told() {
    let told = format!("{BEGIN}\n@locked olga\u{1b}[0m\n{}", mark().end());
    assert_eq!(facts(&request(), told.as_bytes()), Err(ParseError::Locked("olga\u{fffd}[0m".into())));
    let told = format!("{BEGIN}\n@refused no flock\n{}", mark().end());
    assert_eq!(facts(&request(), told.as_bytes()), Err(ParseError::Refused("no flock".into())));
}

#[test]
fn versions_are_read_as_each_builder_prints_them() {
    let version = |line: &str| facts(&request(), &answer(&format!("@containerd\n{line}\n"), b"")).unwrap().system.containerd_version;
    assert_eq!(version("containerd github.com/containerd/containerd v1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da"), "1.7.27");
    assert_eq!(version("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1"), "1.6.20~ds1");
    // Debian's 2.1.9: the module's path ends with /v2, no leading v, nothing after it.
    assert_eq!(version("containerd github.com/containerd/containerd/v2 2.1.9+unknown "), "2.1.9+unknown");
    assert_eq!(version(""), "");
}

#[test]
fn nothing_that_is_shown_can_command_a_terminal() {
    assert_eq!(printable("a\u{1b}[2J\tb\r\n\u{9b}c\u{202e}"), "a\u{fffd}[2J b\u{fffd}\u{fffd}\u{fffd}c\u{fffd}");
    assert_eq!(printable(&"x".repeat(5000)).len(), 4096);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = facts(&request(), &bytes);
        let _ = facts(&request(), &answer("", &bytes));
        let _ = fetched(&[RemotePath::fixed("/a")], &answer("", &bytes));
    }

}

proptest! {
    // Sixty random lines take long to draw: this is the count in torture too.
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_lines_are_read_without_panic(
        lines in proptest::collection::vec(
            ("(@(system|os|swap|addresses|fib|inet6|free|commands|containerd|kubelet|modules|kernel|stamps|units|runtime|images|tasks|etcd|snapshots|programs|notes|listening|files|tar))?", "[ -~]{0,30}|[0-9A-F: ]{0,30}|(cpus|memory|clock|path|size)=[0-9,-]{0,20}"),
            0..60,
        )
    ) {
        let text: String = lines.iter().map(|(section, line)| format!("{section}\n{line}\n")).collect();
        let _ = facts(&request(), &answer(&text, b""));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_damaged_stream_is_read_without_panic(place in 0..2048_usize, value in any::<u8>()) {
        let mut bytes = stream(&[("etc/kubernetes/a", b"content"), ("etc/kubernetes/b", b"")]);
        let length = bytes.len();
        bytes[place % length] = value;
        let _ = facts(&request(), &answer("", &bytes));
    }
}

#[test]
fn more_names_for_a_file_take_no_more_memory_than_an_answer() {
    let mut archive = tar::Builder::new(Vec::new());
    entry(&mut archive, "etc/kubernetes/big", tar::EntryType::Regular, &vec![b'x'; 2 << 20]);
    for index in 0..100 {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_mode(0o644);
        header.set_size(0);
        archive.append_link(&mut header, format!("etc/kubernetes/{index}"), "etc/kubernetes/big").unwrap();
    }
    let told = facts(&request(), &answer("", &archive.into_inner().unwrap()));
    assert!(matches!(told, Err(ParseError::TooLarge(_))), "200 MiB out of 2");
}

#[test]
fn when_a_kubelet_was_started_is_told_by_two_clocks_or_not_at_all() {
    let answer = |state: &str, start: &str, up: &str| {
        format!("ActiveState={state}\nExecMainStartTimestamp={start}\nExecMainStartTimestampMonotonic={up}\nclock=1000.75\nuptime=500.50 7.0\n")
    };
    let told = kubelet_began(&answer("active", "Thu 1970-01-01 00:15:00 UTC", "400250000"));
    assert_eq!(told, (true, Some(Began { noted: 900, reckoned: 900 })));
    let set = kubelet_began(&answer("active", "Thu 1970-01-01 02:00:00 UTC", "400250000"));
    assert_eq!(set, (true, Some(Began { noted: 7200, reckoned: 900 })));
    // systemd starts it again and again: the last start is of a program that ended.
    assert_eq!(kubelet_began(&answer("activating", "Thu 1970-01-01 00:15:00 UTC", "400250000")), (false, None));
    for (start, up) in [("", "0"), ("n/a", "0"), ("Thu 1970-01-01 00:15:00 CET", "1"), ("Thu 1970-01-01 00:15:00 UTC", "NaN"), ("x x x UTC", "1")] {
        assert_eq!(kubelet_began(&answer("active", start, up)), (true, None), "{start} {up}");
    }
    assert_eq!(kubelet_began("nonsense"), (false, None));
}
