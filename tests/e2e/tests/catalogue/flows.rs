//! LEAK-05: what was opened outside does not go on outside, and what was opened inside never comes out (G5).

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_provider::sandbox::address as at;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

/// A desktop firewall that follows connections: without one, the kernel does not know old UDP flows and the case is void.
const DESKTOP_FIREWALL: &str = "table inet desktop {
    chain out { type filter hook output priority 0; policy accept; ct state established,related accept; }
    chain in { type filter hook input priority 0; policy accept; ct state established,related accept; }
}
";

fn open_flows(world: &World) -> Result<(TcpStream, UdpSocket)> {
    let (tcp, udp) = world.lab.client.run(|| -> Result<_> {
        let mut tcp = TcpStream::connect((at::OBSERVER_V4, at::OBSERVER_PORT))?;
        tcp.set_read_timeout(Some(s(3)))?;
        tcp.write_all(b"before")?;
        tcp.read_exact(&mut [0; 6]).context("the observer echoes")?;
        let udp = UdpSocket::bind("0.0.0.0:0")?;
        udp.connect((at::OBSERVER_V4, at::OBSERVER_PORT))?;
        udp.set_read_timeout(Some(s(3)))?;
        udp.send(b"before")?;
        udp.recv(&mut [0; 16]).context("the observer echoes")?;
        Ok((tcp, udp))
    })??;
    Ok((tcp, udp))
}

#[test]
fn leak_05_flows_opened_before_do_not_continue_outside() -> Result<()> {
    let mut world = World::start()?;
    world.lab.client.nft(DESKTOP_FIREWALL)?;
    let (mut tcp, udp) = open_flows(&world)?;
    // Negative control: the flows work, and the witness sees them.
    let before = world.lab.seen()?.outside;
    udp.send(b"control")?;
    until("the witness sees the flow", s(2), || Ok((world.lab.seen()?.outside > before).then_some(())))?;
    world.connect()?;
    world.lab.reset_witness()?;
    world.lab.observed.clear();
    let start = Instant::now();
    let mut ended = None;
    for _ in 0..50 {
        let _ = udp.send(b"after");
        if ended.is_none() && tcp.write_all(b"after").is_err() {
            ended = Some(start.elapsed());
        }
        std::thread::sleep(ms(40));
    }
    world.assert_nothing_outside("flows opened before")?;
    let outside =
        world.lab.observed.entries().into_iter().filter(|seen| seen.from.ip() == at::ISP_NAT_V4 && seen.bytes > 0).count();
    ensure!(outside == 0, "{outside} pieces of old flows reached the observer from the ISP's address");
    let ended = ended.context("an application must be told: its old TCP connection is reset")?;
    ensure!(ended < s(2), "the old connection was reset only after {} ms", ended.as_millis());
    Ok(())
}

#[test]
fn leak_05_flows_opened_inside_do_not_continue_outside() -> Result<()> {
    let world = World::start()?;
    world.lab.client.nft(DESKTOP_FIREWALL)?;
    world.connect()?;
    let (mut tcp, udp) = open_flows(&world)?;
    world.lab.router.nft(
        "table inet escaped { counter from_tunnel { }
        chain c { type filter hook prerouting priority -300; policy accept; ip saddr 10.64.0.0/10 counter name from_tunnel; }
        }\n",
    )?;
    world.lab.observed.clear();
    world.disconnect()?;
    for _ in 0..25 {
        let _ = udp.send(b"after");
        let _ = tcp.write_all(b"after");
        std::thread::sleep(ms(20));
    }
    let counter = world.lab.router.command("nft").args(["list", "counter", "inet", "escaped", "from_tunnel"]).ok()?;
    ensure!(counter.contains("packets 0 "), "packets with the tunnel's address left outside: {counter}");
    // A UDP socket that was bound by routing to the tunnel's address must not silently continue from the ISP's.
    let tcp_outside =
        world.lab.observed.entries().into_iter().filter(|seen| seen.tcp && seen.from.ip() == at::ISP_NAT_V4 && seen.bytes > 0);
    ensure!(tcp_outside.count() == 0, "a TCP flow of the tunnel continued outside");
    Ok(())
}
