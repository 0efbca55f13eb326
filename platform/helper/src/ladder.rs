//! How far a connection comes, from the bottom up: link, DNS, API, handshake, traffic.

use crate::host;
use crate::probe;
use crate::provider::Provider;
use crate::service::Service;
use crate::verify::{check, resolver_check};
use hamn_core::event::HostFacts;
use hamn_core::policy::NetworkPolicy;
use hamn_core::state::State;
use hamn_ipc::wire::{Check, CheckResult, Ladder};
use hamn_tunnel::TunnelStats;
use std::sync::Arc;
use std::time::Duration;

/// How long the provider may take.
const API_TIMEOUT: Duration = Duration::from_secs(6);
/// WireGuard replaces a session after two minutes; one that is older than three is over (WireGuard paper, §6.1).
const OLD_HANDSHAKE_MS: u64 = 180_000;

/// What only the loop knows.
pub(crate) struct Climb {
    facts: HostFacts,
    policy: Option<NetworkPolicy>,
    provider: Option<Arc<Provider>>,
    stats: Option<TunnelStats>,
    connected: bool,
}

/// Takes what only the loop knows; what waits is left to `Climb::finish`.
pub(crate) fn begin(service: &Service) -> Climb {
    Climb {
        facts: service.facts().clone(),
        policy: service.machine.policy().cloned(),
        provider: service.provider.clone(),
        stats: service.running.as_ref().map(|running| running.tunnel.stats()),
        connected: matches!(service.machine.state(), State::Connected { .. }),
    }
}

impl Climb {
    /// Asks resolver and provider at once; both are bounded.
    pub(crate) async fn finish(self) -> Ladder {
        let Self { facts, policy, provider, stats, connected } = self;
        let (dns, api) = tokio::join!(dns_step(policy, &facts), api_step(provider, &facts));
        let steps = vec![link_step(&facts), dns, api, handshake_step(stats.as_ref()), traffic_step(stats.as_ref(), connected)];
        Ladder { steps }
    }
}

/// Under a policy only its resolvers can be asked; without one the system's are.
async fn dns_step(policy: Option<NetworkPolicy>, facts: &HostFacts) -> Check {
    let (id, title) = ("dns", "Names are resolved");
    if !facts.online {
        return check(id, title, CheckResult::Skipped, "link_down", "There is no network to ask over.");
    }
    if policy.as_ref().is_some_and(|policy| !policy.is_open()) {
        let inside = resolver_check(policy).await;
        // What the self-test cannot tell from a leak is plainly broken here.
        let result = if inside.result == CheckResult::Unknown { CheckResult::Fail } else { inside.result };
        return Check { id: id.to_owned(), title: title.to_owned(), result, ..inside };
    }
    let Some(first) = host::resolver() else {
        return check(id, title, CheckResult::Skipped, "no_resolver", "This system names no resolver.");
    };
    let asked = tokio::task::spawn_blocking(move || probe::ask_resolver((first, 53).into())).await;
    let made = match asked {
        Ok(Ok(())) => check(id, title, CheckResult::Pass, "resolver_answers", format!("{first} answers.")),
        Ok(Err(error)) => {
            let reason = format!("{first} gave no answer: {}.", error.kind());
            check(id, title, CheckResult::Fail, "resolver_silent", reason)
        }
        Err(_) => check(id, title, CheckResult::Unknown, "resolver_unasked", "The resolver could not be asked."),
    };
    made.with("resolver", first.to_string()).with("resolvers", first.to_string())
}

fn link_step(facts: &HostFacts) -> Check {
    let title = "A network is attached";
    if facts.online {
        let families = match (facts.ipv4, facts.ipv6) {
            (true, true) => "IPv4, IPv6",
            (true, false) => "IPv4",
            (false, true) => "IPv6",
            // The network has no way out by itself, as far as is known.
            (false, false) => "none",
        };
        let reason = format!("A link is up and has an address (default routes: {families}).");
        check("link", title, CheckResult::Pass, "link_up", reason).with("families", families)
    } else {
        check("link", title, CheckResult::Fail, "link_down", "No link is up with an address: connect to a network.")
    }
}

pub(crate) async fn api_step(provider: Option<Arc<Provider>>, facts: &HostFacts) -> Check {
    let title = "The provider answers";
    let Some(provider) = provider else {
        return check("api", title, CheckResult::Skipped, "no_provider", "No provider is configured.");
    };
    if !facts.online {
        return check("api", title, CheckResult::Skipped, "link_down", "There is no network to reach it by.");
    }
    match tokio::time::timeout(API_TIMEOUT, provider.client.ip()).await {
        Ok(Ok(_)) => check("api", title, CheckResult::Pass, "api_answers", "The provider's API answers."),
        Ok(Err(error)) => {
            let reason = format!("The provider could not be asked: {error}.");
            check("api", title, CheckResult::Fail, "provider_error", reason).with("error", error.to_string())
        }
        Err(_) => check("api", title, CheckResult::Fail, "provider_silent", "The provider did not answer in time."),
    }
}

fn handshake_step(stats: Option<&TunnelStats>) -> Check {
    let title = "The VPN server shook hands";
    let Some(stats) = stats else {
        return check("handshake", title, CheckResult::Skipped, "no_tunnel", "No tunnel is up.");
    };
    match stats.last_handshake_age_ms {
        Some(age) if age <= OLD_HANDSHAKE_MS => {
            let seconds = (age / 1000).to_string();
            let reason = format!("The last handshake was {seconds} s ago.");
            check("handshake", title, CheckResult::Pass, "handshake_fresh", reason).with("seconds", seconds)
        }
        Some(age) => {
            let seconds = (age / 1000).to_string();
            let reason = format!("The last handshake was {seconds} s ago; nothing was sent since, or the server is silent.");
            check("handshake", title, CheckResult::Unknown, "handshake_old", reason).with("seconds", seconds)
        }
        None => check("handshake", title, CheckResult::Fail, "handshake_none", "The VPN server does not answer."),
    }
}

fn traffic_step(stats: Option<&TunnelStats>, connected: bool) -> Check {
    let title = "Traffic flows in the tunnel";
    match stats {
        None => check("traffic", title, CheckResult::Skipped, "no_tunnel", "No tunnel is up."),
        Some(stats) if stats.stalled => check(
            "traffic",
            title,
            CheckResult::Fail,
            "traffic_stalled",
            "Nothing is received at the moment; the tunnel is trying.",
        ),
        Some(stats) if connected && stats.verified => {
            let reason = format!("Traffic was seen to flow: {} bytes received.", stats.rx_bytes);
            check("traffic", title, CheckResult::Pass, "traffic_flows", reason).with("bytes", stats.rx_bytes.to_string())
        }
        Some(_) => check("traffic", title, CheckResult::Fail, "traffic_none", "No traffic was seen to flow yet."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::net::Endpoint;

    fn online() -> HostFacts {
        HostFacts { online: true, ipv4: true, ..HostFacts::default() }
    }

    fn stats(handshake_ms: Option<u64>, verified: bool, stalled: bool) -> TunnelStats {
        TunnelStats {
            engine: "engine",
            rx_bytes: 7,
            tx_bytes: 7,
            last_handshake_age_ms: handshake_ms,
            endpoint: Endpoint::udp("198.51.100.1:51820".parse().unwrap()),
            mtu: 1420,
            round_trip_ms: None,
            stalled,
            verified,
        }
    }

    fn said(check: &Check) -> (CheckResult, &str) {
        (check.result, &check.code)
    }

    #[test]
    fn the_steps_that_need_nobody_say_each_result() {
        for (ipv4, ipv6, families) in [(true, true, "IPv4, IPv6"), (true, false, "IPv4"), (false, true, "IPv6")] {
            let step = link_step(&HostFacts { ipv4, ipv6, ..online() });
            assert_eq!((said(&step), step.values["families"].as_str()), ((CheckResult::Pass, "link_up"), families));
        }
        assert_eq!(said(&link_step(&HostFacts::default())), (CheckResult::Fail, "link_down"));
        let handshake = |stats: Option<&TunnelStats>| {
            let step = handshake_step(stats);
            (step.result, step.code)
        };
        for (age, expected) in [
            (None, (CheckResult::Fail, "handshake_none")),
            (Some(0), (CheckResult::Pass, "handshake_fresh")),
            (Some(OLD_HANDSHAKE_MS), (CheckResult::Pass, "handshake_fresh")),
            (Some(OLD_HANDSHAKE_MS + 1), (CheckResult::Unknown, "handshake_old")),
        ] {
            assert_eq!(handshake(Some(&stats(age, true, false))), (expected.0, expected.1.to_owned()), "{age:?}");
        }
        assert_eq!(handshake(None), (CheckResult::Skipped, "no_tunnel".to_owned()));
        for (verified, stalled, connected, expected) in [
            (true, false, true, (CheckResult::Pass, "traffic_flows")),
            (true, true, true, (CheckResult::Fail, "traffic_stalled")),
            (true, false, false, (CheckResult::Fail, "traffic_none")),
            (false, false, true, (CheckResult::Fail, "traffic_none")),
        ] {
            assert_eq!(said(&traffic_step(Some(&stats(Some(0), verified, stalled)), connected)), expected);
        }
        assert_eq!(said(&traffic_step(None, false)), (CheckResult::Skipped, "no_tunnel"));
    }
}
