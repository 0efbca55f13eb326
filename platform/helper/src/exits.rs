//! What the world sees of the tunnel: the provider is asked through it, once it is up, over each family that both have.
//! Nothing waits for the answer, it belongs to one attempt, and it goes with the tunnel.

use crate::provider::Provider;
use crate::service::{Report, Service};
use hamn_core::state::{Attempt, State};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;

/// How often, how long and how far apart the provider is asked over one family.
pub(crate) const TRIES: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(1500);

/// What is known of one attempt's exit. Dropping it ends the asking.
pub(crate) struct Exits {
    attempt: Attempt,
    seen: Vec<IpAddr>,
    asking: [AbortHandle; 2],
}

impl Drop for Exits {
    fn drop(&mut self) {
        self.asking.iter().for_each(AbortHandle::abort);
    }
}

impl Exits {
    /// The addresses, when they are those of this attempt.
    pub(crate) fn of(&self, attempt: Attempt) -> &[IpAddr] {
        if self.attempt == attempt { &self.seen } else { &[] }
    }
}

impl Service {
    /// Begins to ask for the tunnel that has just come up. An imported profile has nobody who could answer.
    pub(crate) fn look_at_exit(&mut self) {
        self.exits = None;
        let (Some(provider), Some(running)) = (&self.provider, &self.running) else { return };
        let State::Connected { plan, .. } = self.machine.state() else { return };
        if !running.uses_device_key {
            return;
        }
        let attempt = running.attempt;
        let carried = [plan.has_ipv4(), plan.has_ipv6() && self.machine.settings().ipv6];
        let asking = [false, true].map(|ipv6| {
            let wanted = if ipv6 { carried[1] } else { carried[0] };
            let (provider, reports) = (Arc::clone(provider), self.reports.clone());
            tokio::spawn(async move {
                if wanted {
                    ask(&provider, attempt, ipv6, &reports).await;
                }
            })
            .abort_handle()
        });
        self.exits = Some(Exits { attempt, seen: Vec::new(), asking });
    }

    /// Takes an answer in; one of another attempt changes nothing.
    pub(crate) fn exit_seen(&mut self, attempt: Attempt, address: IpAddr) {
        self.learn_round_trip();
        let current = self.running.as_ref().is_some_and(|running| running.attempt == attempt);
        let Some(exits) = self.exits.as_mut().filter(|exits| current && exits.attempt == attempt) else { return };
        exits.seen.retain(|known| known.is_ipv4() != address.is_ipv4());
        exits.seen.push(address);
        exits.seen.sort_unstable();
        self.publish();
    }

    /// By now the tunnel's own questions were answered as well.
    fn learn_round_trip(&self) {
        let (Some(provider), Some(running)) = (&self.provider, &self.running) else { return };
        let State::Connected { plan, .. } = self.machine.state() else { return };
        if let Some(round_trip_ms) = running.tunnel.stats().round_trip_ms.filter(|_| running.uses_device_key) {
            provider.measured(&plan.place.server, round_trip_ms);
        }
    }
}

pub(crate) async fn ask(provider: &Provider, attempt: Attempt, ipv6: bool, reports: &mpsc::Sender<Report>) {
    for number in 1..=TRIES {
        match timeout(TIMEOUT, provider.client.ip_over(ipv6)).await {
            Ok(Ok(Some(answer))) if answer.via_vpn && answer.ip.is_ipv6() == ipv6 => {
                let _ = reports.send(Report::ExitSeen(attempt, answer.ip)).await;
                return;
            }
            // It has no address of this family.
            Ok(Ok(None)) => return,
            Ok(Ok(Some(_))) => debug!(number, ipv6, "the provider does not see its own address yet"),
            Ok(Err(error)) => debug!(number, ipv6, code = error.code(), "the provider was not reached through the tunnel"),
            Err(_) => debug!(number, ipv6, "the provider did not answer through the tunnel in time"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_belongs_to_its_attempt_and_the_asking_ends_with_it() {
        let spawned = tokio::spawn(std::future::pending::<()>());
        let exits = Exits {
            attempt: Attempt(3),
            seen: vec!["198.51.100.1".parse().unwrap()],
            asking: [spawned.abort_handle(), spawned.abort_handle()],
        };
        assert_eq!((exits.of(Attempt(3)).len(), exits.of(Attempt(4)).len()), (1, 0));
        drop(exits);
        assert!(spawned.await.unwrap_err().is_cancelled());
    }
}
