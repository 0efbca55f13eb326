//! Users at a local seat and polkit: the real polkitd with our actions on a bus of the test's own, and a stand-in for what
//! polkitd cannot be made to do. Needs root, `dbus-daemon`, `polkitd` and `socat` (IPC-01).
#![cfg(test)]
#![cfg(target_os = "linux")]

mod fake;
mod raw;

use fake::{Fake, Script};
use hamn_ipc::Request;
use hamn_ipc::server::polkit::Bus;
use hamn_ipc::server::{Limits, System};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zbus::{OwnedVariant, interface};

/// Users that every Debian has: rules of polkit know users by name.
const DAEMON: u32 = 1;
const BIN: u32 = 2;
const GROUP: u32 = 54_321;

const GRAVE: (&str, &str, &str) = ("PATCH", "/v1/settings", r#"{"kill_switch":"off"}"#);
const HARMLESS: (&str, &str, &str) = ("PATCH", "/v1/settings", r#"{"mtu":1300}"#);
const RESTORE: (&str, &str, &str) = ("POST", "/v1/restore", "");

/// A program that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn eventually(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A directory that every user can enter, a bus in it, and logind's files.
struct Seat {
    directory: tempfile::TempDir,
    address: String,
    _bus: Process,
}

impl Seat {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let config = directory.path().join("bus.conf");
        let text = format!(
            r#"<busconfig><type>custom</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
               <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>"#,
            directory.path().display()
        );
        write(&config, &text);
        let mut command = Command::new("dbus-daemon");
        command.args(["--nofork", "--print-address", "--config-file"]).arg(&config).stdout(Stdio::piped());
        let mut daemon = command.spawn().expect("this test needs dbus-daemon");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { directory, address: address.trim().to_owned(), _bus: Process(daemon) }
    }

    fn users(&self) -> PathBuf {
        self.directory.path().join("users")
    }

    fn sit(&self, uid: u32, seats: &str) {
        write(&self.users().join(uid.to_string()), &format!("NAME=x\nSTATE=active\nACTIVE_SEATS={seats}\n"));
    }

    fn script(&self) -> Script {
        self.script_with(Some(Bus::At(self.address.clone())))
    }

    fn script_with(&self, polkit: Option<Bus>) -> Script {
        Script { system: Some(System::new(self.users(), polkit)), ..Script::default() }
    }

    async fn stand_in(&self, word: Word) -> (zbus::Connection, Arc<Mutex<Heard>>) {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let builder = zbus::connection::Builder::address(self.address.as_str()).name("org.freedesktop.PolicyKit1");
        let stand_in = StandIn { heard: Arc::clone(&heard), word };
        let builder = builder.serve_at("/org/freedesktop/PolicyKit1/Authority", stand_in);
        (builder.build().await.unwrap(), heard)
    }
}

type Asked = (&'static str, &'static str, &'static str);

/// The status that another user gets.
async fn status(fake: &Fake, uid: u32, gid: u32, (method, path, body): Asked) -> u16 {
    let socket = fake.socket.clone();
    blocking(move || raw::exchange_as(uid, gid, &socket, raw::text(method, path, body).as_bytes()).status).await
}

/// A caller who has asked and waits for the answer.
fn caller(uid: u32, fake: &Fake, (method, path, body): Asked) -> Process {
    let mut command = Command::new("/usr/bin/socat");
    command.args(["-t", "0.2", "-"]).arg(format!("UNIX-CONNECT:{}", fake.socket.display())).current_dir("/").uid(uid).gid(uid);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(raw::text(method, path, body).as_bytes()).unwrap();
    Process(child)
}

fn answered(mut caller: Process) -> u16 {
    let mut line = String::new();
    BufReader::new(caller.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// polkitd with our actions and these rules, in a mount namespace where logind knows of no session.
fn polkitd(seat: &Seat, rules: &str) -> (Process, PathBuf) {
    let directory = seat.directory.path();
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../installers/linux/polkit/org.hamn.policy");
    write(&directory.join("actions/org.hamn.policy"), &std::fs::read_to_string(policy).unwrap());
    write(&directory.join("rules/10-test.rules"), rules);
    let log = directory.join("polkitd.log");
    let file = std::fs::File::create(&log).unwrap();
    let program = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd"].into_iter().find(|path| Path::new(path).exists());
    let script = format!(
        "mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/systemd/users /run/systemd/sessions /run/systemd/seats /run/systemd/machines \
         && mount --bind {0}/actions /usr/share/polkit-1/actions && mount --bind {0}/rules /etc/polkit-1/rules.d && exec {1}",
        directory.display(),
        program.expect("this test needs polkitd")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env("DBUS_SYSTEM_BUS_ADDRESS", &seat.address);
    let process = Process(command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap());
    let read = || std::fs::read_to_string(&log).unwrap();
    eventually("polkitd is on the bus", || read().contains("Acquired the name"));
    (process, log)
}

const RULES: &str = r#"polkit.addRule(function(action, subject) {
    polkit.log("asked " + action.id + " " + subject.user);
    if (action.id == "org.hamn.configure" && subject.user == "daemon") return polkit.Result.YES;
    if (action.id == "org.hamn.administer") return polkit.Result.AUTH_ADMIN;
});
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_real_polkit_decides_for_users_at_the_seat_and_is_not_asked_about_others() {
    let seat = Seat::new();
    let (daemon, log) = polkitd(&seat, RULES);
    let fake = Fake::start(seat.script());
    let asked = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().filter_map(|line| line.split_once("asked ").map(|(_, what)| what.to_owned())).collect::<Vec<_>>()
    };
    seat.sit(BIN, "");
    for (uid, what) in [(DAEMON, GRAVE), (DAEMON, RESTORE), (BIN, GRAVE)] {
        assert_eq!(status(&fake, uid, uid, what).await, 403, "nobody sits anywhere");
    }
    seat.sit(DAEMON, "seat0");
    seat.sit(BIN, "seat0");
    assert_eq!(status(&fake, DAEMON, DAEMON, HARMLESS).await, 200, "no administrator is needed");
    assert_eq!(asked(), Vec::<String>::new());
    assert_eq!(status(&fake, DAEMON, DAEMON, GRAVE).await, 200, "the rules of this computer say yes");
    // Without a session of logind's our own file says no, and a password that nobody can give is a no.
    assert_eq!(status(&fake, BIN, BIN, GRAVE).await, 403);
    assert_eq!(status(&fake, DAEMON, DAEMON, RESTORE).await, 403);
    assert_eq!(asked(), ["org.hamn.configure daemon", "org.hamn.configure bin", "org.hamn.administer daemon"]);
    drop(daemon);
    assert_eq!(status(&fake, DAEMON, DAEMON, GRAVE).await, 403, "no polkit, no yes");
    let through = fake.asked();
    assert!(matches!(through.as_slice(), [Request::ChangeSettings(_), Request::ChangeSettings(_)]), "{through:?}");
}

/// What the stand-in for polkit says.
#[derive(Clone, Copy)]
enum Word {
    Yes,
    YesAfter(Duration),
    No,
    Error,
    Nothing,
}

/// What the stand-in for polkit heard.
#[derive(Default)]
struct Heard {
    /// Action, number, start, user, number by the handle.
    questions: Vec<(String, u32, u64, i32, u32)>,
    cancelled: u32,
}

struct StandIn {
    heard: Arc<Mutex<Heard>>,
    word: Word,
}

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl StandIn {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        _details: HashMap<String, String>,
        flags: u32,
        _id: String,
    ) -> zbus::fdo::Result<(bool, bool, HashMap<String, String>)> {
        let (kind, about) = subject;
        assert_eq!((kind.as_str(), flags), ("unix-process", 1));
        let value = |name: &str| about[name].try_clone().unwrap();
        let handle = zbus::Fd::try_from(value("pidfd")).unwrap();
        let handle = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd()));
        let handle = handle.unwrap().lines().find_map(|line| line.strip_prefix("Pid:\t").map(str::to_owned)).unwrap();
        let pid = u32::try_from(value("pid")).unwrap();
        let started = u64::try_from(value("start-time")).unwrap();
        let uid = i32::try_from(value("uid")).unwrap();
        self.heard.lock().unwrap().questions.push((action, pid, started, uid, handle.parse().unwrap()));
        match self.word {
            Word::Yes => {}
            Word::YesAfter(time) => tokio::time::sleep(time).await,
            Word::No => return Ok((false, true, HashMap::new())),
            Word::Error => return Err(zbus::fdo::Error::Failed("no such action".to_owned())),
            Word::Nothing => std::future::pending().await,
        }
        Ok((true, false, HashMap::new()))
    }

    fn cancel_check_authorization(&self, _id: String) {
        self.heard.lock().unwrap().cancelled += 1;
    }
}

fn open_questions(heard: &Mutex<Heard>) -> usize {
    heard.lock().unwrap().questions.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn polkit_is_told_the_process_and_anything_but_its_yes_is_a_no() {
    let seat = Seat::new();
    seat.sit(DAEMON, "seat0");
    for polkit in [Some(Bus::At(seat.address.clone())), Some(Bus::At("unix:path=/nonexistent/bus".to_owned())), None] {
        let fake = Fake::start(seat.script_with(polkit.clone()));
        assert_eq!(status(&fake, DAEMON, DAEMON, GRAVE).await, 403, "{polkit:?}: nobody to ask");
        assert_eq!(fake.asked(), []);
    }
    let limits = Limits { question: Duration::from_millis(300), ..Limits::default() };
    for (word, expected) in [(Word::Yes, 200), (Word::No, 403), (Word::Error, 403), (Word::Nothing, 403)] {
        let (_service, heard) = seat.stand_in(word).await;
        let fake = Fake::start(Script { limits, ..seat.script() });
        for (what, id) in [(GRAVE, "org.hamn.configure"), (RESTORE, "org.hamn.administer")] {
            let waiting = caller(DAEMON, &fake, what);
            let pid = waiting.0.id();
            assert_eq!(blocking(move || answered(waiting)).await, expected, "{id}");
            let (action, told, started, uid, handle) = heard.lock().unwrap().questions.pop().unwrap();
            assert_eq!((action.as_str(), told, uid, handle), (id, pid, 1, pid));
            assert!(started > 0);
            if matches!(word, Word::Nothing) {
                let heard = Arc::clone(&heard);
                blocking(move || eventually("taken back", || std::mem::take(&mut heard.lock().unwrap().cancelled) == 1)).await;
            }
        }
        assert_eq!(heard.lock().unwrap().cancelled, 0);
        assert_eq!(fake.asked().len(), if expected == 200 { 2 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polkit_is_not_asked_in_vain() {
    let seat = Seat::new();
    let (_service, heard) = seat.stand_in(Word::Yes).await;
    let fake = Fake::start(Script { control_group: Some(GROUP.into()), ..seat.script() });
    assert_eq!(status(&fake, DAEMON, GROUP, GRAVE).await, 403, "a member of the group who sits elsewhere");
    assert_eq!(status(&fake, DAEMON, GROUP, RESTORE).await, 403);
    seat.sit(DAEMON, "seat0");
    assert_eq!(status(&fake, 0, 0, RESTORE).await, 200, "root needs nobody's word");
    assert_eq!(status(&fake, DAEMON, GROUP, HARMLESS).await, 200);
    assert_eq!(status(&fake, DAEMON, GROUP, ("PATCH", "/v1/settings", r#"{"kill_switch":7}"#)).await, 400);
    assert_eq!(status(&fake, DAEMON, GROUP, ("DELETE", "/v1/profiles/-x", "")).await, 422);
    assert_eq!(open_questions(&heard), 0);
    assert_eq!(status(&fake, DAEMON, GROUP, GRAVE).await, 200, "a member of the group who sits here");
    assert_eq!(open_questions(&heard), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_take_longer_than_a_request() {
    let seat = Seat::new();
    seat.sit(DAEMON, "seat0");
    let (_service, _heard) = seat.stand_in(Word::YesAfter(Duration::from_millis(1500))).await;
    let limits = Limits { request: Duration::from_millis(700), ..Limits::default() };
    let fake = Fake::start(Script { limits, ..seat.script() });
    assert_eq!(status(&fake, DAEMON, DAEMON, GRAVE).await, 200);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_question_keeps_nobody_waiting_and_ends_with_its_caller() {
    let seat = Seat::new();
    seat.sit(DAEMON, "seat0");
    seat.sit(BIN, "seat0");
    let (_service, heard) = seat.stand_in(Word::Nothing).await;
    let limits = Limits { per_user: 2, ..Limits::default() };
    let fake = Fake::start(Script { limits, ..seat.script() });
    let wait = async |what: &'static str, questions: usize, cancelled: u32| {
        let heard = Arc::clone(&heard);
        let is = move || heard.lock().unwrap().questions.len() == questions && heard.lock().unwrap().cancelled == cancelled;
        blocking(move || eventually(what, is)).await;
    };
    let first = caller(DAEMON, &fake, GRAVE);
    wait("the question is open", 1, 0).await;
    assert_eq!(status(&fake, DAEMON, DAEMON, GRAVE).await, 503, "one dialog at a time");
    let other = caller(BIN, &fake, RESTORE);
    wait("another user's question", 2, 0).await;
    for uid in [DAEMON, BIN, 0] {
        assert_eq!(status(&fake, uid, uid, HARMLESS).await, 200);
    }
    drop(first);
    wait("taken back when the caller ended", 2, 1).await;
    let again = caller(DAEMON, &fake, GRAVE);
    wait("the place is free again", 3, 1).await;
    // The connection of a question makes room: a user who does not answer is not locked out.
    let socket = fake.socket.clone();
    let _idle = blocking(move || [caller_idle(DAEMON, &socket), caller_idle(DAEMON, &socket)]).await;
    wait("taken back when its connection had to go", 3, 2).await;
    drop((again, other));
    wait("the last one", 3, 3).await;
    assert_eq!(fake.asked().len(), 3, "what was not allowed reached nobody");
}

/// A connection that asks nothing.
fn caller_idle(uid: u32, socket: &Path) -> Process {
    let mut command = Command::new("/usr/bin/socat");
    command.arg("-").arg(format!("UNIX-CONNECT:{}", socket.display())).current_dir("/").uid(uid).gid(uid);
    Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
}
