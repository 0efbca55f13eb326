//! The window starts in every environment: WebKit calls the language "C" where none is set, which is no language tag, and a page that
//! believes it dies before it draws anything.

use crate::open_with;
use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::s;
use hamn_e2e::window::page::VIEWS;
use serde_json::json;
use std::process::Command;

fn starts_with(language: Option<&str>, expected: &str, direction: &str) -> Result<()> {
    let world = World::start()?;
    let locales = world.directory().join("locales");
    std::fs::create_dir(&locales)?;
    if let Some(name) = language.filter(|name| name.contains('_')) {
        // The C library takes a language only where its data is; people who set one have it.
        let base = name.split('.').next().unwrap_or(name);
        let made = Command::new("localedef").args(["-i", base, "-f", "UTF-8"]).arg(locales.join(name)).status()?;
        ensure!(made.success(), "localedef cannot make {name}");
    }
    let window = open_with(&world, |options| {
        options.language = language.map(str::to_owned);
        options.environment = vec![("LOCPATH".to_owned(), locales.display().to_string())];
    })?;
    window.wait_for_state(&["disconnected"], s(10))?;
    let found = window.session().run(
        "const html = document.documentElement; return [html.lang, html.dir || getComputedStyle(html).direction, getComputedStyle(html).direction];",
        &[],
    )?;
    ensure!(found[0] == expected && found[2] == direction, "LANG={language:?} gives {found}");
    // Each view draws: a name that only exists in one language, a date or a plural would stop it here.
    for view in VIEWS {
        window.go(view)?;
        window.settle()?;
        let words = window.session().run("return document.querySelector('main').innerText.trim().length;", &[])?;
        ensure!(words.as_u64() > Some(10), "LANG={language:?}: {view} is empty");
    }
    window.go("connect")?;
    let tag = window.session().run("return new Intl.NumberFormat(navigator.language).format(1234.5);", &[])?;
    ensure!(tag != json!(null), "the page's language is no language tag");
    window.ensure_no_errors()
}

#[test]
fn starts_with_lang_c() -> Result<()> {
    starts_with(Some("C"), "en", "ltr")
}

#[test]
fn starts_without_lang() -> Result<()> {
    starts_with(None, "en", "ltr")
}

#[test]
fn starts_in_arabic() -> Result<()> {
    starts_with(Some("ar_EG.UTF-8"), "ar", "rtl")
}
