//! The script that looks at a host: everything in one go, so a host in sync costs one round trip.
//!
//! Pure. Invariant: without the lock the script writes nothing: no file, no temporary file, no
//! redirection but to `/dev/null` (a test reads the text for that). The answer is lines, in
//! sections that begin with `@NAME`; the content of files is a tar stream in base64, so that no
//! byte of a file can look like the end of the answer. `parse` reads it.

use super::ProbeRequest;
use super::script::sysctl_file;
use super::shell::{Script, find_pattern};

const LOOK: &str = include_str!("probe/look.sh");
const LOCK: &str = include_str!("probe/lock.sh");

/// Before this line the answer is noise of the login shell's start files.
pub const BEGIN: &str = "@slipway-begin";
/// The answer is whole.
pub const END: &str = "@slipway-end";

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
    script.call("look_versions", request.commands.iter().filter(|wanted| ["containerd", "kubelet"].contains(&wanted.as_str())));
    script.call("look_modules", request.modules.iter().map(|module| module.replace('-', "_")));
    script.call("look_kernel", request.sysctls.iter().map(|key| parameter_file(key)));
    script.call("look_units", &request.units);
    if let Some(socket) = &request.socket {
        script.call("look_runtime", [socket.as_str()]);
    }
    if let Some(directory) = &request.etcd_directory {
        script.call("look_etcd", [directory.as_str()]);
        script.fixed("look_snapshots");
    }
    if !request.programs.is_empty() {
        script.call("look_programs", request.programs.iter().map(|path| relative(path.as_str())));
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
    let unread: Vec<String> = request.without_content.iter().map(|path| find_pattern(relative(path.as_str()))).collect();

    // Without content: what the request says, and what is larger than 1 MiB (2048 blocks of 512 bytes).
    let mut listed: Vec<&str> = vec!["-xdev", "-type", "f", "!", "-path", "*\n*", "(", "-size", "+2048"];
    listed.extend(unread.iter().flat_map(|pattern| ["-o", "-path", pattern]));
    listed.extend([")", "-printf", "%m %U %G %p\\n"]);
    script.fixed("if [ $# -gt 0 ]; then");
    script.fixed("section listed\n{");
    script.call("find -H \"$@\"", listed);
    script.fixed("} 2>/dev/null");

    let mut packed: Vec<&str> = vec!["-xdev", "!", "-path", "*\n*"];
    packed.extend(unread.iter().flat_map(|pattern| ["!", "(", "-type", "f", "-path", pattern, ")"]));
    packed.extend(["(", "-type", "d", "-o", "-type", "l", "-o", "-type", "f", "-size", "-2049", ")", "-print0"]);
    script.fixed("section tar\n{");
    script.call("find -H \"$@\"", packed);
    if !request.directories.is_empty() {
        script.call("for wanted in", request.directories.iter().map(|path| relative(path.as_str())));
        script.fixed("do if [ -d \"$wanted\" ]; then printf '%s\\0' \"$wanted\"; fi; done");
    }
    script.fixed("} 2>/dev/null |");
    script.fixed(PACK);
    script.fixed("fi");
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
