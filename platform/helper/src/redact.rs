//! Takes out of a text what tells who, where or with which key (G14, G20): addresses, names of hosts, keys, tokens, long
//! numbers, homes and mail addresses. Rather too much than too little; the work is proportional to the length.

use hamn_core::address::{AddressClass, classify};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

/// Shortest run of letters and digits that counts as a key or token: 32 bytes in base64 are 43, a UUID is 36.
const KEY_LENGTH: usize = 32;
/// Shortest number that could belong to an account. Milliseconds and ports stay.
const NUMBER_LENGTH: usize = 6;
/// From here on a number is one wherever it stands, with dashes in it or not.
const ACCOUNT_LENGTH: usize = 10;
/// Longest name before a `=`.
const NAME_LENGTH: usize = 32;
/// Endings that make a word with dots the name of a file of ours or of the system's.
const FILES: [&str; 10] = ["conf", "json", "sock", "service", "nft", "rs", "so", "rules", "policy", "log"];

/// The text with what it tells replaced by what kind of thing it was.
#[must_use]
pub fn redact(text: &str) -> String {
    let text = without_groups(text);
    let mut clean = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars() {
        if is_part_of_word(c) {
            word.push(c);
            continue;
        }
        clean.push_str(&named(&std::mem::take(&mut word)));
        clean.push(if c.is_control() { ' ' } else { c });
    }
    clean.push_str(&named(&word));
    clean
}

/// Numbers as people write them replaced: three groups of four digits or more with a space between them.
fn without_groups(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let is_part = |c: char| c.is_ascii_digit() || c == ' ';
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        let (run, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        let groups = run.split(' ').filter(|group| !group.is_empty());
        let long = groups.clone().filter(|group| group.len() == 4).count() >= 3;
        clean.push_str(before);
        if long && groups.clone().all(|group| group.len() <= 4) {
            clean.push_str(if run.starts_with(' ') { " <number>" } else { "<number>" });
            clean.push_str(if run.ends_with(' ') { " " } else { "" });
        } else {
            clean.push_str(run);
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

const fn is_part_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '+' | '=' | '%' | '[' | ']' | '@' | '~')
}

/// True for a character of which a word is made: a cut text ends before the last such run.
#[must_use]
pub(crate) const fn belongs_to_word(c: char) -> bool {
    is_part_of_word(c)
}

/// What stands for a word.
fn named(word: &str) -> String {
    if word.is_empty() {
        return String::new();
    }
    // `name=value` is judged by its value; padding at the end of a key is none.
    let mut value = word;
    while let Some((name, rest)) = value.split_once('=')
        && (1..=NAME_LENGTH).contains(&name.len())
        && rest.starts_with(|c: char| c != '=')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        value = rest;
    }
    let names = word.strip_suffix(value).unwrap_or_default();
    format!("{}{}", without_addresses(names), judged(value))
}

fn judged(word: &str) -> String {
    if word.contains("://") {
        return "<url>".to_owned();
    }
    if word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
        return "<mail>".to_owned();
    }
    if let Some(rest) = word.strip_prefix("/home/").or_else(|| word.strip_prefix("/Users/")) {
        let (_, below) = rest.split_once('/').unwrap_or((rest, ""));
        return format!("/home/<user>{}{}", if below.is_empty() { "" } else { "/" }, in_parts(below, is_inner_mark, piece));
    }
    // Base64 has slashes and no colons, so what is between colons comes first.
    in_parts(
        &without_addresses(word),
        |c| matches!(c, ':' | '[' | ']' | '<' | '>'),
        |part| {
            let bare = part.trim_matches(['.', '-']);
            if is_key(bare) { part.replacen(bare, "<key>", 1) } else { in_parts(part, is_inner_mark, piece) }
        },
    )
}

const fn is_inner_mark(c: char) -> bool {
    matches!(c, '/' | '%')
}

/// The text with each part between marks replaced by what `of` makes of it.
fn in_parts(text: &str, is_mark: impl Fn(char) -> bool, of: impl Fn(&str) -> String) -> String {
    let mut clean = String::with_capacity(text.len());
    for part in text.split_inclusive(&is_mark) {
        let inner = part.trim_end_matches(&is_mark);
        clean.push_str(&of(inner));
        clean.push_str(part.strip_prefix(inner).unwrap_or_default());
    }
    clean
}

/// What stands for a word in which nothing else is.
fn piece(word: &str) -> String {
    let bare = word.trim_matches(['.', '-']);
    if is_long_number(bare) {
        word.replacen(bare, "<number>", 1)
    } else if is_own_name(bare) || is_host(bare) {
        word.replacen(bare, "<host>", 1)
    } else {
        without_numbers(word)
    }
}

/// Numbers that are too long for anything but an account replaced, also with letters before them.
fn without_numbers(word: &str) -> String {
    let mut clean = String::with_capacity(word.len());
    let mut rest = word;
    let is_part = |c: char| c.is_ascii_digit() || c == '-';
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        let (numbers, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        clean.push_str(before);
        let digits = numbers.bytes().filter(u8::is_ascii_digit).count();
        clean.push_str(if digits >= ACCOUNT_LENGTH { "<number>" } else { numbers });
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// Every address in the word replaced by its family and class, which tell nobody where anybody is.
fn without_addresses(word: &str) -> String {
    let mut clean = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(start) = rest.find(is_part_of_address) {
        let (before, from) = rest.split_at(start);
        let (run, after) = from.split_at(from.find(|c| !is_part_of_address(c)).unwrap_or(from.len()));
        let touches = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let inside_a_word = touches(before.chars().last()) || touches(after.chars().next());
        clean.push_str(before);
        match address_in(run, inside_a_word) {
            Some(shown) => clean.push_str(&shown),
            None => clean.push_str(run),
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

const fn is_part_of_address(c: char) -> bool {
    c.is_ascii_hexdigit() || matches!(c, ':' | '.')
}

/// What stands for a run of hexadecimal digits, colons and dots; `None` when there is no address in it.
fn address_in(run: &str, inside_a_word: bool) -> Option<String> {
    let trimmed = run.trim_matches('.');
    let colons = trimmed.bytes().filter(|b| *b == b':').count();
    // "hamn_core::face" is none.
    let can_be_v6 = colons >= 2 && (!inside_a_word || trimmed.bytes().any(|b| b.is_ascii_digit()));
    if can_be_v6 {
        let without_end = trimmed.strip_suffix(':').filter(|text| !text.ends_with(':')).unwrap_or(trimmed);
        let without_start = without_end.strip_prefix(':').filter(|text| !text.starts_with(':')).unwrap_or(without_end);
        let parsed = [trimmed, without_end, without_start].into_iter().find_map(|text| text.parse::<Ipv6Addr>().ok());
        if let Some(address) = parsed.filter(|address| !(inside_a_word && address.is_unspecified())) {
            return Some(shown(address.into()));
        }
    }
    let dotted = without_dotted(run);
    if dotted != run {
        return Some(dotted);
    }
    // A hardware address, or half an address. A time of day has two colons.
    (can_be_v6 && colons >= 3).then(|| "<address>".to_owned())
}

/// Four numbers or more with dots between them, replaced.
fn without_dotted(run: &str) -> String {
    let mut clean = String::with_capacity(run.len());
    let mut rest = run;
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        let (numbers, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        let bare = numbers.trim_matches('.');
        clean.push_str(before);
        if bare.bytes().filter(|b| *b == b'.').count() >= 3 {
            clean.push_str(&bare.parse::<Ipv4Addr>().map_or_else(|_| "<address>".to_owned(), |address| shown(address.into())));
            clean.push_str(if numbers.ends_with('.') { "." } else { "" });
        } else {
            clean.push_str(numbers);
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// Family and class: `<IPv4 public>`.
pub(crate) fn shown(address: IpAddr) -> String {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let class = match classify(address) {
        AddressClass::Global => "public",
        AddressClass::Private => "private",
        AddressClass::Loopback => "loopback",
        AddressClass::LinkLocal => "link-local",
        AddressClass::Unspecified
        | AddressClass::Multicast
        | AddressClass::Broadcast
        | AddressClass::Reserved
        | AddressClass::EmbeddedV4 => "special",
    };
    format!("<{family} {class}>")
}

/// A long run of the letters of base64 or hexadecimal: keys, tokens, UUIDs.
fn is_key(word: &str) -> bool {
    let letters = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_'));
    let mixed = word.bytes().any(|b| b.is_ascii_digit()) || word.contains(['+', '=']);
    if word.len() < KEY_LENGTH || !letters || !mixed {
        return false;
    }
    // The path of a file is no key, unless one of its parts is.
    let path = word.starts_with('/') && !word.contains(['+', '=']);
    !path || word.split('/').any(|part| part.len() >= KEY_LENGTH)
}

/// Digits alone, also with dashes between them; a date stays.
fn is_long_number(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let only = word.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let mut parts = word.split('-').map(str::len);
    let date = (parts.next(), parts.next(), parts.next(), parts.next()) == (Some(4), Some(2), Some(2), None);
    only && !date && digits >= NUMBER_LENGTH
}

/// The name of this computer, which its owner may have given it.
fn is_own_name(word: &str) -> bool {
    static NAME: OnceLock<String> = OnceLock::new();
    let name = NAME.get_or_init(crate::host::name);
    let first = name.split('.').next().unwrap_or_default();
    first.len() >= 3 && first != "localhost" && (word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(first))
}

/// Two labels or more, and not the name of a file.
fn is_host(word: &str) -> bool {
    let host = word.split_once([':', '/']).map_or(word, |(host, _)| host);
    let Some((_, last)) = host.rsplit_once('.') else { return false };
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    host.split('.').all(label) && !FILES.contains(&last) && last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const SECRETS: [&str; 21] = [
        "198.51.100.7",
        "198.51.100.7:51820",
        "198.51.100.7:51820/udp",
        "10.0.0.0/8",
        "2001:db8::7",
        "2001:db8::/32",
        "[2001:db8::7]:443",
        "[2001:db8::7]:51820/udp",
        "fe80::1%eth0",
        "::ffff:198.51.100.7",
        "52:54:00:12:34:56",
        "https://api.example.test/v1",
        "vpn05.example.test",
        "vpn05.example.test:443",
        "somebody@example.test",
        "4242424242424242",
        "4242-4242-4242-4242",
        "4242 4242 4242 4242",
        "qJ8dWlYq3Zc2n0m1p5o7r9t1v3x5z7B9D1F3H5J7L9M=",
        "/J8dWlYq3Zc2n0m1p5o7r9t1v3x5z7B9D1F3H5J7L9M=",
        "01898f3e-7b1c-7cc0-9c1e-6f2b1a9d4e55",
    ];

    // G20, SEC-01: nothing that tells who, where or with which key stays, however it is written down.
    #[test]
    fn what_tells_who_and_where_is_replaced() {
        for secret in SECRETS {
            for dressed in [
                secret.to_owned(),
                format!("at {secret}, now"),
                format!("endpoint={secret}."),
                format!("({secret})"),
                format!("Some(V4({secret}))"),
                format!("\"{secret}\":"),
                format!("from:{secret} to:{secret}"),
                format!("53:{secret}:53"),
                format!("face:{secret}"),
                format!("v{secret}"),
                format!("a\u{1}{secret}\nb"),
                format!("ü{secret}ü"),
            ] {
                let clean = redact(&dressed);
                assert!(!clean.contains(secret) && clean.contains('<'), "{dressed} -> {clean}");
                let core = secret.trim_matches(['[', ']']).split(['%', '/', ']']).find(|part| part.len() > 3).unwrap();
                assert!(!clean.contains(core) || core == "https:", "{dressed} -> {clean}");
            }
        }
        assert_eq!(redact("/home/somebody/.config/hamn"), "/home/<user>/.config/hamn");
        assert_eq!(redact("/home/somebody"), "/home/<user>");
        assert_eq!(redact("10.64.0.2->198.51.100.7:53"), "<IPv4 private>-><IPv4 public>:53");
        assert_eq!(redact("a-198.51.100.7-b"), "a-<IPv4 public>-b");
        assert_eq!(redact("fd00::2 and 2001:db8::7:"), "<IPv6 private> and <IPv6 public>");
        let own = crate::host::name();
        if own.len() >= 3 && own != "localhost" {
            assert_eq!(redact(&format!("on {own}.")), "on <host>.");
        }
    }

    #[test]
    fn ordinary_words_stay() {
        for text in [
            "the tunnel hamn0 took 203 ms, attempt=4; /etc/resolv.conf was restored at 12:03, 1.5 s; hamn_helper::service",
            "hamn_core::face said 12:03:05 on 2026-11-21; version 0.1.0",
            "Tunnel(GatewaySilent), 4242 of 5000 lines: code=gateway_silent",
            "/proc/sys/net/ipv4/conf/eth0/rp_filter is 2; port 51820 [info]",
            "",
            " two  spaces ",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn hostile_texts_take_time_in_proportion() {
        for unit in ["1.", ":", "a=", "::1", "4242 ", "a.b@", "/home/", "=", "[", "f:"] {
            let text = unit.repeat(200_000 / unit.len());
            let started = Instant::now();
            let clean = redact(&text);
            assert!(started.elapsed() < Duration::from_secs(5), "{unit}: {:?}", started.elapsed());
            assert!(clean.len() <= text.len() * 8 + 16, "{unit}");
        }
    }
}
