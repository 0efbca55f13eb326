//! Profiles: what is harmless is read and written back the same, everything else is refused with its line.

use super::*;
use crate::settings::Dns;
use proptest::prelude::*;

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const SHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn name() -> ProfileName {
    "office".parse().unwrap()
}

fn good() -> String {
    format!(
        "# a comment\n[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.9.0.2/24, fd00:9::2/64\nDNS = 10.9.0.1\nMTU = 1400\n\n[Peer]\nPublicKey = {PUBLIC}\n\
         PresharedKey = {SHARED}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 198.51.100.7:51820 # there\nPersistentKeepalive = 25\n"
    )
}

fn read(text: &str) -> Result<Parsed, ProfileError> {
    parse(name(), text.as_bytes())
}

fn codes(text: &str) -> Vec<&'static str> {
    read(text).unwrap().warnings.iter().map(|warning| warning.remark.code()).collect()
}

#[test]
fn a_usual_profile_is_read() {
    let parsed = read(&good()).unwrap();
    assert_eq!(parsed.warnings, []);
    let profile = parsed.profile;
    assert_eq!(profile.addresses, ["10.9.0.2/24".parse().unwrap(), "fd00:9::2/64".parse().unwrap()]);
    assert_eq!(profile.private_key.reveal_base64().as_str(), PRIVATE);
    assert_eq!(profile.preshared_key.as_ref().unwrap().reveal_base64().as_str(), SHARED);
    assert_eq!((profile.mtu, profile.keepalive_s), (Some(1_400), Some(25)));
    assert_eq!(profile.endpoint, "198.51.100.7:51820".parse().unwrap());
    assert!(!format!("{profile:?}").contains(PRIVATE) && !format!("{profile:?}").contains(SHARED));
}

#[test]
fn case_crlf_byte_order_mark_and_repeated_lists_are_accepted() {
    let expected = read(&good()).unwrap().profile;
    assert_eq!(read(&good().replace('\n', "\r\n")).unwrap().profile, expected);
    assert_eq!(read(&format!("\u{feff}{}", good())).unwrap().profile, expected);
    assert_eq!(
        read(&good().replace("[Interface]", " [interFACE]\t").replace("AllowedIPs", "allowedips")).unwrap().profile,
        expected
    );
    assert_eq!(read(&good().replace("0.0.0.0/0, ::/0", "0.0.0.0/0\nAllowedIPs=::/0,10.1.2.3/0")).unwrap().profile, expected);
    assert_eq!(read(&good().replace("= 25", "= off")).unwrap().profile.keepalive_s, None);
    assert_eq!(read(&good().replace("= 25", "= 0")).unwrap().profile.keepalive_s, None);
    assert_eq!(read(&good().replace("198.51.100.7:", "192.168.1.2:")).unwrap().profile.endpoint.port(), 51_820);
    assert!(read(&good().replace("198.51.100.7:", "[2001:db8::1]:")).unwrap().profile.endpoint.is_ipv6());
    assert_eq!(read(&good().replace("10.9.0.2/24", "10.9.0.2")).unwrap().profile.addresses[0].prefix_len(), 32);
}

#[test]
fn warnings_say_what_is_different_from_what_it_seems() {
    assert_eq!(codes(&good().replace("0.0.0.0/0, ::/0", "10.0.0.0/8, ::/0")), ["not_everything"]);
    assert_eq!(codes(&good().replace("0.0.0.0/0, ::/0", "0.0.0.0/0")), ["not_everything"]);
    assert_eq!(codes(&good().replace("0.0.0.0/0, ::/0", "0.0.0.0/1, 128.0.0.0/1, ::/1, 8000::/1")), Vec::<&str>::new());
    assert_eq!(codes(&good().replace("0.0.0.0/0, ::/0", "192.168.0.0/16")), ["not_everything", "dns_outside"]);
    assert_eq!(codes(&good().replace("DNS = 10.9.0.1\n", "")), ["no_dns"]);
    assert_eq!(codes(&good().replace("DNS = 10.9.0.1", "DNS = 10.9.0.1, corp.example")), ["search_ignored"]);
    let parsed = read(&good().replace("MTU = 1400", "ListenPort = 51820\nFwMark = 0x1")).unwrap();
    assert_eq!(
        parsed.warnings.iter().map(|w| (w.line, w.remark.code())).collect::<Vec<_>>(),
        [(6, "ignored_key"), (7, "ignored_key")]
    );
}

#[test]
fn every_problem_has_its_own_stable_code_and_something_to_do() {
    let mut codes = std::collections::BTreeSet::new();
    for problem in Problem::ALL {
        assert_eq!(serde_json::to_value(problem).unwrap(), problem.code());
        assert!(codes.insert(problem.code()) && problem.message().ends_with('.') && problem.action().ends_with('.'));
    }
    for remark in Remark::ALL {
        assert!(codes.insert(remark.code()) && remark.message().ends_with('.'));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_may_not_be_in_a_profile_is_refused_with_its_line() {
    use Problem::*;
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let long = format!("DNS = 10.9.0.1 # {}", "x".repeat(500));
    let many: String = (0..1_025).map(|i| format!("AllowedIPs = 10.{}.{}.0/24\n", i / 256, i % 256)).collect();
    let cases: &[(&str, &str, u32, Problem)] = &[
        ("MTU = 1400", "PostUp = iptables -F", 6, RunsPrograms),
        ("MTU = 1400", "preup=x", 6, RunsPrograms),
        ("MTU = 1400", "PostDown =", 6, RunsPrograms),
        ("MTU = 1400", "PreDown = $(reboot)", 6, RunsPrograms),
        ("MTU = 1400", "Table = off", 6, ChangesRouting),
        ("MTU = 1400", "SaveConfig = true", 6, WritesFile),
        ("MTU = 1400", "Jc = 4", 6, UnknownKey),
        ("MTU = 1400", "PublicKey = x", 6, UnknownKey),
        ("MTU = 1400", "PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=", 6, DuplicateKey),
        ("MTU = 1400", "hello", 6, NotASetting),
        ("MTU = 1400", "MTU =", 6, EmptyValue),
        ("MTU = 1400", "MTU = 575", 6, BadMtu),
        ("MTU = 1400", "MTU = 9001", 6, BadMtu),
        ("MTU = 1400", "MTU = +1400", 6, BadMtu),
        ("MTU = 1400", "MTU = 1279", 6, BadMtu),
        ("MTU = 1400", "[Interface]", 6, SeveralInterfaces),
        ("MTU = 1400", "[Interface", 6, UnknownSection),
        ("MTU = 1400", "[Script]", 6, UnknownSection),
        ("MTU = 1400", "# \u{0}", 6, ControlCharacter),
        ("MTU = 1400", "MTU = 1400\rTable = off", 6, ControlCharacter),
        ("MTU = 1400", "# \u{1b}[2J", 6, ControlCharacter),
        ("MTU = 1400", "MTU = \u{feff}1400", 6, ControlCharacter),
        ("DNS = 10.9.0.1", &long, 5, LineTooLong),
        ("DNS = 10.9.0.1", "DNS = 127.0.0.53", 5, DnsLoopback),
        ("DNS = 10.9.0.1", "DNS = ::1", 5, DnsLoopback),
        ("DNS = 10.9.0.1", "DNS = 0.0.0.0", 5, BadDns),
        ("DNS = 10.9.0.1", "DNS = 10.9.0.1,", 5, BadDns),
        ("DNS = 10.9.0.1", "DNS = $(x)", 5, BadDns),
        (
            "DNS = 10.9.0.1",
            "DNS = 1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9,1.1.1.10,1.1.1.11",
            5,
            TooManyDns,
        ),
        ("10.9.0.2/24", "10.9.0.2/33", 4, BadAddress),
        ("10.9.0.2/24", "127.0.0.1/8", 4, BadAddress),
        ("10.9.0.2/24", "224.0.0.1", 4, BadAddress),
        ("10.9.0.2/24", "10.9.0.2/+24", 4, BadAddress),
        ("10.9.0.2/24", "10.9.0.2/24/24", 4, BadAddress),
        ("Address = 10.9.0.2/24, fd00:9::2/64", "", 14, NoAddress),
        (PRIVATE, zero, 3, BadPrivateKey),
        (PRIVATE, "short", 3, BadPrivateKey),
        (PUBLIC, zero, 9, BadPublicKey),
        (PUBLIC, "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 9, BadPublicKey),
        (SHARED, zero, 10, BadPresharedKey),
        ("0.0.0.0/0, ::/0", "", 11, EmptyValue),
        ("0.0.0.0/0, ::/0", "0.0.0.0/0,", 11, BadAllowedIps),
        ("0.0.0.0/0, ::/0", "-0.0.0.0/0", 11, BadAllowedIps),
        ("0.0.0.0/0, ::/0", "127.0.0.0/8", 11, AllowedIpsUnroutable),
        ("0.0.0.0/0, ::/0", "224.0.0.0/4", 11, AllowedIpsUnroutable),
        ("0.0.0.0/0, ::/0", "fe80::/64", 11, AllowedIpsUnroutable),
        ("0.0.0.0/0, ::/0", "255.255.255.255/32", 11, AllowedIpsUnroutable),
        ("AllowedIPs = 0.0.0.0/0, ::/0", "", 14, NoAllowedIps),
        ("AllowedIPs = 0.0.0.0/0, ::/0", &many, 1_035, TooManyAllowedIps),
        ("198.51.100.7:51820", "vpn.example.org:51820", 12, EndpointIsName),
        ("198.51.100.7:51820", "localhost:51820", 12, EndpointIsName),
        ("198.51.100.7:51820", "198.51.100.7", 12, BadEndpoint),
        ("198.51.100.7:51820", "198.51.100.7:0", 12, BadEndpoint),
        ("198.51.100.7:51820", "198.51.100.7:65536", 12, BadEndpoint),
        ("198.51.100.7:51820", "2001:db8::1:51820", 12, BadEndpoint),
        ("198.51.100.7:51820", "[fe80::1%2]:51820", 12, BadEndpoint),
        ("198.51.100.7:51820", "[fe80::1]:51820", 12, EndpointUnroutable),
        ("198.51.100.7:51820", "127.0.0.1:51820", 12, EndpointUnroutable),
        ("198.51.100.7:51820", "[::ffff:198.51.100.7]:51820", 12, EndpointUnroutable),
        ("198.51.100.7:51820", "224.0.0.1:51820", 12, EndpointUnroutable),
        ("198.51.100.7:51820", "0.0.0.0:51820", 12, EndpointUnroutable),
        ("198.51.100.7:51820", "10.9.0.2:51820", 12, EndpointUnroutable),
        ("Endpoint = 198.51.100.7:51820", "", 14, NoEndpoint),
        ("= 25", "= 65536", 13, BadKeepalive),
        ("= 25", "= 25s", 13, BadKeepalive),
        ("= 25", "= 25\n[Peer]", 14, SeveralPeers),
        ("= 25", "= 25\nTable = off", 14, ChangesRouting),
        ("[Peer]", "", 9, UnknownKey),
        ("[Interface]", "", 3, OutsideSection),
    ];
    for (from, to, line, problem) in cases {
        let text = good().replacen(from, to, 1);
        assert_ne!(text, good(), "{from}");
        assert_eq!(read(&text), Err(ProfileError { line: *line, problem: *problem }), "{from} -> {to}");
        let message = ProfileError { line: *line, problem: *problem }.to_string();
        assert!(message.starts_with(&format!("line {line}: ")) && !message.contains(PRIVATE), "{message}");
    }
    assert_eq!(parse(name(), &vec![b'#'; MAX_PROFILE_BYTES + 1]).unwrap_err().problem, TooBig);
    assert_eq!(parse(name(), b"\xff\xfe[\0I\0").unwrap_err().problem, NotText);
    assert_eq!(read("").unwrap_err().problem, NoInterface);
    assert_eq!(read("[Interface]").unwrap_err().problem, NoPeer);
    assert_eq!(read("[Peer]").unwrap_err().problem, NoInterface);
    assert_eq!(read("[Interface]\n[Peer]").unwrap_err().problem, NoPrivateKey);
}

#[test]
fn the_plan_of_a_profile_follows_the_settings() {
    let profile = read(&good()).unwrap().profile;
    let made = plan(&profile, &Settings::default()).unwrap();
    assert_eq!((made.place.server.as_str(), made.key.clone()), ("office", KeySource::Profile { name: "office".to_owned() }));
    assert_eq!((made.mtu, made.keepalive_s, made.has_preshared_key), (1_400, Some(25), true));
    assert_eq!(made.endpoints, [Endpoint::udp(profile.endpoint)]);
    assert_eq!(made.resolvers, profile.dns);
    assert!(made.has_ipv4() && made.has_ipv6() && made.gateway.is_empty());

    let own = Dns::Custom { addresses: vec!["9.9.9.9".parse().unwrap()] };
    let settings = Settings { ipv6: false, mtu: Some(1_300), dns: own, ..Settings::default() };
    let made = plan(&profile, &settings).unwrap();
    assert!(!made.has_ipv6() && made.allowed_ips == ["0.0.0.0/0".parse().unwrap()]);
    assert_eq!((made.mtu, made.resolvers), (1_300, vec!["9.9.9.9".parse().unwrap()]));

    let only_v6 = read(&good().replace("10.9.0.2/24, ", "")).unwrap().profile;
    assert_eq!(plan(&only_v6, &settings), Err(NoPlan::NoAddress));
    let other_family = read(&good().replace("0.0.0.0/0, ", "")).unwrap().profile;
    assert_eq!(plan(&other_family, &settings), Err(NoPlan::CarriesNothing));
}

fn key() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>().prop_filter("usable", |bytes| PublicKey::new(*bytes).is_ok())
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let net =
        (any::<bool>(), 1_u8..200, any::<[u8; 14]>(), 0_u8..=128).prop_filter_map("not routable", |(v4, first, rest, length)| {
            let address: IpAddr = if v4 {
                std::net::Ipv4Addr::new(first, rest[0], rest[1], rest[2]).into()
            } else {
                let mut bytes = [0x20; 16];
                bytes[1..15].copy_from_slice(&rest);
                std::net::Ipv6Addr::from(bytes).into()
            };
            let net = IpNet::new(address, if v4 { length % 33 } else { length }).unwrap().trunc();
            (!crate::address::contains_nothing_routable(&net)).then_some(net)
        });
    prop::collection::vec(net, 1..20).prop_map(|mut nets| {
        nets.sort();
        nets.dedup();
        nets
    })
}

fn profiles() -> impl Strategy<Value = Profile> {
    let address = prop::sample::subsequence(vec!["10.9.0.2/24", "10.8.0.2/32", "fd00:9::2/64", "2001:db8::5/128"], 1..=4);
    let dns = prop::sample::subsequence(vec!["10.9.0.1", "9.9.9.9", "fd00::53"], 0..=3);
    let search = prop::sample::subsequence(vec!["corp.example", "lan"], 0..=2);
    let endpoint = (prop::sample::select(vec!["198.51.100.7", "192.168.1.2", "2001:db8::7"]), 1_u16..)
        .prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port));
    let numbers = (prop::option::of(1_280_u16..=9_000), prop::option::of(1_u16..));
    (address, key(), prop::option::of(key()), dns, search, key(), endpoint, networks(), numbers).prop_map(
        |(addresses, private, shared, dns, search, peer, endpoint, allowed_ips, (mtu, keepalive_s))| Profile {
            name: name(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            private_key: SecretKey::new(private),
            preshared_key: shared.map(SecretKey::new),
            dns: dns.iter().map(|text| text.parse().unwrap()).collect(),
            search: search.iter().map(|text| text.parse().unwrap()).collect(),
            mtu,
            peer: PublicKey::new(peer).unwrap(),
            endpoint,
            allowed_ips,
            keepalive_s,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(profile in profiles()) {
        let text = profile.to_conf();
        prop_assert_eq!(read(&text).map(|parsed| parsed.profile), Ok(profile));
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(name(), &bytes);
    }

    #[test]
    fn damaged_profiles_never_panic_and_what_is_read_is_written_the_same(at in 0_usize..400, with in "[ -~\\n\\r\\x00é=\\[\\]#,]{0,8}", cut in 0_usize..4) {
        let mut chars: Vec<char> = good().chars().collect();
        let at = at % chars.len();
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, with.chars());
        if let Ok(parsed) = read(&chars.into_iter().collect::<String>()) {
            let text = parsed.profile.to_conf();
            prop_assert_eq!(read(&text).unwrap().profile, parsed.profile);
        }
    }
}
