//! Brings a world into each protected state of guarantees.md §1.4, for the cases that must hold in all of them.

use anyhow::Result;
use hamn_e2e::World;
use hamn_e2e::wait::{s, until};

/// A protected state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// S1: disconnected, lockdown on.
    Lockdown,
    /// S2: an attempt to a gateway that does not answer.
    Connecting,
    /// S3.
    Connected,
    /// S4: connected, then the gateway falls silent.
    Reconnecting,
    /// S6: a tunnel is wanted, and there can be none.
    Blocked,
}

/// All of them.
pub const ALL: [Protected; 5] =
    [Protected::Lockdown, Protected::Connecting, Protected::Connected, Protected::Reconnecting, Protected::Blocked];

/// From *disconnected* into the state.
pub fn enter(world: &mut World, state: Protected) -> Result<()> {
    match state {
        Protected::Lockdown => {
            world.set("kill_switch", "always")?;
            world.wait_in_force()?;
        }
        Protected::Connecting => {
            silence_gateway(world)?;
            world.want("best")?;
            until("an attempt reaches the gateway", s(5), || {
                let status = world.status()?;
                Ok((status["attempt"]["phase"] == "verifying").then_some(()))
            })?;
        }
        Protected::Connected => world.connect()?,
        Protected::Reconnecting => {
            world.connect()?;
            silence_gateway(world)?;
            // Traffic that gets no answer is what shows the silence.
            until("the silence is noticed", s(15), || {
                let _ = world.lab.exit_address(false, hamn_e2e::wait::ms(200));
                let status = world.status()?;
                Ok((status["state"] != "connected" || status["tunnel"]["stalled"] == true).then_some(()))
            })?;
        }
        Protected::Blocked => {
            // A tunnel is wanted and the credentials are lost: nothing that another try could mend.
            world.connect()?;
            world.kill_helper()?;
            for secret in ["session.json", "device.json"] {
                std::fs::remove_file(world.state_dir().join(secret))?;
            }
            world.start_helper()?;
            world.wait_for_state("blocked", s(10))?;
        }
    }
    Ok(())
}

/// The ISP loses every packet to the gateways.
pub fn silence_gateway(world: &World) -> Result<()> {
    world.lab.isp_drops("ip daddr 198.51.100.0/24")?;
    world.lab.isp_drops("ip6 daddr 2001:db8:5::/64")
}
