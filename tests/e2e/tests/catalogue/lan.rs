//! LAN: off by default; when on, private attached prefixes only, never port 53 (G9).

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::s;
use hamn_provider::sandbox::address as at;
use std::net::IpAddr;

/// ULA of the printer: the LAN of guarantees.md is private in both families.
const PRINTER_ULA: &str = "fd00:1::50";

fn tcp(world: &World, host: &str) -> bool {
    world
        .lab
        .client
        .command("curl")
        .args(["-s", "-g", "--max-time", "1", "-o", "/dev/null"])
        .arg(format!("http://{host}/"))
        .as_nobody()
        .succeeds()
}

fn ping(world: &World, host: &str) -> bool {
    world.lab.client.command("ping").args(["-c", "1", "-W", "1", host]).as_nobody().succeeds()
}

/// LAN-01: allow and deny, both families, TCP, UDP and ICMP.
#[test]
fn lan_01_allowed_and_denied() -> Result<()> {
    let mut world = World::start()?;
    world.lab.client.ip("address add fd00:1::2/64 dev eth0 nodad")?;
    let reach = |world: &World| {
        let printer = at::LAN_HOST_V4.to_string();
        [tcp(world, &printer), tcp(world, &format!("[{PRINTER_ULA}]")), ping(world, &printer), ping(world, PRINTER_ULA)]
    };
    assert_eq!(reach(&world), [true; 4], "negative control: without protection all work");
    world.connect()?;
    world.lab.reset_witness()?;
    assert_eq!(reach(&world), [false; 4], "off by default");
    world.assert_nothing_outside("LAN access off")?;
    world.set("allow_lan", "true")?;
    world.wait_in_force()?;
    assert_eq!(reach(&world), [true; 4], "allowed");
    let ula: IpAddr = PRINTER_ULA.parse()?;
    world.lab.reset_witness()?;
    let flooder = world.flood_at(vec![at::LAN_HOST_V4, ula], &[9999], hamn_e2e::wait::ms(50))?;
    let fired = World::flooded(flooder)?;
    ensure!(fired.accepted > 0 && world.lab.seen()?.outside > 0, "UDP to the LAN flows: {fired:?}");
    // Public addresses on the same link are not LAN: the printer has one, too.
    world.lab.reset_witness()?;
    // It may be reached all the same: through the tunnel, from the internet's side.
    let _ = tcp(&world, &format!("[{}]", at::LAN_HOST_V6));
    // The kernel's reports of multicast groups are part of LAN access.
    world.assert_no_traffic_outside("to a public address on the link")?;
    world.set("allow_lan", "false")?;
    world.wait_in_force()?;
    assert_eq!(reach(&world), [false; 4], "denied again");
    Ok(())
}

/// LAN-03: a lease for a public prefix, or for half the internet, is not a LAN (TunnelCrack LocalNet, CVE-2023-36672).
#[test]
fn lan_03_a_public_lease_is_no_lan() -> Result<()> {
    let mut world = World::start()?;
    world.set("allow_lan", "true")?;
    for lease in ["192.0.2.70/24", "64.0.0.9/1", "10.9.9.9/8", "2001:db8:2::70/64"] {
        // Negative control: with the lease and no tunnel, the client looks for the web on its own link.
        world.lab.reset_witness()?;
        world.lab.client.ip(&format!("address add {lease} dev eth0"))?;
        let v6 = lease.contains(':');
        let control = world.lab.exit_address(v6, hamn_e2e::wait::ms(300))?;
        if lease.starts_with("192") {
            ensure!(control.is_none(), "control: the web cannot be reached, it is looked for on the link");
            let IpAddr::V4(web) = at::WEB_V4 else { anyhow::bail!("the web has an IPv4 address") };
            ensure!(world.lab.witness.arp_targets().contains(&web), "control: ARP for the web");
        }
        // What the control is still looking for on the link, and what waits for the answer.
        world.lab.client.ip("neigh flush dev eth0")?;
        world.connect()?;
        world.lab.reset_witness()?;
        world.wait_for_exit(at::GATEWAY_V4, s(5))?;
        world.fire_salvo(&hamn_e2e::probe::Salvo {
            targets: vec![at::WEB_V4, at::OBSERVER_V4, at::WEB_V6, at::OBSERVER_V6],
            ..world.salvo()
        })?;
        world.assert_no_traffic_outside(&format!("lease {lease}"))?;
        let public: Vec<_> = world.lab.witness.arp_targets().into_iter().filter(|target| !target.is_private()).collect();
        ensure!(public.is_empty(), "lease {lease}: ARP for {public:?}");
        world.disconnect()?;
        world.lab.client.ip(&format!("address del {lease} dev eth0"))?;
    }
    Ok(())
}
