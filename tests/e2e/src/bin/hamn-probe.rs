//! Fires one salvo of probes: reads it as JSON from standard input, prints what the kernel accepted as JSON.

use hamn_e2e::probe::{Salvo, fire};

fn main() -> anyhow::Result<()> {
    let salvo: Salvo = serde_json::from_reader(std::io::stdin().lock())?;
    println!("{}", serde_json::to_string(&fire(&salvo)?)?);
    Ok(())
}
