//! The live self-test behind `hamn verify`: are the rules what was asked for, and does anything get past them?

use crate::probe;
use crate::provider::Provider;
use crate::service::Service;
use hamn_core::policy::{NetworkPolicy, TunnelTraffic};
use hamn_core::state::State;
use hamn_ipc::wire::{Check, CheckResult, VerifyReport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Documentation addresses (RFC 5737, RFC 3849): public to every rule, and nobody is bothered should a probe get out.
const PUBLIC_V4: [u8; 4] = [203, 0, 113, 254];
/// How long the provider may take to say which address it sees.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is left to check after the loop has given what only it can give.
pub(crate) struct Remaining {
    checks: Vec<Check>,
    policy: Option<NetworkPolicy>,
    /// Whom to ask for the exit address, or why nobody is asked.
    exit: Result<Arc<Provider>, &'static str>,
}

/// Reads the rules back; what waits for the network is left to `Remaining::finish`, outside the event loop.
pub(crate) async fn begin(service: &Service) -> Remaining {
    let mut checks = vec![state_check(service)];
    checks.extend(service.network.verify().await.into_iter().map(|finding| Check {
        id: format!("read_back_{}", finding.what.replace(' ', "_")),
        title: format!("Read back: {}", finding.what),
        result: if finding.ok { CheckResult::Pass } else { CheckResult::Fail },
        reason: finding.detail,
    }));
    let exit = if !matches!(service.machine.state(), State::Connected { .. }) {
        Err("No tunnel is up.")
    } else if service.running.as_ref().is_some_and(|running| running.uses_device_key) {
        service.provider.clone().ok_or("No provider is configured.")
    } else {
        Err("An imported profile has no provider to ask.")
    };
    Remaining { checks, policy: service.machine.policy().cloned(), exit }
}

impl Remaining {
    /// Sends the probes and asks the provider.
    pub(crate) async fn finish(self) -> VerifyReport {
        let Self { mut checks, policy, exit } = self;
        checks.extend(probe_checks(policy.as_ref()).await);
        checks.push(resolver_check(policy.as_ref()));
        checks.push(exit_check(exit).await);
        VerifyReport::new(checks)
    }
}

fn check(id: &str, title: &str, result: CheckResult, reason: impl Into<String>) -> Check {
    Check { id: id.to_owned(), title: title.to_owned(), result, reason: reason.into() }
}

fn state_check(service: &Service) -> Check {
    let title = "Protection is wanted and in force";
    let open = service.machine.policy().is_none_or(NetworkPolicy::is_open);
    if open {
        return check("state", title, CheckResult::Fail, "You are disconnected and lockdown is off: traffic leaves unprotected. Run `hamn connect`.");
    }
    if service.machine.in_force() {
        check("state", title, CheckResult::Pass, "The wanted policy was applied and read back.")
    } else {
        let why = service.machine.apply_error().unwrap_or("it is being applied");
        check("state", title, CheckResult::Fail, format!("The wanted policy is not in force: {why}."))
    }
}

async fn probe_checks(policy: Option<&NetworkPolicy>) -> Vec<Check> {
    let mut targets: Vec<(&'static str, SocketAddr)> = vec![
        ("IPv4", SocketAddr::from((PUBLIC_V4, 443))),
        ("DNS over IPv4", SocketAddr::from((PUBLIC_V4, 53))),
        ("IPv6", SocketAddr::from(([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfe], 443))),
        ("DNS over IPv6", SocketAddr::from(([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfe], 53))),
    ];
    if let Some(NetworkPolicy::Enforce(enforced)) = policy {
        // The gateway is open to our own socket only (G8): this probe carries no mark.
        targets.extend(enforced.endpoints.iter().map(|endpoint| ("the gateway by another program", endpoint.address)));
    }
    let outcomes = tokio::task::spawn_blocking(move || probe::probe_all(&targets)).await.unwrap_or_default();
    if outcomes.is_empty() {
        return vec![check("probe", "Probes outside the tunnel", CheckResult::Skipped, "No physical interface is up.")];
    }
    let to_check = |outcome: probe::Outcome| {
        let id = format!("probe_{}_{}", outcome.what.to_lowercase().replace(' ', "_"), outcome.interface);
        let title = format!("Nothing leaves through {}: {}", outcome.interface, outcome.what);
        match outcome.stopped {
            Ok(reason) => Check { id, title, result: CheckResult::Pass, reason },
            Err(reason) => Check { id, title, result: CheckResult::Fail, reason },
        }
    };
    outcomes.into_iter().map(to_check).collect()
}

fn resolver_check(policy: Option<&NetworkPolicy>) -> Check {
    let title = "Names are resolved inside the tunnel";
    let Some(NetworkPolicy::Enforce(enforced)) = policy else {
        return check("resolver", title, CheckResult::Skipped, "No tunnel is wanted.");
    };
    match &enforced.tunnel {
        Some(tunnel) if matches!(tunnel.traffic, TunnelTraffic::Everything { .. }) => {
            if tunnel.resolvers.is_empty() && tunnel.lan_resolvers.is_empty() {
                return check("resolver", title, CheckResult::Pass, "This tunnel has no resolver: every DNS query is refused.");
            }
            let names: Vec<String> = tunnel.resolvers.iter().chain(&tunnel.lan_resolvers).map(ToString::to_string).collect();
            check("resolver", title, CheckResult::Pass, format!("Port 53 is open to {} only; all others are refused.", names.join(", ")))
        }
        Some(_) | None => check("resolver", title, CheckResult::Pass, "No tunnel is up: every DNS query is refused."),
    }
}

async fn exit_check(provider: Result<Arc<Provider>, &'static str>) -> Check {
    let title = "The world sees the VPN server's address";
    let provider = match provider {
        Ok(provider) => provider,
        Err(reason) => return check("exit_address", title, CheckResult::Skipped, reason),
    };
    match tokio::time::timeout(EXIT_TIMEOUT, provider.client.ip()).await {
        Ok(Ok(answer)) if answer.via_vpn => check("exit_address", title, CheckResult::Pass, format!("The provider sees {}.", answer.ip)),
        Ok(Ok(answer)) => check("exit_address", title, CheckResult::Fail, format!("The provider sees {}, which is none of its servers.", answer.ip)),
        Ok(Err(error)) => check("exit_address", title, CheckResult::Unknown, format!("The provider could not be asked: {error}.")),
        Err(_) => check("exit_address", title, CheckResult::Unknown, "The provider did not answer in time."),
    }
}
