//! The text ssh gets, and the errors it may give.

use super::*;

fn host(ssh: serde_json::Value) -> Host {
    serde_json::from_value(serde_json::json!({
        "name": "cp-1", "address": "10.0.0.5", "roles": ["control-plane"], "ssh": ssh
    }))
    .unwrap()
}

fn user_config() -> UserConfig {
    UserConfig { files: vec!["/home/olga/.ssh/config".into(), "/etc/ssh/ssh_config".into()] }
}

#[test]
fn the_plan_comes_before_the_users_own_configuration() {
    let ssh = Ssh {
        user: Some("olga".into()),
        identity_file: Some("/home/olga/my keys/id".into()),
        jump_hosts: vec!["jump@bastion:2222".into(), "[fd00::1]:22".into()],
        known_hosts_file: Some("/home/olga/known".into()),
        ..Ssh::default()
    };
    let found = destination(&ssh, &host(serde_json::json!({ "port": 2200 })), &user_config()).unwrap();
    insta::assert_snapshot!(found.config, @r#"
    Host 10.0.0.5
    User olga
    Port 2200
    IdentityFile "/home/olga/my keys/id"
    IdentitiesOnly yes
    ProxyJump jump@bastion:2222,[fd00::1]:22
    UserKnownHostsFile /home/olga/known
    RequestTTY no
    RemoteCommand none
    PermitLocalCommand no
    ClearAllForwardings yes
    ForwardAgent no
    ForwardX11 no
    StreamLocalBindUnlink yes
    StreamLocalBindMask 0177
    Host bastion fd00::1
    IdentityFile "/home/olga/my keys/id"
    IdentitiesOnly yes
    UserKnownHostsFile /home/olga/known
    Host *
    BatchMode yes
    ConnectTimeout 15
    ServerAliveInterval 5
    ServerAliveCountMax 3
    LogLevel INFO
    Include /home/olga/.ssh/config
    Include /etc/ssh/ssh_config
    "#);
    assert_eq!((found.name.as_str(), found.sudo, found.pinned), ("10.0.0.5", true, None));
}

#[test]
fn a_pinned_key_is_the_only_one_accepted() {
    let own = serde_json::json!({ "address": "web", "hostKey": "ssh-ed25519 AAAA", "jumpHosts": [], "sudo": false });
    let ssh = Ssh { jump_hosts: vec!["bastion".into()], ..Ssh::default() };
    let found = destination(&ssh, &host(own), &user_config()).unwrap();
    assert_eq!(found.pinned.as_deref(), Some("slipway-cp-1 ssh-ed25519 AAAA\n"));
    assert_eq!((found.name.as_str(), found.sudo), ("web", false));
    for line in ["ProxyJump none\n", "StrictHostKeyChecking yes\n", "HostKeyAlias slipway-cp-1\n", "GlobalKnownHostsFile /dev/null\n"] {
        assert!(found.config.contains(line), "{line}");
    }
}

#[test]
fn nothing_says_that_host_keys_need_not_be_checked() {
    let found = destination(&Ssh::default(), &host(serde_json::json!({})), &user_config()).unwrap();
    assert!(!found.config.contains("StrictHostKeyChecking"));
}

#[test]
fn a_jump_host_behind_the_same_name_is_told_from_the_target() {
    let own = serde_json::json!({ "address": "127.0.0.1", "port": 2, "jumpHosts": ["127.0.0.1:1"] });
    let found = destination(&Ssh::default(), &host(own), &user_config()).unwrap();
    assert!(found.config.starts_with("Host slipway-cp-1\nHostName 127.0.0.1\nPort 2\nProxyJump 127.0.0.1:1\n"));
    assert_eq!(found.name, "slipway-cp-1");
}

#[test]
fn values_that_would_be_options_or_lines_are_refused() {
    for (field, value) in [
        ("address", "-oProxyCommand=reboot"),
        ("address", "a b"),
        ("address", "a;reboot"),
        ("address", "*"),
        ("user", "a\nProxyCommand reboot"),
        ("user", "-x"),
        ("hostKey", "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB"),
        ("identityFile", "a\"b"),
    ] {
        let found = destination(&Ssh::default(), &host(serde_json::json!({ field: value })), &user_config());
        assert!(found.is_err(), "{field} {value}");
    }
    let ssh = Ssh { jump_hosts: vec!["$(reboot)".into()], ..Ssh::default() };
    assert!(destination(&ssh, &host(serde_json::json!({})), &user_config()).is_err());
}

#[test]
fn every_usual_error_has_a_hint() {
    for (said, expected) in [
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "ssh-keygen -R"),
        ("No ED25519 host key is known for a and you have requested strict checking.", "ssh.hostKey"),
        ("a@b: Permission denied (publickey).", "ssh-add"),
        ("ssh: Could not resolve hostname nowhere: Name or service not known", "alias"),
        ("ssh: connect to host a port 1: Connection refused", "sshd runs"),
        ("ssh: connect to host a port 22: Connection timed out", "firewall"),
    ] {
        assert!(hint(said).unwrap().contains(expected), "{said}");
    }
    assert_eq!(hint("something else"), None);
}

#[test]
fn no_value_of_the_plan_becomes_an_option() {
    let evil = [
        "x\nProxyCommand touch /tmp/x", "x\" \nProxyCommand id", "x ProxyCommand=id", "-oProxyCommand=id", "x\rProxyCommand id", "x\\", "x\\\" y", "x' y",
        "x # y", "${HOME}/x", "$(id)", "`id`", "x;id", "x|id", "*", "!x", "x,y", "%d", "x\u{0}y", "x=y", "x\u{2028}ProxyCommand id", "",
    ];
    let mut accepted = 0;
    for (field, value) in ["address", "user", "identityFile", "jumpHosts", "knownHosts", "configFile", "hostKey"].into_iter().flat_map(|field| evil.map(|value| (field, value))) {
        let mut ssh = Ssh::default();
        let path = Some(format!("/keys/{value}").into());
        let own = match field {
            "address" => serde_json::json!({ "address": value }),
            "user" => serde_json::json!({ "user": value }),
            "hostKey" => serde_json::json!({ "hostKey": value }),
            "jumpHosts" => serde_json::json!({ "jumpHosts": [value] }),
            "identityFile" => { ssh.identity_file = path; serde_json::json!({}) }
            "knownHosts" => { ssh.known_hosts_file = path; serde_json::json!({}) }
            _ => { ssh.config_file = path; serde_json::json!({}) }
        };
        let Ok(found) = destination(&ssh, &host(own), &UserConfig::default()) else { continue };
        accepted += 1;
        let words = found.config.lines().map(|line| line.split(' ').next().unwrap());
        let stray: Vec<_> = words.filter(|word| matches!(*word, "ProxyCommand" | "LocalCommand" | "Match" | "KnownHostsCommand")).collect();
        assert!(stray.is_empty(), "{field} = {value:?}: {}", found.config);
        // ssh itself reads it as it was meant.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), found.config.replace(PINNED_PLACE, "/dev/null")).unwrap();
        let Ok(output) = std::process::Command::new("ssh").arg("-G").arg("-F").arg(file.path()).args(["--", &found.name]).output() else { continue };
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!told.contains("proxycommand") && !told.contains("localcommand yes"), "{field} = {value:?}: {told}");
        if field == "identityFile" && output.status.success() {
            let expected = format!("identityfile /keys/{}\n", value.replace('%', "%%"));
            assert!(told.contains(&expected), "{field} = {value:?}: {told}");
        }
    }
    assert!(accepted > 5, "{accepted}");
}
