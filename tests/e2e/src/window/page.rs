//! The window as a test sees it: words by `data-testid`, clicks, keys, pictures, and nothing that a person could not see or do.

use anyhow::{Context, Result, bail, ensure};
use hamn_provider::sandbox::Host;
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait::{s, until};

use super::driver::{Driver, Session};
use super::processes;
use super::screen::{Screen, WindowOptions, window_program};

/// The views, by the names in their buttons' `data-testid`.
pub const VIEWS: [&str; 6] = ["connect", "servers", "settings", "account", "diagnostics", "about"];

/// The repository's `ui` directory.
#[must_use]
pub fn ui_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui")
}

/// A word of the page, by its key, in this language.
///
/// # Errors
/// When there is no such key.
pub fn word(language: &str, area: &str, key: &str) -> Result<String> {
    let path = ui_directory().join(format!("messages/{language}/{area}.json"));
    let all: Value = serde_json::from_str(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
    all[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {}", path.display()))
}

/// A running window.
pub struct Window {
    driver: Driver,
    session: String,
    // Dropped last: the servers go when the window is gone.
    screen: Screen,
}

impl Window {
    /// Starts the window on this host and waits until its page has text.
    ///
    /// # Errors
    /// When it does not come up, with what it printed.
    pub fn open(host: &Host, place: &Path, options: &WindowOptions) -> Result<Self> {
        let mut screen = Screen::start(host, place, options)?;
        let program = options.program.clone().map_or_else(window_program, Ok)?;
        let driver = screen.driver(host)?;
        let started = driver.session(Screen::capabilities(&program, &options.arguments)).map(|session| session.id().to_owned());
        let session = started.with_context(|| screen.log_text())?;
        let window = Self { driver, session, screen };
        window.prepare(options).with_context(|| window.screen.log_text())?;
        Ok(window)
    }

    fn prepare(&self, options: &WindowOptions) -> Result<()> {
        self.session().post("timeouts", json!({"script": 45_000, "pageLoad": 30_000, "implicit": 0}))?;
        self.resize(options.size)?;
        self.session().run(WATCH_ERRORS, &[])?;
        until("the page has text", s(30), || Ok((!self.text_of_page()?.is_empty()).then_some(())))
    }

    /// The WebDriver session.
    #[must_use]
    pub fn session(&self) -> Session<'_> {
        Session::known(&self.driver, &self.session)
    }

    /// What surrounds the window.
    #[must_use]
    pub const fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Sets the window's size in pixels.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn resize(&self, (width, height): (u32, u32)) -> Result<()> {
        self.session().post("window/rect", json!({"x": 0, "y": 0, "width": width, "height": height})).map(drop)
    }

    /// All visible text.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn text_of_page(&self) -> Result<String> {
        let text = self.session().run("return document.body ? document.body.innerText : '';", &[])?;
        Ok(text.as_str().unwrap_or_default().trim().to_owned())
    }

    /// What went wrong in the page since it was opened, one line each; nothing is how it should be.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn errors(&self) -> Result<Vec<String>> {
        let found = self.session().run("return window.errorsSeen || ['the page was loaded again'];", &[])?;
        Ok(found.as_array().context("no list")?.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect())
    }

    /// Demands that nothing went wrong in the page.
    ///
    /// # Errors
    /// When something did, with what it was.
    pub fn ensure_no_errors(&self) -> Result<()> {
        let errors = self.errors()?;
        ensure!(errors.is_empty(), "the page threw:\n{}", errors.join("\n"));
        Ok(())
    }

    /// The visible text of the first element with this `data-testid`; none when there is no such element.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn text(&self, testid: &str) -> Result<Option<String>> {
        let script =
            "const found = document.querySelector(`[data-testid=\"${arguments[0]}\"]`); return found && found.innerText.trim();";
        Ok(self.session().run(script, &[json!(testid)])?.as_str().map(str::to_owned))
    }

    /// An attribute of the first element with this `data-testid`.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn attribute(&self, testid: &str, name: &str) -> Result<Option<String>> {
        let script = "const found = document.querySelector(`[data-testid=\"${arguments[0]}\"]`); return found && found.getAttribute(arguments[1]);";
        Ok(self.session().run(script, &[json!(testid), json!(name)])?.as_str().map(str::to_owned))
    }

    /// Waits until the element's text is as wanted, and returns it.
    ///
    /// # Errors
    /// When it does not become so, with the whole page.
    pub fn wait_for_text(&self, testid: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = None;
        let found = until(&format!("{testid} as wanted"), limit, || {
            last = self.text(testid)?;
            Ok(last.clone().filter(|text| wanted(text)))
        });
        found.with_context(|| format!("{testid} says {last:?}; {}", self.describe()))
    }

    /// The kind of the state on the Connect view, which is the same in every language; none on another view.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn state(&self) -> Result<Option<String>> {
        let found =
            self.session().run("return document.querySelector('[data-kind]:has([data-testid=state])')?.dataset.kind;", &[])?;
        Ok(found.as_str().map(str::to_owned))
    }

    /// Waits until the state is one of these kinds.
    ///
    /// # Errors
    /// When it does not become so, with the whole page.
    pub fn wait_for_state(&self, kinds: &[&str], limit: Duration) -> Result<String> {
        let mut last = None;
        let found = until(&format!("the window says {kinds:?}"), limit, || {
            last = self.state()?;
            Ok(last.clone().filter(|kind| kinds.contains(&kind.as_str())))
        });
        found.with_context(|| format!("the window says {last:?}; {}", self.describe()))
    }

    /// Waits until an element with this `data-testid` is on the page.
    ///
    /// # Errors
    /// When none comes.
    pub fn wait_for(&self, testid: &str, limit: Duration) -> Result<()> {
        let found = until(&format!("{testid} is there"), limit, || Ok(self.text(testid)?.map(drop)));
        found.with_context(|| self.describe())
    }

    fn describe(&self) -> String {
        let page = self.text_of_page().unwrap_or_default();
        let errors = self.errors().unwrap_or_default().join("\n");
        format!("the page:\n{page}\nits errors: {errors}\n{}", self.screen.log_text())
    }

    /// Clicks the element with this `data-testid`.
    ///
    /// # Errors
    /// When it cannot be clicked.
    pub fn click(&self, testid: &str) -> Result<()> {
        self.wait_for(testid, s(10))?;
        self.session().click(&format!("[data-testid=\"{testid}\"]")).with_context(|| self.describe())
    }

    /// Types into the element with this `data-testid`.
    ///
    /// # Errors
    /// When it takes no text.
    pub fn type_into(&self, testid: &str, text: &str) -> Result<()> {
        self.wait_for(testid, s(10))?;
        self.session().type_into(&format!("[data-testid=\"{testid}\"]"), text)
    }

    /// Goes to a view and waits until its heading has the focus or is at least there.
    ///
    /// # Errors
    /// When the view does not come.
    pub fn go(&self, view: &str) -> Result<()> {
        self.click(&format!("nav-{view}"))?;
        let script = "return document.querySelector(`[data-testid=\"nav-${arguments[0]}\"][aria-current]`) !== null && document.querySelector('h1') !== null;";
        let there = until(&format!("view {view}"), s(10), || {
            Ok((self.session().run(script, &[json!(view)])? == json!(true)).then_some(()))
        });
        there.with_context(|| self.describe())
    }

    /// Opens the first countries and cities of the list, as many as there are on the screen.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn unfold_servers(&self) -> Result<()> {
        let script = "
            for (let round = 0; round < 10; round++) {
                const closed = document.querySelector('[role=treeitem][aria-expanded=false] [data-act=toggle]');
                if (!closed) break;
                closed.dispatchEvent(new MouseEvent('click', { bubbles: true }));
                await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));
            }";
        self.session().run_async(script, &[]).map(drop)
    }

    /// Calls a command of the bridge as the page would.
    ///
    /// # Errors
    /// When it is refused, with the reason.
    pub fn invoke(&self, command: &str, arguments: &Value) -> Result<Value> {
        let script = "return await window.__TAURI_INTERNALS__.invoke(arguments[0], arguments[1]);";
        // Inside the async function `arguments` are its own, which are the same.
        self.session().run_async(script, &[json!(command), arguments.clone()])
    }

    /// Sets preferences through the bridge and waits until the page has drawn them.
    ///
    /// # Errors
    /// When they are refused.
    pub fn prefer(&self, patch: &Value) -> Result<()> {
        self.invoke("change_preferences", &json!({"patch": patch}))?;
        if let Some(language) = patch["language"].as_str() {
            self.wait_for_page("return document.documentElement.lang === arguments[0];", &[json!(language)])?;
        }
        self.settle()
    }

    /// Waits until this script returns true.
    ///
    /// # Errors
    /// When it does not within ten seconds.
    pub fn wait_for_page(&self, script: &str, arguments: &[Value]) -> Result<()> {
        let good = until(script, s(10), || Ok((self.session().run(script, arguments)? == json!(true)).then_some(())));
        good.with_context(|| self.describe())
    }

    /// Waits until animations are over and two frames are drawn.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn settle(&self) -> Result<()> {
        let script = "
            const running = () => document.getAnimations().filter(a => a.playState === 'running' && a.effect && a.effect.getComputedTiming().iterations !== Infinity);
            const end = performance.now() + 2000;
            while (running().length > 0 && performance.now() < end) await new Promise(next => setTimeout(next, 20));
            await document.fonts.ready;
            await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));";
        self.session().run_async(script, &[]).map(drop)
    }

    /// The violations that axe-core finds in what is on the page now, one line each.
    ///
    /// # Errors
    /// When axe-core is not there (`npm install` in ui) or does not run.
    pub fn accessibility_violations(&self) -> Result<Vec<String>> {
        let path = ui_directory().join("node_modules/axe-core/axe.min.js");
        let source = std::fs::read_to_string(&path).with_context(|| format!("{} (run npm install in ui)", path.display()))?;
        if self.session().run("return typeof window.axe === 'object';", &[])? != json!(true) {
            self.session().run(&format!("{source}; window.axe = axe; return true;"), &[])?;
        }
        let script = "
            const result = await window.axe.run(document, { resultTypes: ['violations'] });
            const lines = result.violations.flatMap(v => v.nodes.map(n => `${v.id}: ${v.help}: ${n.target.join(' ')}: ${n.failureSummary || ''}`));
            return { lines, passes: result.passes.length };";
        let answer = self.session().run_async(script, &[])?;
        ensure!(answer["passes"].as_u64() > Some(5), "axe-core checked nothing: {answer}");
        let lines = answer["lines"].as_array().context("no lines")?;
        Ok(lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect())
    }

    /// Elements whose text is cut off or that stick out of the page, one line each; none is how it should be.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn overflows(&self) -> Result<Vec<String>> {
        let found = self.session().run(OVERFLOWS, &[])?;
        let lines = found.as_array().context("no list")?;
        Ok(lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect())
    }

    /// Writes a picture of the page.
    ///
    /// # Errors
    /// When it cannot be taken or written.
    pub fn picture(&self, path: &Path) -> Result<()> {
        // The engine takes its picture after the next frame, and a page at rest draws none: something that nobody can see changes meanwhile.
        self.session().run(
            "const dot = document.createElement('div'); let on = false;
             dot.style.cssText = 'position: fixed; inset: 0 auto auto 0; inline-size: 1px; block-size: 1px; pointer-events: none';
             document.body.append(dot);
             const timer = setInterval(() => { on = !on; dot.style.backgroundColor = on ? 'rgb(0 0 0 / 1%)' : 'rgb(0 0 0 / 0.5%)'; }, 50);
             window.endOfPicture = () => { clearInterval(timer); dot.remove(); };",
            &[],
        )?;
        let bytes = self.session().screenshot();
        self.session().run("window.endOfPicture();", &[])?;
        let bytes = bytes?;
        if bytes.len() < 1000 {
            bail!("the picture has only {} bytes", bytes.len());
        }
        std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
    }

    /// The window's processes: its own and those of the web view.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        processes::marked(self.screen.mark(), &["hamn-gui", "WebKitWeb", "WebKitNet", "WebKitGPU"])
            .into_iter()
            .filter(|id| !processes::name(*id).starts_with("WebKitWebDriver"))
            .collect()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.session().end();
    }
}

/// Writes down what the page throws; what it threw before it had text shows as a page without text.
const WATCH_ERRORS: &str = "
window.errorsSeen = [];
const note = (what, thrown) => window.errorsSeen.push(`${what}: ${thrown && thrown.stack ? thrown.message + ' ' + thrown.stack : JSON.stringify(thrown)}`);
// A size that is only drawn in the next frame is reported as an error by the specification, and is none.
window.addEventListener('error', event => String(event.message).startsWith('ResizeObserver loop') || note('error', event.error || event.message));
window.addEventListener('unhandledrejection', event => note('rejection', event.reason));
return true;";

/// Text that a box cuts off without saying so (an ellipsis says so), and boxes that reach outside the page sideways.
const OVERFLOWS: &str = "
const wide = document.documentElement.clientWidth, found = [];
if (document.documentElement.scrollWidth > wide + 1) found.push(`page: ${document.documentElement.scrollWidth} > ${wide}`);
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('svg, canvas, script, style, option, .visually-hidden, .skip')) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect(), name = `${element.tagName.toLowerCase()} \"${node.data.trim().slice(0, 40)}\"`;
    if (text.width <= 1 || text.height <= 1 || getComputedStyle(element).visibility === 'hidden') continue;
    let told = false, boxed = false;
    for (let box = element; box && box !== document.documentElement; box = box.parentElement) {
        const style = getComputedStyle(box), rect = box.getBoundingClientRect();
        if (rect.width <= 2 || rect.height <= 2) { boxed = true; break; }
        told ||= style.textOverflow === 'ellipsis';
        if (['auto', 'scroll'].includes(style.overflowX)) { boxed = true; break; }
        if (['hidden', 'clip'].includes(style.overflowX)) {
            if (!told && (text.left < rect.left - 1 || text.right > rect.right + 1)) found.push(`${name} is cut`);
            boxed = true;
            break;
        }
    }
    if (!boxed && (text.left < -1 || text.right > wide + 1)) found.push(`${name} reaches from ${text.left} to ${text.right} of ${wide}`);
}
return found;";
