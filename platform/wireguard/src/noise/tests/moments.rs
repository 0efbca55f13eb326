//! Each timer with the paper's figure (WireGuard paper §6).

use super::*;

fn when(acts: &[(u64, &'static str)], what: &str) -> Vec<u64> {
    acts.iter().filter(|(_, act)| *act == what).map(|(moment, _)| *moment).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_unanswered_initiation_is_repeated_with_jitter_for_90_seconds() {
    let mut gaps = Vec::new();
    for _ in 0..30 {
        let mut ours = Side::new(OURS, THEIRS);
        assert_eq!(ours.channel.due_ms(), None, "an idle peer waits for nothing");
        ours.channel.enqueue(1_000, BytesMut::from(&b"waits"[..]));
        let acts = ours.wait(1_000_000);
        let sent = when(&acts, "initiation");
        assert_eq!(sent[0], 1_000, "at once");
        gaps.extend(sent.windows(2).map(|pair| pair[1] - pair[0]));
        assert_eq!(acts.last(), Some(&(91_000, "end")));
        assert_eq!(acts.len(), sent.len() + 1);
        assert_eq!((ours.channel.queue.len(), ours.channel.due_ms()), (0, None));
        assert!(ours.channel.pending.is_empty(), "ephemeral keys are gone");
        // Traffic begins again, not before the last initiation is 5 s old.
        ours.channel.enqueue(91_001, BytesMut::new());
        assert_eq!(when(&ours.wait(96_000), "initiation").len(), 1);
    }
    assert!(gaps.iter().all(|gap| (5_000..=5_333).contains(gap)), "{gaps:?}");
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least < 5_040 && *most > 5_293, "evenly: {least} to {most}");
}

#[test]
fn ten_seconds_after_data_a_keepalive_goes_back_unless_something_did() {
    let (mut one, mut other) = pair(0);
    let [first, second] = [1_000, 4_000].map(|now| one.send(now, b"data").unwrap());
    other.hear(1_000, &first);
    other.hear(4_000, &second);
    assert_eq!(other.wait(100_000), [(11_000, "keepalive")]);
    let keepalive = bytes(one.channel.keepalive(12_000).unwrap());
    other.hear(12_000, &keepalive);
    assert_eq!(other.wait(100_000), [], "a keepalive is answered by none");
    let data = one.send(20_000, b"data").unwrap();
    other.hear(20_000, &data);
    other.send(25_000, b"answer").unwrap();
    assert_eq!(when(&other.wait(39_000), "keepalive"), []);
}

#[test]
fn fifteen_seconds_of_silence_after_data_bring_a_handshake() {
    for _ in 0..20 {
        let (mut one, mut other) = pair(0);
        one.send(1_000, b"data").unwrap();
        one.send(9_000, b"data").unwrap();
        let acts = one.wait(16_400);
        assert!(matches!(acts.as_slice(), [(16_000..=16_333, "initiation")]), "{acts:?}");
        // A keepalive asks for no answer; whatever is heard is one.
        assert!(other.channel.keepalive(1_000).is_some());
        assert_eq!(other.wait(100_000), []);
        other.send(100_000, b"data").unwrap();
        let heard = one.channel.keepalive(101_000).map(bytes).unwrap();
        assert!(other.hear(101_000, &heard).taken);
        assert_eq!(other.wait(179_999), []);
    }
}

#[test]
fn the_persistent_keepalive_has_its_interval() {
    let mut one = Side::with(OURS, THEIRS, None, Some(25), TimerParams::default());
    let mut other = Side::new(THEIRS, OURS);
    assert_eq!(one.wait(0), [(0, "initiation")], "the first is due at once and asks for a session");
    one.channel.reset();
    agree(10, &mut one, &mut other);
    assert_eq!(one.wait(60_000), [(25_010, "keepalive"), (50_010, "keepalive")]);
    let heard = bytes(other.channel.keepalive(60_000).unwrap());
    one.hear(60_000, &heard);
    assert_eq!(one.wait(90_000), [(85_000, "keepalive")], "after whatever was heard");
    one.channel.set_keepalive(90_000, Some(5));
    assert_eq!(one.wait(95_000), [(95_000, "keepalive")]);
    one.channel.set_keepalive(96_000, None);
    assert_eq!(one.wait(170_000), []);
    one.channel.set_keepalive(170_000, Some(25));
    assert_eq!(when(&one.wait(170_000), "keepalive"), [170_000], "switched on, at once");
}

#[test]
fn the_initiator_renews_at_120_seconds_when_it_sends() {
    let (mut one, mut other) = pair(0);
    for (now, renews) in [(119_999, false), (120_000, true)] {
        one.send(now, b"data").unwrap();
        other.send(now, b"data").unwrap();
        assert_eq!(when(&one.wait(now), "initiation"), if renews { vec![now] } else { vec![] });
        assert_eq!(when(&other.wait(now), "initiation"), [], "who responded does not");
    }
    // A keepalive is a data packet as well: an idle tunnel is never without a session.
    let (mut one, mut other) = pair(0);
    one.channel.keepalive(125_000).unwrap();
    assert_eq!(when(&one.wait(125_000), "initiation"), [125_000]);
    assert!(when(&one.wait(136_000), "initiation").len() >= 2, "and it is repeated");
    carries(136_000, &mut one, &mut other);
}

#[test]
fn the_initiator_renews_at_165_seconds_when_it_hears() {
    let (mut one, mut other) = pair(0);
    for (now, renews) in [(164_999, false), (165_000, true)] {
        let data = other.send(now, b"data").unwrap();
        one.hear(now, &data);
        assert_eq!(when(&one.wait(now), "initiation"), if renews { vec![now] } else { vec![] });
    }
    let (mut one, mut other) = pair(0);
    let data = one.send(170_000, b"data").unwrap();
    other.hear(170_000, &data);
    assert_eq!(when(&other.wait(170_000), "initiation"), [], "who responded does not");
    // Late, under the session before.
    let (mut one, mut other) = pair(0);
    let late = other.send(119_000, b"data").unwrap();
    agree(125_000, &mut one, &mut other);
    assert!(one.hear(170_000, &late).taken);
    assert_eq!(when(&one.wait(170_000), "initiation"), []);
}

#[test]
fn no_key_is_used_at_180_seconds() {
    let (mut one, mut other) = pair(1_000);
    let [early, late] = [180_998, 180_999].map(|now| other.send(now, b"data").unwrap());
    assert_eq!(other.send(181_000, b"data"), None);
    assert!(one.hear(180_999, &early).taken);
    assert!(!one.hear(181_000, &late).taken);
    assert_eq!((one.channel.age(181_000), one.channel.age(180_999)), (None, Some(Duration::from_millis(179_999))));
    one.wait(181_000);
    assert!(one.channel.sessions.is_empty(), "they are wiped");
}

#[test]
fn nothing_is_left_of_an_initiation_after_90_seconds_and_of_a_session_after_180() {
    let (mut one, mut other) = pair(0);
    // An initiation that is not repeated, whose response comes much too late.
    let initiation = one.initiation(6_000);
    let response = other.hear(6_000, &initiation).answer.unwrap();
    one.channel.timers.confirmed();
    assert!(when(&one.wait(95_999), "end").is_empty() && one.channel.pending.len() == 1);
    one.wait(96_000);
    assert!(one.channel.pending.is_empty() && one.channel.sessions.len() == 1);
    assert!(!one.hear(96_001, &response).taken);
    one.wait(180_000);
    assert!(one.channel.sessions.is_empty() && one.channel.due_ms().is_none());
}

#[test]
fn who_gives_up_keeps_the_session_that_carries_data() {
    let (mut one, mut other) = pair(0);
    // Another handshake is asked for and not answered; data flows meanwhile.
    assert!(one.channel.initiate_now(10_000).is_some());
    for now in (10_000..100_000).step_by(5_000) {
        one.wait(now);
        carries(now, &mut one, &mut other);
        carries(now, &mut other, &mut one);
    }
    assert_eq!(when(&one.wait(100_000), "end"), [100_000]);
    carries(100_001, &mut one, &mut other);
}

#[test]
fn what_is_to_be_sent_gives_an_attempt_its_time_again() {
    let mut ours = Side::new(OURS, THEIRS);
    ours.channel.enqueue(0, BytesMut::new());
    assert_eq!(when(&ours.wait(60_000), "end"), []);
    ours.channel.enqueue(60_000, BytesMut::new());
    assert_eq!(when(&ours.wait(1_000_000), "end"), [150_000]);
    // The machine slept in the middle of an attempt.
    ours.channel.enqueue(2_000_000, BytesMut::new());
    assert_eq!(when(&ours.wait(2_000_000), "initiation").len(), 1);
    ours.channel.enqueue(3_000_000, BytesMut::new());
    assert!(matches!(ours.channel.tick(3_000_000), Some(Tick::Send(Message::Handshake(..)))));
    assert!(ours.channel.tick(3_000_000).is_none() && ours.channel.queue.len() == 2);
}

#[test]
fn packets_that_wait_survive_another_key_and_ask_for_a_session() {
    let mut ours = Side::new(OURS, THEIRS);
    assert!(!ours.channel.is_wanted(0));
    ours.channel.enqueue(0, BytesMut::new());
    ours.channel.set_local(Arc::clone(&ours.local));
    assert!(ours.channel.is_wanted(0) && ours.channel.queue.len() == 1);
}

#[test]
fn initiations_keep_their_distance_unless_one_is_asked_for() {
    let mut ours = Side::new(OURS, THEIRS);
    ours.initiation(0);
    ours.channel.timers.confirmed();
    ours.channel.enqueue(1_000, BytesMut::new());
    assert_eq!(when(&ours.wait(5_000), "initiation"), [5_000]);
    assert!(ours.channel.initiate_now(5_000).is_none(), "just gone");
    assert!(ours.channel.initiate_now(5_001).is_some(), "asked for");
}

#[test]
fn other_settings_are_honoured() {
    let ms = Duration::from_millis;
    let timers = TimerParams {
        rekey_after_time: seconds(1)..=seconds(1),
        rekey_timeout: ms(200)..=ms(250),
        keepalive_timeout: ms(300)..=ms(300),
        new_handshake_timeout: ms(700)..=ms(700),
    };
    let mut one = Side::with(OURS, THEIRS, None, None, timers);
    let mut other = Side::new(THEIRS, OURS);
    agree(0, &mut one, &mut other);
    let data = other.send(10, b"data").unwrap();
    one.hear(10, &data);
    assert_eq!(one.wait(600), [(310, "keepalive")]);
    one.send(999, b"data").unwrap();
    assert_eq!(when(&one.wait(999), "initiation"), []);
    one.send(1_000, b"data").unwrap();
    assert_eq!(when(&one.wait(1_000), "initiation"), [1_000]);
    let gap = when(&one.wait(1_250), "initiation")[0] - 1_000;
    assert!((200..=250).contains(&gap), "{gap}");
    agree(2_000, &mut one, &mut other);
    one.send(2_100, b"data").unwrap();
    assert_eq!(when(&one.wait(2_800), "initiation"), [2_800]);
}

#[test]
fn idle_peers_wake_nobody_often() {
    let mut one = Side::with(OURS, THEIRS, None, Some(25), TimerParams::default());
    let mut other = Side::new(THEIRS, OURS);
    agree(0, &mut one, &mut other);
    assert!(other.wait(3_600_000).len() <= 2, "the end of the session");
    assert_eq!(other.channel.due_ms(), None);
    // The other side is dead. Who keeps alive never rests: attempts of 90 s with pauses, as the kernel's.
    let acts = one.wait(3_600_000);
    let ends = when(&acts, "end");
    assert!((30..40).contains(&ends.len()) && acts.len() < 1_000, "{} ends in {} acts", ends.len(), acts.len());
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] > 100_000), "{ends:?}");
    assert!(*ends.last().unwrap() > 3_400_000);
}
