//! Promises of time: what a person notices. Measured in the page, from the event to the frame that shows it.

use crate::open_with;
use anyhow::{Context, Result};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until, within};
use hamn_e2e::window::WindowOptions;
use hamn_e2e::window::page::word;
use hamn_gui_tests::fake::FakeHelper;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Resolves once the frame that shows the present state is drawn: a timer that is set while a frame is made ends after it. A message
/// to the page itself would do so too, but WebKit sends it through its network process and back.
const DRAWN: &str = "const drawn = () => new Promise(next => requestAnimationFrame(() => setTimeout(next)));";

/// The program chooses how it draws, as for people; the other tests choose for it.
fn as_shipped(options: &mut WindowOptions) {
    options.environment.push(("WEBKIT_DISABLE_DMABUF_RENDERER".to_owned(), String::new()));
}

/// The limit holds for a machine with nothing else to do (`HAMN_STRICT_TIMES=1`); any other may take five times as long.
fn promised(what: &str, took: Duration, limit: Duration) -> Result<()> {
    let strict = std::env::var_os("HAMN_STRICT_TIMES").is_some();
    println!("{what} after {} ms; the promise is {} ms", took.as_millis(), limit.as_millis());
    within(what, took, if strict { limit } else { limit * 5 })
}

fn p95(mut samples: Vec<f64>) -> Result<Duration> {
    samples.sort_by(f64::total_cmp);
    let index = (samples.len() * 95).div_ceil(100).saturating_sub(1);
    let worst = samples.get(index).context("no samples")?;
    println!("{} samples, p50 {:.1} ms, p95 {worst:.1} ms", samples.len(), samples[samples.len() / 2]);
    Ok(Duration::from_secs_f64(worst.max(0.0) / 1000.0))
}

#[test]
fn a_click_shows_connecting_within_50_ms() -> Result<()> {
    let world = World::start()?;
    // A gateway that is silent: the window would otherwise be connected before anybody could look.
    world.lab.isp_drops("ip daddr 198.51.100.0/24")?;
    world.lab.isp_drops("ip6 daddr 2001:db8:5::/64")?;
    let window = open_with(&world, as_shipped)?;
    let script = format!(
        "{DRAWN}
        const panel = () => document.querySelector('[data-kind]:has([data-testid=state])')?.textContent ?? '';
        return await new Promise(resolve => {{
            const start = performance.now();
            const look = () => {{
                if (!panel().includes(arguments[0])) return;
                observer.disconnect();
                drawn().then(() => resolve(performance.now() - start));
            }};
            const observer = new MutationObserver(look);
            observer.observe(document.body, {{ subtree: true, childList: true, attributes: true, characterData: true }});
            document.querySelector('[data-testid=connect]').click();
            look();
        }});"
    );
    // The word, wherever the person who clicked looks: the button says it first, then the helper's state.
    let connecting = word("en", "connect", "connect_state_connecting")?;
    let mut samples = Vec::new();
    for _ in 0..25 {
        window.wait_for_state(&["disconnected"], s(10))?;
        window.wait_for("connect", s(5))?;
        window.settle()?;
        samples.push(window.session().run_async(&script, &[json!(connecting)])?.as_f64().context("no time")?);
        world.disconnect()?;
    }
    promised("click to connecting, p95", p95(samples)?, ms(50))
}

#[test]
fn an_event_is_drawn_within_100_ms() -> Result<()> {
    let world = World::start()?;
    world.connect()?;
    let fake = FakeHelper::imitating(&world.api(), &world.directory().join("fake/helper.sock"))?;
    let connected = world.status()?;
    let window = open_with(&world, |options| {
        as_shipped(options);
        options.socket = fake.socket().to_owned();
    })?;
    window.wait_for_state(&["connected"], s(10))?;
    let recorder = format!(
        "{DRAWN}
        window.drawnAt = [];
        let last = document.querySelector('[data-kind]:has([data-testid=state])')?.dataset.kind;
        new MutationObserver(() => {{
            const kind = document.querySelector('[data-kind]:has([data-testid=state])')?.dataset.kind;
            if (kind === last) return;
            last = kind;
            drawn().then(() => window.drawnAt.push([kind, Date.now()]));
        }}).observe(document.body, {{ subtree: true, childList: true, attributes: true, characterData: true }});
        return true;"
    );
    window.session().run(&recorder, &[])?;
    let mut published = Vec::new();
    for round in 0..40 {
        let stalled = round % 2 == 0;
        published.push(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0);
        fake.publish(|status| {
            let sequence = status["sequence"].clone();
            *status = connected.clone();
            status["sequence"] = sequence;
            status["tunnel"]["stalled"] = json!(stalled);
        });
        // The next one comes when this one is drawn, and the page is at rest again.
        let mut drawn = Value::Null;
        let in_time = until("the event is drawn", s(10), || {
            std::thread::sleep(ms(60));
            drawn = window.session().run("return window.drawnAt;", &[])?;
            Ok((drawn.as_array().map(Vec::len) == Some(published.len())).then_some(()))
        });
        in_time.with_context(|| format!("{} published, drawn: {drawn}", published.len()))?;
        window.settle()?;
    }
    let drawn = window.session().run("return window.drawnAt;", &[])?;
    let drawn = drawn.as_array().context("no list")?;
    anyhow::ensure!(drawn.len() == published.len(), "{} of {} events were drawn", drawn.len(), published.len());
    let samples = drawn.iter().zip(&published).map(|(seen, sent)| seen[1].as_f64().map(|at| at - sent));
    promised("event to pixels, p95", p95(samples.collect::<Option<Vec<f64>>>().context("a time")?)?, ms(100))
}

/// Ten thousand servers in the shape that the real list has.
fn large(listing: &Value) -> Value {
    let mut large = listing.clone();
    let (country, city) = (listing["countries"][0].clone(), listing["countries"][0]["cities"][0].clone());
    // One that can be used, as most can.
    let cities = listing["countries"][0]["cities"].as_array().cloned().unwrap_or_default();
    let mut servers = cities.iter().filter_map(|city| city["servers"].as_array()).flatten();
    let online = servers.clone().find(|server| server["state"] == "online").or_else(|| servers.next());
    let server = online.cloned().unwrap_or_default();
    let codes =
        ["se", "no", "dk", "fi", "de", "nl", "fr", "es", "it", "pl", "gb", "ie", "us", "ca", "br", "jp", "kr", "sg", "au", "za"];
    let countries = codes.iter().map(|code| {
        let cities = (0..10).map(|number| {
            let servers = (0..50).map(|index| {
                let mut server = server.clone();
                server["id"] = json!(format!("{code}{number}-{index:03}"));
                server["name"] = json!(format!("{code}{number}-{index:03}"));
                server
            });
            let mut city = city.clone();
            city["id"] = json!(format!("{code}{number}"));
            city["slug"] = json!(format!("{code}-city-{number}"));
            city["name"] = json!(format!("Citý {code} {number}"));
            city["servers"] = servers.collect();
            city
        });
        let mut country = country.clone();
        country["country"] = json!(code);
        country["name"] = json!(format!("Country {code}"));
        country["cities"] = cities.collect();
        country
    });
    large["countries"] = countries.collect();
    large
}

/// Empties the search as the platform does.
const CLEAR: &str = "
const search = document.querySelector('[data-testid=server-search]');
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(search, '');
search.dispatchEvent(new Event('input', { bubbles: true }));";

#[test]
fn a_keystroke_filters_ten_thousand_servers_within_50_ms() -> Result<()> {
    let world = World::start()?;
    let fake = FakeHelper::imitating(&world.api(), &world.directory().join("fake/helper.sock"))?;
    fake.doctor("GET /v1/servers", |listing| *listing = large(listing));
    let window = open_with(&world, |options| {
        as_shipped(options);
        options.socket = fake.socket().to_owned();
    })?;
    window.wait_for_state(&["disconnected"], s(10))?;
    window.go("servers")?;
    window.wait_for_text("server-count", s(10), |text| text.contains("10,000"))?;
    window.click("server-search")?;
    let recorder = format!(
        "{DRAWN}
        window.keys = [];
        const search = document.querySelector('[data-testid=server-search]');
        const shown = () => (document.querySelector('[data-testid=server-count]')?.textContent ?? '')
            + [...document.querySelectorAll('[role=treeitem]')].map(row => row.dataset.key).join(' ');
        search.addEventListener('keydown', event => {{
            if (event.key.length !== 1) return;
            const start = event.timeStamp;
            search.addEventListener('input', () => drawn().then(() => window.keys.push([performance.now() - start, shown()])), {{ once: true }});
        }}, true);
        window.shown = shown;
        return true;"
    );
    window.session().run(&recorder, &[])?;
    let mut samples = Vec::new();
    for word in ["se3-04", "us7-01", "de0-0", "jp9-03", "nl1-02", "za5-01"] {
        for letter in word.chars() {
            window.session().keys(&letter.to_string())?;
            window.wait_for_page("return window.keys.length > arguments[0];", &[json!(samples.len())])?;
            window.settle()?;
            let key = window.session().run("return [...window.keys.at(-1), window.shown()];", &[])?;
            // What was drawn then is what is there when all is quiet: the result was not put off.
            anyhow::ensure!(key[1] == key[2], "drawn: {}; at the end: {}", key[1], key[2]);
            let time = key[0].as_f64().context("a time")?;
            samples.push(time);
        }
        window.session().run(CLEAR, &[])?;
        window.settle()?;
    }
    promised("a keystroke, p95", p95(samples)?, ms(50))
}
