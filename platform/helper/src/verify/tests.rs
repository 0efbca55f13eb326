//! What a probe proves.

use super::*;
use crate::probe::Errno;

// A probe that could not be tried is never a pass.
#[test]
fn only_what_the_firewall_stopped_passes() {
    let result = |fate| {
        let target = SocketAddr::from((PUBLIC_V4, 443));
        probe_check(&Outcome { interface: "eth0".to_owned(), what: "IPv4", target, fate }).result
    };
    assert_eq!(result(Fate::Left), CheckResult::Fail);
    assert_eq!(result(Fate::Stopped), CheckResult::Pass);
    for error in [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EADDRNOTAVAIL] {
        assert_eq!(result(Fate::NoRoute(error)), CheckResult::Skipped);
    }
    for error in [Errno::EMFILE, Errno::ENODEV, Errno::EPERM] {
        assert_eq!(result(Fate::Failed(error)), CheckResult::Unknown);
    }
}
