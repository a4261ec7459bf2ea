//! Keys and certificates: which ones there shall be (a table), what is found of them on the
//! hosts, which must be made, and why. Deciding is pure; only `issue` draws keys.
//!
//! The order of a run: `authorities::survey` (which CA do the hosts have?), then
//! `authorities::needed_keys` (which CA keys must be fetched, because something has to be signed
//! or copied?), then `refresh::plan_material` (every byte every host shall have).

pub mod approval;
pub mod authorities;
pub mod csr;
pub mod decide;
pub mod found;
pub mod import;
pub mod inspect;
pub mod issue;
pub mod kubeconfig;
pub mod naming;
pub mod problem;
pub mod refresh;
pub mod rotation;
pub mod specification;

#[cfg(test)]
pub(crate) mod testing;
