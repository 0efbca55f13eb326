//! Other people's clients in the same laboratory against the same gateway: `wg-quick` with any user-space WireGuard.

use anyhow::{Context, Result, ensure};
use hamn_provider::sandbox::address as at;
use serde_json::Value;
use std::path::{Path, PathBuf};

use crate::wait::s;
use crate::world::World;

/// A device of its own at the provider, as a `wg-quick` file.
pub struct Rival {
    config: PathBuf,
}

impl Rival {
    /// Registers a device with the provider's API, as any client could.
    ///
    /// # Errors
    /// When a tool is missing or the API refuses.
    pub fn register(world: &World) -> Result<Self> {
        let provider = world.provider.as_ref().context("a provider runs")?.directory();
        let client = &world.lab.client;
        let private = client.command("wg").arg("genkey").ok()?.trim().to_owned();
        let public = client.command("wg").arg("pubkey").input(private.as_str()).ok()?.trim().to_owned();
        let call = |path: &str, token: &str, body: &Value| -> Result<Value> {
            let command = client.command("curl").args(["-sS", "--resolve", "api.sandbox.test:443:192.0.2.10", "--cacert"]);
            let command =
                command.arg(provider.join("tls/ca.pem")).args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
            let command = command.args([
                "-H",
                &format!("Authorization: Bearer {token}"),
                "-H",
                &format!("Idempotency-Key: bench-{public}"),
            ]);
            let text = command.arg(format!("https://api.sandbox.test/v1/{path}")).ok()?;
            serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
        };
        let login = serde_json::json!({ "account": crate::provider::ACCOUNT, "client": { "name": "bench", "version": "0", "platform": "linux" } });
        let session = call("sessions", "", &login)?;
        let token = session["access_token"].as_str().with_context(|| format!("a token in {session}"))?;
        let device =
            call("devices", token, &serde_json::json!({ "name": "bench", "wg_public_key": public, "platform": "linux" }))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("a text in {device}"));
        let list: Value = serde_json::from_slice(&std::fs::read(provider.join("servers.json"))?)?;
        let servers = list["servers"].as_array().context("servers")?;
        let server = servers.iter().find(|server| server["id"] == "vpn05").context("vpn05")?;
        let config = world.lab.directory().join("rival.conf");
        std::fs::write(
            &config,
            format!(
                "[Interface]\nPrivateKey = {private}\nAddress = {}, {}\nMTU = 1420\n[Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}:{}\n",
                text(&device["ipv4"])?,
                text(&device["ipv6"])?,
                text(&server["endpoints"][0]["public_key"])?,
                at::GATEWAY_V4,
                at::WIREGUARD_PORT
            ),
        )?;
        std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Self { config })
    }

    /// `wg-quick up` with this user-space WireGuard; returns when `wg-quick` does.
    ///
    /// # Errors
    /// When it fails.
    pub fn up(&self, world: &World, engine: &Path) -> Result<()> {
        self.quick(world, "up", engine)
    }

    /// `wg-quick down`.
    ///
    /// # Errors
    /// When it fails.
    pub fn down(&self, world: &World, engine: &Path) -> Result<()> {
        self.quick(world, "down", engine)
    }

    fn quick(&self, world: &World, verb: &str, engine: &Path) -> Result<()> {
        let command = world.lab.client.command("wg-quick").arg(verb).arg(&self.config).timeout(s(20));
        let command =
            command.env("WG_QUICK_USERSPACE_IMPLEMENTATION", engine).env("WG_PROCESS_FOREGROUND", "0").env("LOG_LEVEL", "silent");
        // Daemons inherit the pipes, so output goes to a file.
        let log = world.lab.directory().join("wg-quick.log");
        let mut child = command.log_to(&log)?.spawn()?;
        let status = crate::wait::until("wg-quick ends", s(20), || Ok(child.try_wait()?))?;
        ensure!(status.success(), "wg-quick {verb}: {}", std::fs::read_to_string(&log).unwrap_or_default());
        Ok(())
    }
}
