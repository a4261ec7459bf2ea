//! The static pods of the control plane. Each component has a file with its flags; what the pods
//! share is in `pod`.

pub mod api_server;
pub mod controller_manager;
pub mod etcd;
pub mod scheduler;

pub use api_server::api_server;
pub use controller_manager::controller_manager;
pub use etcd::{EtcdMember, etcd};
pub use scheduler::scheduler;

#[cfg(test)]
mod tests;
