//! The engine, proved on simulated clusters: it converges from wherever it starts, being cut off
//! anywhere costs nothing, and no rule about etcd and CAs is ever broken on the way. Each property
//! prints how many cases it tried; `SLIPWAY_TORTURE=1` tries all of them.

#[path = "simulation/bootstrap.rs"]
mod bootstrap;
#[path = "simulation/contract.rs"]
mod contract;
#[path = "simulation/crashes.rs"]
mod crashes;
#[path = "simulation/fields.rs"]
mod fields;
#[path = "simulation/departures.rs"]
mod departures;
#[path = "simulation/departures_etcd.rs"]
mod departures_etcd;
#[path = "simulation/endpoint.rs"]
mod endpoint;
#[path = "simulation/joins.rs"]
mod joins;
#[path = "simulation/maintenance.rs"]
mod maintenance;
#[path = "simulation/packages.rs"]
mod packages;
#[path = "simulation/plans.rs"]
mod plans;
#[path = "simulation/restarts.rs"]
mod restarts;
#[path = "simulation/trust.rs"]
mod trust;
#[path = "simulation/upgrade.rs"]
mod upgrade;
#[path = "simulation/properties.rs"]
mod properties;
