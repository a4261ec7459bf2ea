//! End-to-end tests: the built `slipway` against real hosts of the lab. `cargo xtask test` runs
//! them, one at a time; each boots the hosts it needs and takes them down. They are ignored
//! otherwise, because they need root and minutes.
//!
//! A test is a story with numbered steps on standard error, so that a failure in the CI tells how
//! far it came, and what its hosts had to say is printed after it.

mod client;
mod cluster;
mod kubeadm;
mod machines;
mod plan_file;
mod slipway;
mod snapshot;

mod adopt;
mod adopt_several;
mod authority;
mod certificates;
mod cut_off;
mod departures;
mod expired;
mod external;
mod faults;
mod faults_living;
mod grow;
mod heard;
mod highly_available;
mod maintenance;
mod own_etcd;
mod packages;
mod repository;
mod refusals;
mod reset;
mod restore;
mod rotation;
mod secrets;
mod single_node;
mod upgrade;
mod vip;
