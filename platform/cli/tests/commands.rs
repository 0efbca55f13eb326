//! The program itself against a helper that plays: text, JSON, exit codes, waiting, secrets.
#![cfg(test)]

#[path = "../../ipc/tests/fake/mod.rs"]
mod fake;
#[cfg(unix)]
#[path = "commands/unix.rs"]
mod users;

use fake::{Fake, Outcome, Script};
use hamn_core::location::Destination;
use hamn_core::state::BlockReason;
use hamn_ipc::wire::{CheckResult, SettingKey};
use hamn_ipc::{ProblemCode, Request};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a run ended.
#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one object on one line: {self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn run_with(socket: &Path, arguments: &[&str], input: &str, prepare: impl FnOnce(&mut Command)) -> Run {
    run_program(Path::new(env!("CARGO_BIN_EXE_hamn")), socket, arguments, input, prepare)
}

fn run_program(program: &Path, socket: &Path, arguments: &[&str], input: &str, prepare: impl FnOnce(&mut Command)) -> Run {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("HAMN_SOCKET", socket).current_dir("/");
    // Windows' own libraries look for their system there.
    command.envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs off the runtime's threads, so that the helper can answer.
async fn hamn_with_input(fake: &Fake, arguments: &[&str], input: &str) -> Run {
    let (socket, input) = (fake.socket.clone(), input.to_owned());
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_with(&socket, &arguments, &input, |_| {})
    })
    .await
    .unwrap()
}

async fn hamn(fake: &Fake, arguments: &[&str]) -> Run {
    hamn_with_input(fake, arguments, "").await
}

fn fits(schema: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../ipc/schemas/{schema}.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{value}");
}

fn profile_file(fake: &Fake, text: &str) -> PathBuf {
    let path = fake.directory.path().join("home.conf");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_json_that_fits_its_schema() {
    let fake = Fake::start(Script::default());
    let profile = profile_file(&fake, "[Interface]\n");
    let profile = profile.to_str().unwrap();
    let commands: [(&str, &[&str]); 27] = [
        ("version", &["version"]),
        ("status", &["status"]),
        ("login", &["login", "-"]),
        ("account", &["account"]),
        ("devices", &["devices", "list"]),
        ("devices", &["devices", "remove", "dev_2"]),
        ("servers", &["servers"]),
        ("connect", &["connect", "se"]),
        ("connect", &["connect", "vpn05", "--exit", "us", "--wait"]),
        ("status", &["status"]),
        ("reconnect", &["reconnect", "--wait", "--timeout", "5"]),
        ("policy", &["policy", "show"]),
        ("verify", &["verify"]),
        ("diagnose", &["diagnose"]),
        ("log", &["log", "--lines", "3"]),
        ("report", &["report"]),
        ("devices", &["devices", "rotate-key"]),
        ("events", &["events", "--count", "1"]),
        ("disconnect", &["disconnect", "--wait"]),
        ("profile", &["profile", "import", profile, "--name", "home"]),
        ("profile", &["profile", "list"]),
        ("profile", &["profile", "remove", "home"]),
        ("settings", &["settings", "get"]),
        ("settings", &["settings", "set", "mtu", "1300"]),
        ("settings", &["settings", "reset", "mtu"]),
        ("restore-network", &["restore-network"]),
        ("logout", &["logout"]),
    ];
    for (schema, arguments) in commands {
        let run = hamn_with_input(&fake, &[arguments, &["--json"]].concat(), "4242424242424242\n").await;
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?} {run:?}");
        fits(schema, &run.json());
    }
    let covered: std::collections::BTreeSet<&str> = commands.iter().map(|(schema, _)| *schema).chain(["error"]).collect();
    assert_eq!(covered, hamn_ipc::openapi::command_schemas().iter().map(|(name, _)| *name).collect(), "each schema is tested");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_calm_text() {
    let fake = Fake::start(Script { locked: vec![SettingKey::KillSwitch], ..Script::default() });
    let profile = profile_file(&fake, "[Interface]\n");
    let profile = profile.to_str().unwrap();
    let commands: [(&[&str], &str); 22] = [
        (&["version"], "helper 9.9.9 (API 1)"),
        (&["status"], "Disconnected\n  Traffic:     not restricted\n  Kill switch: while-connected\n"),
        (&["account"], "Not logged in.\n"),
        (&["login", "-"], "Logged in as acc_91\n  Status:      active\n  Paid until:  2027-01-01T00:00:00Z\n"),
        (
            &["devices", "list"],
            "dev_1  laptop  linux  2026-11-20T21:00:00Z  this computer\ndev_2  laptop  linux  2026-11-20T21:00:00Z\n",
        ),
        (&["devices", "remove", "dev_2"], "dev_1"),
        (&["servers"], "se  stockholm  vpn05  load 8 %  12 ms  exits se, us\n"),
        (&["connect", "stockholm"], "Connecting to city se-sto: blocking everything first\n"),
        (
            &["connect", "--wait"],
            "Connected to VPN05 - Stockholm, Stockholm (se)\n  Server:      198.51.100.1:51820/udp (gotatun)\n",
        ),
        (&["status"], "  Seen as:     198.51.100.1\n"),
        (&["status"], "  Transfer:    1.3 MB received, 42.0 kB sent\n"),
        (&["events", "--count", "1"], "Connected to VPN05"),
        (&["policy", "show"], "Policy 3 is in force.\n  Everything that is not listed is dropped.\n"),
        (&["verify"], "pass     The rules are in force: They were read back.\n"),
        (&["reconnect", "--wait"], "Connected"),
        (&["disconnect"], "Disconnected\n"),
        (&["profile", "import", profile], "home  192.0.2.1:51820  IPv4\n"),
        (&["profile", "list"], "home"),
        (&["profile", "remove", "home"], "No profiles."),
        (&["settings", "set", "dns", "10.0.0.1,::1"], "dns  10.0.0.1,::1\n"),
        (&["settings", "get"], "kill_switch        while-connected  fixed by the administrator\n"),
        (&["restore-network"], "The network is open again. It was restored by the running helper.\n"),
    ];
    for (arguments, expected) in commands {
        let run = hamn_with_input(&fake, arguments, "4242424242424242\n").await;
        assert_eq!(run.code, 0, "{arguments:?} {run:?}");
        assert!(run.out.contains(expected), "{arguments:?}\n{}", run.out);
        assert!(!run.out.contains('\x1b'), "no colours into a pipe");
    }
    for shell in ["bash", "zsh", "fish"] {
        let run = hamn(&fake, &["completions", shell]).await;
        assert!(run.code == 0 && run.out.contains("restore-network"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tells_each_step_once_on_standard_error() {
    let fake = Fake::start(Script::default());
    let run = hamn(&fake, &["connect", "se", "--wait"]).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.starts_with("Connected to"), "{run:?}");
    let steps: Vec<&str> = run.err.lines().collect();
    let mut once = steps.clone();
    once.dedup();
    assert_eq!(steps, once);
    assert_eq!(
        fake.asked().last(),
        Some(&Request::Connect { destination: Some(Destination::Country { country: "se".into() }), if_needed: false })
    );
    let again = hamn(&fake, &["connect", "se", "--if-needed", "--wait", "--json"]).await.json();
    assert_eq!((&again["changed"], &again["status"]["state"]), (&json!(false), &json!("connected")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_connected_to_is_what_was_asked_for() {
    let fake = Fake::start(Script::default());
    let server = |exit: Option<&str>| Destination::Server { server: "vpn05".into(), exit: exit.map(str::to_owned) };
    let cases: [(&[&str], Option<Destination>); 5] = [
        (&["connect"], None),
        (&["connect", "VPN05"], Some(server(None))),
        (&["connect", "vpn05", "--exit", "us"], Some(server(Some("us")))),
        (&["connect", "--profile", "home"], Some(Destination::Profile { name: "home".into() })),
        (&["connect", "best"], Some(Destination::Best)),
    ];
    for (arguments, destination) in cases {
        assert_eq!(hamn(&fake, arguments).await.code, 0, "{arguments:?}");
        assert_eq!(fake.asked().last(), Some(&Request::Connect { destination, if_needed: false }), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_at_its_limit_and_with_the_reason_when_blocked() {
    let hangs = Fake::start(Script { outcome: Outcome::Hangs, ..Script::default() });
    let run = hamn(&hangs, &["connect", "--wait", "--timeout", "1", "--json"]).await;
    assert_eq!((run.code, run.json()["code"].as_str()), (7, Some("wait_timeout")));
    fits("error", &run.json());
    let cases = [
        (BlockReason::LoggedOut, 6),
        (BlockReason::TooManyDevices, 6),
        (BlockReason::NoServer, 5),
        (BlockReason::NoProvider, 10),
        (BlockReason::Offline, 8),
        (BlockReason::IntentUnreadable, 8),
        // Hamn tries again by itself, so the wait goes on.
        (BlockReason::GatewaySilent, 7),
    ];
    for (reason, code) in cases {
        let fake = Fake::start(Script { outcome: Outcome::Blocks(reason), ..Script::default() });
        let run = hamn(&fake, &["connect", "--wait", "--timeout", "1"]).await;
        assert_eq!(run.code, code, "{reason:?} {run:?}");
        let said = format!("{}{}", run.out, run.err);
        assert!(said.contains(reason.message()), "{reason:?} {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_ends_verify_with_9() {
    for (result, code) in [(CheckResult::Pass, 0), (CheckResult::Skipped, 0), (CheckResult::Fail, 9), (CheckResult::Unknown, 9)] {
        let fake = Fake::start(Script { verify: result, ..Script::default() });
        let run = hamn(&fake, &["verify"]).await;
        assert_eq!(run.code, code, "{run:?}");
        assert_eq!(run.out.contains("Nothing leaks."), code == 0);
        assert_eq!(hamn(&fake, &["verify", "--json"]).await.json()["ok"], json!(code == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_have_their_exit_codes_and_say_what_to_do() {
    let codes = [
        (ProblemCode::NotAllowed, 4),
        (ProblemCode::SettingLocked, 4),
        (ProblemCode::NotFound, 5),
        (ProblemCode::LoggedOut, 6),
        (ProblemCode::ApiUnreachable, 10),
        (ProblemCode::Busy, 11),
        (ProblemCode::Internal, 1),
    ];
    for (problem, code) in codes {
        let fake = Fake::start(Script { refuse: Some(problem), ..Script::default() });
        let run = hamn(&fake, &["account"]).await;
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{problem:?}");
        assert!(run.err.contains(problem.title().trim_end_matches('.')) && run.err.contains("What to do: "), "{run:?}");
        let run = hamn(&fake, &["account", "--json"]).await;
        assert_eq!((run.code, run.err.as_str(), run.json()["code"].as_str()), (code, "", Some(problem.as_str())));
        fits("error", &run.json());
    }
    let fake = Fake::start(Script::default());
    assert_eq!(hamn(&fake, &["nonsense"]).await.code, 2);
    assert_eq!(hamn(&fake, &["connect", "--timeout", "0", "--wait"]).await.code, 2);
    assert_eq!(hamn(&fake, &["connect", "atlantis"]).await.code, 5);
    assert_eq!(hamn(&fake, &["settings", "set", "mtu", "9"]).await.code, 5);
}

#[test]
fn without_a_helper_the_code_is_3_and_version_still_works() {
    let unix = std::path::MAIN_SEPARATOR == '/';
    let nowhere = Path::new(if unix { "/nonexistent/helper.sock" } else { r"\\.\pipe\hamn-where-nobody-listens" });
    let run = run_with(nowhere, &["status"], "", |_| {});
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("HAMN_SOCKET"));
    assert_eq!(run_with(nowhere, &["version", "--json"], "", |_| {}).json()["helper"], Value::Null);
    let run = run_with(nowhere, &["events", "--json"], "", |_| {});
    assert_eq!(run.json()["code"], "helper_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_come_from_standard_input_and_never_from_the_command_line() {
    let fake = Fake::start(Script::default());
    let refused = hamn(&fake, &["login", "4242424242424242"]).await;
    assert_eq!(refused.code, 5);
    assert!(!refused.err.contains("4242"), "{refused:?}");
    assert_eq!(fake.asked(), []);
    assert_eq!(hamn_with_input(&fake, &["login", "-"], "").await.code, 5, "nothing on standard input");
    assert_eq!(hamn_with_input(&fake, &["login"], "0000\n").await.code, 6, "the provider refuses");
    assert_eq!(hamn_with_input(&fake, &["login", "alice", "--password-stdin"], "hunter2\r\n").await.code, 0);
    assert_eq!(hamn_with_input(&fake, &["login", "-", "--password-stdin"], "alice\nhunter2").await.code, 0);
    let revealed = |request: &Request| {
        let Request::Login(login) = request else { return None };
        Some((login.account.reveal().to_owned(), login.password.as_ref().map(|password| password.reveal().to_owned())))
    };
    let logins: Vec<(String, Option<String>)> = fake.asked().iter().filter_map(revealed).collect();
    let alice = ("alice".to_owned(), Some("hunter2".to_owned()));
    assert_eq!(logins, [("0000".to_owned(), None), alice.clone(), alice]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_read_by_the_user_and_bounded() {
    let fake = Fake::start(Script::default());
    let big = profile_file(&fake, &"#".repeat(60_000));
    assert_eq!(hamn(&fake, &["profile", "import", big.to_str().unwrap()]).await.code, 5);
    assert_eq!(hamn(&fake, &["profile", "import", "/nonexistent.conf", "--name", "x"]).await.code, 5);
    assert_eq!(hamn(&fake, &["profile", "import", "/dev/zero", "--name", "x"]).await.code, 5);
    assert_eq!(hamn_with_input(&fake, &["profile", "import", "-"], "[Interface]").await.code, 5, "no name");
    assert_eq!(fake.asked(), []);
    assert_eq!(hamn_with_input(&fake, &["profile", "import", "-", "--name", "x"], "[Interface]").await.code, 0);
    let bad = hamn_with_input(&fake, &["profile", "import", "-", "--name", "x"], "garbage").await;
    assert!(bad.code == 5 && bad.err.contains("line 1"), "{bad:?}");
    // Quoting makes a profile up to six times as long; what then does not fit is said, not cut.
    let controls = "\u{1}".repeat(40_000);
    let long = hamn_with_input(&fake, &["profile", "import", "-", "--name", "x"], &controls).await;
    assert_eq!(long.code, 5, "{long:?}");
}
