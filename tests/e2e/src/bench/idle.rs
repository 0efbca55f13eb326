//! What the helper costs while nothing happens.

use crate::bench::process::{Process, woken_since};
use crate::bench::report::HelperRow;
use crate::bench::throughput::kib_to_mib;
use crate::world::World;
use anyhow::Result;
use std::time::{Duration, Instant};

/// What just happened may echo for so long.
const SETTLE: Duration = Duration::from_secs(2);

/// Watches the helper for a while. Whoever watches must not talk to it.
///
/// # Errors
/// When the helper is gone.
pub fn measure(world: &World, state: &str, time: Duration) -> Result<HelperRow> {
    let helper = Process(u32::try_from(world.helper_pid()?.as_raw())?);
    std::thread::sleep(SETTLE.min(time));
    let (start, wake_ups, cpu) = (Instant::now(), helper.wake_ups()?, helper.cpu_s()?);
    std::thread::sleep(time);
    let (woken, used, took) = (woken_since(&wake_ups, &helper.wake_ups()?), helper.cpu_s()? - cpu, start.elapsed());
    Ok(HelperRow {
        state: state.to_owned(),
        rss_mib: kib_to_mib(helper.rss_kib()?),
        peak_rss_mib: kib_to_mib(helper.peak_rss_kib()?),
        threads: helper.threads()?,
        wake_ups_per_s: f64::from(u32::try_from(woken)?) / took.as_secs_f64(),
        cpu_ms_per_s: used * 1e3 / took.as_secs_f64(),
        watched_s: took.as_secs_f64(),
    })
}
