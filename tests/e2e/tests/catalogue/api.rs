//! API, TIME and KEY: the provider is down, slow, hostile or has other opinions; the clock is wrong; keys change (G17).

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_provider::sandbox::address as at;
use std::process::Child;
use std::time::Instant;

fn provider(world: &mut World) -> Result<&mut hamn_e2e::provider::Provider> {
    world.provider.as_mut().context("a provider runs")
}

/// Takes the API away and puts something else on its addresses: a Python program that gets the listening sockets ready.
fn replace_api(world: &mut World, program: &str, tls: bool) -> Result<Child> {
    provider(world)?.kill_api()?;
    let directory = provider(world)?.directory().to_owned();
    let wrap = if tls {
        format!(
            "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\ncontext.load_cert_chain('{0}/tls/server.pem', '{0}/tls/server.key')\n",
            directory.display()
        )
    } else {
        String::new()
    };
    let script = format!(
        "import socket, ssl, threading, time
{wrap}
def serve(connection):
    try:
        {start}
        request = connection.recv(65536)
        answer(connection)
        connection.close()
    except OSError:
        pass
def answer(connection):
{program}
def listen(address, family):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 443))
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
for address in ('192.0.2.10', '192.0.2.11'):
    threading.Thread(target=listen, args=(address, socket.AF_INET), daemon=True).start()
listen('2001:db8:2::10', socket.AF_INET6)
",
        start = if tls { "connection = context.wrap_socket(connection, server_side=True)" } else { "pass" },
    );
    let path = world.lab.directory().join("hostile.py");
    std::fs::write(&path, script)?;
    let child = world.lab.internet.command("python3").arg(&path).log_to(&world.lab.directory().join("hostile.log"))?.spawn()?;
    until("the hostile API listens", s(5), || {
        let open = world.lab.internet.run(|| std::net::TcpStream::connect((at::API_V6, at::API_PORT)).is_ok())?;
        Ok(open.then_some(()))
    })?;
    Ok(child)
}

fn connects_from_cache(world: &mut World, why: &str) -> Result<()> {
    let start = Instant::now();
    world.connect().with_context(|| why.to_owned())?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"), "{why}");
    ensure!(start.elapsed() < s(6), "{why}: connecting from the cache took {} ms", start.elapsed().as_millis());
    world.assert_no_leak(why)?;
    world.disconnect()
}

/// A first tunnel, so that the gateway knows the device and the cache is full.
fn once_connected() -> Result<World> {
    let world = World::start()?;
    world.connect()?;
    world.disconnect()?;
    Ok(world)
}

/// API-01: the API is down (refused, silent), the cache is enough, also after a restart of the helper.
#[test]
fn api_01_connects_from_the_cache_when_the_api_is_down() -> Result<()> {
    let mut world = once_connected()?;
    provider(&mut world)?.kill_api()?;
    connects_from_cache(&mut world, "refused")?;
    world.lab.isp_drops("ip daddr { 192.0.2.10, 192.0.2.11 }")?;
    world.lab.isp_drops("ip6 daddr 2001:db8:2::10")?;
    connects_from_cache(&mut world, "silent")?;
    world.stop_helper(nix::sys::signal::Signal::SIGTERM)?;
    world.start_helper()?;
    connects_from_cache(&mut world, "silent, after a restart")
}

fn memory_kib(world: &World) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", world.helper_pid()?))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

fn hostile(name: &str, program: &str, tls: bool) -> Result<()> {
    let mut world = once_connected()?;
    let before = memory_kib(&world)?;
    let mut child = replace_api(&mut world, program, tls)?;
    connects_from_cache(&mut world, name)?;
    // Everything that asks the API gives up in time, with an error and not with a crash.
    for command in ["account", "devices list"] {
        let start = Instant::now();
        let output = world.hamn(command)?.timeout(s(30)).output().with_context(|| format!("{name}: {command}"))?;
        ensure!(start.elapsed() < s(25), "{name}: {command} took {} ms", start.elapsed().as_millis());
        ensure!(command == "account" || !output.status.success(), "{name}: {command} succeeded");
    }
    let grown = memory_kib(&world)?.saturating_sub(before);
    // The second tunnel's packet pools may take 26 MiB of it; what is read without bound takes far more.
    ensure!(grown <= 48 * 1024, "{name}: the helper grew by {grown} KiB");
    child.kill()?;
    child.wait()?;
    provider(&mut world)?;
    Ok(())
}

/// API-03: one byte a second.
#[test]
fn api_03_a_slow_api_is_given_up() -> Result<()> {
    hostile(
        "slow",
        "    for byte in b'HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\n' + b'x' * 100:\n        connection.send(bytes([byte]))\n        time.sleep(1)",
        true,
    )
}

/// API-04: an answer without end.
#[test]
fn api_04_an_endless_answer_is_cut_off() -> Result<()> {
    hostile(
        "endless",
        "    connection.send(b'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n\\r\\n')\n    while True:\n        connection.send(b'[' * 65536)",
        true,
    )
}

/// API-05: garbage, inside TLS and in its place.
#[test]
fn api_05_garbage_keeps_the_last_good_list() -> Result<()> {
    hostile(
        "garbage",
        "    connection.send(b'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 6\\r\\n\\r\\n{\\xff\\xfe\\x00[[')",
        true,
    )
}

/// API-07: no TLS, another certificate: refused, never plaintext.
#[test]
fn api_07_no_tls_is_refused() -> Result<()> {
    hostile("plaintext", "    connection.send(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}')", false)
}

/// API-07: a certificate of another root.
#[test]
fn api_07_a_foreign_certificate_is_refused() -> Result<()> {
    let mut world = once_connected()?;
    provider(&mut world)?.kill_api()?;
    let other = world.lab.directory().join("other");
    let program = hamn_e2e::binaries::binary("hamn-provider")?;
    world.lab.internet.command(&program).args(["init", "--dir"]).arg(&other).ok()?;
    world.lab.internet.command(&program).args(["api", "--dir"]).arg(&other).log_to(&other.join("api.log"))?.spawn()?;
    until("the other API listens", s(5), || {
        let open = world.lab.internet.run(|| std::net::TcpStream::connect((at::API_V4, at::API_PORT)).is_ok())?;
        Ok(open.then_some(()))
    })?;
    let output = world.hamn("devices list")?.output()?;
    ensure!(!output.status.success(), "a foreign certificate was accepted");
    connects_from_cache(&mut world, "foreign certificate")
}

/// API-08: redirects, to anywhere.
#[test]
fn api_08_redirects_are_refused() -> Result<()> {
    hostile(
        "redirect",
        "    connection.send(b'HTTP/1.1 302 Found\\r\\nLocation: http://192.0.2.66:7777/\\r\\nContent-Length: 0\\r\\n\\r\\n')",
        true,
    )
}

/// API-06: hostile entries in a list that is properly signed are passed over one by one; the good server still works.
#[test]
fn api_06_hostile_entries_are_passed_over() -> Result<()> {
    let mut world = World::start()?;
    let directory = provider(&mut world)?.directory().to_owned();
    hamn_provider::list::edit(&directory, |source| {
        let servers = source["servers"].as_array_mut().context("servers")?;
        let good = servers.iter().find(|server| server["id"] == "vpn05").context("vpn05")?.clone();
        let mut add = |id: &str, field: &str, value: serde_json::Value| {
            let mut bad = good.clone();
            bad["id"] = id.into();
            match field {
                "id" | "name" => bad[field] = value,
                _ => bad["endpoints"][0][field] = value,
            }
            servers.push(bad);
        };
        for (index, address) in ["127.0.0.1", "10.0.0.1", "224.0.0.1", "0.0.0.0", "169.254.1.1", "::1", "fe80::1", "10.64.0.1"]
            .into_iter()
            .enumerate()
        {
            add(&format!("bad{index}"), "addresses", serde_json::json!([address]));
        }
        add("badport", "ports", serde_json::json!([65536, -1, 0]));
        add("badkey", "public_key", serde_json::json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
        add("newline", "name", serde_json::json!("a\nb\u{202e};$(reboot)`id`"));
        add("x", "id", serde_json::json!("../../etc/passwd"));
        Ok(())
    })?;
    let program = hamn_e2e::binaries::binary("hamn-provider")?;
    world.lab.internet.command(program).args(["sign-list", "--dir"]).arg(&directory).ok()?;
    world.stop_helper(nix::sys::signal::Signal::SIGTERM)?;
    world.start_helper()?;
    let names = until("the new list is in use", s(10), || {
        let text = world.run("servers --json")?;
        Ok(text.contains("vpn05").then_some(text))
    })?;
    for bad in ["bad0", "bad4", "badport", "badkey", "newline", "passwd", "reboot"] {
        ensure!(!names.contains(bad), "{bad} was taken: {names}");
    }
    world.connect()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    world.assert_no_leak("with a list that holds hostile entries")
}

/// TIME-01: the helper's clock is ten years off in either direction: no crash, and a tunnel from the cache or a clear word.
#[test]
fn time_01_a_clock_ten_years_off() -> Result<()> {
    let library = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .context("libfaketime is not installed")?;
    for shift in ["-3650d", "+3650d", "-1h", "+1h"] {
        let mut world = World::start()?;
        world.control()?;
        world.connect()?;
        world.kill_helper()?;
        world.lab.reset_witness()?;
        world.start_helper_with(&[("LD_PRELOAD", library), ("FAKETIME", shift), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")])?;
        // The first attempt may fail: the gateway takes a clock that went back for a replay, until the key is another one.
        let outcome = until(&format!("a tunnel, or the reason, at {shift}"), s(40), || {
            let status = world.status()?;
            let done = status["state"] == "connected" || status["blocked"]["code"] == "clock_wrong";
            Ok(done.then_some(status))
        })
        .with_context(|| world.helper_log_tail())?;
        world.fire()?;
        world.assert_nothing_outside(shift)?;
        if outcome["state"] == "connected" {
            assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"), "{shift}");
        }
    }
    Ok(())
}

/// The user removes the device on the provider's web site: another session of the same account.
fn remove_from_elsewhere(world: &World, id: &str) -> Result<()> {
    let provider = world.provider.as_ref().context("a provider runs")?.directory();
    let call = |method: &str, path: &str, token: &str, body: &str| {
        let command = world.lab.internet.command("curl").args([
            "-sS",
            "-X",
            method,
            "-d",
            body,
            "--resolve",
            "api.sandbox.test:443:192.0.2.10",
        ]);
        let command = command.arg("--cacert").arg(provider.join("tls/ca.pem")).args(["-H", "Content-Type: application/json"]);
        command.args(["-H", &format!("Authorization: Bearer {token}")]).arg(format!("https://api.sandbox.test/v1/{path}")).ok()
    };
    let login = serde_json::json!({ "account": hamn_e2e::provider::ACCOUNT, "client": { "name": "web", "version": "0", "platform": "web" } });
    let session: serde_json::Value = serde_json::from_str(&call("POST", "sessions", "", &login.to_string())?)?;
    let token = session["access_token"].as_str().with_context(|| format!("a token in {session}"))?;
    let answer = call("DELETE", &format!("devices/{id}"), token, "")?;
    ensure!(!answer.contains("code"), "{answer}");
    Ok(())
}

/// KEY-02: an expired account and a device that was removed: the right reason, the right advice, no storm of requests.
#[test]
fn key_02_expired_accounts_and_removed_devices() -> Result<()> {
    let mut world = World::start()?;
    world.run("logout")?;
    let expired = world.hamn("login -")?.input(format!("{}\n", hamn_provider::init::ACCOUNTS[2].1)).output()?;
    if expired.status.success() {
        world.want("best")?;
        let status = world.wait_for_state("blocked", s(10))?;
        ensure!(status["blocked"]["code"] == "account_expired", "{status:#}");
        world.assert_no_leak("expired account")?;
        world.disconnect()?;
        world.run("logout")?;
    } else {
        let text = String::from_utf8_lossy(&expired.stderr).into_owned();
        ensure!(text.contains("expired"), "{text}");
    }
    world.login()?;
    world.connect()?;
    let devices = world.json("devices list")?;
    let current = devices["devices"]
        .as_array()
        .context("devices")?
        .iter()
        .find(|device| device["current"] == true)
        .context("this device")?;
    let id = current["id"].as_str().context("id")?.to_owned();
    world.lab.reset_witness()?;
    remove_from_elsewhere(&world, &id)?;
    let status = until("the removal is noticed", s(20), || {
        let _ = world.lab.exit_address(false, ms(300))?;
        let status = world.status()?;
        Ok((status["state"] == "blocked").then_some(status))
    })?;
    ensure!(["device_revoked", "logged_out"].contains(&status["blocked"]["code"].as_str().unwrap_or_default()), "{status:#}");
    world.assert_nothing_outside("device removed")?;
    world.assert_no_leak("device removed")?;
    world.login()?;
    world.wait_for_exit(at::GATEWAY_V4, s(15))?;
    Ok(())
}

/// KEY-01: the device key is replaced while a connection inside the tunnel carries data: no byte lost, nothing outside.
#[test]
fn key_01_rotation_under_load_loses_nothing() -> Result<()> {
    use std::io::{Read, Write};
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.reset_witness()?;
    let path = world.state_dir().join("device.json");
    let read = || -> Result<serde_json::Value> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
    let mut device = read()?;
    let old = device["key"].clone();
    // The key is as old as 1970: replacing it is overdue.
    device["key_created_unix_s"] = 0.into();
    std::fs::write(&path, device.to_string())?;
    let mut stream = world.lab.client.run(|| std::net::TcpStream::connect((at::OBSERVER_V4, at::OBSERVER_PORT)))??;
    stream.set_read_timeout(Some(s(3)))?;
    let (mut pieces, start) = (0_u32, Instant::now());
    let mut exchange = |stream: &mut std::net::TcpStream| -> Result<()> {
        pieces += 1;
        stream.write_all(&pieces.to_be_bytes())?;
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).with_context(|| format!("piece {pieces} is lost"))?;
        ensure!(echo == pieces.to_be_bytes(), "the stream is intact");
        Ok(())
    };
    while read()?["key"] == old {
        ensure!(start.elapsed() < s(45), "the key was not replaced within 45 s");
        exchange(&mut stream)?;
    }
    for _ in 0..200 {
        exchange(&mut stream)?;
        std::thread::sleep(ms(5));
    }
    world.assert_nothing_outside("key rotation")?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    ensure!(world.status()?["attempt"]["number"] == 1, "no new attempt was needed");
    Ok(())
}
