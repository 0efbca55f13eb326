//! Packets between the TUN device and the engine, with a door for our own probes.

use super::platform::{Device, Port, is_gone};
use crate::wireguard::probe::Probe;
use crate::wireguard::{Meter, Totals};
use bytes::BytesMut;
use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Packets taken from the device at one wake-up.
const BATCH: usize = 64;
/// Probes that wait to be sent; more are dropped.
const PROBE_QUEUE: usize = 16;

/// Traffic inside the tunnel, as counted at the device.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes written to the device.
    rx_bytes: AtomicU64,
    /// Packets out of the tunnel, answers to probes included: proof that the gateway is there.
    heard: AtomicU64,
    /// Bytes read from the device.
    tx_bytes: AtomicU64,
    /// Packets into the tunnel, probes excluded.
    sent: AtomicU64,
    /// Set by a watcher that wants to hear of the next packet into the tunnel.
    idle: AtomicBool,
    /// Told of that packet.
    pub(crate) busy: Arc<Notify>,
}

impl Meter for Counters {
    fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            rx_bytes: read(&self.rx_bytes),
            heard: read(&self.heard),
            tx_bytes: read(&self.tx_bytes),
            sent: read(&self.sent),
        }
    }

    fn await_traffic(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }
}

struct Link {
    port: Port,
    counters: Arc<Counters>,
    lost: watch::Sender<bool>,
}

/// What the owner of a device keeps after the engine took the packet ends.
pub(crate) struct DeviceHandle {
    /// Traffic.
    pub(crate) counters: Arc<Counters>,
    /// Packets put here enter the tunnel as if they were read from the device.
    pub(crate) inject: mpsc::Sender<BytesMut>,
    /// Becomes true when the device was taken away.
    pub(crate) lost: watch::Receiver<bool>,
    /// Ends (with an error) when the device is closed, and so the interface removed.
    pub(crate) gone: oneshot::Receiver<()>,
}

/// Wraps the device in the two ends that the engine takes, and the handle that the owner keeps.
///
/// # Errors
/// If the device cannot be used with the runtime.
pub(crate) fn pair(device: Device, mtu: u16, probe: Option<Arc<Probe>>) -> io::Result<(TunWriter, TunReader, DeviceHandle)> {
    let counters = Arc::new(Counters::default());
    let (lost_tx, lost) = watch::channel(false);
    let (gone_tx, gone) = oneshot::channel();
    let (inject, injected) = mpsc::channel(PROBE_QUEUE);
    let port = Port::new(device, gone_tx)?;
    let link = Arc::new(Link { port, counters: Arc::clone(&counters), lost: lost_tx });
    let writer = TunWriter { link: Arc::clone(&link), probe };
    let reader = TunReader { link, injected, batch: Vec::with_capacity(BATCH), mtu };
    Ok((writer, reader, DeviceHandle { counters, inject, lost, gone }))
}

/// The end that the engine writes decrypted packets to.
pub(crate) struct TunWriter {
    link: Arc<Link>,
    probe: Option<Arc<Probe>>,
}

impl IpSend for TunWriter {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        let packet = packet.into_bytes();
        let Counters { rx_bytes, heard, .. } = &*self.link.counters;
        heard.fetch_add(1, Ordering::Relaxed);
        if let Some(probe) = &self.probe
            && probe.take_answer(&packet)
        {
            return Ok(());
        }
        rx_bytes.fetch_add(size(packet.len()), Ordering::Relaxed);
        match self.link.port.write(&packet).await {
            Err(error) if is_gone(&error) => {
                self.link.lost.send_replace(true);
                Err(error)
            }
            // A packet that the kernel refuses, or an interface that is down: the engine would take some of these
            // errors for the end of the device, and a peer could provoke them. The packet is lost, nothing else.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The end that the engine reads packets to encrypt from.
pub(crate) struct TunReader {
    link: Arc<Link>,
    injected: mpsc::Receiver<BytesMut>,
    batch: Vec<Packet<Ip>>,
    mtu: u16,
}

impl IpRecv for TunReader {
    async fn recv<'a>(&'a mut self, pool: &mut PacketBufPool) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        let Self { link, injected, batch, .. } = self;
        while batch.is_empty() {
            tokio::select! {
                Some(probe) = injected.recv() => {
                    if let Ok(packet) = Packet::from_bytes(probe).try_into_ip() {
                        batch.push(packet);
                    }
                }
                filled = link.port.when_readable(|| fill(link, batch, pool)) => match filled {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) => {
                        link.lost.send_replace(true);
                        return Err(error);
                    }
                    // Not known from a TUN device: wait rather than spin.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Ok(batch.drain(..))
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(self.mtu)
    }
}

/// Takes what the device has, up to a batch; `WouldBlock` if it has nothing.
fn fill(link: &Link, batch: &mut Vec<Packet<Ip>>, pool: &PacketBufPool) -> io::Result<()> {
    while batch.len() < BATCH {
        let mut packet = pool.get();
        let count = match link.port.read(&mut packet) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if !batch.is_empty() => return Ok(()),
            Err(error) => return Err(error),
        };
        packet.truncate(count);
        // Anything shorter than an IP header is no packet.
        if let Ok(packet) = packet.try_into_ip() {
            link.counters.sent.fetch_add(1, Ordering::Relaxed);
            link.counters.tx_bytes.fetch_add(size(count), Ordering::Relaxed);
            if link.counters.idle.swap(false, Ordering::Relaxed) {
                link.counters.busy.notify_one();
            }
            batch.push(packet);
        }
    }
    Ok(())
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
