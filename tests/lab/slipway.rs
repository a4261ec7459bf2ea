//! Runs the built program with a limit in time, and holds what it said.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than any run takes that comes to an end. A kubelet starts a component that ended several times only
/// after up to five minutes.
const LIMIT: Duration = Duration::from_secs(900);

/// Where a test runs slipway: its files, and the program's own state.
pub struct Desk {
    directory: tempfile::TempDir,
}

/// A run that ended.
#[derive(Debug)]
pub struct Ended {
    /// The command line.
    pub line: String,
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

/// A run that is going on.
pub struct Running {
    line: String,
    child: Child,
    files: [PathBuf; 2],
    started: Instant,
}

impl Desk {
    /// An empty one.
    pub fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("slipway-e2e-").tempdir().expect("a temporary directory") }
    }

    /// A file on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `slipway …` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).wait()
    }

    /// Runs `slipway …`, which must end with this exit code.
    pub fn run_for(&self, code: i32, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(code), "{ended}");
        ended
    }

    /// Starts `slipway …`.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let files = ["out", "err"].map(|name| {
            let file = tempfile::Builder::new().prefix(name).tempfile_in(self.directory.path()).expect("a file");
            file.into_temp_path().keep().expect("a file that stays")
        });
        let [out, err] = files.each_ref().map(|path| File::create(path).expect("a file can be written"));
        let child = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("slipway starts");
        Running { line: format!("slipway {}", arguments.join(" ")), child, files, started: Instant::now() }
    }
}

impl Running {
    /// Waits for its end; kills it if that does not come.
    pub fn wait(mut self) -> Ended {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return self.ended(status);
            }
            if self.started.elapsed() > LIMIT {
                let ended = self.kill();
                panic!("it took longer than {} s and was killed: {ended}", LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> Ended {
        let _ended_already = self.child.kill();
        let status = self.child.wait().expect("a child can be waited for");
        self.ended(status)
    }

    /// What it wrote to standard output so far.
    pub fn out(&self) -> String {
        read(&self.files[0])
    }

    /// What it wrote to standard error so far.
    pub fn err(&self) -> String {
        read(&self.files[1])
    }

    fn ended(self, status: ExitStatus) -> Ended {
        let [out, err] = self.files.each_ref().map(|path| read(path));
        Ended { line: self.line, code: status.code(), out, err, took: self.started.elapsed() }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

impl Ended {
    /// Everything it wrote holds this.
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.out.contains(text) || self.err.contains(text), "`{text}` is not said by {self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "`{}`: exit code {:?} after {:.1} s", self.line, self.code, self.took.as_secs_f32())?;
        write!(f, "--- standard output\n{}\n--- standard error\n{}", self.out, self.err)
    }
}
