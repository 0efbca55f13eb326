//! FS: files that are damaged, a disk that is full, directories of the wrong kind (G16).

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::address as at;
use nix::sys::signal::Signal;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

/// FS-01: the settings, cut at many places, with wrong types and from the future: starts safe, keeps a copy, tells.
#[test]
fn fs_01_damaged_settings_start_safe() -> Result<()> {
    let mut world = World::start()?;
    world.set("kill_switch", "always")?;
    world.stop_helper(Signal::SIGTERM)?;
    let path = world.state_dir().join("settings.json");
    let whole = std::fs::read(&path)?;
    let step = whole.len() / 6;
    let mut damaged: Vec<Vec<u8>> = (0..6).map(|cut| whole[..cut * step].to_vec()).collect();
    damaged.push(br#"{"version":99999,"settings":{}}"#.to_vec());
    damaged.push(br#"{"version":1,"settings":{"kill_switch":7}}"#.to_vec());
    damaged.push(vec![0xff; 100]);
    for bytes in damaged {
        std::fs::write(&path, &bytes)?;
        let what = String::from_utf8_lossy(&bytes).into_owned();
        world.start_helper()?;
        world.assert_no_leak(&format!("with settings {what:?}"))?;
        let status = world.status()?;
        ensure!(!status["warnings"].as_array().is_none_or(Vec::is_empty), "the user is told: {status:#}");
        world.stop_helper(Signal::SIGKILL)?;
        let aside = std::fs::read(world.state_dir().join("settings.json.unreadable"));
        ensure!(aside.is_ok_and(|copy| copy == bytes), "a copy of what could not be read is kept: {what:?}");
    }
    // The way out.
    std::fs::write(&path, &whole)?;
    world.start_helper()?;
    world.restore_network()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"));
    Ok(())
}

/// FS-02: the disk is full: nothing leaks, nothing crashes, the user is told, and it goes on when there is room.
#[test]
fn fs_02_a_full_disk() -> Result<()> {
    let mut world = World::with(Setup { helper: false, login: false, ..Setup::default() })?;
    let state = world.state_dir();
    std::fs::create_dir(&state)?;
    // The state directory is a small disk of its own in the client; the helper sees it, the test does not.
    let mount = world.lab.client.command("mount").args(["-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs"]).arg(&state);
    mount.ok()?;
    world.start_helper()?;
    world.login()?;
    let filler = state.join("filler");
    let fill = format!("cat /dev/zero > {} 2>/dev/null; true", filler.display());
    world.lab.client.command("sh").args(["-c", &fill]).ok()?;
    world.control()?;
    world.want("best")?;
    // When not even the note that restores DNS fits, DNS is left alone: no tunnel, a reason, and no leak.
    let reason = until("a tunnel, or the reason why there is none", s(15), || {
        let status = world.status()?;
        let told =
            status["blocked"]["code"] == "cannot_protect" && status["protection"]["error"].to_string().contains("No space left");
        Ok((told || status["state"] == "connected").then_some(status))
    });
    reason.with_context(|| world.helper_log_tail())?;
    world.assert_no_leak("wanting a tunnel with a full disk")?;
    let warnings = world.status()?["warnings"].to_string();
    ensure!(warnings.contains("not_saved"), "the user is told: {warnings}");
    let refused = world.hamn("settings set kill_switch always")?.output()?;
    ensure!(!refused.status.success(), "a setting that cannot be saved is refused");
    world.kill_helper()?;
    world.assert_no_leak("killed with a full disk")?;
    world.start_helper()?;
    world.assert_no_leak("restarted with a full disk")?;
    world.lab.client.command("rm").arg(&filler).ok()?;
    world.want("best")?;
    world.wait_for_exit(at::GATEWAY_V4, s(15))?;
    world.disconnect()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"));
    Ok(())
}

/// FS-03: a state directory that others can touch is refused, with a message, and rules that stand are left standing.
#[test]
fn fs_03_a_state_directory_of_the_wrong_kind_is_refused() -> Result<()> {
    let mut world = World::start()?;
    world.set("kill_switch", "always")?;
    world.kill_helper()?;
    let state = world.state_dir();
    let aside = world.directory().join("aside");
    let refused = |world: &mut World, why: &str| -> Result<()> {
        let error = world.start_helper().err().with_context(|| format!("{why}: the helper started"))?;
        let text = format!("{error:#}");
        ensure!(text.contains(&*world.state_dir().to_string_lossy()), "{why}: the message names the directory: {text}");
        world.assert_no_leak(why)
    };
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o777))?;
    refused(&mut world, "mode 0777")?;
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700))?;
    chown(&state, Some(65534), Some(65534))?;
    refused(&mut world, "owner nobody")?;
    chown(&state, Some(0), Some(0))?;
    std::fs::rename(&state, &aside)?;
    symlink(&aside, &state)?;
    refused(&mut world, "symbolic link")?;
    std::fs::remove_file(&state)?;
    std::fs::write(&state, b"")?;
    refused(&mut world, "a file")?;
    std::fs::remove_file(&state)?;
    std::fs::rename(&aside, &state)?;
    world.start_helper()?;
    assert_eq!(world.lab.exit_address(false, ms(200))?, None, "lockdown is still on");
    Ok(())
}
