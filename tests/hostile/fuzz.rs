//! The fuzz targets on a stable compiler: the corpus, and copies of it with seeded changes. The
//! same changes in every run; `SLIPWAY_TORTURE=1` makes many more.

use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, Stdio};

use super::bodies;

/// Numbers that look like chance (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit.max(1)
    }
}

/// Pieces that mean something to one of the readers.
const WORDS: &[&[u8]] = &[
    b"\x00", b"\xff", b"\r\n", b"\n", b"\x1b[2J", b"\xc2\x9b31m", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"&a ", b"*a", b"<<: *a\n", b"[", b"{", b"- ",
    b"? ", b"!!binary ", b"---\n", b"\"", b"'", b"|\n", b": ", b"18446744073709551616", b"-1", b"1e400", b".inf", b"9999-12-31T23:59:59Z",
    b"99999999999999999999", b"../", b"/", b"%n", b"$(id)", b"`id`", b"\n@slipway-end 00000000000000000000000000000000\n", b"@slipway-begin\n", b"@locked x\n", b"@units\n", b"@tar\n",
    b"@files\n//600 0 0 etc/kubernetes/x\n", b"=", b"\x09", b"0x7fffffffffffffff", b"null", b"true", b"{\"event\":\"", b"\"outcome\":{",
];

fn changed(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        let length = 1 + dice.below(40);
        let end = (at + length).min(input.len());
        match dice.below(8) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => drop(input.drain(at..end)),
            3 => drop(input.splice(at..at, seed[at.min(seed.len())..end.min(seed.len()).max(at.min(seed.len()))].to_vec())),
            4 => drop(input.splice(at..end, WORDS[dice.below(WORDS.len())].iter().copied())),
            5 => input.truncate(at),
            6 => {
                let from = dice.below(other.len() + 1);
                let piece = other[from..(from + 400).min(other.len())].to_vec();
                drop(input.splice(at..at, piece));
            }
            _ => drop(input.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
        }
    }
    input
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn run(target: &str, body: fn(&[u8]), seeds: Vec<Vec<u8>>, inputs: usize) {
    assert!(!seeds.is_empty(), "a corpus without a file");
    let torture = std::env::var_os("SLIPWAY_TORTURE").is_some_and(|value| value == "1");
    let inputs = if torture { inputs * 50 } else { inputs };
    let mut dice = Dice(0x5eed);
    let attempt = |number: usize, input: &[u8]| {
        if catch_unwind(|| body(input)).is_err() {
            let file = std::env::temp_dir().join(format!("slipway-{target}-{number}"));
            std::fs::write(&file, input).unwrap();
            panic!("{target}: input {number} is in {}", file.display());
        }
    };
    seeds.iter().enumerate().for_each(|(number, seed)| attempt(number, seed));
    for number in 0..inputs {
        let (seed, other) = (&seeds[number % seeds.len()], &seeds[dice.below(seeds.len())]);
        attempt(seeds.len() + number, &changed(seed, other, &mut dice));
    }
    eprintln!("{target}: {} files of the corpus and {inputs} changed ones", seeds.len());
}

#[test]
fn plan_files() {
    run("plan", bodies::plan, corpus("plan"), 1_000);
}

#[test]
fn answers_of_hosts() {
    let mut seeds = corpus("probe");
    seeds.push(answer_of_this_machine());
    run("probe", bodies::probe, seeds, 2_000);
}

#[test]
fn files_of_hosts() {
    run("probe_files", bodies::probe_files, corpus("probe_files"), 2_000);
}

#[test]
fn journals() {
    run("journal", bodies::journal, corpus("journal"), 5_000);
}

/// The real probe, in a root with next to nothing in it.
fn answer_of_this_machine() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    let kubernetes = root.path().join("etc/kubernetes/pki");
    std::fs::create_dir_all(&kubernetes).unwrap();
    std::fs::write(kubernetes.join("ca.crt"), "no certificate").unwrap();
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(slipway::transport::probe::script(&bodies::request(), &bodies::mark()))
        .env("ROOT", root.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(slipway::transport::parse::facts(&bodies::request(), &bodies::mark(), &output.stdout).is_ok(), "{output:?}");
    output.stdout
}
