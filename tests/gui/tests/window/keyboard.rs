//! Everything without a pointer: from the start to connected and back, with nothing but key presses.

use crate::open;
use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{s, until};
use hamn_e2e::window::Window;
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::address as at;
use serde_json::json;

const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const CONTROL: char = '\u{E009}';

/// Tabs until the element with this `data-testid` has a focus that can be seen.
fn tab_to(window: &Window, testid: &str) -> Result<()> {
    let mut way = Vec::new();
    for _ in 0..60 {
        window.session().keys(TAB)?;
        let script = "
            const now = document.activeElement, style = getComputedStyle(now);
            const ring = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
            return [now.dataset.testid || now.tagName, now.matches(':focus-visible') && ring];";
        let found = window.session().run(script, &[])?;
        let name = found[0].as_str().unwrap_or_default().to_owned();
        ensure!(found[1] == json!(true) || name == "BODY", "the focus on {name} cannot be seen");
        if name == testid {
            return Ok(());
        }
        way.push(name);
    }
    anyhow::bail!("{testid} is not reached with Tab: {way:?}")
}

#[test]
fn from_start_to_connected_to_disconnected_with_keys_only() -> Result<()> {
    let world = World::with(Setup { login: false, ..Setup::default() })?;
    let window = open(&world)?;
    window.wait_for_state(&["signed_out"], s(10))?;
    tab_to(&window, "nav-account")?;
    window.session().keys(ENTER)?;
    window.wait_for("login-account", s(5))?;
    tab_to(&window, "login-account")?;
    window.session().keys(&format!("{}{ENTER}", hamn_e2e::provider::ACCOUNT))?;
    until("signed in", s(10), || Ok((world.status()?["provider"]["logged_in"] == true).then_some(())))?;
    // A shortcut leads back.
    window.session().chord(CONTROL, '1')?;
    window.wait_for_state(&["disconnected"], s(5))?;
    tab_to(&window, "connect")?;
    window.session().keys(ENTER)?;
    window.wait_for_state(&["connected"], s(20))?;
    ensure!(world.exit_address()? == Some(at::GATEWAY_V4.to_string()), "the web sees another address");
    // The focus is still somewhere: pressing Tab goes on from the button that changed.
    tab_to(&window, "disconnect")?;
    window.session().keys(" ")?;
    window.wait_for_state(&["disconnected"], s(10))?;
    ensure!(world.exit_address()? == Some(at::ISP_NAT_V4.to_string()), "the web sees another address");
    Ok(())
}

#[test]
fn shortcuts_lead_to_each_view_and_search_and_connect() -> Result<()> {
    let world = World::start()?;
    let window = open(&world)?;
    window.wait_for_state(&["disconnected"], s(10))?;
    for (number, view) in hamn_e2e::window::page::VIEWS.iter().enumerate() {
        let key = char::from_digit(u32::try_from(number + 1)?, 10).context("a digit")?;
        window.session().chord(CONTROL, key)?;
        window.wait_for_page(
            "return document.querySelector(`[data-testid=\"nav-${arguments[0]}\"]`).getAttribute('aria-current') === 'page';",
            &[json!(view)],
        )?;
        // A reader of the screen hears where it is: the heading has the focus.
        window.wait_for_page("return document.activeElement.tagName === 'H1';", &[])?;
    }
    window.session().chord(CONTROL, 'k')?;
    window.wait_for_page("return document.activeElement.dataset.testid === 'server-search';", &[])?;
    window.session().chord(CONTROL, '1')?;
    window.session().chord(CONTROL, '\u{E007}')?;
    window.wait_for_state(&["connected"], s(20))?;
    window.session().chord(CONTROL, '\u{E007}')?;
    window.wait_for_state(&["disconnected"], s(10))?;
    Ok(())
}
