//! axe-core in the engine that people get: no violation in any view, in the states that look most different, light and dark, and in a
//! language that is written from right to left.

use crate::open;
use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::s;
use hamn_e2e::window::Window;
use hamn_e2e::window::page::VIEWS;
use hamn_e2e::world::Setup;
use serde_json::json;

fn check(window: &Window, what: &str) -> Result<()> {
    window.settle()?;
    window.ensure_no_errors()?;
    let found = window.accessibility_violations()?;
    ensure!(found.is_empty(), "{what}: {} violations\n{}", found.len(), found.join("\n"));
    let found = window.overflows()?;
    ensure!(found.is_empty(), "{what}: {}", found.join("\n"));
    Ok(())
}

/// What is wrong in all views, so that one run shows everything.
fn check_all_views(window: &Window, what: &str, problems: &mut Vec<String>) -> Result<()> {
    for view in VIEWS {
        window.go(view)?;
        if view == "servers" {
            window.unfold_servers()?;
        }
        if let Err(error) = check(window, &format!("{what}, {view}")) {
            problems.push(format!("{error:#}"));
        }
        for tab in tabs(window)?.iter().skip(1) {
            window.click(tab)?;
            if let Err(error) = check(window, &format!("{what}, {view}, {tab}")) {
                problems.push(format!("{error:#}"));
            }
        }
    }
    window.go("connect")
}

/// The tabs of the view, by their `data-testid`s.
fn tabs(window: &Window) -> Result<Vec<String>> {
    let script = "return [...document.querySelectorAll('main [data-testid^=tab-]')].map(tab => tab.dataset.testid);";
    let found = window.session().run(script, &[])?;
    Ok(found.as_array().context("no list")?.iter().filter_map(|tab| tab.as_str().map(str::to_owned)).collect())
}

fn none(problems: &[String]) -> Result<()> {
    ensure!(problems.is_empty(), "{}", problems.join("\n\n"));
    Ok(())
}

#[test]
fn no_violation_in_any_view() -> Result<()> {
    let world = World::start()?;
    let window = open(&world)?;
    window.wait_for_state(&["disconnected"], s(10))?;
    let mut problems = Vec::new();
    check_all_views(&window, "disconnected", &mut problems)?;
    world.connect()?;
    window.wait_for_state(&["connected"], s(10))?;
    for (theme, language) in [("light", "en"), ("dark", "en"), ("light", "ar"), ("dark", "ar")] {
        window.prefer(&json!({"theme": theme, "language": language}))?;
        check_all_views(&window, &format!("connected, {theme}, {language}"), &mut problems)?;
    }
    none(&problems)
}

#[test]
fn no_violation_when_signed_out_or_without_a_helper() -> Result<()> {
    let mut world = World::with(Setup { login: false, ..Setup::default() })?;
    let window = open(&world)?;
    window.wait_for_state(&["signed_out"], s(10))?;
    let mut problems = Vec::new();
    check_all_views(&window, "signed out", &mut problems)?;
    world.kill_helper()?;
    window.wait_for_state(&["unreachable"], s(5))?;
    check_all_views(&window, "without a helper", &mut problems)?;
    none(&problems)
}

#[test]
fn nothing_is_cut_in_a_narrow_window_or_with_large_text() -> Result<()> {
    let world = World::start()?;
    world.connect()?;
    let window = open(&world)?;
    window.wait_for_state(&["connected"], s(10))?;
    window.prefer(&json!({"text_scale_pct": 200}))?;
    let mut problems = Vec::new();
    check_all_views(&window, "text of 200 %", &mut problems)?;
    window.prefer(&json!({"text_scale_pct": 100}))?;
    window.resize((360, 720))?;
    check_all_views(&window, "a narrow window", &mut problems)?;
    none(&problems)
}
