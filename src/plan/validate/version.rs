//! Which Kubernetes versions slipway knows.

use super::super::field::field;
use super::super::problem::Problems;
use super::super::Plan;
use super::syntax::is_repository;
use crate::release::{Release, SUPPORTED};

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let kubernetes = field("kubernetes");
    let version = plan.kubernetes.version;
    if Release::of(version).is_err() {
        problems
            .error("version-unsupported", kubernetes.key("version"), format!("Kubernetes {version} is not supported"))
            .hint(format!("slipway knows {SUPPORTED}"));
    }
    if let Some(repository) = &plan.kubernetes.image_repository
        && !is_repository(repository)
    {
        let message = format!("`{repository}` is not an image repository");
        problems.error("image-syntax", kubernetes.key("imageRepository"), message).hint("such as registry.example.test/kubernetes");
    }
    for gate in plan.kubernetes.feature_gates.keys() {
        let legal = gate.starts_with(|c: char| c.is_ascii_uppercase()) && gate.bytes().all(|b| b.is_ascii_alphanumeric());
        if !legal {
            problems
                .error("feature-gate-name", kubernetes.key("featureGates").key(gate), format!("`{gate}` is not the name of a feature gate"))
                .hint("letters and digits, starting with a capital letter, such as `NodeSwap` or `AllAlpha`");
        }
    }
}
