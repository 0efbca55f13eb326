//! The properties of the machine over random sequences of events, faults and crashes.

use hamn_model_tests::episode::{Episode, add};
use hamn_model_tests::world::Counts;

/// Steps of the default run; `HAMN_MODEL_STEPS` asks for another number, `HAMN_MODEL_SEED` repeats one
/// episode, `HAMN_MODEL_TRACE=1` tells the events of the shortest failing one.
const STEPS: u64 = 1_200_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run(seed: u64, sum: &mut Counts) {
    let episode = Episode::new(seed);
    let result = std::panic::catch_unwind(|| episode.run());
    match result {
        Ok(Ok(counts)) => add(sum, &counts),
        Ok(Err(broken)) => {
            let shortest = episode.shrink();
            let again = shortest.run_traced(number("HAMN_MODEL_TRACE").is_some()).err();
            panic!("HAMN_MODEL_SEED={seed}: {broken}\nshortest ({} steps): {again:?}\n{shortest:?}", shortest.steps.len());
        }
        Err(_) => panic!("HAMN_MODEL_SEED={seed}: the machine panicked"),
    }
}

/// G4, G6, G7, G16, G22 and the order of effects, on at least a million events.
#[test]
fn properties_hold_on_random_sequences() {
    let mut sum = Counts::default();
    if let Some(seed) = number("HAMN_MODEL_SEED") {
        return run(seed, &mut sum);
    }
    let steps = number("HAMN_MODEL_STEPS").unwrap_or(STEPS);
    let mut seed = 0;
    while sum.events < steps {
        run(seed, &mut sum);
        seed += 1;
    }
    println!("{seed} episodes: {sum:?}");
    // A run in which something never happens proves nothing about it.
    if steps >= 100_000 {
        let each = [sum.crashes, sum.starts, sum.tunnels, sum.connected, sum.applies, sum.failed_applies, sum.opened, sum.stale];
        assert!(each.iter().all(|count| *count > steps / 500), "{sum:?}");
        assert!(sum.settled == seed, "{sum:?}");
    }
}
