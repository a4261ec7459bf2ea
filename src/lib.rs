//! slipway creates and keeps Kubernetes clusters over SSH from one plan file.
//!
//! The story: a **plan** is read and checked; every host is **probed** once; from plan and facts
//! the **desired** artifacts are computed; **diff** compares them with what was found; the changes
//! become a **graph** of steps; and `apply` **executes** it through a **transport**. `diff` and
//! `apply` are the same code up to the graph. ARCHITECTURE.md has the map and the invariants.

pub mod adopt;
pub mod artifact;
pub mod bootstrap_token;
pub mod change;
pub mod cli;
pub mod cluster;
pub mod departed;
pub mod desired;
pub mod diff;
pub mod eviction;
pub mod execute;
pub mod facts;
pub mod failure;
pub mod graph;
pub mod impact;
pub mod joining;
pub mod inventory;
pub mod key_store;
pub mod kubernetes;
pub mod local_files;
pub mod meaning;
pub mod names;
pub mod parallel;
pub mod patch;
pub mod paths;
pub mod pause;
pub mod phase;
pub mod plan;
pub mod planning;
pub mod preflight;
pub mod release;
pub mod report;
pub mod request;
pub mod restart;
pub mod signing_key;
pub mod simulation;
pub mod standing;
pub mod status;
pub mod teardown;
pub mod template;
pub mod transport;
pub mod trust;
pub mod upgrade;
pub mod yaml;
