//! IN: the tunnel's address cannot be found or reached from the LAN (G11; MLLVD-CR-24-03, CVE-2019-14899).

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::s;

/// The client's addresses inside the tunnel, IPv4 and IPv6, without prefix length.
fn inside(world: &World) -> Result<(String, String)> {
    let status = world.status()?;
    let addresses: Vec<String> = status["tunnel"]["addresses"]
        .as_array()
        .context("the status lists the tunnel's addresses")?
        .iter()
        .filter_map(|net| Some(net.as_str()?.split('/').next()?.to_owned()))
        .collect();
    let v4 = addresses.iter().find(|a| a.contains('.')).context("an IPv4 address")?.clone();
    let v6 = addresses.iter().find(|a| a.contains(':')).context("an IPv6 address")?.clone();
    Ok((v4, v6))
}

/// A neighbour on the link looks for the addresses by ARP and neighbour solicitation: true for each that answers.
fn neighbours_find(world: &World, v4: &str, v6: &str) -> Result<(bool, bool)> {
    let lan = &world.lab.lan;
    lan.ip_batch(&format!("route replace {v4}/32 dev eth0\nroute replace {v6}/128 dev eth0\nneigh flush dev eth0\n"))?;
    let _ = lan.command("ping").args(["-c", "1", "-W", "1", v4]).output()?;
    let _ = lan.command("ping").args(["-c", "1", "-W", "1", v6]).output()?;
    let found = |address: &str| -> Result<bool> { Ok(lan.ip(&format!("neigh show {address} dev eth0"))?.contains("lladdr")) };
    Ok((found(v4)?, found(v6)?))
}

/// Negative control: the same addresses on the client's loopback, as any tunnel's are when nobody guards them.
fn unguarded(world: &World, v4: &str, v6: &str) -> Result<()> {
    world.lab.client.ip_batch(&format!("address replace {v4}/32 dev lo\naddress replace {v6}/128 dev lo nodad\n"))
}

fn guarded(world: &World, v4: &str, v6: &str) -> Result<()> {
    world.lab.client.ip_batch(&format!("address del {v4}/32 dev lo\naddress del {v6}/128 dev lo\n"))
}

/// IN-01: neither ARP nor neighbour discovery finds the tunnel's address.
#[test]
fn in_01_neighbours_cannot_find_the_tunnels_address() -> Result<()> {
    let world = World::start()?;
    for allow_lan in ["false", "true"] {
        world.set("allow_lan", allow_lan)?;
        world.connect()?;
        let (v4, v6) = inside(&world)?;
        assert_eq!(neighbours_find(&world, &v4, &v6)?, (false, false), "LAN allowed: {allow_lan}");
        world.disconnect()?;
        unguarded(&world, &v4, &v6)?;
        // The kernel answers neighbour solicitations only for addresses of the link itself, so the control is ARP.
        ensure!(neighbours_find(&world, &v4, &v6)?.0, "negative control: ARP finds the address when nothing guards it");
        guarded(&world, &v4, &v6)?;
    }
    Ok(())
}

/// Sends SYN, UDP and echo requests from the LAN straight to the client's link address, for the tunnel's address.
fn knock(world: &World, v4: &str, v6: &str) -> Result<bool> {
    let shown = world.lab.client.ip("-brief link show eth0")?;
    let link = shown.split_whitespace().nth(2).context("a link address")?;
    let lan = &world.lab.lan;
    lan.ip_batch(&format!(
        "route replace {v4}/32 dev eth0\nroute replace {v6}/128 dev eth0\nneigh replace {v4} lladdr {link} dev eth0\nneigh replace {v6} lladdr {link} dev eth0\n"
    ))?;
    let mut answered = false;
    for address in [v4.to_owned(), v6.to_owned()] {
        answered |= lan.command("ping").args(["-c", "2", "-i", "0.2", "-W", "1", &address]).output()?.status.success();
        let host = if address.contains(':') { format!("[{address}]") } else { address };
        for port in ["22", "80", "5353"] {
            let refused = lan
                .command("curl")
                .args(["-s", "-g", "--max-time", "0.5", &format!("http://{host}:{port}/")])
                .timeout(s(5))
                .output()?;
            // 7 is "could not connect": a reset came back. 28 is a timeout: silence.
            answered |= refused.status.code() == Some(7);
        }
    }
    Ok(answered)
}

/// IN-02: nothing that is sent to the tunnel's address from the LAN is answered.
#[test]
fn in_02_the_tunnels_address_is_silent_towards_the_lan() -> Result<()> {
    let mut world = World::start()?;
    for allow_lan in ["false", "true"] {
        world.set("allow_lan", allow_lan)?;
        world.connect()?;
        let (v4, v6) = inside(&world)?;
        world.lab.reset_witness()?;
        ensure!(!knock(&world, &v4, &v6)?, "LAN allowed {allow_lan}: the tunnel's address answered");
        // With LAN access the kernel may tell the link of its multicast groups.
        let answers = "answers to the LAN";
        match allow_lan {
            "true" => world.assert_no_traffic_outside(answers)?,
            _ => world.assert_nothing_outside(answers)?,
        }
        world.disconnect()?;
        unguarded(&world, &v4, &v6)?;
        ensure!(knock(&world, &v4, &v6)?, "negative control: without the guard the address answers");
        guarded(&world, &v4, &v6)?;
    }
    Ok(())
}
