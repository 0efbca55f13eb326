//! The task that owns one client tunnel: verifies it, watches it, recovers it, ends it.

use super::ENGINE;
use super::liveness::{Liveness, Look, Step};
use super::probe::Probe;
use super::socket::{Gateway, MarkedSockets};
use crate::clock::boottime_ms;
use crate::error::TunnelError;
use crate::options::{Limits, TunnelStats};
use crate::tun::{Counters, DeviceHandle, TunReader, TunWriter};
use crate::{Pending, Tunnel};
use gotatun::device::Device;
use gotatun::x25519;
use hamn_core::event::TunnelEvent;
use hamn_core::key::SecretKey;
use hamn_core::net::Endpoint;
use hamn_core::state::BlockReason;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

type Engine = Device<(MarkedSockets, TunWriter, TunReader)>;

/// Requests that may wait for the task.
const COMMANDS: usize = 8;
/// Between two looks while the first handshake is under way: this delays `Verified` by half of it on average.
const HANDSHAKE_LOOK_MS: u64 = 10;
/// How long the sending of an initiation may take; the answer is not awaited.
const INITIATION_TIMEOUT: Duration = Duration::from_millis(20);
/// How long `stop` waits for the engine's tasks and the interface.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Session age after which the engine renews the keys (WireGuard paper section 6.2).
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Events that the receiver has not taken yet. They alternate, so only a receiver that is gone for minutes loses any.
const OUTBOX: usize = 16;

enum Command {
    Rebind(oneshot::Sender<Result<(), TunnelError>>),
    Handshake(oneshot::Sender<Result<(), TunnelError>>),
    SetKey(SecretKey, oneshot::Sender<Result<(), TunnelError>>),
    Stop(oneshot::Sender<()>),
}

#[derive(Clone, Copy, Debug)]
struct Snapshot {
    endpoint: Endpoint,
    handshake_ms: Option<u64>,
    stalled: bool,
    verified: bool,
}

/// A running WireGuard tunnel: the handle.
pub(crate) struct WireGuard {
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    counters: Arc<Counters>,
    mtu: u16,
}

impl WireGuard {
    fn request<'a>(
        &'a self,
        command: impl FnOnce(oneshot::Sender<Result<(), TunnelError>>) -> Command + Send + 'a,
    ) -> Pending<'a, Result<(), TunnelError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.commands.send(command(reply)).await.map_err(|_| TunnelError::Ended)?;
            answer.await.map_err(|_| TunnelError::Ended)?
        })
    }
}

impl Tunnel for WireGuard {
    fn stats(&self) -> TunnelStats {
        let Snapshot { endpoint, handshake_ms, stalled, verified } = *self.snapshot.borrow();
        TunnelStats {
            engine: ENGINE,
            rx_bytes: self.counters.rx_bytes.load(Ordering::Relaxed),
            tx_bytes: self.counters.tx_bytes.load(Ordering::Relaxed),
            last_handshake_age_ms: handshake_ms.map(|then| boottime_ms().saturating_sub(then)),
            endpoint,
            mtu: self.mtu,
            stalled,
            verified,
        }
    }

    fn rebind(&self) -> Pending<'_, Result<(), TunnelError>> {
        self.request(Command::Rebind)
    }

    fn force_handshake(&self) -> Pending<'_, Result<(), TunnelError>> {
        self.request(Command::Handshake)
    }

    fn set_private_key(&self, key: SecretKey) -> Pending<'_, Result<(), TunnelError>> {
        self.request(move |reply| Command::SetKey(key, reply))
    }

    fn stop(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move {
            let (reply, stopped) = oneshot::channel();
            if self.commands.send(Command::Stop(reply)).await.is_ok() {
                // An error means that the task has ended already, and the device with it.
                let _ = stopped.await;
            }
        })
    }
}

/// What a tunnel consists of.
pub(super) struct Session {
    pub(super) engine: Engine,
    pub(super) peer: x25519::PublicKey,
    pub(super) gateway: Gateway,
    /// In the order in which they are tried; the first is in use.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) probe: Option<Arc<Probe>>,
    pub(super) link: DeviceHandle,
    pub(super) limits: Limits,
    pub(super) mtu: u16,
}

impl Session {
    pub(super) fn spawn(self, events: mpsc::Sender<TunnelEvent>) -> WireGuard {
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let endpoint = self.endpoints.first().copied().unwrap_or(Endpoint::udp(self.gateway.address()));
        let first = Snapshot { endpoint, handshake_ms: None, stalled: false, verified: false };
        let (snapshot, snapshot_rx) = watch::channel(first);
        let (counters, mtu) = (Arc::clone(&self.link.counters), self.mtu);
        let until_ms = boottime_ms().saturating_add(self.limits.handshake_timeout_ms);
        let task = SessionTask {
            session: self,
            snapshot,
            events,
            outbox: VecDeque::new(),
            phase: Phase::Handshake { until_ms },
            handshakes: Handshakes::default(),
            socketless: false,
        };
        tokio::spawn(task.run(commands));
        WireGuard { commands: commands_tx, snapshot: snapshot_rx, counters, mtu }
    }
}

/// How far a tunnel has come.
#[derive(Debug)]
enum Phase {
    /// The first handshake is under way.
    Handshake { until_ms: u64 },
    /// Keys are agreed; nothing has come out of the tunnel yet.
    Verify { until_ms: u64, ask_ms: u64 },
    /// Traffic flows, or did.
    Up(Liveness),
    /// It has failed; the device stays until it is stopped.
    Failed,
}

/// Counts completed handshakes, which the engine tells only by their age.
#[derive(Debug, Default)]
struct Handshakes {
    count: u64,
    last_ms: Option<u64>,
}

impl Handshakes {
    fn see(&mut self, age: Option<Duration>, now_ms: u64) {
        // The age is rounded and the two clocks are read one after the other.
        const SLACK_MS: u64 = 300;
        let Some(age) = age else { return };
        let then_ms = now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        if self.last_ms.is_none_or(|last| then_ms > last.saturating_add(SLACK_MS)) {
            self.count = self.count.saturating_add(1);
            self.last_ms = Some(then_ms);
        }
    }
}

struct SessionTask {
    session: Session,
    snapshot: watch::Sender<Snapshot>,
    events: mpsc::Sender<TunnelEvent>,
    outbox: VecDeque<TunnelEvent>,
    phase: Phase,
    handshakes: Handshakes,
    /// The last attempt to open a socket failed.
    socketless: bool,
}

impl SessionTask {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.send_initiation().await;
        let mut look_at = Instant::now();
        let probe = self.session.probe.clone();
        let counters = Arc::clone(&self.session.link.counters);
        let events = self.events.clone();
        let mut lost = self.session.link.lost.clone();
        let stopped = loop {
            let failed = matches!(self.phase, Phase::Failed);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(reply)) => break Some(reply),
                    Some(command) => {
                        self.obey(command).await;
                        look_at = Instant::now();
                    }
                    None => break None,
                },
                // An error means that nobody listens; the handle may still be in use.
                Ok(permit) = events.reserve(), if !self.outbox.is_empty() => {
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                }
                () = taken_away(&mut lost), if !failed => self.fail(BlockReason::TunnelDevice),
                () = self.session.engine.wait(), if !failed => {
                    // The device is the usual reason, and says so by itself.
                    let lost = *self.session.link.lost.borrow();
                    self.fail(if lost { BlockReason::TunnelDevice } else { BlockReason::Internal });
                }
                () = answered(probe.as_deref()), if !failed => look_at = self.look().await,
                () = counters.busy.notified(), if !failed => look_at = self.look().await,
                () = sleep_until(look_at), if !failed => look_at = self.look().await,
            }
        };
        self.end().await;
        if let Some(stopped) = stopped {
            // The caller may have stopped waiting.
            let _ = stopped.send(());
        }
    }

    async fn obey(&mut self, command: Command) {
        // A caller that stopped waiting does not hear the result.
        let _ = match command {
            Command::Rebind(reply) => {
                let result = self.rebind().await;
                reply.send(result)
            }
            Command::Handshake(reply) => {
                self.force_handshake().await;
                reply.send(Ok(()))
            }
            Command::SetKey(key, reply) => {
                let result = self.set_key(&key).await;
                reply.send(result)
            }
            // Handled by the caller.
            Command::Stop(reply) => {
                let _ = reply.send(());
                Ok(())
            }
        };
    }

    /// Reads the counters and does what they call for; returns when to look again.
    async fn look(&mut self) -> Instant {
        let now_ms = boottime_ms();
        let age = self.session.engine.peers().await.first().and_then(|peer| peer.stats.last_handshake);
        self.handshakes.see(age, now_ms);
        let again_ms = match &mut self.phase {
            Phase::Handshake { until_ms } => {
                let until_ms = *until_ms;
                self.first_handshake(now_ms, until_ms)
            }
            Phase::Verify { until_ms, ask_ms } => {
                let (until_ms, ask_ms) = (*until_ms, *ask_ms);
                self.verify(now_ms, until_ms, ask_ms)
            }
            Phase::Up(_) => self.watch(now_ms).await,
            Phase::Failed => 1_000,
        };
        self.publish();
        Instant::now() + Duration::from_millis(again_ms)
    }

    fn first_handshake(&mut self, now_ms: u64, until_ms: u64) -> u64 {
        if self.handshakes.last_ms.is_some() {
            let until_ms = now_ms.saturating_add(self.session.limits.verify_timeout_ms);
            self.phase = Phase::Verify { until_ms, ask_ms: now_ms };
            return 0;
        }
        if now_ms >= until_ms {
            self.fail(BlockReason::GatewaySilent);
        }
        HANDSHAKE_LOOK_MS
    }

    /// Waits for the first packet out of the tunnel. With nobody to ask, the handshake must do.
    fn verify(&mut self, now_ms: u64, until_ms: u64, ask_ms: u64) -> u64 {
        let heard = self.session.link.counters.heard.load(Ordering::Relaxed);
        if heard > 0 || self.session.probe.is_none() {
            self.phase = Phase::Up(Liveness::new(self.session.limits, self.counted(now_ms)));
            self.tell(TunnelEvent::Verified);
            return 0;
        }
        if now_ms >= until_ms {
            self.fail(BlockReason::GatewaySilent);
            return 0;
        }
        if now_ms < ask_ms {
            return ask_ms.saturating_sub(now_ms);
        }
        self.inject_probes();
        let every_ms = self.session.limits.verify_every_ms;
        self.phase = Phase::Verify { until_ms, ask_ms: now_ms.saturating_add(every_ms) };
        every_ms
    }

    async fn watch(&mut self, now_ms: u64) -> u64 {
        let look = self.counted(now_ms);
        let Phase::Up(liveness) = &mut self.phase else { return 0 };
        let Step { event, ask, switch_endpoint, rebind, idle, again_ms } = liveness.look(look);
        self.session.link.counters.idle.store(idle, Ordering::Relaxed);
        match event {
            Some(TunnelEvent::Failed(reason)) => {
                self.fail(reason);
                return again_ms;
            }
            Some(TunnelEvent::Stalled) => {
                tracing::info!(gateway = %self.session.gateway.address(), "nothing heard from the gateway");
                self.force_handshake().await;
                self.tell(TunnelEvent::Stalled);
            }
            Some(event @ (TunnelEvent::Verified | TunnelEvent::Recovered)) => self.tell(event),
            None => {}
        }
        if rebind {
            tracing::info!("the machine slept");
            self.rebind_or_log().await;
        } else if switch_endpoint && self.session.endpoints.len() > 1 {
            self.switch_endpoint().await;
        }
        if ask {
            self.ask().await;
        }
        again_ms
    }

    /// What was sent and heard. Packets out of the tunnel prove that traffic flows; a handshake does only where there is
    /// nobody to ask, because a gateway may agree on keys and carry nothing.
    fn counted(&self, now_ms: u64) -> Look {
        let Counters { heard, sent, .. } = &*self.session.link.counters;
        let mut heard = heard.load(Ordering::Relaxed);
        if self.session.probe.is_none() {
            heard = heard.saturating_add(self.handshakes.count);
        }
        Look { now_ms, sent: sent.load(Ordering::Relaxed), heard }
    }

    async fn ask(&mut self) {
        if self.session.probe.is_some() {
            self.inject_probes();
        } else {
            self.force_handshake().await;
        }
    }

    fn inject_probes(&self) {
        let Some(probe) = &self.session.probe else { return };
        for packet in probe.packets() {
            // Full only if the engine does not read; the next question comes soon.
            let _ = self.session.link.inject.try_send(packet);
        }
    }

    /// A handshake while the session in use goes on. The engine sends an initiation only if the session is due for
    /// renewal, so for a moment each is.
    async fn force_handshake(&mut self) {
        self.set_rekey_after(Duration::ZERO).await;
        self.send_initiation().await;
        self.set_rekey_after(REKEY_AFTER).await;
    }

    async fn set_rekey_after(&mut self, age: Duration) {
        let mut params = super::timers(&self.session.limits);
        params.rekey_after_time = age..=age;
        let change = self.session.engine.modify_peer(&self.session.peer, |peer| {
            peer.dangerously_set_timer_params(Some(params));
        });
        if let Err(error) = change.await {
            tracing::warn!(%error, "the engine keeps its timers");
        }
    }

    async fn send_initiation(&self) {
        // The future sends at once and then waits for the answer, which the next look sees, too.
        let _ = timeout(INITIATION_TIMEOUT, self.session.engine.force_handshake(&self.session.peer)).await;
    }

    /// With a session that works, only the socket is replaced: the gateway follows the first packet from the new address.
    /// Otherwise everything starts over.
    async fn rebind(&mut self) -> Result<(), TunnelError> {
        let now_ms = boottime_ms();
        let working = match &mut self.phase {
            Phase::Up(liveness) => {
                liveness.start_over(now_ms);
                !liveness.stalled()
            }
            Phase::Handshake { .. } | Phase::Verify { .. } | Phase::Failed => false,
        };
        // The engine remembers the port it got, so port 0 is a change, and a change of the port replaces the socket. After
        // a failure it would remember 0, hence the other way.
        if !working || self.socketless || self.session.engine.set_listen_port(0).await.is_err() {
            return self.restart().await;
        }
        self.force_handshake().await;
        // The answer proves the new path at once, also when nothing else is sent.
        self.inject_probes();
        Ok(())
    }

    async fn rebind_or_log(&mut self) {
        if let Err(error) = self.rebind().await {
            tracing::warn!(%error, "no new socket");
        }
    }

    /// New socket, no sessions, handshake at once.
    async fn restart(&mut self) -> Result<(), TunnelError> {
        self.socketless = true;
        self.session.engine.suspend().await;
        self.session.engine.resume().await?;
        self.socketless = false;
        self.send_initiation().await;
        Ok(())
    }

    async fn set_key(&mut self, key: &SecretKey) -> Result<(), TunnelError> {
        // Suspended, so that the engine takes the key without opening a socket for it, and forgets a handshake under the
        // old key that is still under way.
        self.session.engine.suspend().await;
        self.session.engine.set_private_key(super::private_key(key)).await?;
        if let Phase::Up(liveness) = &mut self.phase {
            liveness.start_over(boottime_ms());
        }
        self.restart().await
    }

    async fn switch_endpoint(&mut self) {
        self.session.endpoints.rotate_left(1);
        let Some(endpoint) = self.session.endpoints.first().copied() else { return };
        tracing::info!(%endpoint, "trying another address of the gateway");
        self.session.gateway.set(endpoint.address);
        let change = self.session.engine.modify_peer(&self.session.peer, |peer| peer.set_endpoint(Some(endpoint.address)));
        if let Err(error) = change.await {
            tracing::warn!(%error, "the engine keeps its endpoint");
        }
        if let Err(error) = self.restart().await {
            tracing::warn!(%error, "no new socket");
        }
    }

    fn fail(&mut self, reason: BlockReason) {
        self.phase = Phase::Failed;
        self.tell(TunnelEvent::Failed(reason));
        self.publish();
    }

    fn tell(&mut self, event: TunnelEvent) {
        if self.outbox.len() >= OUTBOX {
            // The newest says most.
            self.outbox.pop_front();
        }
        self.outbox.push_back(event);
    }

    fn publish(&self) {
        let endpoint = self.session.endpoints.first().copied();
        self.snapshot.send_modify(|snapshot| {
            snapshot.endpoint = endpoint.unwrap_or(snapshot.endpoint);
            snapshot.handshake_ms = self.handshakes.last_ms;
            match &self.phase {
                Phase::Up(liveness) => {
                    snapshot.verified = true;
                    snapshot.stalled = liveness.stalled();
                }
                Phase::Handshake { .. } | Phase::Verify { .. } => snapshot.stalled = false,
                Phase::Failed => snapshot.stalled = true,
            }
        });
    }

    /// Ends the engine and waits until the descriptor of the device is closed, which removes the interface.
    async fn end(self) {
        let Session { engine, link, .. } = self.session;
        if timeout(STOP_TIMEOUT, engine.stop()).await.is_err() {
            tracing::warn!("the engine did not stop in time");
        }
        let DeviceHandle { gone, .. } = link;
        if timeout(STOP_TIMEOUT, gone).await.is_err() {
            tracing::warn!("the tunnel device is still in use");
        }
    }
}

/// Ends when the device was taken away.
async fn taken_away(lost: &mut watch::Receiver<bool>) {
    if lost.wait_for(|lost| *lost).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn answered(probe: Option<&Probe>) {
    match probe {
        Some(probe) => probe.answered.notified().await,
        None => std::future::pending().await,
    }
}
