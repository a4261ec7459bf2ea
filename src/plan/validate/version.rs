//! Which Kubernetes versions slipway knows.

use super::super::field::field;
use super::super::problem::Problems;
use super::super::Plan;
use super::syntax::is_repository;

/// Minor releases of Kubernetes 1 that slipway makes.
pub(super) const SUPPORTED_MINORS: [u32; 7] = [20, 31, 32, 33, 34, 35, 36];

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let kubernetes = field("kubernetes");
    let version = plan.kubernetes.version;
    if version.major != 1 || !SUPPORTED_MINORS.contains(&version.minor) {
        problems
            .error("version-unsupported", kubernetes.key("version"), format!("Kubernetes {version} is not supported"))
            .hint("supported are v1.20 and v1.31 to v1.36");
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
