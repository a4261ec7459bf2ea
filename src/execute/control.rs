//! How the operator stops a run. Wiring it to Ctrl-C is the command line's business.

use tokio::sync::watch;

/// How far a run is to be stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    #[default]
    No,
    /// No new step begins; running ones end as usual.
    Drain,
    /// Running steps are cut off too.
    Abort,
}

/// A handle to stop a run, shared by clones.
#[derive(Debug, Clone)]
pub struct Control(watch::Sender<Stop>);

impl Default for Control {
    fn default() -> Self {
        Self(watch::Sender::new(Stop::No))
    }
}

impl Control {
    /// One more request: the first one drains, the second one aborts. Returns what holds now.
    pub fn interrupt(&self) -> Stop {
        self.0.send_modify(|stop| *stop = if *stop == Stop::No { Stop::Drain } else { Stop::Abort });
        self.requested()
    }

    /// What has been asked for so far.
    #[must_use]
    pub fn requested(&self) -> Stop {
        *self.0.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Stop> {
        self.0.subscribe()
    }
}
