//! The page is locked in: no network, no other page, no code from a string, no command that it was not given.

use crate::open;
use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::s;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

const BARE: &str = "a connection without a request";

/// When (milliseconds since 1970), and the first line of each request.
type Heard = Arc<Mutex<Vec<(u128, String)>>>;

/// A web server on the client that lets everybody read, and writes down the first line of what it was asked.
fn listener(world: &World) -> Result<(u16, Heard)> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    let socket = world.lab.client.run(|| TcpListener::bind("127.0.0.1:0"))??;
    let port = socket.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let Ok(mut stream) = stream else { return };
            let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
            let _ = stream.set_read_timeout(Some(s(1)));
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            log.lock().unwrap().push((at, text.lines().next().unwrap_or(BARE).to_owned()));
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            );
        }
    });
    Ok((port, heard))
}

/// Tries every way out that a page has; each must be refused.
const ATTEMPTS: &str = "
const base = `http://127.0.0.1:${arguments[0]}/`, violations = [];
const next = (name) => `${base}${name}`;
document.addEventListener('securitypolicyviolation', event => violations.push(event.effectiveDirective));
const attempts = [
  () => fetch(next('fetch')), () => fetch(next('fetch-no-cors'), { mode: 'no-cors' }),
  () => { const x = new XMLHttpRequest(); x.open('GET', next('xhr'), false); x.send(); },
  () => new WebSocket(next('websocket').replace('http', 'ws')), () => new EventSource(next('eventsource')),
  () => navigator.sendBeacon(next('beacon'), 'x'),
  () => { new Image().src = next('image'); },
  () => import(next('import.js')),
  () => new Worker(next('worker.js')),
  ...['script', 'iframe', 'img', 'audio', 'video', 'embed'].map(tag => () => { const e = document.createElement(tag); e.src = next(tag); document.body.append(e); }),
  ...['stylesheet', 'prefetch', 'preload', 'icon', 'manifest', 'preconnect'].map(rel => () => { const e = document.createElement('link'); e.rel = rel; e.as = 'script'; e.href = next(rel); document.head.append(e); }),
  () => { const e = document.createElement('object'); e.data = next('object'); document.body.append(e); },
  () => { const e = document.createElement('style'); e.textContent = `body { background: url(${next('css')}) }`; document.head.append(e); },
  () => { document.body.insertAdjacentHTML('beforeend', `<form id=leak action='${next('form')}' method=post></form>`); document.getElementById('leak').submit(); },
  () => { const e = document.createElement('script'); e.textContent = 'window.inline = 1'; document.body.append(e); },
  () => { document.body.insertAdjacentHTML('beforeend', `<p id=styled style='color: rgb(1, 2, 3)' onclick='window.clicked = 1'>x</p>`); document.getElementById('styled').click(); },
  () => window.open(next('open')), () => { const e = document.createElement('a'); e.href = next('target'); e.target = '_blank'; document.body.append(e); e.click(); },
  () => { const e = document.createElement('meta'); e.httpEquiv = 'refresh'; e.content = `0;url=${next('refresh')}`; document.head.append(e); },
  () => { location.href = next('location'); }
];
const times = [];
for (const attempt of attempts) {
  times.push([Date.now(), String(attempt)]);
  try { Promise.resolve(attempt()).catch(() => 0); } catch (refused) {}
  await new Promise(done => setTimeout(done, 80));
}
const evals = [];
for (const run of [() => eval('1'), () => new Function('return 1')(), () => setTimeout('window.timed = 1', 0)]) { try { run(); evals.push('ran'); } catch (refused) { evals.push('refused'); } }
await new Promise(done => setTimeout(done, 1500));
return { times, violations: [...new Set(violations)], evals, inline: window.inline, clicked: window.clicked, timed: window.timed,
         styled: document.getElementById('styled') && getComputedStyle(document.getElementById('styled')).color,
         global: typeof window.__TAURI__, frozen: Object.isFrozen(Object.prototype), href: location.href };";

#[test]
fn the_page_reaches_nothing_and_runs_nothing_of_strangers() -> Result<()> {
    let world = World::start()?;
    let window = open(&world)?;
    window.wait_for_state(&["disconnected"], s(10))?;
    let (port, heard) = listener(&world)?;
    let before = window.session().run("return location.href;", &[])?;
    let found = window.session().run_async(ATTEMPTS, &[json!(port)])?;
    // The engine opens a connection to where a link leads while it asks whether it may go there. It may not, so nothing is said on it.
    heard.lock().unwrap().retain(|(_, line)| line != BARE);
    ensure!(heard.lock().unwrap().is_empty(), "{:?} left the page: {found}", heard.lock().unwrap());
    ensure!(found["evals"][0] == "refused" && found["evals"][1] == "refused", "code from a string ran: {found}");
    for name in ["inline", "clicked", "timed"] {
        ensure!(found[name].is_null(), "{name} ran: {found}");
    }
    ensure!(found["styled"] != "rgb(1, 2, 3)", "a style attribute from markup counts: {found}");
    ensure!(found["global"] == "undefined" && found["frozen"] == true, "{found}");
    ensure!(found["href"] == before, "the page went elsewhere: {found}");
    let violations = found["violations"].as_array().map_or(0, Vec::len);
    ensure!(violations >= 3, "the policy reported only {found}");
    // The page is still the page, and the listener can count.
    window.wait_for_state(&["disconnected"], s(5))?;
    let address = format!("http://127.0.0.1:{port}/");
    world.lab.client.command("curl").args(["-s", &address]).ok()?;
    ensure!(heard.lock().unwrap().len() == 1, "the negative control");
    Ok(())
}

#[test]
fn a_command_that_the_page_was_not_given_is_refused() -> Result<()> {
    let world = World::start()?;
    let window = open(&world)?;
    window.wait_for_state(&["disconnected"], s(10))?;
    for command in [
        "plugin:autostart|enable",
        "plugin:fs|read_text_file",
        "plugin:shell|execute",
        "plugin:shell|open",
        "plugin:opener|open_url",
        "plugin:http|fetch",
        "plugin:process|exit",
        "plugin:webview|create_webview_window",
        "plugin:window|set_title",
        "plugin:deep-link|register",
        "plugin:notification|notify",
        "no_such_command",
    ] {
        let refused = window.invoke(command, &json!({"path": "/etc/passwd", "program": "id", "value": "x", "label": "main"}));
        let words = refused.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(words.contains("not allowed") || words.contains("not found"), "{command}: {refused:?}");
    }
    // The control: what it was given works.
    let preferences = window.invoke("preferences", &json!({}))?;
    ensure!(preferences["first_run_done"] == true, "{preferences}");
    Ok(())
}

#[test]
fn the_account_number_stays_nowhere() -> Result<()> {
    let setup = hamn_e2e::world::Setup { login: false, ..Default::default() };
    let world = World::with(setup)?;
    let window = open(&world)?;
    window.wait_for_state(&["signed_out"], s(10))?;
    window.go("account")?;
    window.type_into("login-account", hamn_e2e::provider::ACCOUNT)?;
    window.click("login-submit")?;
    hamn_e2e::wait::until("signed in", s(10), || Ok((world.status()?["provider"]["logged_in"] == true).then_some(())))?;
    let script = "
        const typed = [...document.querySelectorAll('input')].map(input => input.value).join(' ');
        return typed + document.documentElement.outerHTML + JSON.stringify({ ...localStorage }) + JSON.stringify({ ...sessionStorage }) + document.cookie;";
    let page = window.session().run(script, &[])?;
    ensure!(!page.as_str().unwrap_or_default().contains(hamn_e2e::provider::ACCOUNT), "the page keeps the account number");
    let output = world
        .lab
        .client
        .command("grep")
        .args(["-rlaF", hamn_e2e::provider::ACCOUNT])
        .arg(window.screen().directory())
        .output()?;
    ensure!(output.stdout.is_empty(), "the account number is in {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
