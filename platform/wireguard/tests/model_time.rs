//! A day in less than a minute: the engines themselves, on a clock that runs faster. Needs root.
//!
//! Everything here and in gotatun takes the time from `CLOCK_BOOTTIME` and sleeps with a timer on it. Two functions of the C
//! library are replaced by ones that make that clock run `FACTOR` times as fast; all other clocks are as they were, and so are
//! sockets, devices and TCP.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test file: it may panic")]

mod common;

use common::{Setup, client_peer, descriptors, gateway_peer, lab, memory_kb};
use hamn_wireguard::{Event, PeerConfig, TimerParams};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Seconds of the model in a second.
const FACTOR: i64 = 2_400;
const DAY: Duration = Duration::from_secs(24 * 3_600);
const GATEWAY: &str = "10.0.0.1:51820";

mod clock {
    //! The two functions, in the place of the C library's for this program.
    #![expect(unsafe_code, reason = "functions of the C library take pointers")]

    use super::{AtomicI64, FACTOR, Ordering};
    use libc::{c_int, clockid_t, itimerspec, timespec};

    const NANOS: i64 = 1_000_000_000;
    static BEGAN: AtomicI64 = AtomicI64::new(0);

    /// # Safety
    /// As clock_gettime(2).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
        // SAFETY: the caller's pointer, passed on.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        if clock == libc::CLOCK_BOOTTIME && result == 0 {
            // SAFETY: the kernel has just written to it.
            let time = unsafe { &mut *time };
            let now = time.tv_sec * NANOS + time.tv_nsec;
            let began = BEGAN.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|began| began);
            let began = if began == 0 { now } else { began };
            let model = began + (now - began) * FACTOR;
            (time.tv_sec, time.tv_nsec) = (model / NANOS, model % NANOS);
        }
        i32::try_from(result).unwrap_or(-1)
    }

    /// # Safety
    /// As timerfd_settime(2).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn timerfd_settime(fd: c_int, flags: c_int, new: *const itimerspec, old: *mut itimerspec) -> c_int {
        // SAFETY: the caller's pointer, which it promises to be valid.
        let mut time = unsafe { *new };
        assert_eq!(flags, 0, "from now on");
        let nanos = time.it_value.tv_sec * NANOS + time.it_value.tv_nsec;
        let real = if nanos == 0 { 0 } else { (nanos / FACTOR).max(1) };
        time.it_value = timespec { tv_sec: real / NANOS, tv_nsec: real % NANOS };
        // SAFETY: the timer's new value lives through the call; the other pointer is the caller's.
        let result = unsafe { libc::syscall(libc::SYS_timerfd_settime, fd, flags, &raw const time, old) };
        i32::try_from(result).unwrap_or(-1)
    }
}

/// An answer comes within microseconds, which are seconds here; half a minute is 12 ms.
fn timers() -> TimerParams {
    let seconds = Duration::from_secs;
    TimerParams { rekey_timeout: seconds(30)..=seconds(31), ..TimerParams::default() }
}

fn gateway() -> PeerConfig {
    PeerConfig { timers: Some(timers()), ..gateway_peer(GATEWAY) }
}

/// Echoes of numbered chunks until `end`; how many bytes came back as they left.
fn echoes(stream: &mut TcpStream, end: Instant) -> u64 {
    let (mut sum, mut number) = (0, 0_u64);
    let mut back = vec![0; 32_768];
    while Instant::now() < end {
        let chunk = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(4_096);
        stream.write_all(&chunk).unwrap();
        stream.read_exact(&mut back).unwrap();
        assert!(chunk == back, "chunk {number}");
        (sum, number) = (sum + 32_768, number + 1);
        std::thread::sleep(Duration::from_millis(1));
    }
    sum
}

#[test]
fn a_day_of_traffic_and_a_day_of_rest() {
    let busy = lab();
    let far = common::start(
        &busy.gateway,
        "hg0",
        ("10.64.0.1/24", "fd64::1/64"),
        hamn_wireguard::EngineOptions::new(common::gateway_key(), hamn_wireguard::Listen::Port(common::PORT)),
        PeerConfig { timers: Some(timers()), ..client_peer() },
        Setup::default(),
    );
    let near = busy.client(gateway(), Setup::default());
    near.await_handshake();
    busy.pings();
    // The other pair has nothing to do but its keepalives.
    let idle = lab();
    let resting_far = idle.gateway(Setup::default());
    let resting = idle.client(gateway(), Setup::default());
    resting.await_handshake();

    let time = DAY / u32::try_from(FACTOR).unwrap();
    let (listening, is_listening) = std::sync::mpsc::channel();
    busy.gateway.spawn(move || {
        let listener = TcpListener::bind("10.64.0.1:7002").unwrap();
        listening.send(()).unwrap();
        let (mut from, _) = listener.accept().unwrap();
        let mut to = from.try_clone().unwrap();
        std::io::copy(&mut from, &mut to).unwrap();
    });
    is_listening.recv().unwrap();
    let mut stream = busy.client.run(|| TcpStream::connect("10.64.0.1:7002").unwrap());
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();

    // The first hours make everything warm.
    let warm = echoes(&mut stream, Instant::now() + time / 8);
    let before = (memory_kb("VmRSS"), descriptors());
    let (woken, began) = ([resting.totals().wakeups, resting_far.totals().wakeups], Instant::now());
    let bytes = warm + echoes(&mut stream, Instant::now() + time);
    let model_s = began.elapsed().as_secs_f64() * f64::from(i32::try_from(FACTOR).unwrap());
    let woken = [resting.totals().wakeups - woken[0], resting_far.totals().wakeups - woken[1]];
    let after = (memory_kb("VmRSS"), descriptors());
    let count = |events: &std::sync::mpsc::Receiver<Event>| {
        events.try_iter().filter(|event| matches!(event, Event::Handshake(_))).count()
    };
    let (made, rested) = (count(&near.events), count(&resting.events));
    let (near_totals, far_totals) = (near.totals(), far.totals());
    println!(
        "{:.1} h of the model: {bytes} bytes there and back; {made} handshakes under load, {rested} at rest",
        model_s / 3_600.0
    );
    println!("{woken:?} wake-ups at rest; memory {} kB, then {} kB; {near_totals:?}", before.0, after.0);

    // A session lives for two minutes: 720 in a day. A handshake that took too long in this hurry costs a second one.
    assert!((500..2_000).contains(&made), "{made} handshakes");
    assert!(rested >= 300, "{rested} handshakes at rest");
    assert_eq!((near_totals.unsent, far_totals.unsent, busy.checksum_errors()), (0, 0, 0));
    assert!(bytes > 50_000_000, "{bytes}");
    assert!(after.0 < before.0 + 1_024, "memory grew from {} to {} kB", before.0, after.0);
    assert_eq!(after.1, before.1, "descriptors");
    for count in woken {
        let per_second = f64::from(u32::try_from(count).unwrap()) / model_s;
        assert!(per_second < 2.0 && count > 1_000, "{count} wake-ups in {model_s} s");
    }
    // After a day it is a tunnel still.
    busy.pings();
    idle.pings();
}
