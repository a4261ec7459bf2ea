//! The part of a rotation that happens in the operator's key store: CAs that are to follow are drawn
//! before any host hears of them, and take their place when every host trusts them alone.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Positions;
use crate::artifact::Secret;
use crate::failure::{Failure, Kind};
use crate::key_store::{self, KeyStoreError, NewAuthority, generation};
use crate::plan::Plan;
use crate::trust::issue::{self, IssueError, Validity};
use crate::trust::rotation::{Aims, Step};
use crate::trust::specification::{Authority, ClusterPair};

/// Draws the CAs whose walk begins.
///
/// # Errors
/// The store cannot be opened or written.
pub(super) fn begin(plan: &Plan, positions: &Positions, aims: &Aims) -> Result<(), Failure> {
    let Some(store) = plan.pki.authority.store() else { return Ok(()) };
    let begins = |pair: &ClusterPair| positions.get(pair).is_some_and(Option::is_none);
    let validity = Validity { now: Timestamp::now(), length: plan.pki.ca_validity.0 };
    let make = |authority| -> Result<NewAuthority, IssueError> {
        let key = issue::generate_key(plan.pki.algorithm)?;
        let certificate = issue::certify_authority(authority, plan.kubernetes.version, &key, validity)?;
        Ok(NewAuthority { authority, certificate, key: key.private })
    };
    let authorities: Vec<NewAuthority> = aims
        .keys()
        .filter(|pair| begins(pair))
        .filter_map(|pair| pair.authority())
        .map(make)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::from_error(Kind::Bug, &error))?;
    if authorities.is_empty() {
        return Ok(());
    }
    generation::add_next(store, &authorities).map_err(failed)?;
    eprintln!("{}: the new CAs are in it; keep a copy of it, as from state 2 on the cluster cannot do without", store.directory.display());
    Ok(())
}

/// Ends the walks that this run ended on the hosts: forwards the new CA takes the old one's place,
/// back it goes.
///
/// # Errors
/// The store cannot be written; the same command goes on from there.
pub(super) fn retire(plan: &Plan, aims: &Aims) -> Result<(), Failure> {
    let Some(store) = plan.pki.authority.store() else { return Ok(()) };
    for (authority, step) in ended(aims) {
        match step {
            Step::TrustNew => generation::promote(store, authority),
            _ => generation::drop_next(store, authority),
        }
        .map_err(failed)?;
    }
    Ok(())
}

/// The key of a pair, if a store keeps it.
///
/// # Errors
/// The store cannot be opened, or has no such key.
pub(super) fn key(plan: &Plan, pair: ClusterPair) -> Result<Option<Secret>, Failure> {
    let Some(store) = plan.pki.authority.store().filter(|_| pair.authority().is_some()) else { return Ok(None) };
    Ok(key_store::open(store, &[pair]).map_err(failed)?.remove(&pair))
}

fn ended(aims: &Aims) -> BTreeMap<Authority, Step> {
    aims.iter().filter(|(_, aim)| aim.retire).filter_map(|(pair, aim)| Some((pair.authority()?, aim.step))).collect()
}

fn failed(error: KeyStoreError) -> Failure {
    Failure::from_error(Kind::LocalFile, &error).hint("the cluster stays in its state; run the same command again when the store can be used")
}
