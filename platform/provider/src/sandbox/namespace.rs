//! One simulated host: a network and a mount namespace held by a thread, and the programs that run inside.
//!
//! A namespace lives as long as a thread or process is in it. The holding thread ends when the [`Host`] is dropped or
//! when this process dies in whatever way; programs started from it are killed by the kernel at that moment
//! (`PR_SET_PDEATHSIG` acts on the death of the thread that forked). So nothing outlives the laboratory.
#![expect(unsafe_code, reason = "pre_exec is the only hook between fork and exec; see SAFETY below")]

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// User and group id of "nobody", which every Linux reserves for processes without rights.
pub const NOBODY: u32 = 65534;

/// How long a program may run unless the caller says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A simulated host.
pub struct Host {
    name: &'static str,
    thread_id: i32,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Makes the namespaces. `/run` is an empty tmpfs inside, so that no daemon of the real machine (D-Bus, resolver
    /// caches, `ip netns` names) can be met; everything else of the file system is the machine's own.
    ///
    /// # Errors
    /// When the caller may not create namespaces (neither root nor allowed to use user namespaces).
    pub fn new(name: &'static str) -> Result<Self> {
        let (jobs, inbox) = sync_channel::<Job>(64);
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("lab-{name}"))
            .spawn(move || hold(&ready, &inbox))
            .context("start the thread that holds a namespace")?;
        let thread_id = started.recv().context("namespace thread ended early")??;
        Ok(Self { name, thread_id, jobs: Some(jobs), thread: Some(thread) })
    }

    /// The host's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Path of the network namespace, as `ip link … netns` and `nsenter --net=` take it.
    #[must_use]
    pub fn network_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/task/{}/ns/net", std::process::id(), self.thread_id))
    }

    /// Path of the mount namespace, as `nsenter --mount=` takes it.
    #[must_use]
    pub fn mount_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/task/{}/ns/mnt", std::process::id(), self.thread_id))
    }

    /// Where the host's file system can be reached from outside.
    #[must_use]
    pub fn root_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/task/{}/root", std::process::id(), self.thread_id))
    }

    /// Runs a short piece of code on the host's own thread. Sockets made there belong to the host.
    ///
    /// # Errors
    /// When the host is gone.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, result) = sync_channel(1);
        let job: Job = Box::new(move || {
            let _ = answer.send(work());
        });
        self.jobs.as_ref().context("host is gone")?.send(job).map_err(|_| anyhow!("host {} is gone", self.name))?;
        result.recv().with_context(|| format!("work on host {} did not finish", self.name))
    }

    /// Starts a thread inside the host (a thread inherits the namespaces of its maker).
    ///
    /// # Errors
    /// When the host is gone or no thread can be made.
    pub fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        let name = format!("{}-{name}", self.name);
        self.run(move || std::thread::Builder::new().name(name).spawn(work))?.context("start a thread in a host")
    }

    /// A program to run inside the host, as root.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> HostCommand<'_> {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        HostCommand { host: self, command, input: Vec::new(), timeout: DEFAULT_TIMEOUT }
    }

    /// Feeds `ip -batch`: one process for a whole topology.
    ///
    /// # Errors
    /// When `ip` refuses a line.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        self.command("ip").args(["-batch", "-"]).input(lines).ok().map(drop)
    }

    /// One `ip` command, words separated by spaces.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn ip(&self, words: &str) -> Result<String> {
        self.command("ip").args(words.split_whitespace()).ok()
    }

    /// Loads nft text.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        self.command("nft").args(["-f", "-"]).input(ruleset).ok().map(drop)
    }

    /// Writes a file as this host sees it (`/proc/sys/net` shows the network namespace of the writer).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let (path, text) = (path.to_owned(), text.to_owned());
        self.run(move || std::fs::write(&path, text).with_context(|| format!("write {path}")))?
    }

    /// Reads a file as this host sees it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = path.to_owned();
        self.run(move || std::fs::read_to_string(&path).with_context(|| format!("read {path}")))?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The body of a host's thread.
fn hold(ready: &SyncSender<Result<i32>>, inbox: &Receiver<Job>) {
    let entered = enter_new_namespaces();
    let good = entered.is_ok();
    if ready.send(entered).is_err() || !good {
        return;
    }
    while let Ok(job) = inbox.recv() {
        job();
    }
}

fn enter_new_namespaces() -> Result<i32> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("create namespaces (root is needed)")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("mount /run")?;
    Ok(nix::unistd::gettid().as_raw())
}

/// Makes `/etc` of the calling thread a private copy-on-write view, and replaces its `resolv.conf`.
///
/// # Errors
/// When overlayfs is missing or a mount is refused.
pub fn private_etc(resolv_conf: &str) -> Result<()> {
    for directory in ["/run/etc", "/run/etc/upper", "/run/etc/work"] {
        std::fs::create_dir(directory).with_context(|| format!("create {directory}"))?;
    }
    let options = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work";
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(options)).context("mount an overlay on /etc")?;
    // The machine's own file may be a symlink into the real /run; the lab's host has a plain file.
    let _ = std::fs::remove_file("/etc/resolv.conf");
    std::fs::write("/etc/resolv.conf", resolv_conf).context("write resolv.conf")
}

/// Gives the calling thread's host an empty `/var/lib`, so that a program which is not told better never writes to the
/// machine's own.
///
/// # Errors
/// When the mount is refused.
pub fn private_state() -> Result<()> {
    mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("mount /var/lib")
}

/// A program about to run inside a host.
pub struct HostCommand<'host> {
    host: &'host Host,
    command: Command,
    input: Vec<u8>,
    timeout: Duration,
}

impl HostCommand<'_> {
    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs the program without any rights.
    #[must_use]
    pub fn as_nobody(self) -> Self {
        self.as_user(NOBODY)
    }

    /// Runs the program as this user and group, with no other groups.
    #[must_use]
    pub fn as_user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Kills the program after this time (20 s when not set).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends output to this file, for programs that stay.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn log_to(mut self, path: &std::path::Path) -> Result<Self> {
        let file =
            std::fs::File::options().create(true).append(true).open(path).with_context(|| format!("open {}", path.display()))?;
        self.command.stdout(file.try_clone().context("duplicate a file handle")?).stderr(file);
        Ok(self)
    }

    /// Changes the underlying command in ways that have no method here.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts the program and leaves it running. It dies with the host.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(mut self) -> Result<Child> {
        let name = self.command.get_program().to_string_lossy().into_owned();
        let piped = !self.input.is_empty();
        if piped {
            self.command.stdin(Stdio::piped());
        }
        // SAFETY: runs between fork and exec in the child; prctl is a bare system call that neither allocates nor locks.
        unsafe {
            self.command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
        }
        let mut command = self.command;
        let mut child = self.host.run(move || command.spawn())?.with_context(|| format!("start {name} on {}", self.host.name))?;
        if let Some(mut stdin) = child.stdin.take().filter(|_| piped) {
            let input = self.input;
            // A program that never reads must not block the caller.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        Ok(child)
    }

    /// Runs the program to its end, or kills it after the timeout.
    ///
    /// # Errors
    /// When the program cannot be started or had to be killed.
    pub fn output(mut self) -> Result<Output> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let timeout = self.timeout;
        let what = format!("{:?}", self.command);
        let child = self.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("process id out of range")?);
        let (done, result) = sync_channel(1);
        std::thread::spawn(move || done.send(child.wait_with_output()));
        if let Ok(output) = result.recv_timeout(timeout) {
            return output.with_context(|| format!("wait for {what}"));
        }
        kill(pid, Signal::SIGKILL).ok();
        bail!("{what} did not end within {} ms", timeout.as_millis())
    }

    /// Runs the program, and returns what it printed when it succeeded.
    ///
    /// # Errors
    /// As `output`, and when the exit code is not 0; the message holds both output streams.
    pub fn ok(self) -> Result<String> {
        let what = format!("{:?}", self.command);
        let output = self.output()?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(out);
        }
        bail!("{what} failed ({}): {}{out}", output.status, String::from_utf8_lossy(&output.stderr))
    }

    /// True when the program succeeds.
    #[must_use]
    pub fn succeeds(self) -> bool {
        self.output().is_ok_and(|output| output.status.success())
    }
}
