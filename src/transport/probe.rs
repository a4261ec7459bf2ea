//! The script that looks at a host: everything in one go, so a host in sync costs one round trip.
//!
//! Pure. Invariant: without the lock the script writes nothing: no file, no temporary file, no
//! redirection but to `/dev/null` and to its own streams (a test reads the text for that). The answer is lines, in
//! sections that begin with `@NAME`; the content of files is a tar stream in base64, so that no
//! byte of a file can look like the end of the answer. `parse` reads it.

use super::ProbeRequest;
use super::script::sysctl_file;
use super::shell::{Script, find_pattern};
use crate::names::RemotePath;

const LOOK: &str = include_str!("probe/look.sh");
const LOCK: &str = include_str!("probe/lock.sh");

/// Before this line the answer is noise of the login shell's start files.
pub const BEGIN: &str = "@slipway-begin";
/// The answer is whole.
pub const END: &str = "@slipway-end";

/// Looked at besides the units of a request, where it has written a file.
const RESOLVED: &str = "systemd-resolved.service";

/// Finds what is to be told of the roots; follows the words of `find` that choose.
const PACK: &str = "tar --numeric-owner --format=gnu --no-recursion --null -T - -cf - 2>/dev/null | base64";

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
pub fn script(request: &ProbeRequest) -> String {
    let mut script = Script::new();
    script.fixed(LOOK);
    if request.lock.is_some() {
        script.fixed(LOCK);
    }
    // A line of its own, even after noise without an end of line.
    script.fixed("printf '\\n@slipway-begin\\n'");
    if let Some(holder) = &request.lock {
        script.call("take_lock", [super::parse::printable(holder)]);
    }
    script.fixed("look_system");
    script.call("look_commands", &request.commands);
    let socket = request.socket.as_ref().map_or("", RemotePath::as_str);
    let programs = request.programs.iter().map(|path| relative(path.as_str()).to_owned());
    let starts = request.units.iter().map(String::as_str).chain([RESOLVED]).map(|unit| format!("run/systemd/units/invocation:{unit}"));
    script.call("look_stat", [socket.to_owned()].into_iter().chain(programs).chain(starts));
    script.fixed("look_version containerd \"$containerd\"\nlook_version kubelet \"$kubelet\"");
    script.call("look_modules", request.modules.iter().map(|module| module.replace('-', "_")));
    script.call("look_kernel", request.sysctls.iter().map(|key| parameter_file(key)));
    script.call("look_units", &request.units);
    if !socket.is_empty() {
        script.call("look_runtime", [socket]);
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
    files(&mut script, request);
    script.fixed("printf '@slipway-end\\n'");
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

fn files(script: &mut Script, request: &ProbeRequest) {
    script.fixed("set --");
    let roots: Vec<&str> = request.roots.iter().map(|root| relative(root.as_str())).filter(|root| !root.is_empty()).collect();
    if roots.is_empty() {
        return;
    }
    script.call("for wanted in", roots);
    script.fixed("do if [ -e \"$wanted\" ] || [ -L \"$wanted\" ]; then set -- \"$@\" \"$wanted\"; fi; done");
    script.fixed("if [ $# -gt 0 ]; then");
    // Lines and the stream come from one `find`, so the lines wait in a variable.
    script.fixed("section tar\nexec 4>&1\nlisted=$({\n{");
    if !request.directories.is_empty() {
        script.call("for wanted in", request.directories.iter().map(|path| relative(path.as_str())));
        script.fixed("do if [ -d \"$wanted\" ]; then printf '%s\\0' \"$wanted\"; fi; done");
    }
    // Without content: what the request says, and what is larger than 1 MiB (2048 blocks of 512 bytes).
    let unread: Vec<String> = request.without_content.iter().map(|path| find_pattern(relative(path.as_str()))).collect();
    let mut words: Vec<&str> = vec!["-xdev", "!", "-path", "*\n*", "(", "-type", "f", "(", "-size", "+2048"];
    words.extend(unread.iter().flat_map(|pattern| ["-o", "-path", pattern]));
    words.extend([")", "-fprintf", "/dev/fd/3", "%m %U %G %p\\n"]);
    words.extend(["-o", "(", "-type", "d", "-o", "-type", "l", "-o", "-type", "f", ")", "-print0", ")"]);
    script.call("exec find -H \"$@\"", words);
    script.fixed("} 2>/dev/null |");
    script.fixed(PACK);
    script.fixed("} 3>&1 >&4)\nsection listed\nprintf '%s\\n' \"$listed\"\nfi");
}

/// The script that reads files, following links. Files that are not there are left out.
#[must_use]
pub fn fetch_script<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let mut script = Script::new();
    script.fixed("cd \"${ROOT:-/}\" || exit 1\nset --");
    script.call("for wanted in", paths.into_iter().map(relative));
    script.fixed("do if [ -f \"$wanted\" ]; then set -- \"$@\" \"$wanted\"; fi; done");
    script.fixed("printf '\\n@slipway-begin\\n@tar\\n'");
    script.fixed("if [ $# -gt 0 ]; then tar --numeric-owner --format=gnu -h -cf - -- \"$@\" | base64; fi");
    script.fixed("printf '@slipway-end\\n'");
    script.finish()
}

#[cfg(test)]
mod tests;
