//! Commands of the handle.

use super::{Identity, PASS_COMMANDS, Peer, PeerId, Plane};
use crate::control::{Command, EngineError, PeerConfig, PeerStats, PeerUpdate};
use crate::virtio::Header;
use gotatun::x25519::{PublicKey, StaticSecret};
use std::os::fd::AsFd;
use std::sync::Arc;

impl Plane {
    /// Does what is asked. False if nothing was.
    pub(super) fn take_commands(&mut self) -> bool {
        for done in 0..PASS_COMMANDS {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(_) => return done > 0,
            }
        }
        true
    }

    /// Whoever asked may have stopped waiting for the answer, so that an answer that cannot be given is none of our business.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(config, reply) => drop(reply.send(self.add(&config))),
            Command::Update(key, update, reply) => drop(reply.send(self.update(&key, *update))),
            Command::Remove(key, reply) => drop(reply.send(self.remove(&key))),
            Command::Handshake(key, reply) => {
                let result = self.find(&key).and_then(|id| self.running().and_then(|()| self.initiate(id)));
                self.flush();
                drop(reply.send(result));
            }
            Command::Rebind(reply) => drop(reply.send(self.rebind())),
            Command::SetMtu(mtu, reply) => drop(reply.send(self.set_mtu(mtu))),
            Command::SetKey(key, reply) => drop(reply.send(self.set_key(*key))),
            Command::Suspend(reply) => drop(reply.send(self.suspend())),
            Command::Resume(reply) => drop(reply.send(self.resume())),
            Command::Peers(reply) => {
                let peers: Vec<PeerStats> = self.peers.iter().map(|peer| peer.stats(self.now_ms)).collect();
                drop(reply.send(Ok(peers)));
            }
            Command::Port(reply) => drop(reply.send(Ok(self.sockets.port()))),
            Command::Inject(packet) => {
                if self.running().is_ok() && !self.blocked {
                    self.send_packet(&Header::default(), &packet);
                }
            }
        }
    }

    const fn running(&self) -> Result<(), EngineError> {
        if self.suspended { Err(EngineError::Stopped) } else { Ok(()) }
    }

    fn find(&self, key: &PublicKey) -> Result<PeerId, EngineError> {
        self.peers.by_key(key.as_bytes()).ok_or(EngineError::NoPeer)
    }

    fn add(&mut self, config: &PeerConfig) -> Result<(), EngineError> {
        let peer = Peer::new(config, &self.identity.local, &self.peers.indices);
        let id = self.peers.insert(peer);
        if let Err(error) = self.provide_sockets() {
            self.peers.remove(&config.public_key);
            return Err(error);
        }
        self.plan(id);
        Ok(())
    }

    fn update(&mut self, key: &PublicKey, update: PeerUpdate) -> Result<(), EngineError> {
        let id = self.find(key)?;
        let now_ms = self.now_ms;
        let PeerUpdate { preshared_key, endpoint, roaming, allowed_ips, keepalive_s } = update;
        let peer = self.peers.get_mut(id).ok_or(EngineError::NoPeer)?;
        if let Some(psk) = preshared_key {
            peer.channel.set_psk(psk);
        }
        if let Some(roaming) = roaming {
            peer.roaming = roaming;
        }
        if let Some(seconds) = keepalive_s {
            peer.channel.set_keepalive(now_ms, seconds);
        }
        if let Some(endpoint) = endpoint {
            peer.endpoint = Some(endpoint);
        }
        if let Some(nets) = allowed_ips {
            self.peers.allow(id, nets);
        }
        self.plan(id);
        if endpoint.is_some() { self.provide_sockets() } else { Ok(()) }
    }

    fn remove(&mut self, key: &PublicKey) -> Result<(), EngineError> {
        if !self.peers.remove(key) {
            return Err(EngineError::NoPeer);
        }
        self.provide_sockets()
    }

    fn provide_sockets(&mut self) -> Result<(), EngineError> {
        if self.suspended {
            return Ok(());
        }
        self.flush();
        self.sockets.provide(self.peers.families()).map_err(EngineError::Socket)
    }

    fn rebind(&mut self) -> Result<(), EngineError> {
        self.running()?;
        // What waits for the old socket would wait for the new one.
        self.flush();
        self.sockets.rebind(self.peers.families()).map_err(EngineError::Socket)?;
        self.flush();
        Ok(())
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), EngineError> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).map_err(EngineError::Mtu)?;
        self.device.set_mtu(socket.as_fd(), mtu).map_err(EngineError::Mtu)?;
        self.options.mtu = mtu;
        Ok(())
    }

    /// Peers that have or want a session, with a place to reach them.
    fn wanted(&mut self) -> Vec<PeerId> {
        let now_ms = self.now_ms;
        let wants = |peer: &Peer| peer.channel.is_wanted(now_ms) && peer.endpoint.is_some();
        let live = self.peers.iter_mut().filter(|(_, peer)| wants(peer));
        live.map(|(id, _)| id).collect()
    }

    fn set_key(&mut self, key: StaticSecret) -> Result<(), EngineError> {
        let wanted = self.wanted();
        self.identity = Identity::new(key.clone(), self.options.handshakes_per_source);
        self.options.private_key = key;
        for (_, peer) in self.peers.iter_mut() {
            peer.channel.set_local(Arc::clone(&self.identity.local));
        }
        if self.suspended {
            return Ok(());
        }
        wanted.into_iter().try_for_each(|id| self.initiate(id))
    }

    fn suspend(&mut self) -> Result<(), EngineError> {
        if self.suspended {
            return Ok(());
        }
        self.suspended = true;
        let wanted = self.wanted();
        for (id, peer) in self.peers.iter_mut() {
            peer.channel.reset();
            peer.resumes = wanted.contains(&id);
        }
        self.sockets.close();
        // Nothing that waits may leave later.
        self.blocked = false;
        self.flush();
        self.deadline_ms = None;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), EngineError> {
        if !self.suspended {
            return Ok(());
        }
        self.sockets.provide(self.peers.families()).map_err(EngineError::Socket)?;
        self.suspended = false;
        let wanted: Vec<PeerId> = self.peers.iter_mut().filter(|(_, peer)| peer.resumes).map(|(id, _)| id).collect();
        for id in self.peers.ids() {
            self.plan(id);
        }
        // A peer whose endpoint was taken away meanwhile has nothing to be told.
        wanted.into_iter().for_each(|id| drop(self.initiate(id)));
        Ok(())
    }
}
