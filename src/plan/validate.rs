//! Checks the meaning of a plan that has the right shape. Every check adds to the list of
//! problems and none stops another; a plan without an error here can be carried out as far as
//! that can be known without asking a host.

use super::{Plan, SshOverrides};
use super::problem::Problems;

mod components;
mod endpoint;
mod etcd;
pub mod flags;
mod hosts;
mod kubelet;
mod labels;
mod network;
mod patches;
mod pki;
mod sources;
mod syntax;
mod version;

/// Whether all of it may stand in a plan: for settings that come from elsewhere.
#[must_use]
pub fn is_sound(ssh: &SshOverrides) -> bool {
    let all = |value: &Option<String>, check: fn(&str) -> bool| value.as_deref().is_none_or(check);
    all(&ssh.address, syntax::is_ssh_target)
        && all(&ssh.user, syntax::is_user)
        && all(&ssh.host_key, syntax::is_host_key)
        && ssh.jump_hosts.iter().flatten().all(|jump| syntax::is_jump_host(jump))
        && ssh.port != Some(0)
}

/// Runs every check.
pub(super) fn validate(plan: &Plan, problems: &mut Problems) {
    version::check(plan, problems);
    hosts::check(plan, problems);
    endpoint::check(plan, problems);
    network::check(plan, problems);
    etcd::check(plan, problems);
    pki::check(plan, problems);
    flags::check(plan, problems);
    kubelet::check(plan, problems);
    components::check(plan, problems);
    labels::check(plan, problems);
    sources::check(plan, problems);
    patches::check(plan, problems);
}
