//! The laboratory itself: a witness that sees nothing would make every other test pass.

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::address as at;

fn bare() -> Result<World> {
    World::with(Setup { provider: false, helper: false, login: false, ..Setup::default() })
}

#[test]
fn lab_witness_sees_every_kind_of_probe() -> Result<()> {
    let mut world = bare()?;
    world.control()?;
    let salvo = world.salvo();
    for target in [at::OBSERVER_V4, at::OBSERVER_V6, at::GATEWAY_V4, at::API_V4, at::LAN_HOST_V4] {
        let one = hamn_e2e::probe::Salvo { targets: vec![target], sources: vec![], devices: vec![], ..salvo.clone() };
        world.lab.reset_witness()?;
        let fired = world.fire_salvo(&one)?;
        until("the witness sees nearly all probes to one target", s(2), || {
            // The LAN host answers TCP with resets, which costs nothing more; fragments count twice or thrice.
            Ok((world.lab.seen()?.outside >= fired.accepted).then_some(()))
        })?;
        ensure!(world.lab.witness.heard_outside() > 0, "the packet socket hears");
    }
    Ok(())
}

#[test]
fn lab_witness_sees_nothing_when_everything_is_dropped() -> Result<()> {
    let mut world = bare()?;
    world.lab.client.nft(
        "table inet wall { chain out { type filter hook output priority 0; policy drop;
            oifname lo accept
            icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
        }
        }\n",
    )?;
    world.assert_no_leak("behind a wall")?;
    world.lab.client.nft("delete table inet wall")?;
    world.control()
}

#[test]
fn lab_is_wired_as_documented() -> Result<()> {
    let world = bare()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"));
    assert_eq!(world.exit_address_v6()?.as_deref(), Some("2001:db8:1::2"));
    for server in [at::LAN_HOST_V4, at::RESOLVER_V4, at::RESOLVER_V6] {
        let answer =
            world.lab.client.command("dig").args(["+short", "+tries=1", "web.sandbox.test"]).arg(format!("@{server}")).ok()?;
        assert_eq!(answer.trim(), "192.0.2.80", "{server}");
    }
    assert_eq!(world.lab.lan_dns.entries().len(), 1);
    assert_eq!(world.lab.internet_dns.entries().len(), 2);
    Ok(())
}

#[test]
fn lab_faults_and_links_work() -> Result<()> {
    let world = bare()?;
    world.lab.isp_drops("ip daddr 192.0.2.80")?;
    assert_eq!(world.lab.exit_address(false, ms(200))?, None);
    world.lab.isp_heals()?;
    assert!(world.exit_address()?.is_some());
    world.lab.unplug()?;
    assert_eq!(world.lab.exit_address(false, ms(200))?, None);
    world.lab.plug_in_wlan()?;
    assert!(world.exit_address()?.is_some() && world.exit_address_v6()?.is_some());
    world.lab.plug_in()?;
    world.lab.change_address("10.0.1.77/24")?;
    assert!(world.exit_address()?.is_some());
    Ok(())
}

#[test]
fn lab_leaves_nothing_behind() -> Result<()> {
    let world = bare()?;
    let directory = world.lab.directory().to_owned();
    let mut sleeper = world.lab.client.command("sleep").arg("1000").spawn()?;
    drop(world);
    until("the program dies with the laboratory", s(5), || Ok(sleeper.try_wait()?))?;
    ensure!(!directory.exists(), "the directory is gone");
    Ok(())
}
