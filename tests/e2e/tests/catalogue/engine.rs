//! Which WireGuard data plane carries the packets: the one that the environment of helper and gateway names, and everybody sees it.

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;

/// What the variable makes of this machine: it has no say where it names nothing, and a kernel may lack WireGuard.
fn expected(world: &World) -> Result<[&'static str; 2]> {
    let named = std::env::var("HAMN_TUNNEL_ENGINE").unwrap_or_default();
    Ok(match named.as_str() {
        "gotatun" => ["gotatun"; 2],
        "kernel" if world.lab.client.ip("link add probe0 type wireguard").is_ok() => {
            world.lab.client.ip("link del probe0")?;
            ["kernel", "hamn"]
        }
        _ => ["hamn"; 2],
    })
}

#[test]
fn engine_the_named_one_carries_both_ends_and_is_shown() -> Result<()> {
    let mut world = World::start()?;
    let [client, gateway] = expected(&world)?;
    let log = world.provider.as_ref().context("a provider")?.directory().join("gateway.log");
    let log = std::fs::read_to_string(log)?;
    let said = log.lines().find(|line| line.contains("the gateway's data plane")).context("the gateway says what it runs on")?;
    ensure!(said.contains(gateway), "{said}");
    world.connect()?;
    ensure!(world.status()?["tunnel"]["engine"] == client, "{}", world.status()?);
    ensure!(world.run("status")?.contains(&format!("({client})")), "{}", world.run("status")?);
    // The same words, given to the helper alone, change the helper alone.
    world.disconnect()?;
    world.kill_helper()?;
    world.start_helper_with(&[("HAMN_TUNNEL_ENGINE", "gotatun")])?;
    world.connect()?;
    ensure!(world.status()?["tunnel"]["engine"] == "gotatun", "{}", world.status()?);
    Ok(())
}
