//! The script that looks at a host: everything in one go, so a host in sync costs one round trip.
//!
//! Pure. Invariant: without the lock the script writes nothing: no file, no temporary file, no
//! redirection but to `/dev/null` (a test reads the text for that). The answer is lines, in
//! sections that begin with `@NAME`; the last section is a tar stream as it is. It ends with a line that
//! nobody on the host could know beforehand (`Mark`), so that no file can look like it. `parse` reads it.
//!
//! A process costs a host more than anything else here, so there are few (a test counts them), and what
//! takes long to be told is noted on the host by probes with the lock, with what tells that it is still so.

use std::sync::LazyLock;

use super::ProbeRequest;
use super::script::sysctl_file;
use super::shell::{Script, find_pattern};

static LOOK: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("probe/look.sh")));
static LOCK: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("probe/lock.sh")));

/// Before this line the answer is noise of the login shell's start files.
pub const BEGIN: &str = "@slipway-begin";

/// The last line of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// A new one for each answer.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn draw() -> Self {
        let mut bytes = [0; 16];
        // Not AWS-LC's, whose own source of chance takes longer to begin than a probe of a host.
        getrandom::fill(&mut bytes).expect("the system has randomness");
        Self::of(bytes)
    }

    /// A known one, for tests.
    #[must_use]
    pub fn of(bytes: [u8; 16]) -> Self {
        Self(format!("@slipway-end {:032x}", u128::from_be_bytes(bytes)))
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.0
    }

    /// How an answer ends.
    #[must_use]
    pub fn end(&self) -> String {
        format!("\n{}\n", self.0)
    }
}

/// The beginning of the only `find`, and what it looks at for every host: where systemd finds units and what wants
/// them, and what is found out before. What is not there is left out.
const FIND: &str = "found=$(2>/dev/null exec find -H /proc/self \
./etc/systemd/system ./etc/systemd/system/*.wants ./etc/systemd/system/*.requires \
./run/systemd/system ./run/systemd/system/*.wants ./run/systemd/system/*.requires ./run/systemd/generator* \
./run/systemd/transient ./etc/systemd/system.control ./run/systemd/system.control \
./usr/local/lib/systemd/system ./usr/lib/systemd/system ./lib/systemd/system \
\"$containerd\" \"$kubelet\" \"$socket\" \"$database\" \"./lib/modules/$kernel/modules.builtin\"";

/// Looked at besides the units of a request, where it has written a file.
const RESOLVED: &str = "systemd-resolved.service";

/// Packs what is told of the roots, names as they are: otherwise tar would take a space off their end.
const PACK: &str = "tar --numeric-owner --format=gnu --no-recursion --no-unquote --verbatim-files-from -T - -cf - 2>/dev/null";

/// Asks when the kubelet was started, in the words of a probe; `parse::kubelet_began` reads the answer. For
/// one that was started after the probe.
pub const KUBELET_BEGAN: &str = "\
export LC_ALL=C TZ=UTC
timeout 10 systemctl show -p ActiveState,ExecMainStartTimestamp,ExecMainStartTimestampMonotonic -- kubelet.service
printf 'clock=%s\\n' \"$(date +%s.%N)\"
IFS= read -r line </proc/uptime && printf 'uptime=%s\\n' \"$line\"";

/// The script for a request: POSIX sh, run as root, without arguments. With a lock it goes on
/// reading heartbeat lines from standard input after it has answered.
#[must_use]
pub fn script(request: &ProbeRequest, mark: &Mark) -> String {
    let mut script = Script::new();
    script.fixed(&LOOK);
    if request.lock.is_some() {
        script.fixed(&LOCK);
    }
    script.call("begin_answer", [mark.line()]);
    if let Some(holder) = &request.lock {
        script.call("take_lock", [super::parse::printable(holder)]);
    }
    script.fixed("look_system");
    if request.interfaces {
        script.fixed("look_interfaces");
    }
    script.call("look_commands", &request.commands);
    find(&mut script, request);
    script.fixed("look_files");
    script.fixed("look_version containerd \"$containerd\" \"$containerd_file\"\nlook_version kubelet \"$kubelet\" \"$kubelet_file\"");
    script.call("look_modules", request.modules.iter().map(|module| module.replace('-', "_")));
    script.call("look_kernel", request.sysctls.iter().map(|key| parameter_file(key)));
    if request.ports {
        script.fixed("look_ports");
    }
    script.call("look_units", &request.units);
    if let Some(socket) = &request.socket {
        script.call("look_runtime", [socket.as_str()]);
    }
    if let Some(directory) = &request.etcd_directory {
        script.call("look_etcd", [directory.as_str()]);
        script.fixed("look_snapshots");
    }
    if !request.programs.is_empty() {
        script.fixed("look_notes");
    }
    if !request.packages.is_empty() {
        script.call("look_packages", &request.packages);
    }
    script.fixed("section tar\nsend\n{\ntell_names");
    if !request.directories.is_empty() {
        script.call("for wanted in", request.directories.iter().map(|path| relative(path.as_str())));
        script.fixed("do if [ -d \"$wanted\" ]; then printf '%s\\n' \"$wanted\"; fi; done");
    }
    script.fixed("} |").fixed(PACK);
    script.fixed("end_answer");
    if request.lock.is_some() {
        script.fixed("hold_lock");
    }
    script.finish()
}

/// Where the kernel tells a parameter, relative to the root.
pub(super) fn parameter_file(key: &str) -> String {
    format!("proc/sys/{}", sysctl_file(key))
}

/// Names are told relative to the root, so that tests can have their own.
fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Looks at all files there are to look at: those below the roots, whose names are relative, and others that
/// are only looked at from outside, whose names begin with `/` or `./`.
fn find(script: &mut Script, request: &ProbeRequest) {
    if let Some(socket) = &request.socket {
        script.call("at_socket", [socket.as_str()]);
    }
    let starts = request.units.iter().map(String::as_str).chain([RESOLVED]).map(|unit| format!("./run/systemd/units/invocation:{unit}"));
    let programs = request.programs.iter().map(|path| format!("./{}", relative(path.as_str())));
    let roots = request.roots.iter().map(|root| relative(root.as_str()).to_owned()).filter(|root| !root.is_empty());
    let mut words = vec!["-xdev", "(", "-path", "/*", "-o", "-path", "./*", ")", "-prune", "-printf", "/%s %m %D:%i %T@ %C@ %p\\n"];
    // Without content: what the request says, and what is larger than 1 MiB (2048 blocks of 512 bytes). By the last
    // part of the name, because a directory that is a link gives files a second one.
    let mut unread: Vec<String> = request.without_content.iter().map(|path| find_pattern(path.file_name())).collect();
    unread.sort();
    unread.dedup();
    words.extend(["-o", "!", "-path", "*\n*", "-type", "f", "(", "-size", "+2048"]);
    words.extend(unread.iter().flat_map(|pattern| ["-o", "-name", pattern]));
    words.extend([")", "-printf", "//%m %U %G %p\\n"]);
    words.extend(["-o", "!", "-path", "*\n*", "(", "-type", "d", "-o", "-type", "l", "-o", "-type", "f", ")", "-print"]);
    script.call(FIND, starts.chain(programs).chain(roots).chain(words.into_iter().map(str::to_owned)));
    script.fixed(")");
}

/// The script that reads files, following links. Files that are not there are left out.
#[must_use]
pub fn fetch_script<'a>(paths: impl IntoIterator<Item = &'a str>, mark: &Mark) -> String {
    let mut script = Script::new();
    script.fixed("cd \"${ROOT:-/}\" || exit 1\nset --");
    script.call("for wanted in", paths.into_iter().map(relative));
    script.fixed("do if [ -f \"$wanted\" ]; then set -- \"$@\" \"$wanted\"; fi; done");
    script.fixed("printf '\\n@slipway-begin\\n@tar\\n'");
    script.fixed("if [ $# -gt 0 ]; then tar --numeric-owner --format=gnu -h -cf - -- \"$@\"; fi");
    script.call("printf '\\n%s\\n'", [mark.line()]);
    script.finish()
}

/// Comments and indentation are for whoever reads the source; hosts would only have to skip them. Words to
/// shellcheck stay for the test.
fn without_comments(text: &str) -> String {
    let counts = |line: &&str| !line.starts_with('#') || line.starts_with("# shellcheck");
    text.lines().map(str::trim_start).filter(counts).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests;
