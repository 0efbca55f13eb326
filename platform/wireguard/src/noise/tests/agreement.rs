//! Handshakes: with gotatun in both roles, and what must be refused.

use super::*;

#[test]
fn gotatun_answers_us_and_data_flows_with_and_without_a_preshared_key() {
    for psk in [None, Some([7; 32])] {
        let mut ours = Side::with(OURS, THEIRS, psk, None, TimerParams::default());
        let mut theirs = Other::new(THEIRS, OURS, psk, 100);
        let response = theirs.hear(&ours.initiation(1_000)).answer.expect("a response");
        let keepalive = ours.hear(1_001, &response).answer.expect("a keepalive");
        assert_eq!(theirs.hear(&keepalive).text, Some(vec![]));
        for round in 0..100_u8 {
            let text = vec![round; usize::from(round) * 16];
            assert_eq!(theirs.hear(&ours.send(1_002, &text).unwrap()).text, Some(text.clone()));
            assert_eq!(ours.hear(1_003, &theirs.send(&text).unwrap()).text, Some(text));
        }
    }
}

#[test]
fn we_answer_gotatun_and_data_flows_with_and_without_a_preshared_key() {
    for psk in [None, Some([7; 32])] {
        let mut ours = Side::with(OURS, THEIRS, psk, None, TimerParams::default());
        let mut theirs = Other::new(THEIRS, OURS, psk, 100);
        let response = ours.hear(1_000, &theirs.initiation()).answer.expect("a response");
        assert_eq!(ours.send(1_000, b"too early"), None, "who responds waits for the first packet");
        let keepalive = theirs.hear(&response).answer.expect("a keepalive");
        assert!(ours.hear(1_001, &keepalive).confirmed);
        for round in 0..100_u8 {
            let text = vec![round; usize::from(round) * 16];
            assert_eq!(theirs.hear(&ours.send(1_002, &text).unwrap()).text, Some(text.clone()));
            assert_eq!(ours.hear(1_003, &theirs.send(&text).unwrap()).text, Some(text));
        }
    }
}

#[test]
fn wrong_keys_are_refused_and_the_right_ones_still_work() {
    // The responder knows another peer, or is another.
    let mut ours = Side::new(OURS, THEIRS);
    assert_eq!(Side::new(THEIRS, 9).hear(0, &ours.initiation(0)), Heard::default());
    assert_eq!(Side::new(9, OURS).hear(0, &ours.initiation(0)), Heard::default());
    // Another preshared key: the response is refused and one under the right key taken for the same initiation.
    let with = |own, peer, key| Side::with(own, peer, Some([key; 32]), None, TimerParams::default());
    let mut ours = with(OURS, THEIRS, 1);
    let initiation = ours.initiation(0);
    let wrong = with(THEIRS, OURS, 2).hear(0, &initiation).answer.unwrap();
    assert_eq!(ours.hear(0, &wrong), Heard::default());
    let right = with(THEIRS, OURS, 1).hear(0, &initiation).answer.unwrap();
    assert!(ours.hear(0, &right).taken);
    assert!(!ours.hear(0, &right).taken, "once");
    // Changed on both sides, sessions go on and the next handshake uses it.
    let (mut one, mut other) = pair(0);
    one.channel.set_psk(Some([3; 32]));
    carries(1, &mut one, &mut other);
    let wrong = other.hear(6_000, &one.initiation(6_000)).answer.unwrap();
    assert!(!one.hear(6_000, &wrong).taken);
    other.channel.set_psk(Some([3; 32]));
    agree(12_000, &mut one, &mut other);
    carries(12_000, &mut one, &mut other);
}

#[test]
fn a_flipped_bit_anywhere_is_refused_and_changes_nothing() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    let initiation = one.initiation(0);
    // From the ephemeral key on; the index is the sender's own affair, and the MACs are checked before we get it.
    for place in 8..116 {
        let mut wrong = initiation.clone();
        wrong[place] ^= 1 << (place % 8);
        assert_eq!(other.hear(0, &wrong), Heard::default(), "byte {place}");
    }
    let response = other.hear(0, &initiation).answer.expect("the right one is taken after all of them");
    for place in 8..60 {
        let mut wrong = response.clone();
        wrong[place] ^= 1 << (place % 8);
        // The top bit of a public key means nothing (RFC 7748).
        assert!(!one.hear(0, &wrong).taken, "byte {place}");
    }
    let mut wrong = response.clone();
    wrong[8] ^= 1;
    assert!(!one.hear(0, &wrong).taken, "another's index");
    let keepalive = one.hear(0, &response).answer.expect("the right one");
    assert!(other.hear(0, &keepalive).confirmed);
    carries(0, &mut other, &mut one);
}

#[test]
fn public_keys_that_agree_with_everybody_are_refused() {
    let mut ours = Side::new(OURS, THEIRS);
    for point in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let mut message = Side::new(THEIRS, OURS).initiation(0);
        message[8..40].copy_from_slice(&point);
        assert_eq!(ours.hear(0, &message), Heard::default());
    }
    // As a peer's key it never leads to a handshake, and to no storm of attempts.
    let settings = Settings { public: PublicKey::from([0; 32]), psk: None, keepalive_s: None, timers: TimerParams::default() };
    let local = Arc::new(Local::new(secret(OURS)));
    let mut channel = Channel::new(local, settings, IndexTable::from_os_rng());
    assert!(channel.initiate_now(0).is_none());
    assert!(channel.due_ms().is_some_and(|due| due >= 5_000));
}

#[test]
fn an_initiation_is_taken_once_and_none_that_is_older() {
    for gotatun in [false, true] {
        let mut ours = Side::new(OURS, THEIRS);
        let (mut theirs, mut other) = (Other::new(THEIRS, OURS, None, 100), Side::new(THEIRS, OURS));
        let mut initiation = || {
            // gotatun's stamps are as fine as its clock.
            std::thread::sleep(Duration::from_millis(1));
            if gotatun { theirs.initiation() } else { other.initiation(0) }
        };
        let [first, second, third] = [initiation(), initiation(), initiation()];
        assert!(ours.hear(0, &second).taken);
        assert!(!ours.hear(20, &second).taken, "replayed");
        assert!(!ours.hear(40, &first).taken, "older");
        // Neither a new key of ours nor rest makes it forget.
        ours.channel.reset();
        assert!(!ours.hear(60, &second).taken);
        assert!(ours.hear(60, &third).taken);
    }
}

#[test]
fn a_late_response_is_taken_if_it_is_one_of_the_last_six() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    let responses = [0, 600, 1_200, 1_800, 2_400, 5_100, 10_200].map(|now| {
        let initiation = one.initiation(now);
        other.hear(now, &initiation).answer.unwrap()
    });
    let [first, fourth, _, second, third] = [0, 3, 4, 5, 6].map(|place: usize| responses[place].clone());
    assert!(!one.hear(10_300, &first).taken, "the seventh before");
    assert!(one.channel.pending.iter().any(|pending| pending.sent_ms == 1_800), "it waits still");
    let keepalive = one.hear(10_300, &second).answer.expect("the one before");
    assert!(!one.hear(10_300, &fourth).taken, "older than what was answered");
    assert!(other.hear(10_400, &keepalive).confirmed);
    carries(10_400, &mut other, &mut one);
    assert!(one.wait(20_000).iter().all(|(_, what)| *what != "initiation"), "nothing is repeated any more");
    // The last is newer still, and both sides go over to it.
    let keepalive = one.hear(10_500, &third).answer.expect("the last");
    assert!(other.hear(10_600, &keepalive).confirmed);
    carries(10_600, &mut other, &mut one);
    carries(10_600, &mut one, &mut other);
    assert!(!one.hear(10_700, &second).taken && !one.hear(10_700, &third).taken);
}

#[test]
fn a_response_that_takes_longer_than_three_seconds_meets_its_initiation() {
    let second = Duration::from_secs(1);
    let timers = TimerParams { rekey_timeout: second..=second, ..TimerParams::default() };
    let (mut one, mut other) = (Side::with(OURS, THEIRS, None, None, timers), Side::new(THEIRS, OURS));
    one.channel.enqueue(0, BytesMut::from(&b"waits"[..]));
    // Each way takes 2.5 s, and an initiation goes out each second.
    let initiations: Vec<_> = (0..5).map(|n| (n * 1_000, one.channel.tick(n * 1_000))).collect();
    let (_, Some(Tick::Send(first))) = initiations.into_iter().next().unwrap() else { panic!("an initiation") };
    let response = other.hear(2_500, &bytes(first)).answer.expect("a response");
    assert!(one.hear(5_000, &response).taken);
    assert!(one.channel.dequeue(5_000).is_some());
}

#[test]
fn a_response_that_was_held_back_is_not_taken() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    let [early, late] = [1_000, 2_000].map(|now| {
        let initiation = one.initiation(now);
        other.hear(now, &initiation).answer.unwrap()
    });
    // Another handshake came first: nothing is repeated, and the initiations wait on.
    one.channel.timers.confirmed();
    assert!(one.hear(90_999, &early).taken);
    assert!(!one.hear(92_000, &late).taken);
}

#[test]
fn initiations_of_one_peer_closer_than_20_ms_are_a_flood() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    let initiations: Vec<_> = (0..4).map(|now| one.initiation(now)).collect();
    assert!(other.hear(100, &initiations[0]).taken);
    assert!(!other.hear(119, &initiations[1]).taken);
    assert!(other.hear(120, &initiations[2]).taken, "what is refused does not count");
    assert!(!other.hear(121, &initiations[3]).taken);
}

#[test]
fn a_channel_in_the_place_of_another_takes_no_initiation_again() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    let initiation = one.initiation(0);
    assert!(other.hear(0, &initiation).taken);
    let mut next = Side::new(THEIRS, OURS);
    next.channel.succeed(&other.channel);
    assert!(!next.hear(1_000, &initiation).taken);
    assert!(next.hear(1_000, &one.initiation(1_000)).taken);
}

#[test]
fn both_sides_may_begin_at_once() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    for now in [0, 130_000] {
        let (ours, theirs) = (one.initiation(now), other.initiation(now));
        let (answer, reply) = (other.hear(now, &ours).answer.unwrap(), one.hear(now, &theirs).answer.unwrap());
        if now > 0 {
            // On its way under the session before.
            let text = one.send(now, b"old").unwrap();
            assert!(other.hear(now, &reply).taken);
            assert_eq!(other.hear(now, &text).text.unwrap(), b"old");
        } else {
            assert!(other.hear(now, &reply).taken);
        }
        let keepalive = one.hear(now, &answer).answer.unwrap();
        assert!(other.hear(now, &keepalive).taken);
        carries(now, &mut one, &mut other);
        carries(now, &mut other, &mut one);
        carries(now, &mut one, &mut other);
        for side in [&mut one, &mut other] {
            let acts = side.wait(now + 14_000);
            assert!(acts.iter().all(|(_, what)| *what != "initiation"), "{acts:?}");
        }
    }
}

#[test]
fn a_late_packet_under_an_older_session_does_not_bring_it_back() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    let [first, second] = [0, 5_100].map(|now| {
        let initiation = one.initiation(now);
        other.hear(now, &initiation).answer.unwrap()
    });
    let under_first = one.hear(5_200, &first).answer.unwrap();
    let under_second = one.hear(5_200, &second).answer.unwrap();
    assert!(other.hear(5_300, &under_second).confirmed);
    let newer = other.send(5_300, b"data").unwrap();
    assert!(other.hear(5_400, &under_first).confirmed, "it is authentic, and heard");
    assert_eq!(other.send(5_400, b"data").unwrap()[4..8], newer[4..8]);
}
