//! The data thread: one loop that owns the device, the sockets and every peer, so that nothing needs a lock.
//!
//! A pass takes a bounded amount from the sockets and writes it to the device, takes a bounded amount from the device and
//! sends it, and looks at timers and commands. All that a pass collected leaves at its end: no packet waits for others.
//! When neither side has anything, the thread sleeps until a descriptor is ready or a timer is due.

mod commands;
mod peers;
mod receive;
mod transmit;

use crate::control::{Command, Counters, EngineError, EngineOptions, Event};
use crate::device::{Device, FRAME};
use crate::merge::Merger;
use crate::noise::{Local, Message, Tick};
use crate::socket::{Outgoing, Receiver as Trains, SendQueue, Sockets};
use bytes::BytesMut;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::packet::Packet;
use gotatun::x25519::StaticSecret;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use peers::{Peer, PeerId, Peers};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Bytes of frames taken from the device in one pass, more or less.
const PASS_BYTES: usize = 140_000;
/// Frames taken from the device in one pass.
const PASS_FRAMES: usize = 64;
/// Handshake messages answered in one pass: each costs about as much as a hundred packets.
const PASS_HANDSHAKES: u32 = 16;
/// Things that the timers of one peer do in one pass.
const TICKS: usize = 4;
/// How often the MTU is read while packets flow, in milliseconds.
const MTU_MS: u64 = 1_000;
/// Commands in one pass.
const PASS_COMMANDS: usize = 16;
/// Handshake messages with a right first check in a second: bounds what the limiters remember.
const HANDSHAKES_SEEN: u64 = 50_000;
/// Wake-ups in a row that found nothing, before the thread rests in spite of a descriptor that says it is ready.
const IDLE_PASSES: u32 = 64;
const REST: Duration = Duration::from_millis(10);

/// Milliseconds of the clock that counts through suspend and that nobody can set, which gotatun uses as well.
fn boottime_ms() -> u64 {
    let now = clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// What the thread counts, published after each pass.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    refused: u64,
    frames: u64,
    cookies: u64,
    wakeups: u64,
}

/// Handshake messages of the current second.
#[derive(Debug, Default)]
struct Load {
    since_ms: u64,
    seen: u64,
    handled: u64,
}

/// Our keys and what guards them from floods of handshakes.
struct Identity {
    local: Arc<Local>,
    /// Asks those for a cookie who send too much.
    limiter: RateLimiter,
    /// Asks everybody for a cookie.
    strict: RateLimiter,
    load: Load,
}

impl Identity {
    fn new(private: StaticSecret, per_source: u64) -> Self {
        let local = Arc::new(Local::new(private));
        let limiter = RateLimiter::new(local.public(), per_source);
        let strict = RateLimiter::new(local.public(), 0);
        Self { local, limiter, strict, load: Load::default() }
    }
}

/// Everything that the thread owns.
pub(crate) struct Plane {
    device: Device,
    lost: bool,
    suspended: bool,
    sockets: Sockets,
    identity: Identity,
    options: EngineOptions,
    peers: Peers,
    trains: Trains,
    merger: Merger<Packet>,
    queue: SendQueue,
    /// A socket's buffer is full; nothing is taken from the device until it is not.
    blocked: bool,
    frame: Vec<u8>,
    /// Where packets are laid out and sealed.
    arena: BytesMut,
    /// What opening a train found; kept for its memory.
    verdicts: Vec<bool>,
    handshakes_left: u32,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    timer: TimerFd,
    /// No peer is due before this.
    deadline_ms: Option<u64>,
    /// What the timer is set to.
    armed_ms: Option<u64>,
    mtu_read_ms: u64,
    now_ms: u64,
    counts: Counts,
    counters: Arc<Counters>,
}

impl Plane {
    pub(crate) fn new(
        device: Device,
        options: EngineOptions,
        commands: Receiver<Command>,
        wake: Arc<EventFd>,
        stop: Arc<AtomicBool>,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let mut sockets = Sockets::new(options.listen, options.segmentation, Arc::clone(&options.prepare));
        sockets.provide([false; 2]).map_err(EngineError::Socket)?;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC);
        let now_ms = boottime_ms();
        Ok(Self {
            lost: false,
            suspended: false,
            sockets,
            identity: Identity::new(options.private_key.clone(), options.handshakes_per_source),
            peers: Peers::new(),
            trains: Trains::new(),
            merger: Merger::new(device.accepts()),
            device,
            queue: SendQueue::new(),
            blocked: false,
            frame: vec![0; FRAME],
            arena: BytesMut::new(),
            verdicts: Vec::new(),
            handshakes_left: 0,
            commands,
            wake,
            stop,
            timer: timer.map_err(|errno| EngineError::Thread(errno.into()))?,
            deadline_ms: None,
            armed_ms: None,
            mtu_read_ms: now_ms,
            options,
            now_ms,
            counts: Counts::default(),
            counters,
        })
    }

    pub(crate) fn run(mut self) {
        let mut idle = 0;
        while !self.stop.load(Ordering::Acquire) {
            self.now_ms = boottime_ms();
            self.handshakes_left = PASS_HANDSHAKES;
            let commands = self.take_commands();
            let received = self.receive_pass();
            let sent = self.transmit_pass();
            if self.deadline_ms.is_some_and(|deadline| self.now_ms >= deadline) {
                self.run_timers();
            }
            self.flush();
            self.publish();
            if sent && self.counters.is_traffic_awaited() {
                self.event(Event::Traffic);
            }
            if commands || received || sent {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle > IDLE_PASSES {
                // A descriptor says that it is ready, and has nothing: an error that does not go away.
                std::thread::sleep(REST);
                idle = 0;
            }
            if self.sleep() {
                idle = 0;
            }
        }
    }

    /// Waits for a descriptor or a timer. True if it was long enough to be no sign of trouble.
    fn sleep(&mut self) -> bool {
        self.arm();
        let outer = if self.blocked { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        let mut descriptors = Vec::with_capacity(5);
        descriptors.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        descriptors.push(PollFd::new(self.timer.as_fd(), PollFlags::POLLIN));
        if !self.lost && !self.suspended && !self.blocked {
            descriptors.push(PollFd::new(self.device.as_fd(), PollFlags::POLLIN));
        }
        descriptors.extend(self.sockets.open().map(|socket| PollFd::new(socket.as_fd(), outer)));
        // An interruption is a wake-up like any other.
        let ready = poll(&mut descriptors, PollTimeout::NONE).unwrap_or(0);
        let rang = |place: usize| descriptors.get(place).and_then(PollFd::any).unwrap_or(false);
        let (called, timed) = (rang(0), rang(1));
        drop(descriptors);
        self.counts.wakeups += 1;
        if called {
            // Empties the counter; it cannot block.
            let _ = self.wake.read();
        }
        if timed {
            let _ = self.timer.wait();
            self.armed_ms = None;
        }
        ready == 0 || called || timed || boottime_ms() > self.now_ms
    }

    fn arm(&mut self) {
        if self.armed_ms == self.deadline_ms {
            return;
        }
        let result = match self.deadline_ms {
            Some(deadline) => {
                // From now on, not at a moment: only that is left alone by libraries that pretend another wall clock. Zero
                // would unset it.
                let left = Duration::from_millis(deadline.saturating_sub(boottime_ms())).max(Duration::from_nanos(1));
                self.timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())
            }
            None => self.timer.unset(),
        };
        if result.is_ok() {
            self.armed_ms = self.deadline_ms;
        }
    }

    /// Ticks the peers that are due and finds out when the next one is.
    fn run_timers(&mut self) {
        self.deadline_ms = None;
        self.identity.limiter.try_reset_count();
        for id in self.peers.ids() {
            let now_ms = self.now_ms;
            let due = self.peers.get_mut(id).and_then(|peer| peer.channel.due_ms());
            if due.is_some_and(|due| due <= now_ms) && !self.suspended {
                self.tick(id);
            }
            self.plan(id);
        }
    }

    /// Moves the deadline forward if this peer is due earlier.
    fn plan(&mut self, id: PeerId) {
        if self.suspended {
            return;
        }
        let due = self.peers.get_mut(id).and_then(|peer| peer.channel.due_ms());
        self.deadline_ms = match (self.deadline_ms, due) {
            (Some(deadline), Some(due)) => Some(deadline.min(due)),
            (one, other) => one.or(other),
        };
    }

    /// Runs the timers of one peer, and sends what they ask for.
    fn tick(&mut self, id: PeerId) {
        for _ in 0..TICKS {
            let now_ms = self.now_ms;
            match self.peers.get_mut(id).and_then(|peer| peer.channel.tick(now_ms)) {
                Some(Tick::Send(message)) => self.send_control(id, message),
                Some(Tick::Expired) => tracing::debug!("the peer does not answer"),
                None => return,
            }
        }
    }

    /// Sends what is no packet of anybody: a handshake message or a keepalive.
    fn send_control(&mut self, id: PeerId, message: Message) {
        let packet = match message {
            Message::Handshake(index, packet) => {
                self.peers.register(id, index);
                packet
            }
            Message::Keepalive(packet) => packet,
        };
        if let Some(to) = self.peers.get_mut(id).and_then(|peer| peer.endpoint) {
            self.queue.push(Outgoing { packet, to, ecn: 0 });
        }
        self.plan(id);
    }

    /// A handshake at once, whatever the state.
    fn initiate(&mut self, id: PeerId) -> Result<(), EngineError> {
        let now_ms = self.now_ms;
        let peer = self.peers.get_mut(id).ok_or(EngineError::NoPeer)?;
        if peer.endpoint.is_none() {
            return Err(EngineError::NoEndpoint);
        }
        // None if one has just gone out: a peer ignores a second one as a flood.
        if let Some(message) = peer.channel.initiate_now(now_ms) {
            self.send_control(id, message);
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.queue.is_empty() {
            self.blocked = !self.queue.flush(&mut self.sockets, self.now_ms);
        }
    }

    fn event(&mut self, event: Event) {
        if let Some(tell) = &mut self.options.on_event {
            tell(event);
        }
    }

    fn lose_device(&mut self) {
        if !self.lost {
            self.lost = true;
            tracing::warn!(interface = self.device.name(), "the tunnel interface was deleted");
            self.event(Event::DeviceLost);
        }
    }

    /// Somebody may have changed the MTU: padding must not make a packet longer than it.
    fn read_mtu(&mut self) {
        self.mtu_read_ms = self.now_ms;
        let Some(mtu) = self.sockets.open().next().and_then(|socket| self.device.mtu(socket.as_fd()).ok()) else { return };
        self.options.mtu = mtu;
    }

    fn publish(&self) {
        let (counters, counts, sent) = (&self.counters, &self.counts, &self.queue.sent);
        let write = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        write(&counters.rx_packets, counts.rx_packets);
        write(&counters.rx_bytes, counts.rx_bytes);
        write(&counters.tx_packets, counts.tx_packets);
        write(&counters.tx_bytes, counts.tx_bytes);
        write(&counters.refused, counts.refused);
        write(&counters.frames, counts.frames);
        write(&counters.cookies, counts.cookies);
        write(&counters.wakeups, counts.wakeups);
        write(&counters.messages, sent.messages);
        write(&counters.segments_refused, sent.refused);
        write(&counters.unsent, sent.lost);
    }
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
