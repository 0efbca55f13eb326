//! Runs the engine in the foreground from a WireGuard configuration: `hamn-wg [--offload KIND] [--no-segmentation] INTERFACE FILE`.
//!
//! Addresses and routes are for `ip`, as with wireguard-go. KIND is plain, header, tcp or udp. It says `ready` on standard
//! output. Each line on standard input is a word: `handshake` agrees on new keys with every peer of known address, anything
//! else asks for the counters, as one line of JSON. It ends with its standard input.

use anyhow::{Context, Result, bail};
use hamn_bench_tunnel::conf::Conf;
use hamn_wireguard::{Device, Engine, EngineOptions, Event, Listen, Offload, PeerConfig};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    let conf = Conf::parse(&std::fs::read_to_string(file)?)?;
    let device = Device::open(&interface, offload)?;
    let mut options = EngineOptions::new(conf.private_key, Listen::Port(conf.port));
    options.segmentation = segmentation;
    let handshakes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handshakes);
    options.on_event = Some(Box::new(move |event| match event {
        Event::Handshake(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
        Event::Traffic | Event::DeviceLost => {}
    }));
    let engine = Engine::start(device, options)?;
    engine.set_mtu(1_420).wait()?;
    for peer in conf.peers {
        engine.add_peer(PeerConfig { endpoint: peer.endpoint, ..PeerConfig::new(peer.public_key, peer.allowed_ips) }).wait()?;
    }
    serve(&engine, &handshakes)?;
    engine.stop();
    Ok(())
}

fn serve(engine: &Engine, handshakes: &AtomicU64) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        if line?.trim() == "handshake" {
            for peer in engine.peers().wait()?.into_iter().filter(|peer| peer.endpoint.is_some()) {
                engine.handshake(peer.public_key).wait()?;
            }
            continue;
        }
        let totals = engine.counters().totals();
        let answer = serde_json::json!({
            "handshakes": handshakes.load(Ordering::Relaxed),
            "rx_packets": totals.rx_packets, "tx_packets": totals.tx_packets, "rx_bytes": totals.rx_bytes, "tx_bytes": totals.tx_bytes,
            "refused": totals.refused, "unsent": totals.unsent, "cookies": totals.cookies, "frames": totals.frames,
            "messages": totals.messages, "segments_refused": totals.segments_refused, "wakeups": totals.wakeups,
        });
        writeln!(out, "{answer}")?;
    }
    Ok(())
}
