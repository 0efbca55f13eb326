//! The task that owns one client tunnel: verifies it, watches it, recovers it, ends it.

use super::carrier::{Carrier, Handshakes, Meter};
use super::liveness::{Liveness, Look, Step};
use super::outer_interface::OuterInterface;
use super::probe::Probe;
use crate::alarm::Alarm;
use crate::clock::boottime_ms;
use crate::error::TunnelError;
use crate::options::{Limits, TunnelStats};
use crate::{Pending, Tunnel};
use hamn_core::event::TunnelEvent;
use hamn_core::key::SecretKey;
use hamn_core::net::Endpoint;
use hamn_core::state::BlockReason;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the task.
const COMMANDS: usize = 8;
/// Between two looks at a tunnel that has failed: there is nothing to see.
const FAILED_LOOK_MS: u64 = 60_000;
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
    engine: &'static str,
    meter: Arc<dyn Meter>,
    probe: Option<Arc<Probe>>,
    mtu: u16,
    outer: OuterInterface,
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
        let totals = self.meter.totals();
        TunnelStats {
            engine: self.engine,
            rx_bytes: totals.rx_bytes,
            tx_bytes: totals.tx_bytes,
            last_handshake_age_ms: handshake_ms.map(|then| boottime_ms().saturating_sub(then)),
            endpoint,
            mtu: self.mtu,
            round_trip_ms: self.probe.as_deref().and_then(Probe::round_trip_ms),
            stalled,
            verified,
        }
    }

    fn set_outer_interface(&self, index: Option<u32>) {
        self.outer.set(index);
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
    pub(super) carrier: Box<dyn Carrier>,
    pub(super) alarm: Alarm,
    /// The gateway's address in use.
    pub(super) endpoint: SocketAddr,
    /// In the order in which they are tried; the first is in use.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) probe: Option<Arc<Probe>>,
    pub(super) limits: Limits,
    pub(super) mtu: u16,
    /// What the carrier ties its sockets to, where the system has that.
    pub(super) outer: OuterInterface,
}

impl Session {
    pub(super) fn spawn(self, events: mpsc::Sender<TunnelEvent>) -> WireGuard {
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let endpoint = self.endpoints.first().copied().unwrap_or(Endpoint::udp(self.endpoint));
        let first = Snapshot { endpoint, handshake_ms: None, stalled: false, verified: false };
        let (snapshot, snapshot_rx) = watch::channel(first);
        let (engine, meter, probe, mtu) = (self.carrier.name(), self.carrier.meter(), self.probe.clone(), self.mtu);
        let outer = self.outer.clone();
        let until_ms = boottime_ms().saturating_add(self.limits.handshake_timeout_ms);
        let task = SessionTask {
            session: self,
            meter: Arc::clone(&meter),
            snapshot,
            events,
            outbox: VecDeque::new(),
            phase: Phase::Handshake { until_ms },
            handshakes: Handshakes::default(),
            socketless: false,
        };
        tokio::spawn(task.run(commands));
        WireGuard { commands: commands_tx, snapshot: snapshot_rx, engine, meter, probe, mtu, outer }
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

struct SessionTask {
    session: Session,
    meter: Arc<dyn Meter>,
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
        self.session.carrier.initiate().await;
        self.session.alarm.set(0);
        let (probe, bell, events) = (self.session.probe.clone(), self.session.carrier.bell(), self.events.clone());
        let stopped = loop {
            let failed = matches!(self.phase, Phase::Failed);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(reply)) => break Some(reply),
                    Some(command) => {
                        self.obey(command).await;
                        self.session.alarm.set(0);
                    }
                    None => break None,
                },
                // An error means that nobody listens; the handle may still be in use.
                Ok(permit) = events.reserve(), if !self.outbox.is_empty() => {
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                }
                reason = self.session.carrier.ended(), if !failed => self.fail(reason),
                () = answered(probe.as_deref()), if !failed => self.look().await,
                () = bell.notified(), if !failed => self.look().await,
                () = self.session.alarm.rings() => self.look().await,
            }
        };
        self.session.carrier.stop().await;
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

    /// Reads the counters, does what they call for, and sets the alarm for the next look.
    async fn look(&mut self) {
        let now_ms = boottime_ms();
        self.handshakes = self.session.carrier.handshakes(now_ms).await;
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
            Phase::Failed => FAILED_LOOK_MS,
        };
        self.publish();
        self.session.alarm.set(now_ms.saturating_add(again_ms));
    }

    fn first_handshake(&mut self, now_ms: u64, until_ms: u64) -> u64 {
        if self.handshakes.last_ms.is_some() {
            let until_ms = now_ms.saturating_add(self.session.limits.verify_timeout_ms);
            self.phase = Phase::Verify { until_ms, ask_ms: now_ms };
            return 0;
        }
        if now_ms >= until_ms {
            self.fail(BlockReason::GatewaySilent);
            return 0;
        }
        let left_ms = until_ms.saturating_sub(now_ms);
        self.session.carrier.handshake_look_ms().map_or(left_ms, |look_ms| look_ms.min(left_ms))
    }

    /// Waits for the first packet out of the tunnel. With nobody to ask, the handshake must do.
    fn verify(&mut self, now_ms: u64, until_ms: u64, ask_ms: u64) -> u64 {
        let heard = self.meter.totals().heard;
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
        let Step { event, ask, switch_endpoint, rebind, idle, mut again_ms } = liveness.look(look);
        if idle {
            self.meter.await_traffic();
            if self.meter.totals().sent != look.sent {
                // It came before it was awaited.
                again_ms = 0;
            }
        }
        match event {
            Some(TunnelEvent::Failed(reason)) => {
                self.fail(reason);
                return again_ms;
            }
            Some(TunnelEvent::Stalled) => {
                tracing::info!(gateway = %self.session.endpoint, "nothing heard from the gateway");
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
        let totals = self.meter.totals();
        let by_handshakes = if self.session.probe.is_none() { self.handshakes.count } else { 0 };
        let answers = self.session.probe.as_ref().map_or(0, |probe| probe.answers());
        Look { now_ms, sent: totals.sent, heard: totals.heard.saturating_add(by_handshakes), answers }
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
            self.session.carrier.inject(packet);
        }
    }

    async fn force_handshake(&mut self) {
        self.session.carrier.renew().await;
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
        if !working || self.socketless || self.session.carrier.rebind().await.is_err() {
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
        self.session.carrier.restart().await?;
        self.socketless = false;
        Ok(())
    }

    async fn set_key(&mut self, key: &SecretKey) -> Result<(), TunnelError> {
        if let Phase::Up(liveness) = &mut self.phase {
            liveness.start_over(boottime_ms());
        }
        self.socketless = true;
        self.session.carrier.set_private_key(key).await?;
        self.socketless = false;
        Ok(())
    }

    async fn switch_endpoint(&mut self) {
        self.session.endpoints.rotate_left(1);
        let Some(endpoint) = self.session.endpoints.first().copied() else { return };
        tracing::info!(%endpoint, "trying another address of the gateway");
        self.session.endpoint = endpoint.address;
        let change = self.session.carrier.set_endpoint(endpoint.address).await;
        self.socketless = change.is_err();
        if let Err(error) = change {
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
}

async fn answered(probe: Option<&Probe>) {
    match probe {
        Some(probe) => probe.answered.notified().await,
        None => std::future::pending().await,
    }
}
