//! The real window on a screen that nobody sees: an X server, a session bus and a WebDriver of its own inside the laboratory's client.
//!
//! Selectors are the `data-testid`s that the page promises; nothing here knows how the page is built.

pub mod bench;
pub mod driver;
pub mod gallery;
pub mod page;
pub mod pixels;
pub mod processes;
pub mod screen;

pub use page::Window;
pub use screen::{Screen, WindowOptions};
