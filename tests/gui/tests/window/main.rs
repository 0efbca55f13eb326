//! The real window with the real helper and the real provider, driven as a person would, under an X server that nobody sees.

mod accessibility;
mod hostile;
mod keyboard;
mod languages;
mod security;
mod speed;
mod story;
mod truth;

use anyhow::Result;
use hamn_e2e::World;
use hamn_e2e::window::{Window, WindowOptions};

/// The usual window of this world.
fn open(world: &World) -> Result<Window> {
    open_with(world, |_| ())
}

/// A window that differs from the usual one.
fn open_with(world: &World, change: impl FnOnce(&mut WindowOptions)) -> Result<Window> {
    let mut options = WindowOptions::new(&world.socket());
    change(&mut options);
    Window::open(&world.lab.client, world.directory(), &options)
}
