//! How fast the window is there and what it costs while nothing happens, beside a Chromium in `--app` mode with the same page.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::World;
use crate::wait::{ms, s, until};

use super::page::{Window, ui_directory};
use super::pixels::{FrameBuffer, PAGE_COLOURS};
use super::processes::{name, pss_kib, ticks};
use super::screen::{Screen, WindowOptions, window_program};

/// How often each program is started, and for how long it is then left alone.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Starts of each program.
    pub starts: usize,
    /// Time after the page is there before memory is measured.
    pub settle: Duration,
    /// Time over which the processor is measured.
    pub idle: Duration,
}

/// One program.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which.
    pub program: String,
    /// Milliseconds from the start of the process until a page with text is on the screen: median of the starts.
    pub first_paint_ms: Option<f64>,
    /// Each start.
    pub first_paints_ms: Vec<f64>,
    /// Proportional set size of all its processes at rest, MiB.
    pub idle_pss_mib: f64,
    /// The same by process.
    pub by_process_mib: BTreeMap<String, f64>,
    /// Processes.
    pub processes: usize,
    /// Share of one processor used at rest, percent.
    pub idle_cpu_pct: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Processors of the machine.
    pub cores: usize,
    /// Average number of runnable threads in the minute before.
    pub load_before: f64,
    /// The same at the end.
    pub load_after: f64,
    /// `release` or `debug`, by the directory of the programs.
    pub build: String,
    /// Size of the window's program in MiB, stripped or not as it is shipped.
    pub program_mib: f64,
    /// The programs.
    pub rows: Vec<Row>,
}

/// Measures.
///
/// # Errors
/// When a program does not show its page.
pub fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<Report> {
    let load_before = load()?;
    let world = World::start()?;
    let program = window_program()?;
    let chromium = chromium()?;
    say("the answers that the page gets");
    let page = SamePage::serve(&world, &answers(&world)?)?;
    let mut rows = Vec::new();
    let hamn = |hidden: bool| if hidden { vec!["--hidden".to_owned()] } else { vec![] };
    let own = [("WEBKIT_DISABLE_DMABUF_RENDERER", "")];
    let opengl = [("WEBKIT_DISABLE_DMABUF_RENDERER", "0")];
    for (title, arguments, environment, visible) in [
        ("Hamn", hamn(false), &own, true),
        ("Hamn, as WebKit draws by itself (software OpenGL where no card is)", hamn(false), &opengl, true),
        ("Hamn, started hidden in the tray", hamn(true), &own, false),
    ] {
        say(title);
        rows.push(measure(&world, plan, &Subject { title, program: &program, arguments: &arguments, environment, visible })?);
    }
    let title = "Chromium --app with the same page";
    say(title);
    let profile = world.directory().join("chromium");
    let arguments = chromium_arguments(&page.address, &profile);
    rows.push(measure(
        &world,
        plan,
        &Subject { title, program: &chromium, arguments: &arguments, environment: &own, visible: true },
    )?);
    let build = program.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = std::fs::metadata(&program)?.len();
    let cores = std::thread::available_parallelism()?.get();
    Ok(Report { cores, load_before, load_after: load()?, build, program_mib: mib(bytes / 1024), rows })
}

struct Subject<'a> {
    title: &'a str,
    program: &'a Path,
    arguments: &'a [String],
    environment: &'a [(&'a str, &'a str)],
    visible: bool,
}

fn measure(world: &World, plan: &Plan, subject: &Subject<'_>) -> Result<Row> {
    let mut paints = Vec::new();
    let mut row = None;
    let starts = if subject.visible { plan.starts } else { 1 };
    for round in 0..starts {
        let mut options = WindowOptions::new(&world.socket());
        options.environment = subject.environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        options.automated = false;
        let screen = Screen::start(&world.lab.client, world.directory(), &options)?;
        let frame = FrameBuffer::open(&screen.directory().join("Xvfb_screen0"))?;
        let before = frame.colours()?;
        ensure!(before < PAGE_COLOURS, "the empty screen has {before} colours");
        let start = Instant::now();
        let command = screen.command(&world.lab.client, subject.program).args(subject.arguments);
        let mut child = command.log_to(&screen.log())?.spawn()?;
        if subject.visible {
            let there = until(&format!("{} shows its page", subject.title), s(60), || {
                Ok((frame.colours()? >= PAGE_COLOURS).then_some(()))
            });
            there.with_context(|| screen.log_text())?;
            paints.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        if round + 1 == starts {
            row = Some(at_rest(plan, &child, subject.title)?);
        }
        end(&mut child)?;
    }
    let mut row = row.context("no rounds")?;
    let mut sorted = paints.clone();
    sorted.sort_by(f64::total_cmp);
    row.first_paint_ms = sorted.get(sorted.len() / 2).copied();
    row.first_paints_ms = paints;
    Ok(row)
}

fn at_rest(plan: &Plan, child: &Child, title: &str) -> Result<Row> {
    std::thread::sleep(plan.settle);
    let family = family(child)?;
    let used = |all: &[Pid]| all.iter().map(|id| ticks(*id)).sum::<u64>();
    let before = used(&family);
    std::thread::sleep(plan.idle);
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock tick")?;
    let seconds = f64::from(u32::try_from(used(&family).saturating_sub(before))?) / f64::from(i32::try_from(hertz)?);
    let mut by_process: BTreeMap<String, f64> = BTreeMap::new();
    for id in &family {
        *by_process.entry(name(*id)).or_default() += mib(pss_kib(*id)?);
    }
    Ok(Row {
        program: title.to_owned(),
        first_paint_ms: None,
        first_paints_ms: vec![],
        idle_pss_mib: by_process.values().sum(),
        by_process_mib: by_process,
        processes: family.len(),
        idle_cpu_pct: seconds / plan.idle.as_secs_f64() * 100.0,
    })
}

/// The process and all that descend from it.
fn family(child: &Child) -> Result<Vec<Pid>> {
    let root = i32::try_from(child.id())?;
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        parents.extend(parent.map(|parent| (id, parent)));
    }
    let descends = |mut id: i32| {
        while id != root {
            match parents.get(&id) {
                Some(parent) => id = *parent,
                None => return false,
            }
        }
        true
    };
    Ok(parents.keys().copied().filter(|id| descends(*id)).map(Pid::from_raw).collect())
}

/// Ends it and all that descend from it, each by its id.
fn end(child: &mut Child) -> Result<()> {
    let family = family(child)?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    if until("it ends", s(5), || Ok(child.try_wait()?.map(drop))).is_err() {
        child.kill()?;
        child.wait()?;
    }
    for id in family {
        let _ = kill(id, Signal::SIGKILL);
    }
    Ok(())
}

/// What the real window's bridge answers, so that the same page shows the same in another engine.
fn answers(world: &World) -> Result<Value> {
    let window = Window::open(&world.lab.client, world.directory(), &WindowOptions::new(&world.socket()))?;
    window.wait_for_state(&["disconnected"], s(20))?;
    let mut all = json!({});
    for command in ["link", "servers", "account", "devices", "profiles", "settings", "policy", "versions", "preferences"] {
        all[command] = window.invoke(command, &json!({})).with_context(|| format!("ask {command}"))?;
    }
    Ok(all)
}

/// The built page on a web server of its own, with the bridge's answers in place of the bridge.
struct SamePage {
    address: String,
}

impl SamePage {
    fn serve(world: &World, answers: &Value) -> Result<Self> {
        let dist = ui_directory().join("dist");
        let index = std::fs::read_to_string(dist.join("index.html")).context("the page is not built: npm run build in ui")?;
        let shim = format!("<script>const answers = {};{SHIM}</script>", answers.to_string().replace("</", "<\\/"));
        let index = index.replacen("<head>", &format!("<head>{shim}"), 1);
        let socket = world.lab.client.run(|| TcpListener::bind("127.0.0.1:0"))??;
        let address = format!("http://{}/", socket.local_addr()?);
        std::thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                let (dist, index) = (dist.clone(), index.clone());
                std::thread::spawn(move || give(stream, &dist, &index));
            }
        });
        Ok(Self { address })
    }
}

const SHIM: &str = "
let next = 0;
window.__TAURI_INTERNALS__ = {
  invoke: async (command) => command in answers ? answers[command] : ++next,
  transformCallback: (callback) => { const id = ++next; window['_' + id] = callback; return id; },
  unregisterCallback: () => undefined, convertFileSrc: (path) => path,
  metadata: { currentWindow: { label: 'main' }, currentWebview: { label: 'main' } }
};
window.__TAURI_EVENT_PLUGIN_INTERNALS__ = { unregisterListener: () => undefined };";

fn give(mut stream: std::net::TcpStream, dist: &Path, index: &str) -> Result<()> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request)?;
    let text = String::from_utf8_lossy(request.get(..length).unwrap_or_default()).into_owned();
    let path = text.split_whitespace().nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    let file = dist.join(path.trim_start_matches('/'));
    let (kind, body) = if path == "/" {
        ("text/html; charset=utf-8", index.as_bytes().to_vec())
    } else {
        let kind = match file.extension().and_then(|ending| ending.to_str()) {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg+xml",
            Some("woff2") => "font/woff2",
            Some(_) | None => "application/octet-stream",
        };
        (kind, if path.contains("..") { vec![] } else { std::fs::read(&file).unwrap_or_default() })
    };
    let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    Ok(stream.write_all(&body)?)
}

fn chromium() -> Result<PathBuf> {
    // The program itself: the start script would count as a process and add flags.
    ["/usr/lib/chromium/chromium", "/usr/bin/chromium", "/usr/bin/chromium-browser"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
        .context("there is no chromium")
}

fn chromium_arguments(address: &str, profile: &Path) -> Vec<String> {
    let fixed = [
        "--no-sandbox",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-sync",
        "--password-store=basic",
        "--window-size=1100,820",
        "--window-position=0,0",
    ];
    let own = [format!("--app={address}"), format!("--user-data-dir={}", profile.display())];
    fixed.into_iter().map(str::to_owned).chain(own).collect()
}

fn load() -> Result<f64> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.split_whitespace().next().context("no load")?.parse()?)
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

impl Report {
    /// For people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "The window at rest on {} cores ({} build, program {:.1} MiB, load {:.1} before and {:.1} after), on a hidden X server without a GPU.\n\n\
             | program | start to page on screen, median ms | idle PSS, MiB | processes | idle CPU, % of a core |\n|---|--:|--:|--:|--:|\n",
            self.cores, self.build, self.program_mib, self.load_before, self.load_after
        );
        for row in &self.rows {
            let paint = row.first_paint_ms.map_or_else(|| "–".to_owned(), |time| format!("{time:.0}"));
            let _ = writeln!(
                text,
                "| {} | {paint} | {:.0} | {} | {:.1} |",
                row.program, row.idle_pss_mib, row.processes, row.idle_cpu_pct
            );
        }
        text.push('\n');
        for row in &self.rows {
            let parts: Vec<String> = row.by_process_mib.iter().map(|(name, size)| format!("{name} {size:.0}")).collect();
            let _ = writeln!(text, "{}: {} MiB", row.program, parts.join(" + "));
        }
        text
    }
}

/// The usual plan.
pub const PLAN: Plan = Plan { starts: 5, settle: Duration::from_secs(15), idle: Duration::from_secs(10) };
/// Shows that everything runs.
pub const QUICK: Plan = Plan { starts: 1, settle: ms(3000), idle: ms(2000) };
