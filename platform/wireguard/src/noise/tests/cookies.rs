//! A peer under load asks for a cookie, in both roles, with gotatun's limiter on the other side.

use super::*;

fn check(limiter: &RateLimiter, datagram: &[u8]) -> Result<(), Vec<u8>> {
    match limiter.verify_packet(address(), Packet::from_bytes(BytesMut::from(datagram))) {
        Ok(_) => Ok(()),
        Err(TunnResult::WriteToNetwork(cookie)) => Err(Packet::<[u8]>::from(cookie).to_vec()),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn we_bring_the_cookie_for_two_minutes() {
    let limiter = RateLimiter::new(&public(THEIRS), 0);
    let mut ours = Side::new(OURS, THEIRS);
    let first = ours.initiation(0);
    let cookie = check(&limiter, &first).expect_err("a cookie is asked for");
    let second = ours.initiation(5_000);
    assert!(!ours.hear(5_000, &cookie).taken, "it is for the message before");
    let cookie = check(&limiter, &second).expect_err("again");
    for place in 4..64 {
        let mut wrong = cookie.clone();
        wrong[place] ^= 1;
        assert!(!ours.hear(5_001, &wrong).taken, "byte {place}");
    }
    assert!(ours.hear(5_001, &cookie).taken);
    assert!(!ours.hear(5_001, &cookie).taken, "once");
    assert_eq!(check(&limiter, &ours.initiation(10_000)), Ok(()));
    assert_eq!(check(&limiter, &ours.initiation(125_000)), Ok(()), "a moment before its end");
    check(&limiter, &ours.initiation(125_001)).expect_err("two minutes old");
    // To an unloaded peer it makes no difference.
    let mut theirs = Other::new(THEIRS, OURS, None, 100);
    assert!(theirs.hear(&ours.initiation(130_000)).taken);
}

#[test]
fn a_responder_brings_the_cookie_as_well() {
    let (mut ours, mut theirs) = (Side::new(OURS, THEIRS), Other::new(THEIRS, OURS, None, 0));
    let response = ours.hear(0, &theirs.initiation()).answer.unwrap();
    let cookie = theirs.hear(&response).answer.expect("a cookie");
    assert!(ours.hear(1, &cookie).taken);
    std::thread::sleep(Duration::from_millis(1));
    let response = ours.hear(20, &theirs.initiation()).answer.unwrap();
    let keepalive = theirs.hear(&response).answer.expect("a keepalive");
    assert!(ours.hear(21, &keepalive).confirmed);
}

#[test]
fn gotatun_brings_us_the_cookie() {
    let limiter = RateLimiter::new(&public(OURS), 0);
    let (mut ours, mut theirs) = (Side::new(OURS, THEIRS), Other::new(THEIRS, OURS, None, 100));
    let cookie = check(&limiter, &theirs.initiation()).expect_err("a cookie is asked for");
    assert!(theirs.hear(&cookie).taken);
    let second = theirs.initiation();
    assert_eq!(check(&limiter, &second), Ok(()));
    assert!(ours.hear(0, &second).taken);
}

#[test]
fn the_first_check_covers_every_byte_of_ours() {
    let limiter = RateLimiter::new(&public(THEIRS), 100);
    let initiation = Side::new(OURS, THEIRS).initiation(0);
    assert_eq!(check(&limiter, &initiation), Ok(()));
    for place in 1..132 {
        let mut wrong = initiation.clone();
        wrong[place] ^= 0x10;
        let checked = limiter.verify_packet(address(), Packet::from_bytes(BytesMut::from(wrong.as_slice())));
        assert!(matches!(checked, Err(TunnResult::Err(_))), "byte {place}");
    }
    assert_eq!(initiation[132..], [0; 16], "no cookie, no second MAC");
}
