//! The tray on the desktop: shows a menu and hands on what is chosen.

use super::{Action, Entry};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use tauri::menu::{Menu, MenuBuilder, MenuItemBuilder};
use tauri::tray::{TrayIcon, TrayIconBuilder};
use tauri::{AppHandle, Wry};

/// The tray and the menu that it shows.
pub struct Tray {
    icon: TrayIcon,
    shown: Mutex<Vec<Entry>>,
}

impl Tray {
    /// Makes the tray; `None` where the desktop has none. Only on the main thread.
    pub fn new(
        app: &AppHandle,
        entries: Vec<Entry>,
        chosen: impl Fn(&AppHandle, Action) + Send + Sync + 'static,
    ) -> Option<Self> {
        let build = || -> tauri::Result<TrayIcon> {
            let mut tray = TrayIconBuilder::with_id("main").menu(&build_menu(app, &entries)?).tooltip("Hamn").on_menu_event(
                move |app, event| {
                    if let Some(action) = Action::of(event.id().as_ref()) {
                        chosen(app, action);
                    }
                },
            );
            if let Some(icon) = app.default_window_icon() {
                tray = tray.icon(icon.clone());
            }
            tray.build(app)
        };
        // The library of the tray panics when the desktop's own library is not installed; the window works without a tray.
        match catch_unwind(AssertUnwindSafe(build)) {
            Ok(Ok(icon)) => Some(Self { icon, shown: Mutex::new(entries) }),
            Ok(Err(error)) => {
                tracing::warn!(%error, "there is no tray");
                None
            }
            Err(_panic) => {
                tracing::warn!("there is no tray: its library is not installed");
                None
            }
        }
    }

    /// Shows another menu. Only on the main thread.
    pub fn show(&self, app: &AppHandle, entries: Vec<Entry>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == entries {
            return;
        }
        let state = entries.first().map_or("Hamn", |entry| match entry {
            Entry::Words(words) => words.as_str(),
            Entry::Action { .. } | Entry::Separator => "Hamn",
        });
        let told = build_menu(app, &entries)
            .and_then(|menu| self.icon.set_menu(Some(menu)))
            .and_then(|()| self.icon.set_tooltip(Some(format!("Hamn: {state}"))));
        match told {
            Ok(()) => *shown = entries,
            Err(error) => tracing::warn!(%error, "the tray cannot be changed"),
        }
    }
}

fn build_menu(app: &AppHandle, entries: &[Entry]) -> tauri::Result<Menu<Wry>> {
    let mut menu = MenuBuilder::new(app);
    for entry in entries {
        menu = match entry {
            Entry::Words(words) => menu.item(&MenuItemBuilder::new(literal(words)).enabled(false).build(app)?),
            Entry::Action { action, label } => menu.item(&MenuItemBuilder::with_id(action.id(), literal(label)).build(app)?),
            Entry::Separator => menu.separator(),
        };
    }
    menu.build()
}

/// A label in which `&` does not mark a key.
fn literal(label: &str) -> String {
    label.replace('&', "&&")
}
