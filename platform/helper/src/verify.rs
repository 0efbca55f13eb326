//! The live self-test behind `hamn verify`: are the rules what was asked for, and does anything get past them?

use crate::probe::{self, Fate, Outcome};
use crate::provider::Provider;
use crate::service::Service;
use hamn_core::policy::{NetworkPolicy, TunnelAccess, TunnelTraffic};
use hamn_core::state::State;
use hamn_ipc::wire::{CHECK_CODES, Check, CheckResult, VerifyReport};
use hamn_network::Finding;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Documentation addresses (RFC 5737, RFC 3849): public to every rule, and nobody is bothered should a probe get out.
const PUBLIC_V4: [u8; 4] = [203, 0, 113, 254];
const PUBLIC_V6: [u16; 8] = [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfe];
/// How long the provider may take to say which address it sees.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long reading the rules back may take, with a policy that is being applied before it.
const READ_BACK_TIMEOUT: Duration = Duration::from_secs(10);

/// What is left to check after the loop has given what only it can give.
pub(crate) struct Remaining {
    state: Check,
    findings: Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>,
    policy: Option<NetworkPolicy>,
    /// Whom to ask for the exit address, or why nobody is asked.
    exit: Result<Arc<Provider>, (&'static str, &'static str)>,
}

/// Takes what only the loop knows; what waits is left to `Remaining::finish`.
pub(crate) fn begin(service: &Service) -> Remaining {
    let exit = if !matches!(service.machine.state(), State::Connected { .. }) {
        Err(("no_tunnel", "No tunnel is up."))
    } else if service.running.as_ref().is_some_and(|running| running.uses_device_key) {
        service.provider.clone().ok_or(("no_provider", "No provider is configured."))
    } else {
        Err(("profile", "An imported profile has no provider to ask."))
    };
    let findings = Box::pin(service.enforcer.read_back());
    Remaining { state: state_check(service), findings, policy: service.machine.policy().cloned(), exit }
}

impl Remaining {
    /// Reads the rules back, sends the probes, asks resolver and provider.
    pub(crate) async fn finish(self) -> VerifyReport {
        let Self { state, findings, policy, exit } = self;
        let mut checks = vec![state];
        match tokio::time::timeout(READ_BACK_TIMEOUT, findings).await {
            Ok(findings) => checks.extend(findings.into_iter().map(read_back_check)),
            Err(_) => checks.push(check(
                "read_back",
                "Read back",
                CheckResult::Unknown,
                "read_back_slow",
                "The rules could not be read in time.",
            )),
        }
        let resolvers = policy.clone();
        let (probes, resolver, exit) = tokio::join!(probe_checks(policy.as_ref()), resolver_check(resolvers), exit_check(exit));
        checks.extend(probes);
        checks.push(resolver);
        checks.push(exit);
        VerifyReport::new(checks)
    }
}

/// `code` is one of `hamn_ipc::wire::CHECK_CODES`.
pub(crate) fn check(id: &str, title: &str, result: CheckResult, code: &str, reason: impl Into<String>) -> Check {
    debug_assert!(CHECK_CODES.contains(&code), "{code} is not published");
    Check { id: id.to_owned(), title: title.to_owned(), result, reason: reason.into(), code: code.to_owned(), ..Check::default() }
}

fn read_back_check(finding: Finding) -> Check {
    let (result, code) =
        if finding.ok { (CheckResult::Pass, "read_back_same") } else { (CheckResult::Fail, "read_back_differs") };
    let id = format!("read_back_{}", finding.what.replace(' ', "_"));
    let detail = finding.detail.clone();
    check(&id, &format!("Read back: {}", finding.what), result, code, finding.detail).with("detail", detail)
}

fn state_check(service: &Service) -> Check {
    let title = "Protection is wanted and in force";
    let open = service.machine.policy().is_none_or(NetworkPolicy::is_open);
    if open {
        return check(
            "state",
            title,
            CheckResult::Fail,
            "open",
            "You are disconnected and lockdown is off: traffic leaves unprotected. Run `hamn connect`.",
        );
    }
    if service.machine.in_force() {
        check("state", title, CheckResult::Pass, "in_force", "The wanted policy was applied and read back.")
    } else {
        let why = service.machine.apply_error().unwrap_or("it is being applied");
        check("state", title, CheckResult::Fail, "not_in_force", format!("The wanted policy is not in force: {why}."))
            .with("why", why)
    }
}

async fn probe_checks(policy: Option<&NetworkPolicy>) -> Vec<Check> {
    let mut targets: Vec<(&'static str, SocketAddr)> = vec![
        ("IPv4", SocketAddr::from((PUBLIC_V4, 443))),
        ("DNS over IPv4", SocketAddr::from((PUBLIC_V4, 53))),
        ("IPv6", SocketAddr::from((PUBLIC_V6, 443))),
        ("DNS over IPv6", SocketAddr::from((PUBLIC_V6, 53))),
    ];
    if let Some(NetworkPolicy::Enforce(enforced)) = policy {
        // The gateway is open to our own socket only (G8): this probe carries no mark.
        targets.extend(enforced.endpoints.iter().map(|endpoint| ("the gateway by another program", endpoint.address)));
    }
    let title = "Probes outside the tunnel";
    match tokio::task::spawn_blocking(move || probe::probe_all(&targets)).await.unwrap_or(Err(probe::NOT_RUN)) {
        Err(error) => {
            let reason = format!("The interfaces cannot be listed: {}.", error.desc());
            vec![check("probe", title, CheckResult::Unknown, "links_unknown", reason).with("error", error.desc())]
        }
        Ok(outcomes) if outcomes.is_empty() => {
            vec![check("probe", title, CheckResult::Skipped, "no_link", "No physical interface is up.")]
        }
        Ok(outcomes) => outcomes.iter().map(probe_check).collect(),
    }
}

/// Only what the firewall stopped is a proof; what could not be tried is not.
fn probe_check(outcome: &Outcome) -> Check {
    let Outcome { interface, what, target, fate } = outcome;
    let family = if target.is_ipv4() { "v4" } else { "v6" };
    let id = format!("probe_{}_{family}_{interface}", what.to_lowercase().replace(' ', "_"));
    let title = format!("Nothing leaves through {interface}: {what}");
    let (result, code, reason) = match fate {
        Fate::Left => (CheckResult::Fail, "left", format!("A datagram to {target} left through {interface}.")),
        Fate::Stopped => (CheckResult::Pass, "stopped", "The firewall stopped it.".to_owned()),
        Fate::NoRoute(error) => {
            (CheckResult::Skipped, "no_route", format!("No route leads to {target} through {interface} ({}).", error.desc()))
        }
        Fate::Failed(error) => (CheckResult::Unknown, "not_sent", format!("The probe could not be sent: {}.", error.desc())),
    };
    let made = check(&id, &title, result, code, reason);
    made.with("interface", interface.clone()).with("what", *what).with("target", target.to_string())
}

/// The tunnel through which all traffic goes, if the policy has one.
fn open_tunnel(policy: &NetworkPolicy) -> Option<&TunnelAccess> {
    let NetworkPolicy::Enforce(enforced) = policy else { return None };
    enforced.tunnel.as_ref().filter(|tunnel| matches!(tunnel.traffic, TunnelTraffic::Everything { .. }))
}

/// That the system asks these resolvers is read back above; here one is asked.
pub(crate) async fn resolver_check(policy: Option<NetworkPolicy>) -> Check {
    let (id, title) = ("resolver", "Names are resolved inside the tunnel");
    let Some(policy) = policy.filter(|policy| !policy.is_open()) else {
        return check(id, title, CheckResult::Skipped, "no_tunnel_wanted", "No tunnel is wanted.");
    };
    let Some(tunnel) = open_tunnel(&policy) else {
        return check(id, title, CheckResult::Skipped, "dns_refused", "No tunnel is up: every DNS query is refused.");
    };
    let resolvers: Vec<IpAddr> = tunnel.resolvers.iter().chain(&tunnel.lan_resolvers).copied().collect();
    let Some(first) = resolvers.first().copied() else {
        return check(id, title, CheckResult::Skipped, "no_resolver", "This tunnel has no resolver: every DNS query is refused.");
    };
    let asked = tokio::task::spawn_blocking(move || probe::ask_resolver((first, 53).into())).await;
    let names: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
    match asked {
        Ok(Ok(())) => {
            let names = names.join(", ");
            let reason = format!("{first} answers; port 53 is open to {names} only.");
            let made = check(id, title, CheckResult::Pass, "resolver_answers", reason);
            made.with("resolver", first.to_string()).with("resolvers", names)
        }
        Ok(Err(error)) => {
            let reason = format!("{first} gave no answer: {}.", error.kind());
            check(id, title, CheckResult::Unknown, "resolver_silent", reason).with("resolver", first.to_string())
        }
        Err(_) => check(id, title, CheckResult::Unknown, "resolver_unasked", "The resolver could not be asked."),
    }
}

async fn exit_check(provider: Result<Arc<Provider>, (&'static str, &'static str)>) -> Check {
    let title = "The world sees the VPN server's address";
    let provider = match provider {
        Ok(provider) => provider,
        Err((code, reason)) => return check("exit_address", title, CheckResult::Skipped, code, reason),
    };
    match tokio::time::timeout(EXIT_TIMEOUT, provider.client.ip()).await {
        Ok(Ok(answer)) if answer.via_vpn => {
            check("exit_address", title, CheckResult::Pass, "exit_is_server", format!("The provider sees {}.", answer.ip))
                .with("address", answer.ip.to_string())
        }
        Ok(Ok(answer)) => check(
            "exit_address",
            title,
            CheckResult::Fail,
            "exit_is_other",
            format!("The provider sees {}, which is none of its servers.", answer.ip),
        )
        .with("address", answer.ip.to_string()),
        Ok(Err(error)) => {
            let reason = format!("The provider could not be asked: {error}.");
            check("exit_address", title, CheckResult::Unknown, "provider_error", reason).with("error", error.to_string())
        }
        Err(_) => check("exit_address", title, CheckResult::Unknown, "provider_silent", "The provider did not answer in time."),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
