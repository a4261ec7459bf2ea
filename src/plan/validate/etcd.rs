//! etcd: how many members, where, or whose.

use super::super::field::field;
use super::super::problem::Problems;
use super::super::{Plan, Role};
use super::pki::subject_names;
use super::syntax::{is_image, wrong_url};
use crate::names::RemotePath;

/// More members slow every write down and tolerate no likelier failure.
const MANY: usize = 7;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let path = field("etcd");
    members(plan, problems);
    if let Some(external) = &plan.etcd.external {
        let endpoints = path.key("external").key("endpoints");
        for (index, endpoint) in external.endpoints.iter().enumerate() {
            if let Some(wrong) = wrong_url(endpoint, false) {
                problems
                    .error("etcd-endpoint", endpoints.index(index), format!("`{endpoint}` is not the address of an etcd member: {wrong}"))
                    .hint("such as https://10.0.0.31:2379");
            } else if endpoint.trim_start_matches("https://").contains('/') {
                problems.error("etcd-endpoint", endpoints.index(index), "an etcd address has no path");
            }
            if external.endpoints[..index].contains(endpoint) {
                problems.error("etcd-endpoint", endpoints.index(index), "this address is in the list already");
            }
        }
    }
    if let Some(image) = plan.etcd.image.as_ref().filter(|image| !is_image(image)) {
        problems.error("image-syntax", path.key("image"), format!("`{image}` is not an image reference"));
    }
    subject_names(&plan.etcd.extra_sans, &path.key("extraSans"), problems);
    let directory = &plan.etcd.data_directory;
    for taken in ["/etc/kubernetes", "/var/lib/kubelet", "/proc", "/sys", "/dev", "/run"] {
        if directory.is_within(&RemotePath::fixed(taken)) {
            problems.error("etcd-data-directory", path.key("dataDirectory"), format!("`{taken}` is no place for etcd's data"));
        }
    }
    if directory.as_str().matches('/').count() < 2 {
        let message = format!("`{directory}` is too near to the root: the directory belongs to etcd alone");
        problems.error("etcd-data-directory", path.key("dataDirectory"), message);
    }
}

fn members(plan: &Plan, problems: &mut Problems) {
    let members = plan.etcd_hosts().count();
    if members > 0 && members.is_multiple_of(2) {
        let dedicated = plan.hosts.iter().any(|host| host.roles.contains(&Role::Etcd));
        let whose = if dedicated { "the hosts with the role `etcd`" } else { "the control planes" };
        problems
            .error("etcd-even", field("hosts"), format!("etcd would have {members} members ({whose})"))
            .hint(format!("{members} members survive no more losses than {}; use an odd number", members - 1));
    } else if members > MANY {
        problems.warning("etcd-many", field("hosts"), format!("etcd would have {members} members; more than {MANY} make it slow"));
    }
}
