//! What is written is read as it was meant, what the kernel writes too, and what nobody should write is refused.

use super::*;
use proptest::prelude::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A message as the kernel sends it in a list.
fn listed(kind: u8, header: usize, index_at: usize, index: u16, flags: u32, addresses: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mask_at = if header == ROUTE_HEADER { 12 } else { 4 };
    let mut bytes = vec![0; header];
    let mask = addresses.iter().fold(0_u32, |mask, (slot, _)| mask | 1 << slot);
    for (_, address) in addresses {
        bytes.extend(address);
        bytes.resize(header + (bytes.len() - header).next_multiple_of(4), 0);
    }
    let length = u16::try_from(bytes.len()).unwrap().to_ne_bytes();
    bytes[..2].copy_from_slice(&length);
    bytes[2] = VERSION;
    bytes[3] = kind;
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[mask_at..mask_at + 4].copy_from_slice(&mask.to_ne_bytes());
    bytes[index_at..index_at + 2].copy_from_slice(&index.to_ne_bytes());
    bytes
}

fn link(index: u16, name: &str, flags: u32) -> Vec<u8> {
    let mut address = vec![u8::try_from(8 + name.len()).unwrap(), AF_LINK];
    address.extend(index.to_ne_bytes());
    address.extend([6, u8::try_from(name.len()).unwrap(), 0, 0]);
    address.extend(name.bytes());
    listed(RTM_IFINFO, LINK_HEADER, 12, index, flags, &[(RTAX_IFP, address)])
}

fn route(message: &[u8]) -> TableRoute {
    match read_list(message).unwrap().as_slice() {
        [Message::Route(route)] => *route,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_have_the_layout_of_net_route_h() {
    let into_tunnel = KernelRoute { destination: net("128.0.0.0/2"), via: Via::Link(0x1234) };
    let bytes = add(&into_tunnel, 7);
    assert_eq!(bytes.len(), 92 + 16 + 20 + 16);
    assert_eq!(bytes[..4], [144, 0, 5, 1], "length, version, RTM_ADD");
    assert_eq!(u32_at(&bytes, 8).unwrap(), RTF_UP | OUR_FLAGS);
    assert_eq!(u32_at(&bytes, 12).unwrap(), 0b111, "destination, gateway, netmask");
    assert_eq!(u32_at(&bytes, 20).unwrap(), 7);
    assert_eq!(bytes[92..100], [16, 2, 0, 0, 128, 0, 0, 0]);
    assert_eq!(bytes[108..112], [20, 18, 0x34, 0x12]);
    assert_eq!(bytes[128..136], [16, 2, 0, 0, 192, 0, 0, 0]);
    let bytes = delete(&net("2001:db8::1/128"), 8);
    assert_eq!((bytes.len(), bytes[3], u32_at(&bytes, 12).unwrap()), (92 + 28, RTM_DELETE, 1));
    assert_eq!(u32_at(&bytes, 8).unwrap() & RTF_HOST, RTF_HOST);
}

#[test]
fn what_is_added_reads_back_and_is_ours() {
    let router: IpAddr = "192.168.1.1".parse().unwrap();
    let link_local: IpAddr = "fe80::1".parse().unwrap();
    for (wanted, back) in [
        (Via::Reject, Via::Reject),
        (Via::Link(9), Via::Link(0)),
        (Via::Router(router, 4), Via::Router(router, 0)),
        (Via::Router(link_local, 4), Via::Router(link_local, 0)),
    ] {
        for destination in ["0.0.0.0/1", "192.0.2.1/32", "8000::/1", "2001:db8::1/128"] {
            let bytes = add(&KernelRoute { destination: net(destination), via: wanted }, 1);
            let read = route(&bytes);
            // The kernel fills in the link.
            assert_eq!(read.route, KernelRoute { destination: net(destination), via: back });
            assert!(read.is_ours(), "{read:?}");
        }
    }
}

#[test]
fn routes_as_the_kernel_lists_them() {
    let destination = |bytes: &[u8]| (RTAX_DST, bytes.to_vec());
    let gateway = (RTAX_GATEWAY, vec![16, 2, 0, 0, 192, 168, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    // `default`: a mask of length zero takes four bytes.
    let default = [destination(&[16, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), gateway.clone(), (RTAX_NETMASK, vec![0; 4])];
    let read = route(&listed(RTM_GET, ROUTE_HEADER, 4, 4, RTF_UP | RTF_GATEWAY | RTF_STATIC, &default));
    assert_eq!(read.route, KernelRoute { destination: net("0.0.0.0/0"), via: Via::Router("192.168.1.1".parse().unwrap(), 4) });
    assert!(!read.is_ours() && !read.is_from_address());
    // `192.168.1/24 link#4`: zero bytes of the mask are left out, and its family with them.
    let attached = [
        destination(&[16, 2, 0, 0, 192, 168, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (RTAX_GATEWAY, link_address(4)),
        (RTAX_NETMASK, vec![7, 0, 0, 0, 255, 255, 255]),
    ];
    let read = route(&listed(RTM_GET, ROUTE_HEADER, 4, 4, RTF_UP, &attached));
    assert_eq!(read.route, KernelRoute { destination: net("192.168.1.0/24"), via: Via::Link(4) });
    assert!(read.is_from_address());
    // `default fe80::1%en0`: the scope is inside the router's address.
    let mut router = vec![28, 30, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 4];
    router.resize(23, 0);
    router.extend([1, 0, 0, 0, 0]);
    let v6 = [destination(&[&[28, 30], [0; 26].as_slice()].concat()), (RTAX_GATEWAY, router), (RTAX_NETMASK, vec![0; 4])];
    let read = route(&listed(RTM_GET, ROUTE_HEADER, 4, 4, RTF_UP | RTF_GATEWAY | RTF_IFSCOPE, &v6));
    assert_eq!(read.route, KernelRoute { destination: net("::/0"), via: Via::Router("fe80::1".parse().unwrap(), 4) });
    assert!(read.is_scoped());
    // A copy of ours that was made in use is not ours.
    let copy = listed(RTM_GET, ROUTE_HEADER, 4, 4, RTF_HOST | RTF_WASCLONED | OUR_FLAGS, &attached);
    assert!(!route(&copy).is_ours());
}

#[test]
fn links_and_addresses_as_the_kernel_lists_them() {
    let mut list = link(1, "lo0", IFF_UP | IFF_RUNNING | IFF_LOOPBACK);
    list.extend(link(12, "utun6861", IFF_UP));
    let address = vec![16, 2, 0, 0, 192, 168, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = vec![7, 2, 0, 0, 255, 255, 255];
    list.extend(listed(RTM_NEWADDR, ADDRESS_HEADER, 12, 4, 0, &[(RTAX_NETMASK, mask), (RTAX_IFA, address)]));
    list.extend(listed(0x13, 16, 12, 4, 0, &[]));
    let expected = [
        Message::Link { index: 1, name: "lo0".to_owned(), up: true, loopback: true },
        Message::Link { index: 12, name: "utun6861".to_owned(), up: false, loopback: false },
        Message::Address { index: 4, address: "192.168.1.5".parse().unwrap(), prefix: 24 },
    ];
    assert_eq!(read_list(&list).unwrap(), expected);
}

#[test]
fn what_is_cut_off_or_contradicts_itself_is_refused() {
    let whole = add(&KernelRoute { destination: net("10.0.0.0/8"), via: Via::Link(9) }, 1);
    for length in 1..whole.len() {
        assert!(read_list(&whole[..length]).is_err(), "cut to {length}");
    }
    let changed = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        read_list(&bytes)
    };
    assert!(changed(0, 3).is_err(), "shorter than a header");
    assert!(changed(0, 40).is_err(), "shorter than its kind");
    assert!(changed(2, 4).is_err(), "another version");
    assert!(changed(92, 255).is_err(), "an address longer than the message");
    assert!(changed(12, 0xff).is_err(), "more addresses than there are");
    assert_eq!(changed(93, 99).unwrap(), [], "a family that is not ours");
    assert_eq!(changed(132, 0b1010_1010).unwrap(), [], "a mask with holes");
    let mut name = link(3, "en0", IFF_UP);
    name[LINK_HEADER + 5] = 200;
    assert!(read_list(&name).is_err(), "a name longer than its address");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(read_list(&bytes));
    }

    #[test]
    fn no_change_of_a_message_makes_the_reader_panic(at in 0_usize..144, value in any::<u8>(), second in 0_usize..144) {
        let mut bytes = add(&KernelRoute { destination: net("10.0.0.0/8"), via: Via::Link(9) }, 1);
        bytes[at] = value;
        bytes[second] ^= value;
        drop(read_list(&bytes));
    }

    #[test]
    fn every_prefix_reads_back(prefix in 0_u8..=128, address in any::<u128>(), v4 in any::<bool>()) {
        let destination = if v4 {
            IpNet::new(Ipv4Addr::from(u32::try_from(address >> 96).unwrap()).into(), prefix / 4).unwrap()
        } else {
            IpNet::new(Ipv6Addr::from(address).into(), prefix).unwrap()
        };
        let scoped = matches!(destination.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast());
        prop_assume!(!scoped);
        let read = route(&add(&KernelRoute { destination: destination.trunc(), via: Via::Reject }, 1));
        prop_assert_eq!(read.route.destination, destination.trunc());
    }
}
