//! The three command texts that are ever sent to a host. They are constants but for the test
//! root: everything else (scripts, paths, secrets) travels on standard input.

use super::super::shell::Script;
use crate::names::RemotePath;

/// Becomes root if need be, then runs the text given as `$0`.
const ROOT: &str = r#"while read -r key _ user _ && [ "$key" != Uid: ]; do :; done </proc/self/status
if [ "$user" = 0 ]; then eval "$0"; else exec sudo -n -- sh -c "$0"; fi"#;

/// As the login user, for plans that say `sudo: false`.
const AS_IS: &str = r#"eval "$0""#;

/// Reads a script (its length in bytes on a line before it) and becomes it.
const EVAL: &str = r#"IFS= read -r length && script=$(head -c "$length") && eval "$script""#;

/// The same for scripts of people: with a time limit, and nothing on standard input.
const EVAL_BRIEFLY: &str = r#"IFS= read -r length && script=$(head -c "$length") && exec timeout -k 5 60 sh -c "$script" </dev/null"#;

/// Runs a step: one at a time on a host, in a directory of its own that is gone afterwards, ended
/// after its time. The last file of the stream is `whole`: tar itself takes a stream that was cut
/// between two files for a whole one.
const STEP: &str = r#"umask 077
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
if [ "$(id -u)" != 0 ] && [ -z "$ROOT" ]; then echo 'slipway: not root' >&2; exit 77; fi
mkdir -p "$ROOT/run/slipway" "$base" || exit 74
exec 7>>"$ROOT/run/slipway/step.lock"
if ! flock -w 30 7; then echo 'slipway: another step is at work on this host' >&2; exit 75; fi
rm -rf "$base"/step-*
dir=$(mktemp -d "$base/step-XXXXXX") || { echo 'slipway: cannot make a directory for the step (disk full?)' >&2; exit 74; }
trap 'cd /; rm -rf "$dir"' EXIT
trap 'exit 143' HUP INT TERM
cd "$dir" || exit 74
if ! tar -xf - || [ ! -e whole ]; then
  df -P -k "$dir" | { read -r _; read -r _ _ _ free _; echo "slipway: the files of the step did not arrive whole (connection lost, or disk full? $free KiB are free in $base)" >&2; }
  exit 74
fi
IFS= read -r limit <seconds
printf '\n@slipway-begin\n'
timeout -k 10 "$limit" sh run.sh </dev/null"#;

/// A command text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    /// Reads a script and becomes it.
    Eval,
    /// Reads a script and runs it for at most a minute.
    EvalBriefly,
    /// Runs a step whose files are small, or secret: they live in memory only.
    Step,
    /// Runs a step that brings large files, which would not fit into memory.
    LargeStep,
}

impl Remote {
    /// The text for `exec`: `sh -c` with the way to root, and what to do there as `$0`.
    pub(super) fn text(self, sudo: bool, root: Option<&RemotePath>) -> String {
        let mut body = Script::new();
        body.call("export", [format!("ROOT={}", root.map_or("", RemotePath::as_str))]);
        match self {
            Self::Eval => body.fixed(EVAL),
            Self::EvalBriefly => body.fixed(EVAL_BRIEFLY),
            Self::Step => body.fixed("base=$ROOT/run/slipway").fixed(STEP),
            Self::LargeStep => body.fixed("base=$ROOT/var/lib/slipway/work").fixed(STEP),
        };
        let mut command = Script::new();
        command.call("exec sh -c", [if sudo { ROOT } else { AS_IS }, &body.finish()]);
        command.finish()
    }
}

/// Whether standard error says that `sudo` refused or is not there, with a text for people.
pub(super) fn refusal(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.starts_with("sudo:") || line.contains("sudo: not found") || *line == "slipway: not root")?;
    if line == "slipway: not root" {
        return Some("the login user is not root and the plan says `sudo: false`".into());
    }
    Some(format!(
        "no root rights through sudo: {line}; allow the login user `NOPASSWD: ALL` in /etc/sudoers.d, or log in as root"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_texts_are_clean_for_shellcheck() {
        for remote in [Remote::Eval, Remote::EvalBriefly, Remote::Step, Remote::LargeStep] {
            let mut body = Script::new();
            body.call("export", ["ROOT="]);
            match remote {
                Remote::Eval => body.fixed(EVAL),
                Remote::EvalBriefly => body.fixed(EVAL_BRIEFLY),
                _ => body.fixed("base=$ROOT/run/slipway").fixed(STEP),
            };
            super::super::super::shell::shellcheck(&body.finish());
            super::super::super::shell::shellcheck(&remote.text(true, None));
        }
    }

    #[test]
    fn sudo_refusals_are_told_from_other_failures() {
        assert!(refusal("sudo: a password is required").unwrap().contains("a password is required"));
        assert!(refusal("sh: 2: exec: sudo: not found").unwrap().contains("not found"));
        assert_eq!(refusal("slipway: disk full"), None);
    }
}
