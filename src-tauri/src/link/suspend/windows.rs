//! Time asleep on Windows: `GetTickCount64` counts sleep and hibernation, `QueryUnbiasedInterruptTime` does not
//! (learn.microsoft.com: "Interrupt Time"). Both count the same interrupts, the first in steps of 10 to 16 ms.
#![expect(unsafe_code, reason = "the Windows API")]

use std::time::Duration;
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;

pub(super) fn time_asleep() -> Option<Duration> {
    let mut awake = 0_u64;
    // SAFETY: `awake` takes one number.
    let done = unsafe { QueryUnbiasedInterruptTime(&raw mut awake) };
    // SAFETY: takes nothing and always succeeds.
    let all = unsafe { GetTickCount64() };
    // In 100 ns.
    let awake = Duration::from_micros(awake / 10);
    (done != 0).then(|| Duration::from_millis(all).saturating_sub(awake))
}
