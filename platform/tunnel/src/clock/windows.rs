//! The milliseconds since boot, sleep and hibernation included, not adjustable, in steps of 10 to 16 ms (learn.microsoft.com:
//! GetTickCount64, "Interrupt Time"). The finer QueryInterruptTime is missing from Wine, where tests run, and nothing here
//! needs it.
#![expect(unsafe_code, reason = "GetTickCount64 is foreign")]

use windows_sys::Win32::System::SystemInformation::GetTickCount64;

pub(super) fn boottime_ms() -> u64 {
    // SAFETY: takes nothing and always succeeds.
    unsafe { GetTickCount64() }
}
