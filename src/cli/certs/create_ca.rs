//! `slipway certs create-ca`: the CAs of a plan whose operator keeps their keys, made once and put into
//! the key store. Touches no host. A command of its own, so that no other run ever makes a CA whose key
//! exists in one place only without somebody having asked for it.

use jiff::Timestamp;

use super::super::{Output, PlanFile, check};
use crate::failure::{Failure, Kind};
use crate::key_store::{self, NewAuthority};
use crate::trust::issue::{self, IssueError, Validity};
use crate::trust::specification::ClusterPair;

/// What can be asked of `certs create-ca`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = check::load_plan(&arguments.file, Output::Text)?.plan;
    let Some(store) = plan.pki.authority.store() else {
        return Err(Failure::new(Kind::Refused, "the CA keys of this plan are not the operator's to keep")
            .hint("`pki: { authority: { operator: { directory: DIR } } }` says that they are"));
    };
    let validity = Validity { now: Timestamp::now(), length: plan.pki.ca_validity.0 };
    let make = |authority| -> Result<NewAuthority, IssueError> {
        let key = issue::generate_key(plan.pki.algorithm)?;
        let certificate = issue::certify_authority(authority, plan.kubernetes.version, &key, validity)?;
        Ok(NewAuthority { authority, certificate, key: key.private })
    };
    let authorities: Vec<NewAuthority> = ClusterPair::of(&plan)
        .filter_map(ClusterPair::authority)
        .map(make)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::from_error(Kind::Bug, &error))?;
    key_store::create(store, &authorities).map_err(|error| Failure::from_error(Kind::LocalFile, &error).hint("nothing was made"))?;
    for NewAuthority { authority, .. } in &authorities {
        println!("{authority}: {}", key_store::key_file(store, *authority).display());
    }
    println!("without this directory and what opens it nothing can be signed for the cluster: keep a copy of both, apart from each other");
    Ok(())
}
