//! The handle of a running engine: settings, peers, commands, counters.

use crate::device::{Device, DeviceError};
use crate::engine::Plane;
use crate::socket::{Listen, Prepare};
use bytes::BytesMut;
use gotatun::noise::TimerParams;
use gotatun::x25519::{PublicKey, StaticSecret};
use ipnet::IpNet;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Commands that may wait for the thread.
const COMMANDS: usize = 256;
/// Handshakes from one address in a second, above which its owner must show that the address is its own.
const HANDSHAKES_PER_SOURCE: u64 = 100;
/// Handshakes in a second from anywhere, above which everybody must show that: about a third of a core.
const HANDSHAKES_PER_SECOND: u64 = 2_000;

/// Sees every packet that comes out of the tunnel before the device does, and keeps it from there by returning true.
/// Called on the data thread: it must not block.
pub type Inspect = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// Told of events on the data thread: it must not block.
pub type OnEvent = Box<dyn FnMut(Event) + Send>;

/// What happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Keys were agreed on with this peer.
    Handshake(PublicKey),
    /// A packet of the operating system enters the tunnel after [`Counters::await_traffic`].
    Traffic,
    /// The interface was deleted. The engine does nothing more but wait to be stopped.
    DeviceLost,
}

/// What an engine starts with. No `Debug`: it holds the private key.
pub struct EngineOptions {
    /// Our private key.
    pub private_key: StaticSecret,
    /// Where to listen.
    pub listen: Listen,
    /// Prepares each socket before it is bound.
    pub prepare: Prepare,
    /// MTU of the interface in bytes, as its owner set it. Read from the interface again while packets flow.
    pub mtu: u16,
    /// Use `UDP_SEGMENT` and `UDP_GRO`. False only to measure or to test.
    pub segmentation: bool,
    /// Handshakes from one address in a second before it must answer with a cookie.
    pub handshakes_per_source: u64,
    /// Handshakes from anywhere in a second before everybody must.
    pub handshakes_per_second: u64,
    /// Sees packets before the device does.
    pub inspect: Option<Inspect>,
    /// Told of events.
    pub on_event: Option<OnEvent>,
}

impl EngineOptions {
    /// A client's or gateway's settings, for the default MTU of 1420.
    #[must_use]
    pub fn new(private_key: StaticSecret, listen: Listen) -> Self {
        Self {
            private_key,
            listen,
            prepare: Arc::new(|_| Ok(())),
            mtu: 1_420,
            segmentation: true,
            handshakes_per_source: HANDSHAKES_PER_SOURCE,
            handshakes_per_second: HANDSHAKES_PER_SECOND,
            inspect: None,
            on_event: None,
        }
    }
}

/// Whether a peer's address may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roaming {
    /// The endpoint is where the last authentic packet came from (WireGuard paper §2.1).
    #[default]
    Follow,
    /// Only datagrams from the endpoint are heard.
    Fixed,
}

/// A peer as it is added.
#[derive(Clone)]
pub struct PeerConfig {
    /// Its public key.
    pub public_key: PublicKey,
    /// A key that both sides have besides.
    pub preshared_key: Option<[u8; 32]>,
    /// Where it is reached. A gateway learns it.
    pub endpoint: Option<SocketAddr>,
    /// Whether that may change.
    pub roaming: Roaming,
    /// Addresses that it may send from, and that are sent to it.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives while idle.
    pub keepalive_s: Option<u16>,
    /// Timers other than WireGuard's own.
    pub timers: Option<TimerParams>,
}

impl PeerConfig {
    /// A peer with nothing but a key and addresses.
    #[must_use]
    pub const fn new(public_key: PublicKey, allowed_ips: Vec<IpNet>) -> Self {
        let (preshared_key, endpoint, keepalive_s, timers) = (None, None, None, None);
        Self { public_key, preshared_key, endpoint, roaming: Roaming::Follow, allowed_ips, keepalive_s, timers }
    }
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public_key, preshared_key: _, endpoint, roaming, allowed_ips, keepalive_s, timers: _ } = self;
        let mut out = f.debug_struct("PeerConfig");
        out.field("public_key", &public_key).field("endpoint", &endpoint).field("roaming", &roaming);
        out.field("allowed_ips", &allowed_ips).field("keepalive_s", &keepalive_s).finish_non_exhaustive()
    }
}

/// What to change of a peer; `None` leaves it as it is. Sessions stay in use.
#[derive(Clone, Default)]
pub struct PeerUpdate {
    /// The preshared key of the next handshakes, or none.
    pub preshared_key: Option<Option<[u8; 32]>>,
    /// Another endpoint.
    pub endpoint: Option<SocketAddr>,
    /// Whether it may change.
    pub roaming: Option<Roaming>,
    /// All its addresses.
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Seconds between keepalives, or none.
    pub keepalive_s: Option<Option<u16>>,
}

/// A peer as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Its public key.
    pub public_key: PublicKey,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// Its addresses.
    pub allowed_ips: Vec<IpNet>,
    /// Since the keys in use were agreed on.
    pub last_handshake_age: Option<Duration>,
    /// Bytes of packets out of the tunnel.
    pub rx_bytes: u64,
    /// Bytes of packets into the tunnel.
    pub tx_bytes: u64,
}

/// Counters that may be read at any time. They are brought up to date after each pass of the data thread.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) rx_packets: AtomicU64,
    pub(crate) rx_bytes: AtomicU64,
    pub(crate) tx_packets: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) segments_refused: AtomicU64,
    pub(crate) unsent: AtomicU64,
    pub(crate) cookies: AtomicU64,
    pub(crate) wakeups: AtomicU64,
    pub(crate) await_traffic: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets out of the tunnel, those kept by [`Inspect`] included.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets of the operating system into the tunnel.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets and datagrams that were not let through: unknown, replayed, malformed, from an address not allowed.
    pub refused: u64,
    /// Frames written to the device. Fewer than packets where they could be joined.
    pub frames: u64,
    /// Messages handed to the outer sockets. Fewer than packets where they could be sent as one.
    pub messages: u64,
    /// Times that the kernel refused to segment.
    pub segments_refused: u64,
    /// Datagrams that the kernel did not send.
    pub unsent: u64,
    /// Cookies that were sent instead of an answer to a handshake.
    pub cookies: u64,
    /// Times that the thread slept and was woken.
    pub wakeups: u64,
}

impl Counters {
    /// All of them.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            rx_packets: read(&self.rx_packets),
            rx_bytes: read(&self.rx_bytes),
            tx_packets: read(&self.tx_packets),
            tx_bytes: read(&self.tx_bytes),
            refused: read(&self.refused),
            frames: read(&self.frames),
            messages: read(&self.messages),
            segments_refused: read(&self.segments_refused),
            unsent: read(&self.unsent),
            cookies: read(&self.cookies),
            wakeups: read(&self.wakeups),
        }
    }

    /// Asks for one [`Event::Traffic`] at the next packet into the tunnel. One that came before is in the counters, so that
    /// whoever reads them afterwards misses none.
    pub fn await_traffic(&self) {
        self.await_traffic.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The other half: called with the counters up to date.
    pub(crate) fn is_traffic_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.await_traffic.load(Ordering::Relaxed) && self.await_traffic.swap(false, Ordering::Relaxed)
    }
}

/// Why an engine could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An outer socket could not be opened.
    #[error("open the outer socket: {0}")]
    Socket(#[source] io::Error),
    /// The thread, or what it waits with.
    #[error("start the data thread: {0}")]
    Thread(#[source] io::Error),
    /// There is no peer of that key.
    #[error("no such peer")]
    NoPeer,
    /// The peer has no endpoint.
    #[error("the peer has no endpoint")]
    NoEndpoint,
    /// The MTU could not be set.
    #[error("set the MTU: {0}")]
    Mtu(#[source] io::Error),
    /// More commands wait than may.
    #[error("too many commands wait")]
    Busy,
    /// The engine has ended, or is suspended.
    #[error("the engine does not run")]
    Stopped,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

pub(crate) enum Command {
    Add(Box<PeerConfig>, Reply<()>),
    Update(PublicKey, Box<PeerUpdate>, Reply<()>),
    Remove(PublicKey, Reply<()>),
    Handshake(PublicKey, Reply<()>),
    Rebind(Reply<()>),
    SetMtu(u16, Reply<()>),
    SetKey(Box<StaticSecret>, Reply<()>),
    Suspend(Reply<()>),
    Resume(Reply<()>),
    Peers(Reply<Vec<PeerStats>>),
    Port(Reply<Option<u16>>),
    Inject(BytesMut),
}

/// The answer to a command: a future, or [`Answer::wait`] where there is no runtime.
#[derive(Debug)]
#[must_use = "a command may fail"]
pub struct Answer<T>(Result<oneshot::Receiver<Result<T, EngineError>>, Option<EngineError>>);

impl<T> Answer<T> {
    /// Blocks until the thread answers. Not within an asynchronous runtime.
    ///
    /// # Errors
    /// Whatever the command may fail with.
    pub fn wait(self) -> Result<T, EngineError> {
        match self.0 {
            Ok(receiver) => receiver.blocking_recv().unwrap_or(Err(EngineError::Stopped)),
            Err(error) => Err(error.unwrap_or(EngineError::Stopped)),
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, EngineError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Ok(receiver) => Pin::new(receiver).poll(context).map(|answer| answer.unwrap_or(Err(EngineError::Stopped))),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or(EngineError::Stopped))),
        }
    }
}

/// A running engine. Dropping it stops it and waits until the interface is gone.
#[derive(Debug)]
pub struct Engine {
    commands: SyncSender<Command>,
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Opens the sockets that are needed at once and starts the data thread, in the caller's network namespace.
    ///
    /// # Errors
    /// If a socket or the thread cannot be made.
    pub fn start(device: Device, options: EngineOptions) -> Result<Self, EngineError> {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let wake = Arc::new(wake.map_err(|errno| EngineError::Thread(errno.into()))?);
        let (commands, receiver) = sync_channel(COMMANDS);
        let (stop, counters) = (Arc::new(AtomicBool::new(false)), Arc::new(Counters::default()));
        let shared = (receiver, Arc::clone(&wake), Arc::clone(&stop), Arc::clone(&counters));
        let (ready, is_ready) = sync_channel(1);
        let run = move || {
            let (receiver, wake, stop, counters) = shared;
            match Plane::new(device, options, receiver, wake, stop, counters) {
                Ok(plane) => {
                    // The starter waits for this; it cannot be gone.
                    let _ = ready.send(Ok(()));
                    plane.run();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new().name("hamn-wireguard".to_owned()).spawn(run).map_err(EngineError::Thread)?;
        is_ready.recv().unwrap_or(Err(EngineError::Stopped))?;
        Ok(Self { commands, wake, stop, counters, thread: Some(thread) })
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Adds a peer, or replaces the one of this key.
    pub fn add_peer(&self, peer: PeerConfig) -> Answer<()> {
        self.ask(|reply| Command::Add(Box::new(peer), reply))
    }

    /// Changes a peer.
    pub fn update_peer(&self, key: PublicKey, update: PeerUpdate) -> Answer<()> {
        self.ask(|reply| Command::Update(key, Box::new(update), reply))
    }

    /// Removes a peer and its keys.
    pub fn remove_peer(&self, key: PublicKey) -> Answer<()> {
        self.ask(|reply| Command::Remove(key, reply))
    }

    /// Another endpoint for a peer. Sessions stay in use.
    pub fn set_endpoint(&self, key: PublicKey, endpoint: SocketAddr) -> Answer<()> {
        self.update_peer(key, PeerUpdate { endpoint: Some(endpoint), ..PeerUpdate::default() })
    }

    /// Sends a handshake at once, without giving up the session in use. Answers when it is sent.
    pub fn handshake(&self, key: PublicKey) -> Answer<()> {
        self.ask(|reply| Command::Handshake(key, reply))
    }

    /// New outer sockets; a client's have new ports.
    pub fn rebind(&self) -> Answer<()> {
        self.ask(Command::Rebind)
    }

    /// Sets the interface's MTU, in bytes.
    pub fn set_mtu(&self, mtu: u16) -> Answer<()> {
        self.ask(|reply| Command::SetMtu(mtu, reply))
    }

    /// Goes on with another private key: all sessions end, and peers that had one get a handshake at once. Packets wait
    /// for it.
    pub fn set_private_key(&self, key: StaticSecret) -> Answer<()> {
        self.ask(|reply| Command::SetKey(Box::new(key), reply))
    }

    /// Closes the sockets and wipes all sessions. The interface stays, so that packets go nowhere rather than elsewhere.
    pub fn suspend(&self) -> Answer<()> {
        self.ask(Command::Suspend)
    }

    /// Goes on after [`Self::suspend`], with handshakes for the peers that had a session.
    pub fn resume(&self) -> Answer<()> {
        self.ask(Command::Resume)
    }

    /// All peers.
    pub fn peers(&self) -> Answer<Vec<PeerStats>> {
        self.ask(Command::Peers)
    }

    /// The port that we listen on.
    pub fn port(&self) -> Answer<Option<u16>> {
        self.ask(Command::Port)
    }

    /// A packet that enters the tunnel as if the operating system had sent it. Dropped if too many commands wait.
    pub fn inject(&self, packet: BytesMut) {
        if self.commands.try_send(Command::Inject(packet)).is_ok() {
            self.wake();
        }
    }

    /// Ends the engine. The interface and the sockets are gone when this returns.
    pub fn stop(self) {
        drop(self);
    }

    /// Tells the thread to end, without waiting for it. The interface goes within one pass of its loop.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// The thread has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        let (reply, receiver) = oneshot::channel();
        match self.commands.try_send(command(reply)) {
            Ok(()) => {
                self.wake();
                Answer(Ok(receiver))
            }
            Err(TrySendError::Full(_)) => Answer(Err(Some(EngineError::Busy))),
            Err(TrySendError::Disconnected(_)) => Answer(Err(None)),
        }
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake.
        let _ = self.wake.write(1);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take() {
            // An error means that the thread panicked, and then the device is closed as well.
            let _ = thread.join();
        }
    }
}
