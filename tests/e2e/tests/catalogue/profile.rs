//! A plain WireGuard server that Hamn never heard of, with no provider in reach: import its file, connect, be protected.

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{s, until};
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::address as at;
use hamn_provider::sandbox::service::{self, Log, Query, Stop};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Somebody's WireGuard server on the gateway host: Debian's wireguard-go, `wg`, and a resolver of its own.
struct Foreign {
    profile: PathBuf,
    dns: Log<Query>,
    _stop: Stop,
}

fn key(world: &World, words: &str, input: &str) -> Result<String> {
    Ok(world.lab.gateway.command("wg").arg(words).input(input).ok()?.trim().to_owned())
}

fn foreign_server(world: &World, ipv6: bool, extra: &str) -> Result<Foreign> {
    let gateway = &world.lab.gateway;
    let (server, client) = (key(world, "genkey", "")?, key(world, "genkey", "")?);
    let (server_public, client_public) = (key(world, "pubkey", &server)?, key(world, "pubkey", &client)?);
    let psk = key(world, "genpsk", "")?;
    let directory = world.lab.directory();
    gateway.command("wireguard-go").args(["-f", "wg0"]).log_to(&directory.join("wireguard-go.log"))?.spawn()?;
    until("wireguard-go makes its device", s(5), || Ok(gateway.ip("link show wg0").ok()))?;
    let config = format!(
        "[Interface]\nPrivateKey = {server}\nListenPort = 51820\n[Peer]\nPublicKey = {client_public}\nPresharedKey = {psk}\nAllowedIPs = 10.99.0.2/32, fd99::2/128\n"
    );
    gateway.command("wg").args(["setconf", "wg0", "/dev/stdin"]).input(config).ok()?;
    gateway.ip_batch("address add 10.99.0.1/24 dev wg0\naddress add fd99::1/64 dev wg0 nodad\nlink set wg0 mtu 1420 up\n")?;
    gateway.nft(
        "table inet foreign { chain out { type nat hook postrouting priority srcnat; policy accept;
            oifname \"eth0\" ip saddr 10.99.0.0/24 snat ip to 198.51.100.1
            oifname \"eth0\" ip6 saddr fd99::/64 snat ip6 to 2001:db8:5::1
        }
        }\n",
    )?;
    let stop = Stop::new()?;
    let dns = service::resolver(gateway, &stop, &[SocketAddr::new("10.99.0.1".parse()?, 53)])?;
    let (addresses, allowed) =
        if ipv6 { ("10.99.0.2/32, fd99::2/128", "0.0.0.0/0, ::/0") } else { ("10.99.0.2/32", "0.0.0.0/0") };
    let profile = directory.join("foreign.conf");
    std::fs::write(
        &profile,
        format!(
            "[Interface]\nPrivateKey = {client}\nAddress = {addresses}\nDNS = 10.99.0.1\n{extra}\n[Peer]\nPublicKey = {server_public}\nPresharedKey = {psk}\nAllowedIPs = {allowed}\nEndpoint = 198.51.100.1:51820\n"
        ),
    )?;
    Ok(Foreign { profile, dns, _stop: stop })
}

fn without_provider() -> Result<World> {
    World::with(Setup { provider: false, login: false, ..Setup::default() })
}

fn works(ipv6: bool) -> Result<()> {
    let mut world = without_provider()?;
    world.control()?;
    let foreign = foreign_server(&world, ipv6, "MTU = 1400")?;
    world.run(&format!("profile import {} --name plain", foreign.profile.display()))?;
    ensure!(world.run("profile list")?.contains("plain"), "the profile is listed");
    world.run("connect --profile plain --wait")?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    assert_eq!(world.exit_address_v6()?.as_deref(), ipv6.then_some("2001:db8:5::1"));
    world.lab.client.command("getent").args(["ahostsv4", "profile.test"]).ok().context("names are resolved")?;
    ensure!(foreign.dns.entries().iter().any(|query| query.name == "profile.test"), "by the profile's own resolver");
    ensure!(!world.lab.lan_dns.entries().iter().any(|query| query.name == "profile.test"), "and nobody else");
    world.assert_no_leak("connected with a profile")?;
    world.kill_helper()?;
    world.assert_no_leak("helper killed, profile wanted")?;
    world.start_helper()?;
    world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    world.disconnect()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"));
    world.run("profile remove plain")?;
    ensure!(!world.run("profile list")?.contains("plain"), "the profile is gone");
    Ok(())
}

#[test]
fn profile_of_a_plain_server_works_ipv4_only() -> Result<()> {
    works(false)
}

#[test]
fn profile_of_a_plain_server_works_dual_stack() -> Result<()> {
    works(true)
}

/// What could run a program, or names nonsense, is refused with the line's number, and nothing of it is stored.
#[test]
fn profile_with_commands_or_nonsense_is_refused() -> Result<()> {
    let world = without_provider()?;
    for (bad, line) in
        [("PostUp = touch /tmp/hamn-was-here", 5), ("PreDown = reboot", 5), ("Table = off\u{7}", 5), ("DNS = not an address;", 5)]
    {
        let text = format!(
            "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.99.0.2/32\n\n{bad}\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 0.0.0.0/0\nEndpoint = 198.51.100.1:51820\n"
        );
        let path = world.lab.directory().join("bad.conf");
        std::fs::write(&path, text)?;
        let output = world.hamn(&format!("profile import {} --name bad", path.display()))?.output()?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && message.contains(&format!("line {line}")), "{bad}: {message}");
        ensure!(!message.contains("yAnz5TF"), "the private key is not repeated: {message}");
    }
    ensure!(!world.run("profile list")?.contains("bad"), "nothing was stored");
    Ok(())
}
