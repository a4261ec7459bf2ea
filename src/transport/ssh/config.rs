//! The configuration that `ssh` gets for one host, made from the plan over the user's own.
//!
//! Pure. ssh takes the first value it finds for an option, so what the plan says comes first and
//! the user's file is included after it: aliases, agents, certificates and `Match` blocks all
//! work. The destination itself is what the plan says, because the user's file goes by that name.

use std::path::{Path, PathBuf};

use crate::plan::{Host, Ssh};

/// How one host is reached: the plan's `ssh` with the host's own over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// What ssh is asked to connect to: an address or an alias.
    pub name: String,
    /// The text of the configuration file, without the place of pinned keys.
    pub config: String,
    /// The known-hosts line of a pinned key.
    pub pinned: Option<String>,
    /// Whether root rights may be had from `sudo`.
    pub sudo: bool,
}

/// A value of the plan that cannot stand in an ssh configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: `{value}` cannot stand in an ssh configuration")]
pub struct ConfigError {
    field: &'static str,
    value: String,
}

/// Where the user's and the system's configurations are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserConfig {
    /// Included in this order after what the plan says; a file that is not there does no harm.
    pub files: Vec<PathBuf>,
}

/// In place of the file of pinned keys, until it is known where it will be.
pub const PINNED_PLACE: &str = "@PINNED@";

/// How `host` is reached.
///
/// # Errors
/// A value holds a quote or a control character, or looks like an option.
pub fn destination(ssh: &Ssh, host: &Host, user_config: &UserConfig) -> Result<Destination, ConfigError> {
    let own = &host.ssh;
    let name = own.address.clone().unwrap_or_else(|| host.address.to_string());
    let jumps = own.jump_hosts.as_ref().unwrap_or(&ssh.jump_hosts);
    check("ssh.address", &name)?;
    check_word("ssh.address", &name)?;
    for jump in jumps {
        check_word("ssh.jumpHosts", jump)?;
    }

    // Two machines behind one name (ports of one address): the block of the target must not
    // catch the jump host, so the target gets a name of its own.
    let alias = jumps.iter().any(|jump| jump_name(jump) == name).then(|| format!("slipway-{}", host.name));
    let mut text = Text::default();
    text.line("Host", alias.as_deref().unwrap_or(&name))?;
    if alias.is_some() {
        text.line("HostName", &name)?;
    }
    let user = own.user.as_ref().or(ssh.user.as_ref());
    text.optional("User", user.map(String::as_str))?;
    text.optional("Port", own.port.or(ssh.port).map(|port| port.to_string()).as_deref())?;
    let identity = own.identity_file.as_deref().or(ssh.identity_file.as_deref());
    text.identity(identity)?;
    if jumps.is_empty() {
        // An empty list in the plan means none; left out, the user's configuration decides.
        if own.jump_hosts.is_some() {
            text.line("ProxyJump", "none")?;
        }
    } else {
        text.line("ProxyJump", &jumps.join(","))?;
    }
    let pinned = match &own.host_key {
        Some(key) => {
            let key_alias = format!("slipway-{}", host.name);
            check("ssh.hostKey", key)?;
            text.line("HostKeyAlias", &key_alias)?;
            text.line("UserKnownHostsFile", PINNED_PLACE)?;
            text.line("GlobalKnownHostsFile", "/dev/null")?;
            text.line("StrictHostKeyChecking", "yes")?;
            text.line("CheckHostIP", "no")?;
            text.line("UpdateHostKeys", "no")?;
            Some(format!("{key_alias} {key}\n"))
        }
        None => {
            text.known_hosts(ssh.known_hosts_file.as_deref())?;
            None
        }
    };
    // What an interactive user may have set for this host and a machine must not follow.
    for (option, value) in [
        ("RequestTTY", "no"),
        ("RemoteCommand", "none"),
        ("PermitLocalCommand", "no"),
        ("ClearAllForwardings", "yes"),
        ("ForwardAgent", "no"),
        ("ForwardX11", "no"),
        ("StreamLocalBindUnlink", "yes"),
        ("StreamLocalBindMask", "0177"),
    ] {
        text.line(option, value)?;
    }
    if !jumps.is_empty() {
        let names: Vec<&str> = jumps.iter().map(|jump| jump_name(jump)).collect();
        text.line("Host", &names.join(" "))?;
        text.identity(ssh.identity_file.as_deref())?;
        text.known_hosts(ssh.known_hosts_file.as_deref())?;
    }
    text.line("Host", "*")?;
    text.line("BatchMode", "yes")?;
    text.line("ConnectTimeout", &ssh.connect_timeout.0.as_secs().max(1).to_string())?;
    // A line that is cut without a word is gone after 20 s: ssh ends when it would ask a fourth time. What waits
    // for the host is told then, while it still knows what it was waiting for.
    text.line("ServerAliveInterval", "5")?;
    text.line("ServerAliveCountMax", "3")?;
    text.line("LogLevel", "INFO")?;
    let included = ssh.config_file.as_ref().map_or(user_config.files.as_slice(), std::slice::from_ref);
    for file in included {
        text.path("Include", file)?;
    }
    let sudo = own.sudo.or(ssh.sudo).unwrap_or(true);
    Ok(Destination { name: alias.unwrap_or(name), config: text.0, pinned, sudo })
}

/// The host's name in `[user@]host[:port]`.
fn jump_name(jump: &str) -> &str {
    let host = jump.rsplit_once('@').map_or(jump, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None if host.matches(':').count() == 1 => host.split(':').next().unwrap_or(host),
        None => host,
    }
}

fn check(field: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.is_empty() || value.starts_with('-') || value.contains('"') || value.chars().any(char::is_control) {
        return Err(ConfigError { field, value: super::super::parse::printable(value) });
    }
    Ok(())
}

/// Names of machines: nothing a shell or a pattern of ssh could take for something else.
fn check_word(field: &'static str, value: &str) -> Result<(), ConfigError> {
    check(field, value)?;
    if value.chars().all(|c| c.is_alphanumeric() || "@.:-_[]%+".contains(c)) {
        Ok(())
    } else {
        Err(ConfigError { field, value: super::super::parse::printable(value) })
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, option: &'static str, value: &str) -> Result<(), ConfigError> {
        check(option, value)?;
        let special = |character: char| matches!(character, ' ' | '\'' | '#' | '=');
        let quote = if value.contains(special) && !matches!(option, "Host") { "\"" } else { "" };
        self.0.push_str(&format!("{option} {quote}{value}{quote}\n"));
        Ok(())
    }

    fn optional(&mut self, option: &'static str, value: Option<&str>) -> Result<(), ConfigError> {
        value.map_or(Ok(()), |value| self.line(option, value))
    }

    fn path(&mut self, option: &'static str, path: &Path) -> Result<(), ConfigError> {
        // Where quotes can be escaped (OpenSSH 8.7 and later) a backslash before one would do it, and a
        // variable's value would be one more text that nobody has checked.
        let text = path.to_string_lossy();
        if text.contains('\\') || text.contains("${") || (option == "Include" && text.contains(['*', '?', '['])) {
            return Err(ConfigError { field: option, value: super::super::parse::printable(&text) });
        }
        // ssh expands `%` sequences in most file names.
        self.line(option, &path.to_string_lossy().replace('%', if option == "Include" { "%" } else { "%%" }))
    }

    fn identity(&mut self, file: Option<&Path>) -> Result<(), ConfigError> {
        let Some(file) = file else { return Ok(()) };
        self.path("IdentityFile", file)?;
        self.line("IdentitiesOnly", "yes")
    }

    fn known_hosts(&mut self, file: Option<&Path>) -> Result<(), ConfigError> {
        file.map_or(Ok(()), |file| self.path("UserKnownHostsFile", file))
    }
}

/// What to do about an error of ssh, by what it said.
#[must_use]
pub fn hint(said: &str) -> Option<String> {
    let any = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    let hint = if any(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        "the host's key is not the one that is known: if the host was installed anew, remove the old key with `ssh-keygen -R` \
         (or change `ssh.hostKey` in the plan); else somebody is in between"
    } else if any(&["Host key verification failed", "host key is known for"]) {
        "the host's key is not known yet: connect once with `ssh` and compare it, or pin it as `ssh.hostKey` in the plan"
    } else if any(&["Permission denied (", "Too many authentication failures"]) {
        "the host refuses the login: check `ssh.user` and `ssh.identityFile`; a key with a passphrase must be in an agent (`ssh-add`), \
         passwords are not asked for"
    } else if any(&["UNPROTECTED PRIVATE KEY", "bad permissions"]) {
        "only the owner may be able to read a private key: `chmod 600` it"
    } else if any(&["Could not resolve hostname"]) {
        "the name is not known: check `ssh.address`, or the alias in the ssh configuration"
    } else if any(&["Connection refused"]) {
        "nothing listens there: check `ssh.port` and that sshd runs"
    } else if any(&["timed out", "No route to host", "Network is unreachable"]) {
        "the host is down, or a firewall or a missing `ssh.jumpHosts` is in the way"
    } else if any(&["UNKNOWN port 65535", "Connection closed by"]) {
        "the connection was closed before the login: look at sshd's log on the host and on its jump hosts"
    } else {
        return None;
    };
    Some(hint.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
