//! How long it takes from the start of the command to the first byte from the web through the tunnel.

use crate::bench::clients::{Client, Clients, Recipe};
use crate::bench::report::{ConnectRow, Report};
use crate::bench::stats::Spread;
use crate::bench::{inside, keep, millis, some};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use hamn_provider::sandbox::address::{GATEWAY_V4, WEB_V4};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The first byte must come by then after the command has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// A kind of connect is given up after so many failures.
const MAX_FAILURES: usize = 3;

/// One way to connect.
struct Way {
    name: &'static str,
    up: Recipe,
    down: Recipe,
    exit: IpAddr,
    command_ms: Vec<f64>,
    first_byte_ms: Vec<f64>,
    failures: Vec<String>,
}

/// Measures all ways in turn.
pub fn measure(world: &World, clients: &Clients, rounds: usize, report: &mut Report) {
    let missing = &mut report.not_measured;
    let mut ways: Vec<Way> = Vec::new();
    let provider = provider(world);
    ways.extend(keep(missing, "connect: `hamn connect --wait`", provider));
    let profile = way(world, clients, Client::Hamn, "`hamn connect --profile bench --wait`");
    ways.extend(keep(missing, "connect: `hamn connect --profile`", profile));
    let quick = way(world, clients, Client::WireGuardGo, "`wg-quick up`, wireguard-go");
    ways.extend(keep(missing, "connect: wg-quick with wireguard-go", quick));
    for _ in 0..rounds {
        for way in ways.iter_mut().filter(|way| way.failures.len() < MAX_FAILURES) {
            match once(world, way) {
                Ok((command, first_byte)) => {
                    way.command_ms.push(millis(command));
                    way.first_byte_ms.push(millis(first_byte));
                }
                Err(error) => way.failures.push(format!("{error:#}")),
            }
            let down = way.down.clone();
            if let Err(error) = inside(&world.lab.client, "down", move || down.run()) {
                way.failures.push(format!("down: {error:#}"));
            }
        }
    }
    for way in ways {
        let spread = Spread::of(&way.first_byte_ms).zip(Spread::of(&way.command_ms));
        if let Some(first) = way.failures.first() {
            let why = format!("{} of {rounds} rounds failed, the first: {first}", way.failures.len());
            keep::<()>(missing, &format!("connect: {}", way.name), Err(anyhow::Error::msg(why)));
        }
        if let Some((first_byte_ms, command_ms)) = spread {
            let failures = way.failures.len();
            report.connect.push(ConnectRow { way: way.name.to_owned(), first_byte_ms, command_ms, failures });
        }
    }
}

fn provider(world: &World) -> Result<Way> {
    some(world.provider.as_ref(), "there is no provider")?;
    world.helper_pid()?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    Ok(Way {
        name: "`hamn connect --wait`",
        up: Recipe::hamn(world, words("connect --wait"))?,
        down: Recipe::hamn(world, words("disconnect --wait"))?,
        exit: GATEWAY_V4,
        command_ms: Vec::new(),
        first_byte_ms: Vec::new(),
        failures: Vec::new(),
    })
}

fn way(world: &World, clients: &Clients, client: Client, name: &'static str) -> Result<Way> {
    Ok(Way {
        name,
        up: clients.command(world, client, true)?,
        down: clients.command(world, client, false)?,
        exit: Clients::EXIT,
        command_ms: Vec::new(),
        first_byte_ms: Vec::new(),
        failures: Vec::new(),
    })
}

fn once(world: &World, way: &Way) -> Result<(Duration, Duration)> {
    let (up, exit) = (way.up.clone(), way.exit);
    inside(&world.lab.client, "up", move || {
        let start = Instant::now();
        up.run()?;
        let command = start.elapsed();
        let (first_byte, seen) = first_byte(start).context("the command succeeded, but the web is out of reach")?;
        ensure!(seen == exit.to_string(), "the web saw {seen}, not {exit}: this byte did not come through the tunnel");
        Ok((command, first_byte))
    })
}

/// Time from `start` to the first byte of the web's answer, and as whom the web saw us.
fn first_byte(start: Instant) -> Result<(Duration, String)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(WEB_V4, 80), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /ip HTTP/1.1\r\nHost: web.sandbox.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = vec![0; 1];
    stream.read_exact(&mut answer)?;
    let first_byte = start.elapsed();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").context("not an HTTP answer")?.1.trim();
    Ok((first_byte, body.to_owned()))
}
