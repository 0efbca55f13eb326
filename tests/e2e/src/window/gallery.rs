//! Pictures of every state that a person should have seen before trusting the window: taken from the real window while the real helper
//! is in that state, light and dark, from left to right and from right to left.

use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hamn_provider::sandbox::address as at;

use crate::World;
use crate::wait::{ms, s, until};

use super::page::Window;
use super::screen::WindowOptions;

/// Themes and languages of the pictures.
pub const LOOKS: [(&str, &str); 4] = [("light", "en"), ("dark", "en"), ("light", "ar"), ("dark", "ar")];

/// Pictures so far.
pub struct Gallery<'window> {
    window: &'window Window,
    directory: &'window Path,
    /// What was written.
    pub pictures: Vec<PathBuf>,
    /// What does not fit on the page, one line each; empty is how it should be.
    pub complaints: Vec<String>,
}

impl<'window> Gallery<'window> {
    /// Writes into this directory, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(window: &'window Window, directory: &'window Path) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { window, directory, pictures: vec![], complaints: vec![] })
    }

    /// The page as it is now, in every look: `NAME-light-en.png` and so on.
    ///
    /// # Errors
    /// When a picture cannot be taken.
    pub fn take(&mut self, name: &str) -> Result<()> {
        for (theme, language) in LOOKS {
            self.window.prefer(&json!({"theme": theme, "language": language}))?;
            let path = self.directory.join(format!("{name}-{theme}-{language}.png"));
            self.window.picture(&path).with_context(|| format!("take {name}"))?;
            let unfit = self.window.overflows()?;
            self.complaints.extend(unfit.iter().map(|line| format!("{name}-{theme}-{language}: {line}")));
            self.pictures.push(path);
        }
        self.window.prefer(&json!({"theme": "light", "language": "en"}))
    }
}

/// Goes through the states and writes the pictures; returns the files and what did not fit.
///
/// # Errors
/// When a state is not reached or a picture not taken.
pub fn photograph(world: &mut World, directory: &Path, say: &mut dyn FnMut(&str)) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let mut options = WindowOptions::new(&world.socket());
    options.size = (1180, 860);
    let window = Window::open(&world.lab.client, world.directory(), &options)?;
    let mut gallery = Gallery::new(&window, directory)?;
    window.wait_for_state(&["disconnected"], s(15))?;
    gallery.take("disconnected")?;
    say("disconnected");
    connect_to_silence(world, &window)?;
    gallery.take("connecting")?;
    say("connecting, to a gateway that does not answer");
    world.lab.isp_heals()?;
    window.wait_for_state(&["connected"], s(60))?;
    traffic(world, s(12))?;
    gallery.take("connected")?;
    say("connected");
    views(world, &mut gallery)?;
    say("servers, settings, account, diagnostics with a finished self-test, about");
    window.go("connect")?;
    world.kill_helper()?;
    window.wait_for_state(&["unreachable"], s(10))?;
    gallery.take("unreachable")?;
    say("the helper, and the tunnel in it, is killed: the window says what it can know");
    world.start_helper()?;
    window.wait_for_state(&["connected"], s(30))?;
    take_tunnel(world)?;
    window.wait_for_state(&["blocked"], s(30))?;
    gallery.take("blocked")?;
    say("the tunnel is taken away for good: blocked, with the reason");
    Ok((gallery.pictures, gallery.complaints))
}

/// Removes the tunnel's device and lets no other be made: what is left of a tunnel whose carrier was killed.
///
/// # Errors
/// When there is no tunnel.
pub fn take_tunnel(world: &World) -> Result<()> {
    let status = world.status()?;
    let device = status["tunnel"]["interface"].as_str().context("no tunnel")?;
    // In the client's own view of /dev: the machine's device stays.
    world.lab.client.command("mount").args(["--bind", "/dev/null", "/dev/net/tun"]).ok()?;
    world.lab.client.ip(&format!("link delete {device}")).map(drop)
}

/// Ends what `take_tunnel` began.
///
/// # Errors
/// When it was not begun.
pub fn give_tunnel_back(world: &World) -> Result<()> {
    world.lab.client.command("umount").arg("/dev/net/tun").ok().map(drop)
}

fn silence(world: &World) -> Result<()> {
    world.lab.isp_drops(&format!("ip daddr {}/24", at::GATEWAY_V4))?;
    world.lab.isp_drops(&format!("ip6 daddr {}/64", at::GATEWAY_V6))
}

fn connect_to_silence(world: &World, window: &Window) -> Result<()> {
    silence(world)?;
    window.click("connect")?;
    window.wait_for_state(&["connecting"], s(10)).map(drop)
}

/// Something for the graph: bursts of requests through the tunnel.
fn traffic(world: &World, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    let mut burst = 3;
    while Instant::now() < end {
        for _ in 0..burst {
            world.lab.exit_address(false, ms(300))?;
        }
        burst = (burst * 7 + 5) % 61;
        std::thread::sleep(ms(250));
    }
    Ok(())
}

fn views(world: &World, gallery: &mut Gallery<'_>) -> Result<()> {
    let window = gallery.window;
    for view in ["servers", "settings", "account", "about"] {
        window.go(view)?;
        traffic(world, ms(500))?;
        if view == "servers" {
            window.unfold_servers()?;
        }
        gallery.take(view)?;
    }
    window.go("diagnostics")?;
    window.click("verify-run")?;
    window.wait_for("verify-result", s(60))?;
    until("the self-test is over", s(60), || {
        let script = "return document.querySelector('[data-testid=verify-run]').matches('[aria-busy=true], [disabled], [aria-disabled=true]');";
        Ok((window.session().run(script, &[])? == json!(false)).then_some(()))
    })?;
    gallery.take("diagnostics")
}
