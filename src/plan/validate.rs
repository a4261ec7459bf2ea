//! Checks the meaning of a plan that has the right shape. Every check adds to the list of
//! problems and none stops another; a plan without an error here can be carried out as far as
//! that can be known without asking a host.

use super::Plan;
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
