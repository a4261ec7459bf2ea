//! The host's lock while this engine holds it: a process on the host that lives as long as it
//! hears from us.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::session::Process;

/// The host gives the lock up after 60 seconds of silence.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A lock that is held.
pub(super) struct Lock {
    release: oneshot::Sender<()>,
    task: JoinHandle<()>,
    lost: watch::Receiver<bool>,
}

impl Lock {
    /// Keeps alive the process that took the lock.
    pub(super) fn hold(mut process: Process) -> Self {
        let (release, mut released) = oneshot::channel();
        let (flag, lost) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut input = process.stdin().take().expect("every process is started with pipes");
            let mut output = process.stdout().take().expect("every process is started with pipes");
            let mut chunk = [0; 512];
            // Not a sleep in the loop: a host that talks would keep it from ever ending.
            let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
            loop {
                tokio::select! {
                    _ = &mut released => break,
                    _ = beat.tick() => {
                        if input.write_all(b"\n").await.is_err() {
                            flag.send_replace(true);
                            break;
                        }
                    }
                    // Nothing more is said: the end of the output is the end of the lock.
                    read = output.read(&mut chunk) => if !matches!(read, Ok(1..)) {
                        flag.send_replace(true);
                        break;
                    }
                }
            }
            drop(input);
            // The lock is free when the process has ended; a lost connection cannot tell.
            let _late = tokio::time::timeout(Duration::from_secs(5), process.wait()).await;
        });
        Self { release, task, lost }
    }

    /// Whether the process that held it has ended, so that others may work on the host.
    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Turns true when that happens. Of a lock that was released nothing more is heard.
    pub(super) fn loss(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    /// Gives it up and waits until it is free.
    pub(super) async fn release(self) {
        // The task may have ended before: then there is nothing to release.
        let _ended = self.release.send(());
        let _panicked = self.task.await;
    }
}
