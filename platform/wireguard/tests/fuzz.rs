//! The fuzz target's work over its corpus and mutations of it, for a bounded time. `HAMN_FUZZ_SECONDS` makes it longer;
//! `HAMN_FUZZ_CORPUS=write` makes the corpus again.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test file: it may panic")]

#[path = "../fuzz/exercise.rs"]
#[expect(clippy::expect_used, reason = "it may panic")]
mod exercise;

use hamn_wireguard::checksum::{Sum, pseudo_header};
use hamn_wireguard::packet::{put_be16, put_be32, seal_ipv4};
use hamn_wireguard::virtio::{Header, Segmentation};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn corpus_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/split_merge")
}

/// A small generator whose numbers are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// A TCP or UDP packet; `number` counts the packets of the flow, `partial` leaves the checksum to be completed.
fn packet(v6: bool, udp: bool, payload: usize, number: u32, partial: bool) -> Vec<u8> {
    let (ip, transport) = (if v6 { 40 } else { 20 }, if udp { 8 } else { 32 });
    let mut bytes = vec![0; ip + transport + payload];
    let length = u16::try_from(transport + payload).unwrap();
    let protocol = if udp { 17 } else { 6 };
    let addresses = if v6 {
        bytes[0] = 0x60;
        put_be16(&mut bytes, 4, length);
        (bytes[6], bytes[7]) = (protocol, 64);
        bytes[8..40].fill(0xfd);
        8..40
    } else {
        bytes[0] = 0x45;
        put_be16(&mut bytes, 2, length + 20);
        put_be16(&mut bytes, 4, u16::try_from(number).unwrap());
        (bytes[6], bytes[8], bytes[9]) = (0x40, 64, protocol);
        bytes[12..20].fill(10);
        seal_ipv4(&mut bytes);
        12..20
    };
    put_be32(&mut bytes, ip, 0x1234_01bb);
    bytes[ip + transport..].iter_mut().zip(0_u8..=255).for_each(|(place, value)| *place = value);
    let at = if udp {
        put_be16(&mut bytes, ip + 4, length);
        ip + 6
    } else {
        put_be32(&mut bytes, ip + 4, number * u32::try_from(payload).unwrap());
        (bytes[ip + 12], bytes[ip + 13]) = (0x80, 0x10);
        bytes[ip + 20..ip + 32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        ip + 16
    };
    let pseudo: Sum = pseudo_header(&bytes[addresses], protocol, length);
    let checksum = if partial { pseudo.fold() } else { pseudo.over(&bytes[ip..]).finish() };
    put_be16(&mut bytes, at, checksum);
    bytes
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut corpus = vec![("empty".to_owned(), vec![]), ("no-header".to_owned(), vec![0; 9])];
    for v6 in [false, true] {
        for udp in [false, true] {
            let name = format!("{}-{}", if udp { "udp" } else { "tcp" }, if v6 { 6 } else { 4 });
            let segmentation = match (udp, v6) {
                (true, _) => Segmentation::Udp,
                (false, true) => Segmentation::Tcp6,
                (false, false) => Segmentation::Tcp4,
            };
            let header = Header {
                needs_checksum: true,
                segmentation,
                header_length: 0,
                segment_size: 50,
                checksum_start: if v6 { 40 } else { 20 },
                checksum_offset: if udp { 6 } else { 16 },
            };
            let frame = |header: Header, packet: Vec<u8>| [&[0][..], &header.to_bytes(), &packet].concat();
            corpus.push((format!("frame-{name}"), frame(header, packet(v6, udp, 170, 0, true))));
            let single = Header { segmentation: Segmentation::None, ..header };
            corpus.push((format!("single-{name}"), frame(single, packet(v6, udp, 33, 0, true))));
            let mut list = vec![1];
            for number in 0..4 {
                let packet = packet(v6, udp, 60, number, false);
                list.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
                list.extend(packet);
            }
            corpus.push((format!("list-{name}"), list));
        }
    }
    corpus
}

fn mutate(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        match random.below(7) {
            0 if !input.is_empty() => input[at] = random.byte(),
            1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            2 => input.truncate(at),
            3 => input.insert(at, random.byte()),
            4 if !input.is_empty() => drop(input.remove(at)),
            5 if input.len() > 2 => {
                let value = [0_u16, 1, 20, 40, 0x7fff, 0xfffe, 0xffff][random.below(7)];
                let at = at.min(input.len() - 2);
                input[at..at + 2].copy_from_slice(&value.to_ne_bytes());
            }
            _ => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input
}

#[test]
fn the_corpus_and_its_mutations_break_nothing() {
    if std::env::var("HAMN_FUZZ_CORPUS").is_ok_and(|what| what == "write") {
        for (name, bytes) in corpus() {
            std::fs::write(corpus_dir().join(name), bytes).unwrap();
        }
    }
    let files = std::fs::read_dir(corpus_dir()).unwrap();
    let inputs: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 14, "the corpus is there");
    let found: Vec<(usize, usize)> = inputs.iter().map(|input| exercise::exercise(input)).collect();
    assert!(found.iter().filter(|(cut, _)| *cut == 4).count() >= 4, "{found:?}");
    assert!(found.iter().filter(|(_, joined)| *joined == 3).count() >= 4, "{found:?}");
    let seconds = std::env::var("HAMN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut random, mut runs, mut cut, mut joined) = (Random(0x9e37_79b9_7f4a_7c15), 0_u64, 0, 0);
    while Instant::now() < end {
        for _ in 0..256 {
            let input = mutate(&mut random, &inputs);
            let (more_cut, more_joined) = exercise::exercise(&input);
            (runs, cut, joined) = (runs + 1, cut + more_cut, joined + more_joined);
        }
    }
    println!("{runs} inputs, {cut} packets cut, {joined} joined");
    assert!(cut > 100 && joined > 100, "{runs} inputs reach the code: {cut} cut, {joined} joined");
}
