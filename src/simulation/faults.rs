//! What can go wrong, planned ahead: each fault strikes once, at a named point, so that every point of
//! a run can be tried.

use std::fmt;

use crate::names::HostName;
use crate::phase::StepId;

/// A change of a step, by its artifact's id. For the cluster's own changes and gates the id alone
/// decides, because they are asked for without the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The step.
    pub step: StepId,
    /// The id of the artifact, or what a gate waits for.
    pub artifact: String,
}

/// Where around a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is done.
    Before,
    /// Half of it is done: the note is written, the thing itself is not, or the other way round.
    Within,
    /// All of it is done.
    After,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::Within, Self::After];
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The engine dies there, and with it everything it was doing elsewhere.
    Kill(Point, Moment),
    /// The command fails there.
    Fail(Point, Moment),
    /// The disk is full: nothing of the change is done.
    DiskFull(Point),
    /// The host is gone from there: it is not reached any more. Of a gate: while that is waited for.
    Gone(Point),
    /// The rest of the step is done, but its answer never arrives.
    ReplyLost(Point),
    /// The host reboots after that change.
    Reboot(Point),
    /// A gate does not open.
    GateRefused(String),
    /// A kubelet that is started on that host runs, but the API never hears from it (a kubeconfig that is no
    /// good, a way that is closed), for as long as the fault is there.
    Mute(HostName),
    /// Everything on the host takes that many times as long.
    Slow(HostName, u32),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.artifact)
    }
}

/// What a fault makes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    Kill(Moment),
    Fail(Moment),
    DiskFull,
    Gone,
    ReplyLost,
    Reboot,
}

impl Fault {
    /// What it does to this change.
    pub(super) fn strike(&self, step: Option<&StepId>, artifact: &str) -> Option<Strike> {
        let (point, strike) = match self {
            Self::Kill(point, moment) => (point, Strike::Kill(*moment)),
            Self::Fail(point, moment) => (point, Strike::Fail(*moment)),
            Self::DiskFull(point) => (point, Strike::DiskFull),
            Self::Gone(point) => (point, Strike::Gone),
            Self::ReplyLost(point) => (point, Strike::ReplyLost),
            Self::Reboot(point) => (point, Strike::Reboot),
            Self::GateRefused(_) | Self::Mute(_) | Self::Slow(..) => return None,
        };
        (point.artifact == artifact && step.is_none_or(|step| *step == point.step)).then_some(strike)
    }
}
