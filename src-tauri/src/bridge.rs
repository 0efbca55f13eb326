//! What the commands, the tray and the window share. It holds no decision about protection and no secret.

use crate::autostart;
use crate::environment::Environment;
use crate::files::{self, Kind, Saved};
use crate::link::{Board, Conversation, Link};
use crate::notify;
use crate::plain;
use crate::preferences::{Preferences, PreferencesPatch, Store};
use crate::tray::{self, Action, Tray};
use crate::window::{self, Page};
use crate::words::Words;
use hamn_core::location::Destination;
use hamn_core::status::StateKind;
use hamn_ipc::client::Client;
use hamn_ipc::wire::{ConnectRequest, DestinationText};
use hamn_ipc::{Problem, ProblemCode};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tauri::{AppHandle, Manager};
use tauri_plugin_notification::NotificationExt;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

/// The state behind the commands.
pub struct Bridge {
    socket: Option<PathBuf>,
    board: Arc<Board>,
    nudge: Arc<Notify>,
    visible: watch::Sender<bool>,
    focused: AtomicBool,
    preferences: Store,
    words: Mutex<Words>,
    page: Mutex<Page>,
    tray: OnceLock<Option<Tray>>,
}

impl Bridge {
    /// The bridge of `app`. Nothing happens before `start`.
    #[must_use]
    pub fn new(app: &AppHandle, environment: &Environment, preferences: Store, page: Page) -> Self {
        let handle = app.clone();
        Self {
            socket: environment.socket.clone(),
            board: Arc::new(Board::new(move |before, after| heard(&handle, before, after))),
            nudge: Arc::new(Notify::new()),
            visible: watch::Sender::new(false),
            focused: AtomicBool::new(false),
            preferences,
            words: Mutex::new(Words::default()),
            page: Mutex::new(page),
            tray: OnceLock::new(),
        }
    }

    /// Begins to talk to the helper and shows the tray. Only on the main thread.
    pub fn start(&self, app: &AppHandle) {
        self.adopt_autostart(app);
        let entries = tray::menu(&self.link(), &self.preferences(), &self.words());
        let _ = self.tray.set(Tray::new(app, entries, chosen));
        let (board, nudge) = (Arc::clone(&self.board), Arc::clone(&self.nudge));
        let conversation = Conversation::new(self.socket.clone(), board, self.visible.subscribe(), nudge);
        tauri::async_runtime::spawn(conversation.run());
    }

    /// The newest link.
    #[must_use]
    pub fn link(&self) -> Link {
        self.board.current()
    }

    /// A client of the helper. Each question finds out anew who answers (IPC-06).
    ///
    /// # Errors
    /// `helper_unreachable`, `helper_untrusted`.
    pub async fn helper(&self) -> Result<Client, Problem> {
        let found = Client::open(self.socket.as_deref()).await;
        if found.is_err() {
            // What the window shows must not be older than what this question has found.
            self.nudge.notify_one();
        }
        found
    }

    /// The preferences.
    #[must_use]
    pub fn preferences(&self) -> Preferences {
        self.preferences.current()
    }

    /// Changes the preferences and tells everybody.
    ///
    /// # Errors
    /// `invalid_value`; `internal` when they cannot be kept or the desktop refuses to start the program with the session.
    pub fn change_preferences(&self, app: &AppHandle, patch: PreferencesPatch) -> Result<Preferences, Problem> {
        let wanted = patch.autostart;
        let preferences = self.preferences.change(|old| {
            let next = old.with(patch)?;
            if let Some(wanted) = wanted.filter(|wanted| *wanted != old.autostart) {
                set_autostart(app, wanted)?;
            }
            Ok((next != *old).then_some(next))
        })?;
        window::tell(app, "preferences", &preferences);
        self.refresh_tray(app);
        Ok(preferences)
    }

    /// The user may have changed the desktop's list of programs that start with the session: it is the truth.
    fn adopt_autostart(&self, app: &AppHandle) {
        let Ok(enabled) = autostart::is_on(app) else { return };
        let adopt = |old: &Preferences| Ok((old.autostart != enabled).then(|| Preferences { autostart: enabled, ..old.clone() }));
        if let Err(problem) = self.preferences.change(adopt) {
            tracing::warn!(%problem, "preferences are not kept");
        }
    }

    /// The words of the page's language.
    #[must_use]
    pub fn words(&self) -> Words {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the words of the page's language.
    ///
    /// # Errors
    /// `invalid_value`.
    pub fn speak(&self, app: &AppHandle, words: Words) -> Result<(), Problem> {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = words.checked()?;
        self.refresh_tray(app);
        Ok(())
    }

    /// Saves a file that the user asked for.
    ///
    /// # Errors
    /// `too_large`; `internal` when it cannot be written.
    pub fn save(&self, app: &AppHandle, kind: Kind, text: &str) -> Result<Saved, Problem> {
        let directory = app.path().download_dir().ok().filter(|directory| directory.is_dir());
        let directory = directory.or_else(|| app.path().home_dir().ok()).ok_or_else(|| {
            Problem::with_detail(ProblemCode::Internal, "there is no download directory")
                .action("Set HOME or an XDG download directory, then try again.")
        })?;
        files::save(kind, text, &directory, OffsetDateTime::now_utc())
    }

    /// Looks at what waits for the page, or changes it.
    pub fn with_page<T>(&self, look: impl FnOnce(&mut Page) -> T) -> T {
        look(&mut self.page.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The window is shown or not.
    pub fn set_visible(&self, visible: bool) {
        self.visible.send_if_modified(|old| std::mem::replace(old, visible) != visible);
    }

    /// The window has the keyboard or not.
    pub fn set_focused(&self, focused: bool) {
        self.focused.store(focused, Ordering::Relaxed);
    }

    /// True when closing the window leaves the program in the tray. A page that has not started is not worth keeping: the next
    /// start makes another one.
    #[must_use]
    pub fn stays_in_tray(&self) -> bool {
        self.with_page(|page| page.ready) && self.preferences().close_to_tray && self.tray.get().is_some_and(Option::is_some)
    }

    fn remember(&self, app: &AppHandle, place: &Destination) {
        let before = self.preferences();
        match self.preferences.change(|old| Ok(old.with_recent(place))) {
            Ok(after) if after != before => window::tell(app, "preferences", &after),
            Ok(_) => {}
            Err(problem) => tracing::warn!(%problem, "a recent place is not kept"),
        }
    }

    fn tell_desktop(&self, app: &AppHandle, notice: &notify::Notice) {
        let looks = *self.visible.borrow() && self.focused.load(Ordering::Relaxed);
        if !self.preferences().notifications || (looks && !notice.is_loud()) {
            return;
        }
        let (title, body) = notice.texts(&self.words());
        // Many desktops take the text for markup.
        let plain = |text: &str| plain::line(&text.replace(['<', '>'], " "), 256);
        let mut notification = app.notification().builder().title(plain(&title));
        if !body.is_empty() {
            notification = notification.body(plain(&body));
        }
        if let Err(error) = notification.show() {
            tracing::warn!(%error, "the desktop was not notified");
        }
    }

    fn refresh_tray(&self, app: &AppHandle) {
        let entries = tray::menu(&self.link(), &self.preferences(), &self.words());
        let handle = app.clone();
        let _ = app.run_on_main_thread(move || {
            if let Some(Some(tray)) = handle.try_state::<Bridge>().as_ref().and_then(|bridge| bridge.tray.get()) {
                tray.show(&handle, entries);
            }
        });
    }
}

/// A new link: tells the page, the tray, the desktop and the list of recent places.
fn heard(app: &AppHandle, before: &Link, after: &Link) {
    window::tell(app, "link", after);
    let Some(bridge) = app.try_state::<Bridge>() else { return };
    if let Some(place) = came_up(before, after) {
        bridge.remember(app, &place);
    }
    if let Some(notice) = notify::notice(before, after) {
        bridge.tell_desktop(app, &notice);
    }
    bridge.refresh_tray(app);
}

/// The place of a tunnel that has come up. *Best* is remembered as the server that it was.
fn came_up(before: &Link, after: &Link) -> Option<Destination> {
    let is_up = |link: &Link| link.status.as_ref().is_some_and(|status| status.state == StateKind::Connected);
    if is_up(before) || !is_up(after) {
        return None;
    }
    let status = after.status.as_ref()?;
    match (&status.destination, &status.tunnel) {
        (Some(Destination::Best) | None, Some(tunnel)) => {
            Some(Destination::Server { server: tunnel.place.server.clone(), exit: tunnel.place.exit.clone() })
        }
        (destination, _) => destination.clone(),
    }
}

fn set_autostart(app: &AppHandle, wanted: bool) -> Result<(), Problem> {
    autostart::set(app, wanted).map_err(|error| {
        Problem::with_detail(ProblemCode::Internal, format!("starting with the session: {error}"))
            .action("Change the programs that start with your session in the settings of your desktop.")
    })
}

/// Does what was chosen in the tray.
fn chosen(app: &AppHandle, action: Action) {
    match action {
        Action::Open => window::show(app),
        Action::Quit => app.exit(0),
        Action::Connect => ask_from_tray(app, Some(None)),
        Action::Place(place) => ask_from_tray(app, Some(Some(place))),
        Action::Disconnect => ask_from_tray(app, None),
    }
}

/// `None` disconnects; `Some(None)` connects to where the settings say. A refusal is shown by the window.
fn ask_from_tray(app: &AppHandle, connect: Option<Option<Destination>>) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let asked = async {
            let helper = app.state::<Bridge>().helper().await?;
            match connect {
                Some(place) => {
                    let destination = place.map(DestinationText::Exact);
                    helper.connect(&ConnectRequest { destination, if_needed: false }).await
                }
                None => helper.disconnect().await,
            }
        };
        if let Err(problem) = asked.await {
            tracing::warn!(%problem, "asked from the tray");
            window::show(&app);
        }
    });
}
