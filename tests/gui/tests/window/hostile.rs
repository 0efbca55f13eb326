//! A thousand texts that want to be code arrive as names, errors and accounts; all of them are shown as text.

use crate::open_with;
use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::s;
use hamn_e2e::window::page::VIEWS;
use hamn_gui_tests::fake::FakeHelper;
use hamn_gui_tests::hostile::texts;
use serde_json::{Value, json};

/// Replaces every text that people read, in all answers, by the next hostile one.
struct Poison {
    texts: std::iter::Cycle<std::vec::IntoIter<String>>,
}

/// The fields that hold free text; the others are codes, which a helper of another version could not change without being refused.
const FREE: [&str; 9] = ["name", "message", "action", "title", "detail", "city", "server_name", "managed_by", "account"];

impl Poison {
    fn pour(&mut self, value: &mut Value) {
        match value {
            Value::Object(object) => {
                for (name, inner) in object.iter_mut() {
                    if inner.is_string() && FREE.contains(&name.as_str()) {
                        *inner = json!(self.texts.next());
                    } else {
                        self.pour(inner);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.pour(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[test]
fn a_thousand_hostile_texts_are_text() -> Result<()> {
    let world = World::start()?;
    let fake = FakeHelper::imitating(&world.api(), &world.directory().join("fake/helper.sock"))?;
    let mut poison = Poison { texts: texts(1000).into_iter().cycle() };
    for path in ["/v1/account", "/v1/devices", "/v1/profiles"] {
        fake.doctor(&format!("GET {path}"), |answer| poison.pour(answer));
    }
    fake.doctor("GET /v1/servers", |listing| {
        let server = listing["countries"][0]["cities"][0]["servers"][0].clone();
        let servers: Vec<Value> = (0..1000)
            .map(|number| {
                let mut server = server.clone();
                server["id"] = json!(format!("vpn{number}"));
                poison.pour(&mut server);
                server
            })
            .collect();
        listing["countries"][0]["cities"][0]["servers"] = json!(servers);
        listing["countries"][0]["cities"][0]["name"] = json!("<img src=x onerror=\"window.pwned=1\">");
    });
    let window = open_with(&world, |options| options.socket = fake.socket().to_owned())?;
    window.wait_for_state(&["disconnected"], s(10))?;
    let blocked = json!({"code": "gateway_silent", "message": "<script>window.pwned=1</script>",
                         "action": "<img src=x onerror=\"window.pwned=1\">", "retrying": true});
    fake.publish(|status| {
        status["state"] = json!("blocked");
        status["protected"] = json!(true);
        status["target"] = json!({"want": "connected", "destination": {"kind": "best"}});
        status["destination"] = json!({"kind": "best"});
        status["blocked"] = blocked.clone();
        status["managed_by"] = json!("</title><script>window.pwned=1</script>");
        status["warnings"] = json!([{"code": "<b>code</b>", "message": "<svg onload=\"window.pwned=1\">"}]);
    });
    window.wait_for_state(&["blocked"], s(10))?;
    let expected = page_facts(&window)?;
    for view in VIEWS {
        window.go(view)?;
        window.settle()?;
        let facts = page_facts(&window)?;
        ensure!(facts == expected, "{view}: the page was {expected} and is {facts}");
    }
    every_server_is_shown_as_text(&window)
}

/// What hostile text must not change.
fn page_facts(window: &hamn_e2e::window::Window) -> Result<Value> {
    window.session().run(
        "return { pwned: window.pwned === undefined ? null : window.pwned, scripts: document.scripts.length,
                  frames: document.querySelectorAll('iframe, object, embed').length, href: location.href,
                  strange: document.querySelectorAll('img[src=x], svg[onload], [onerror], a[href*=evil]').length };",
        &[],
    )
}

/// Scrolls through the whole list and reads it.
fn every_server_is_shown_as_text(window: &hamn_e2e::window::Window) -> Result<()> {
    window.go("servers")?;
    window.type_into("server-search", "pwned")?;
    window.settle()?;
    window.unfold_servers()?;
    window.wait_for("server-row", s(10))?;
    let script = "
        const seen = new Set();
        const row = document.querySelector('[data-testid=server-row]');
        let scroller = row.parentElement;
        while (scroller && scroller.scrollHeight <= scroller.clientHeight + 1) scroller = scroller.parentElement;
        for (let round = 0; round < 400; round++) {
            for (const row of document.querySelectorAll('[data-testid=server-row]')) seen.add(row.textContent);
            if (!scroller || scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 2) break;
            scroller.scrollTop += scroller.clientHeight * 0.8;
            await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));
        }
        return { count: seen.size, script: [...seen].some(text => text.includes('<script>window.pwned=1</script>')), pwned: window.pwned === undefined };";
    let found = window.session().run_async(script, &[])?;
    let count = found["count"].as_u64().context("no count")?;
    ensure!(count > 300, "only {count} hostile rows were shown");
    ensure!(found["script"] == true && found["pwned"] == true, "{found}");
    Ok(())
}
