//! Noticing that somebody changed nftables: the kernel multicasts one message per transaction (`NFNLGRP_NFTABLES`).
//!
//! The message names the program, but not what it did. Whether the change concerns us is decided by reading our tables
//! and comparing: this also recognises our own transactions, in every pid namespace.

use super::linux::{Nft, NftError};
use crate::firewall::Ruleset;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use std::io;

/// `NFNLGRP_NFTABLES` in `linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`: the last message of every transaction.
const NEW_GENERATION: u16 = 10 << 8 | 15;
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const MESSAGE_HEADER: usize = 16;
const GENERATION_HEADER: usize = 4;
/// The kernel sends datagrams of up to a page or two; a longer one is cut and counts as a change.
const BUFFER_BYTES: usize = 64 << 10;

/// One transaction of nftables, by anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Number of the ruleset generation; 0 when messages were lost.
    pub generation: u32,
    /// Process that made the change, in the kernel's own numbering.
    pub pid: u32,
    /// Its name, as the kernel knows it (at most 15 bytes); for people, not for decisions.
    pub program: String,
}

/// Follows the transactions of the network namespace in which it was opened.
pub struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
    /// A change that was heard of and not yet compared. It outlives a caller that stops waiting half-way.
    pending: Option<Change>,
}

impl Watch {
    /// Subscribes. Changes made before are not reported: compare once after this.
    ///
    /// # Errors
    /// When the kernel has no nftables, or the caller may not listen.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_BYTES), pending: None })
    }

    /// Waits until the rules in the kernel are not these, and says who changed them last. Apply them again then.
    ///
    /// It may be dropped at any time, as `select!` does: what was heard is compared by the next call.
    ///
    /// # Errors
    /// When the socket or nft fails; protection is unknown then, so apply again.
    pub async fn until_different(&mut self, nft: &Nft, rules: &Ruleset) -> Result<Change, NftError> {
        loop {
            if self.pending.is_none() {
                self.pending = Some(self.changed().await?);
            }
            self.drain()?;
            let same = nft.matches(rules).await?;
            let change = self.pending.take().unwrap_or_default();
            if !same {
                return Ok(change);
            }
        }
    }

    /// Waits for the next transaction by anyone, ourselves included.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn changed(&mut self) -> io::Result<Change> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) => {}
                Err(error) if is_overflow(&error) => return Ok(Change::default()),
                Err(error) => return Err(error),
            }
            if let Some(change) = last_change(&self.buffer) {
                return Ok(change);
            }
        }
    }

    /// Takes what else is queued, so that a storm of transactions costs one comparison.
    fn drain(&mut self) -> io::Result<()> {
        for _ in 0..1024 {
            self.buffer.clear();
            match self.socket.socket_ref().recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {
                    if let Some(change) = last_change(&self.buffer) {
                        self.pending = Some(change);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_overflow(&error) => self.pending = Some(Change::default()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The kernel dropped messages because we read too slowly.
fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

/// The last completed transaction in a datagram of netlink messages; a datagram that makes no sense counts as one.
fn last_change(mut datagram: &[u8]) -> Option<Change> {
    let mut last = None;
    while !datagram.is_empty() {
        let Some((kind, body, rest)) = split_message(datagram) else { return Some(Change::default()) };
        if kind == NEW_GENERATION {
            last = Some(change(body.get(GENERATION_HEADER..).unwrap_or_default()));
        }
        datagram = rest;
    }
    last
}

fn split_message(from: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*from.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*from.get(4..)?.first_chunk()?);
    let body = from.get(MESSAGE_HEADER..length)?;
    Some((kind, body, from.get(aligned(length)..).unwrap_or_default()))
}

fn change(mut attributes: &[u8]) -> Change {
    let mut change = Change::default();
    while let Some((kind, value, rest)) = split_attribute(attributes) {
        let number = || value.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        match kind {
            NFTA_GEN_ID => change.generation = number(),
            NFTA_GEN_PROC_PID => change.pid = number(),
            NFTA_GEN_PROC_NAME => {
                let name = String::from_utf8_lossy(value);
                change.program = name.chars().filter(|c| !c.is_control()).take(16).collect();
            }
            _ => {}
        }
        attributes = rest;
    }
    change
}

fn split_attribute(from: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*from.first_chunk()?));
    let kind = u16::from_ne_bytes(*from.get(2..)?.first_chunk()?);
    let value = from.get(4..length)?;
    Some((kind, value, from.get(aligned(length)..).unwrap_or_default()))
}

/// Netlink pads to four bytes.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(MESSAGE_HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(MESSAGE_HEADER, 0);
        bytes.extend(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    #[test]
    fn the_last_transaction_of_a_datagram_is_reported() {
        let generation = |id: u32| {
            let mut body = vec![0; GENERATION_HEADER];
            body.extend(attribute(NFTA_GEN_ID, &id.to_be_bytes()));
            body.extend(attribute(NFTA_GEN_PROC_PID, &7_u32.to_be_bytes()));
            body.extend(attribute(NFTA_GEN_PROC_NAME, b"nft\0"));
            message(NEW_GENERATION, &body)
        };
        let datagram = [message(10 << 8, b"a rule"), generation(4), generation(5)].concat();
        assert_eq!(last_change(&datagram), Some(Change { generation: 5, pid: 7, program: "nft".to_owned() }));
        assert_eq!(last_change(&message(10 << 8, b"a rule")), None);
    }

    #[test]
    fn a_datagram_cut_anywhere_neither_panics_nor_hides_a_change() {
        let datagram = message(NEW_GENERATION, &[vec![0; 4], attribute(NFTA_GEN_ID, &[0, 0, 0, 9])].concat());
        for end in 1..datagram.len() {
            assert!(last_change(&datagram[..end]).is_some(), "cut at {end}");
        }
        assert_eq!(last_change(&[0; 64]), Some(Change::default()), "a length of zero ends the reading");
    }
}
