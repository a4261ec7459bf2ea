//! The world as everything shares that is in it: the engine's way to hosts, its way to the cluster, and
//! whoever looks on. All of them die with the engine.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::sleep;

use super::World;

/// A world with several ways in.
#[derive(Debug, Clone)]
pub struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    /// Begins to share a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// The world, for a moment: never kept over a wait.
    ///
    /// # Panics
    /// Whoever held it before panicked.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nobody panics while holding the world")
    }

    /// Time passes. If the engine dies meanwhile, this never returns.
    pub async fn pass(&self, time: Duration) {
        sleep(time).await;
        if self.lock().killed {
            std::future::pending::<()>().await;
        }
    }

    /// The engine dies here.
    pub async fn die(&self) -> ! {
        self.lock().kill();
        std::future::pending().await
    }
}
