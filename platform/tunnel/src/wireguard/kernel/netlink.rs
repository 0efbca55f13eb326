//! Netlink requests that the kernel answers while they are made: no task and no waiting, and a socket that stays in the
//! namespace where it was opened. WireGuard's own messages: Linux `include/uapi/linux/wireguard.h`.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeerAttribute};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use zeroize::{Zeroize, Zeroizing};

/// Name of WireGuard's generic netlink family. The kernel loads its module when somebody asks for it.
const FAMILY: &str = "wireguard";
/// Datagrams of one answer.
const DATAGRAMS: usize = 64;
/// Bytes of one datagram: the kernel fills at most this much of a dump at a time.
const DATAGRAM: usize = 64 << 10;
/// Bytes of `struct nlmsghdr`, and what messages are aligned to.
const HEADER: usize = 16;
const ALIGNMENT: usize = 4;

/// A socket for requests.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Zeroizing<Vec<u8>>,
}

impl Requests {
    /// Opens one for this protocol, in the calling thread's network namespace.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Errors must not repeat the request: it may hold a key.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0, buffer: Zeroizing::new(Vec::with_capacity(DATAGRAM)) })
    }

    /// Sends a request with these flags and returns what the kernel answers, or its error.
    pub(super) fn ask<M>(&mut self, message: &mut NetlinkMessage<M>, flags: u16) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        message.header.sequence_number = self.sequence;
        self.socket.send(&encode(message, flags), 0)?;
        let mut answers = Vec::new();
        for _ in 0..DATAGRAMS {
            self.buffer.clear();
            let (_, from) = self.socket.recv_from(&mut *self.buffer, 0)?;
            // Only the kernel has this number.
            if from.port_number() == 0 && collect(&self.buffer, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The request as it is sent. It may hold a key, so it is wiped after use.
pub(super) fn encode<M: NetlinkSerializable>(message: &mut NetlinkMessage<M>, flags: u16) -> Zeroizing<Vec<u8>> {
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = Zeroizing::new(vec![0; message.buffer_len()]);
    message.serialize(&mut bytes);
    bytes
}

/// Takes the messages of one datagram. True when the answer is complete.
fn collect<M: NetlinkDeserializable>(mut rest: &[u8], sequence: u32, answers: &mut Vec<M>) -> io::Result<bool> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    while rest.len() >= HEADER {
        let message = NetlinkMessage::<M>::deserialize(rest).map_err(invalid)?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        if message.header.sequence_number == sequence {
            if let NetlinkPayload::Error(error) = message.payload {
                return if error.code.is_none() { Ok(true) } else { Err(error.to_io()) };
            }
            if matches!(message.payload, NetlinkPayload::Done(_)) {
                return Ok(true);
            }
            if let NetlinkPayload::InnerMessage(answer) = message.payload {
                answers.push(answer);
            }
        }
        rest = length.checked_next_multiple_of(ALIGNMENT).and_then(|next| rest.get(next.max(HEADER)..)).unwrap_or_default();
    }
    Ok(false)
}

/// A message around this payload.
pub(super) fn message<M>(payload: M) -> NetlinkMessage<M> {
    NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(payload))
}

/// The number of a generic netlink family, `None` where the kernel has no such family.
pub(super) fn family(requests: &mut Requests, name: &str) -> io::Result<Option<u16>> {
    let nlas = vec![GenlCtrlAttrs::FamilyName(name.to_owned())];
    let question = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas });
    match requests.ask(&mut message(question), NLM_F_ACK) {
        Ok(answers) => Ok(answers
            .into_iter()
            .flat_map(|answer| answer.payload.nlas)
            .find_map(|attribute| if let GenlCtrlAttrs::FamilyId(id) = attribute { Some(id) } else { None })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the kernel knows of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerStatus {
    /// Bytes out of and into the tunnel, with WireGuard's headers, handshakes and keepalives.
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    /// Wall clock at the last handshake, seconds and nanoseconds; zeros if there was none.
    pub(super) handshake: (i64, i64),
}

/// WireGuard in the kernel.
pub(super) struct Family {
    requests: Requests,
    id: u16,
}

impl Family {
    /// `None` where the kernel has no WireGuard: no module, or not built in.
    pub(super) fn find() -> io::Result<Option<Self>> {
        let mut requests = Requests::open(NETLINK_GENERIC)?;
        Ok(family(&mut requests, FAMILY)?.map(|id| Self { requests, id }))
    }

    /// Changes the device. All of one call happens without traffic in between (`wg_set_device` holds the device's lock).
    pub(super) fn set(&mut self, attributes: Vec<WireguardAttribute>) -> io::Result<()> {
        let mut request = request(self.id, WireguardCmd::SetDevice, attributes);
        let result = self.requests.ask(&mut request, NLM_F_ACK).map(drop);
        if let NetlinkPayload::InnerMessage(request) = &mut request.payload {
            wipe(&mut request.payload);
        }
        result
    }

    /// What the kernel knows of this peer of the interface; zeros if it is no peer.
    pub(super) fn peer(&mut self, index: u32, key: &[u8; 32]) -> io::Result<PeerStatus> {
        let mut request = request(self.id, WireguardCmd::GetDevice, vec![WireguardAttribute::IfIndex(index)]);
        let mut answers = self.requests.ask(&mut request, NLM_F_DUMP)?;
        let status = answers.iter().map(|answer| &answer.payload).find_map(|answer| peer_status(answer, key));
        answers.iter_mut().for_each(|answer| wipe(&mut answer.payload));
        Ok(status.unwrap_or_default())
    }
}

pub(super) fn request(
    family: u16,
    cmd: WireguardCmd,
    attributes: Vec<WireguardAttribute>,
) -> NetlinkMessage<GenlMessage<WireguardMessage>> {
    let mut request = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
    request.set_resolved_family_id(family);
    message(request)
}

fn wipe(message: &mut WireguardMessage) {
    for attribute in &mut message.attributes {
        if let WireguardAttribute::PrivateKey(key) = attribute {
            key.zeroize();
        } else if let WireguardAttribute::Peers(peers) = attribute {
            for attribute in peers.iter_mut().flat_map(|peer| &mut peer.0) {
                if let WireguardPeerAttribute::PresharedKey(key) = attribute {
                    key.zeroize();
                }
            }
        }
    }
}

fn peer_status(message: &WireguardMessage, key: &[u8; 32]) -> Option<PeerStatus> {
    let lists = message
        .attributes
        .iter()
        .filter_map(|attribute| if let WireguardAttribute::Peers(peers) = attribute { Some(peers) } else { None });
    let is_wanted = |attribute: &WireguardPeerAttribute| *attribute == WireguardPeerAttribute::PublicKey(*key);
    let peer = lists.flatten().find(|peer| peer.0.iter().any(is_wanted))?;
    let mut status = PeerStatus::default();
    for attribute in &peer.0 {
        if let WireguardPeerAttribute::RxBytes(bytes) = attribute {
            status.rx_bytes = *bytes;
        } else if let WireguardPeerAttribute::TxBytes(bytes) = attribute {
            status.tx_bytes = *bytes;
        } else if let WireguardPeerAttribute::LastHandshake(time) = attribute {
            status.handshake = (time.seconds, time.nano_seconds);
        }
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_wireguard::{WireguardPeer, WireguardTimeSpec};

    /// `GENL_ID_CTRL`, the number of the family that knows the others.
    const CONTROL: u16 = 16;

    #[test]
    fn the_kernel_answers_for_families_that_it_has_and_for_those_that_it_lacks() {
        let mut requests = Requests::open(NETLINK_GENERIC).unwrap();
        assert_eq!(family(&mut requests, "nlctrl").unwrap(), Some(CONTROL));
        assert_eq!(family(&mut requests, "no-such-family").unwrap(), None);
        assert_eq!(family(&mut requests, "nlctrl").unwrap(), Some(CONTROL), "the socket is in order after an error");
        // What the machine has is what its kernel says, whatever that is.
        let found = Family::find().unwrap().is_some();
        assert_eq!(found, family(&mut requests, FAMILY).unwrap().is_some());
        println!("this kernel has WireGuard: {found}");
    }

    #[test]
    fn a_dump_is_read_to_its_end_and_gives_the_peers_counters() {
        let peer = |last: u8, rx: u64| {
            WireguardPeer(vec![
                WireguardPeerAttribute::PublicKey([last; 32]),
                WireguardPeerAttribute::PresharedKey([9; 32]),
                WireguardPeerAttribute::LastHandshake(WireguardTimeSpec { seconds: 1_700_000_000, nano_seconds: 5 }),
                WireguardPeerAttribute::RxBytes(rx),
                WireguardPeerAttribute::TxBytes(rx + 1),
            ])
        };
        let part = |peers| {
            let attributes = vec![WireguardAttribute::PrivateKey([7; 32]), WireguardAttribute::Peers(peers)];
            let mut message = request(30, WireguardCmd::GetDevice, attributes);
            message.header.sequence_number = 4;
            encode(&mut message, 0)
        };
        let mut datagram = part(vec![peer(1, 100)]).to_vec();
        let other = {
            let mut message = request(30, WireguardCmd::GetDevice, vec![]);
            message.header.sequence_number = 3;
            encode(&mut message, 0)
        };
        datagram.extend_from_slice(&other);
        datagram.extend_from_slice(&part(vec![peer(2, 200)]));
        let mut answers: Vec<GenlMessage<WireguardMessage>> = Vec::new();
        assert!(!collect(&datagram, 4, &mut answers).unwrap(), "more comes");
        assert_eq!(answers.len(), 2, "the answer to another request is none of ours");
        // NLMSG_DONE with a status of zero.
        let done =
            [&20_u32.to_ne_bytes()[..], &3_u16.to_ne_bytes(), &2_u16.to_ne_bytes(), &4_u32.to_ne_bytes(), &[0; 8]].concat();
        assert!(collect(&done, 4, &mut answers).unwrap());
        // NLMSG_ERROR with -ENODEV and the header of the request.
        let error = [
            &36_u32.to_ne_bytes()[..],
            &2_u16.to_ne_bytes(),
            &0_u16.to_ne_bytes(),
            &4_u32.to_ne_bytes(),
            &[0; 4],
            &(-libc::ENODEV).to_ne_bytes(),
            &[0; 16],
        ];
        let refused = collect(&error.concat(), 4, &mut answers).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENODEV));
        for length in 0..datagram.len() {
            // Cut short anywhere: an error or nothing, no panic.
            let _ = collect(&datagram[..length], 4, &mut answers);
        }
        answers.truncate(2);
        let found = |key: u8| answers.iter().find_map(|answer| peer_status(&answer.payload, &[key; 32]));
        let expected = PeerStatus { rx_bytes: 200, tx_bytes: 201, handshake: (1_700_000_000, 5) };
        assert_eq!((found(2), found(3)), (Some(expected), None));
        answers.iter_mut().for_each(|answer| wipe(&mut answer.payload));
        let left = format!("{answers:?}");
        assert!(!left.contains("7, 7, 7") && !left.contains("9, 9, 9"), "keys are wiped");
        assert!(left.contains("2, 2, 2"), "the negative control");
    }
}
