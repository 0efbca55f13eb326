//! The gateway of the benchmark: the provider's own WireGuard engine with fixed clients, so that every client, Hamn's and
//! others', meets the same other end. It runs as a process of its own (`hamn-bench gateway`).

use anyhow::{Context, Result};
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::InterfaceName;
use hamn_provider::keys::wireguard_pair;
use hamn_provider::sandbox::Lab;
use hamn_provider::sandbox::address::{GATEWAY_SECOND_V4, GATEWAY_SECOND_V6, GATEWAY_V4};
use hamn_tunnel::wireguard::server::{ServerOptions, WireGuardServer};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;

/// UDP port; the provider's own gateway has the one below.
pub const PORT: u16 = 51821;
/// MTU of every tunnel in bytes.
pub const MTU: u16 = 1420;
/// The text of a gateway that is ready.
const READY: &str = "ready";

/// What the gateway's process reads from standard input.
#[derive(Serialize, Deserialize)]
struct Configuration {
    private_key: String,
    clients: Vec<(String, [String; 2])>,
}

/// One client's side.
pub struct Member {
    private_key: SecretKey,
    addresses: [String; 2],
    gateway: PublicKey,
}

impl Member {
    /// A configuration file for `wg-quick` and for `hamn profile import`, with more lines about the interface.
    #[must_use]
    pub fn configuration(&self, more: &str) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = {}, {}\nMTU = {MTU}\n{more}\n[Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {GATEWAY_V4}:{PORT}\n",
            *self.private_key.reveal_base64(),
            self.addresses[0],
            self.addresses[1],
            self.gateway,
        )
    }
}

/// The running gateway.
pub struct Gateway {
    process: Child,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Gateway {
    /// Starts a gateway for `N` clients in the laboratory.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start<const N: usize>(lab: &Lab) -> Result<(Self, [Member; N])> {
        let (secret, public) = wireguard_pair()?;
        let mut clients = Vec::new();
        let mut members = Vec::new();
        for host in 2..2 + N {
            let (private_key, key) = wireguard_pair()?;
            let addresses = [format!("10.77.0.{host}/32"), format!("fd77::{host}/128")];
            clients.push((key.to_string(), addresses.clone()));
            members.push(Member { private_key, addresses, gateway: public });
        }
        lab.gateway.nft(&format!(
            "table inet bench {{
    chain out {{ type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.77.0.0/24 oifname \"eth0\" snat ip to {GATEWAY_SECOND_V4}
        ip6 saddr fd77::/64 oifname \"eth0\" snat ip6 to {GATEWAY_SECOND_V6}
    }}
}}
"
        ))?;
        let configuration = Configuration { private_key: secret.reveal_base64().to_string(), clients };
        let program = std::env::current_exe().context("find the running program")?;
        let mut process = lab
            .gateway
            .command(program)
            .arg("gateway")
            .input(serde_json::to_vec(&configuration)?)
            .with(|command| {
                command.stdout(std::process::Stdio::piped());
            })
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().context("the gateway has no output")?;
        let gateway = Self { process };
        BufReader::new(output).read_line(&mut line).context("wait for the gateway")?;
        anyhow::ensure!(line.trim() == READY, "the gateway did not start: {line:?}");
        let members = <[Member; N]>::try_from(members).map_err(|_| anyhow::anyhow!("not {N} members"))?;
        Ok((gateway, members))
    }
}

/// The body of the gateway's process: reads its configuration, says that it is ready, and serves until it is killed.
///
/// # Errors
/// When the configuration is unusable or the interface cannot be made.
pub fn serve() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read the configuration")?;
    let configuration: Configuration = serde_json::from_str(&text).context("read the configuration")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let server = WireGuardServer::start(ServerOptions {
            interface: InterfaceName::try_from("bench0".to_owned())?,
            addresses: vec!["10.77.0.1/24".parse()?, "fd77::1/64".parse()?],
            mtu: MTU,
            listen_port: PORT,
            private_key: SecretKey::parse(&configuration.private_key)?,
        })
        .await?;
        for (key, addresses) in &configuration.clients {
            let networks = addresses.iter().map(|text| text.parse()).collect::<Result<Vec<ipnet::IpNet>, _>>()?;
            server.add_peer(key.parse()?, &networks, None).await?;
        }
        writeln!(std::io::stdout(), "{READY}")?;
        std::future::pending::<()>().await;
        drop(server);
        Ok(())
    })
}
