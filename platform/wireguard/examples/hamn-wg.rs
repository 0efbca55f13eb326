//! Runs the engine in the foreground from a WireGuard configuration: `hamn-wg INTERFACE FILE`, for benches and interop.
//!
//! It reads PrivateKey, ListenPort, MTU, FwMark, PublicKey, PresharedKey, AllowedIPs, Endpoint and PersistentKeepalive.
//! Addresses and routes are for `ip`, as with `wireguard-go`. `--offload plain|header|tcp|udp` and `--no-segmentation` turn
//! things off. It says `ready` on standard output, prints its peers at each line on standard input and ends at its end.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use hamn_wireguard::x25519::{PublicKey, StaticSecret};
use hamn_wireguard::{Device, Engine, EngineOptions, Listen, Offload, PeerConfig};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{BufRead, Write};
use std::sync::Arc;

struct Config {
    private_key: StaticSecret,
    port: u16,
    mtu: Option<u16>,
    mark: Option<u32>,
    peers: Vec<PeerConfig>,
}

fn key(text: &str) -> Result<[u8; 32]> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).context("decode a key")?;
    bytes.try_into().ok().context("a key has 32 bytes")
}

fn parse(text: &str) -> Result<Config> {
    let mut config = Config { private_key: StaticSecret::from([0; 32]), port: 0, mtu: None, mark: None, peers: Vec::new() };
    let mut has_key = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim().to_lowercase(), value.trim())) else {
            continue;
        };
        if name == "publickey" {
            config.peers.push(PeerConfig::new(PublicKey::from(key(value)?), Vec::new()));
            continue;
        }
        match (name.as_str(), config.peers.last_mut()) {
            ("privatekey", _) => (config.private_key, has_key) = (StaticSecret::from(key(value)?), true),
            ("listenport", _) => config.port = value.parse()?,
            ("mtu", _) => config.mtu = Some(value.parse()?),
            ("fwmark", _) => config.mark = Some(value.parse()?),
            ("presharedkey", Some(peer)) => peer.preshared_key = Some(key(value)?),
            ("endpoint", Some(peer)) => peer.endpoint = Some(value.parse()?),
            ("persistentkeepalive", Some(peer)) => peer.keepalive_s = Some(value.parse()?),
            ("allowedips", Some(peer)) => {
                for net in value.split(',') {
                    peer.allowed_ips.push(net.trim().parse()?);
                }
            }
            _ => bail!("unknown setting {name}"),
        }
    }
    ensure!(has_key, "no PrivateKey");
    Ok(config)
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = pico_args::Arguments::from_env();
    let offload = match arguments.opt_value_from_str::<_, String>("--offload")?.as_deref() {
        None | Some("udp") => Offload::TcpUdp,
        Some("tcp") => Offload::Tcp,
        Some("header") => Offload::Header,
        Some("plain") => Offload::Plain,
        Some(other) => bail!("unknown offload {other}"),
    };
    let segmentation = !arguments.contains("--no-segmentation");
    let interface: String = arguments.free_from_str().context("usage: hamn-wg INTERFACE FILE")?;
    let file: String = arguments.free_from_str().context("usage: hamn-wg INTERFACE FILE")?;
    let config = parse(&std::fs::read_to_string(file)?)?;
    let device = Device::open(&interface, offload)?;
    let mut options = EngineOptions::new(config.private_key, Listen::Port(config.port));
    options.segmentation = segmentation;
    if let Some(mark) = config.mark {
        options.prepare = Arc::new(move |socket| Ok(setsockopt(&socket, sockopt::Mark, &mark)?));
    }
    let engine = Engine::start(device, options)?;
    engine.set_mtu(config.mtu.unwrap_or(1_420)).wait()?;
    for peer in config.peers {
        engine.add_peer(peer).wait()?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(out, "{:?} {:?}", engine.peers().wait()?, engine.counters().totals())?;
    }
    engine.stop();
    Ok(())
}
