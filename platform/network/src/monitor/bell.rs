//! A bell that a callback of the system rings and any number of tasks hear. Pure.

use tokio::sync::watch;

/// Rung from any thread, also from callbacks of the system: it never blocks. Many rings before anybody listens are one.
#[derive(Debug)]
pub struct Bell(watch::Sender<u64>);

/// Hears a bell.
#[derive(Clone, Debug)]
pub struct Listener(watch::Receiver<u64>);

impl Default for Bell {
    fn default() -> Self {
        Self(watch::channel(0).0)
    }
}

impl Bell {
    /// Something happened.
    pub fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Hears what rings from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Waits for the next ring; never ends once the bell is gone. May be dropped at any time.
    pub async fn heard(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets rings that were not heard yet.
    pub fn forget(&mut self) {
        self.0.mark_unchanged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn rings_before_listening_are_one_and_those_before_subscribing_none() {
        let bell = Bell::default();
        bell.ring();
        let mut listener = bell.listen();
        let quiet = Duration::from_millis(20);
        assert!(tokio::time::timeout(quiet, listener.heard()).await.is_err());
        bell.ring();
        bell.ring();
        listener.heard().await;
        assert!(tokio::time::timeout(quiet, listener.heard()).await.is_err());
        bell.ring();
        listener.forget();
        assert!(tokio::time::timeout(quiet, listener.heard()).await.is_err());
        drop(bell);
        assert!(tokio::time::timeout(quiet, listener.heard()).await.is_err());
    }
}
