//! The one window: how it comes into being, when it is shown, and what is said when its page does not start.

use crate::bridge::Bridge;
use crate::deep_link::DeepLink;
use crate::navigation::is_own;
use hamn_core::location::Destination;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;
use tauri::webview::{NewWindowResponse, WebviewWindowBuilder};
use tauri::{AppHandle, Emitter, Manager, WebviewWindow, WindowEvent};
use tauri_plugin_window_state::{AppHandleExt, StateFlags};

/// Label of the window, as in the capability file.
pub const LABEL: &str = "main";
/// The window is shown after this time even when its page has not said that it is ready.
const SHOW_AFTER: Duration = Duration::from_secs(3);
/// After this time a page that has not started is explained.
const EXPLAIN_AFTER: Duration = Duration::from_secs(10);

/// What the window remembers. Whether it is shown is decided at each start.
pub const REMEMBERED: StateFlags = StateFlags::SIZE.union(StateFlags::POSITION).union(StateFlags::MAXIMIZED);

/// Shows a note above whatever the page shows. Only text and styles by object model: it must work under the page's CSP.
const EXPLAIN: &str = r"(() => {
  if (document.getElementById('hamn-boot-note')) return;
  const note = document.createElement('pre');
  note.id = 'hamn-boot-note';
  note.setAttribute('role', 'alert');
  note.lang = 'en';
  note.dir = 'ltr';
  note.textContent = 'The window of Hamn did not start.\n\n' +
    'Your protection does not depend on this window: the helper keeps running and keeps its rules.\n' +
    'To see the state, run:  hamn status\n\n' +
    'Close this window and open it again. If that does not help, start it with:  hamn-gui --disable-gpu';
  Object.assign(note.style, { position: 'fixed', inset: '0', margin: '0', padding: '2rem', overflow: 'auto',
    whiteSpace: 'pre-wrap', background: 'Canvas', color: 'CanvasText', font: '1rem/1.5 sans-serif', zIndex: '2147483647' });
  (document.body || document.documentElement).append(note);
})()";
/// Takes the note away when the page has started after all.
const UNEXPLAIN: &str = "document.getElementById('hamn-boot-note')?.remove()";

/// The views of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// State, place, connect and disconnect.
    Connect,
    /// Places.
    Servers,
    /// Settings.
    Settings,
    /// Account and devices.
    Account,
    /// Self-test, ladder, log, report.
    Diagnostics,
    /// Versions and licences.
    About,
}

impl View {
    /// All views.
    pub const ALL: [Self; 6] = [Self::Connect, Self::Servers, Self::Settings, Self::Account, Self::Diagnostics, Self::About];

    /// The view as written in events and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Servers => "servers",
            Self::Settings => "settings",
            Self::Account => "account",
            Self::Diagnostics => "diagnostics",
            Self::About => "about",
        }
    }
}

/// Payload of the event `navigate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Navigate {
    /// The view to show.
    pub view: View,
}

/// What waits until the page listens.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The page listens.
    pub ready: bool,
    /// Do not show the window by itself.
    pub hidden: bool,
    /// A link that was opened.
    pub link: Option<Destination>,
    /// A view that was asked for.
    pub view: Option<View>,
}

/// Makes the window, hidden.
///
/// # Errors
/// The web view cannot be made.
pub fn create(app: &AppHandle) -> tauri::Result<()> {
    let Some(config) = app.config().app.windows.iter().find(|window| window.label == LABEL).cloned() else {
        return Err(tauri::Error::WindowNotFound);
    };
    let window = WebviewWindowBuilder::from_config(app, &config)?
        .on_navigation(is_own)
        .on_new_window(|_, _| NewWindowResponse::Deny)
        .on_download(|_, _| false)
        .build()?;
    let handle = app.clone();
    window.on_window_event(move |event| heard(&handle, event));
    let handle = app.clone();
    tauri::async_runtime::spawn(async move { watch_start(handle).await });
    Ok(())
}

/// Shows the window and takes the keyboard.
pub fn show(app: &AppHandle) {
    app.state::<Bridge>().with_page(|page| page.hidden = false);
    if let Some(window) = find(app) {
        let shown = window.unminimize().and_then(|()| window.show()).and_then(|()| window.set_focus());
        if let Err(error) = shown {
            tracing::warn!(%error, "the window cannot be shown");
        }
        app.state::<Bridge>().set_visible(true);
    }
}

/// The page listens: shows the window and hands over what has waited.
pub fn ready(app: &AppHandle) {
    let bridge = app.state::<Bridge>();
    let before = bridge.with_page(|page| {
        let now = Page { ready: true, hidden: page.hidden, ..Page::default() };
        std::mem::replace(page, now)
    });
    if let Some(window) = find(app) {
        let _ = window.eval(UNEXPLAIN);
    }
    if !before.ready && !before.hidden {
        show(app);
    }
    if let Some(view) = before.view {
        tell(app, "navigate", &Navigate { view });
    }
    if let Some(destination) = before.link {
        tell(app, "deep_link", &DeepLink { destination });
    }
}

/// Shows a view, as soon as there is a page.
pub fn navigate(app: &AppHandle, view: View) {
    let now = app.state::<Bridge>().with_page(|page| {
        page.view = Some(view);
        page.ready.then(|| page.view.take()).flatten()
    });
    if let Some(view) = now {
        tell(app, "navigate", &Navigate { view });
    }
}

/// Asks the user about a link that was opened. It does nothing by itself.
pub fn offer(app: &AppHandle, link: Destination) {
    let now = app.state::<Bridge>().with_page(|page| {
        page.link = Some(link);
        page.ready.then(|| page.link.take()).flatten()
    });
    show(app);
    if let Some(destination) = now {
        tell(app, "deep_link", &DeepLink { destination });
    }
}

/// Tells the page something.
pub fn tell<T: Serialize + Clone>(app: &AppHandle, event: &str, payload: &T) {
    if let Err(error) = app.emit_to(LABEL, event, payload) {
        tracing::warn!(%error, event, "the page was not told");
    }
}

fn find(app: &AppHandle) -> Option<WebviewWindow> {
    app.get_webview_window(LABEL)
}

fn heard(app: &AppHandle, event: &WindowEvent) {
    let Some(bridge) = app.try_state::<Bridge>() else { return };
    if let WindowEvent::Focused(focused) = event {
        bridge.set_focused(*focused);
    }
    if let WindowEvent::CloseRequested { api, .. } = event
        && bridge.stays_in_tray()
    {
        // Hidden and not destroyed: it is there again at once, with all that it showed.
        api.prevent_close();
        let _ = app.save_window_state(REMEMBERED);
        if let Some(window) = find(app) {
            let _ = window.hide();
        }
        bridge.set_visible(false);
    }
}

async fn watch_start(app: AppHandle) {
    tokio::time::sleep(SHOW_AFTER).await;
    let (ready, hidden) = app.state::<Bridge>().with_page(|page| (page.ready, page.hidden));
    if !ready && !hidden {
        show(&app);
    }
    tokio::time::sleep(EXPLAIN_AFTER.saturating_sub(SHOW_AFTER)).await;
    if !app.state::<Bridge>().with_page(|page| page.ready) {
        tracing::error!("the page did not start");
        if let Some(window) = find(&app) {
            let _ = window.eval(EXPLAIN);
        }
    }
}
