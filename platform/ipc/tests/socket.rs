//! IPC-02 and IPC-06: how the socket comes into being, and how the client knows a false one.
#![cfg(test)]
#![cfg(unix)]

mod fake;

use fake::{Fake, Script};
use hamn_ipc::ProblemCode;
use hamn_ipc::client::Client;
use hamn_ipc::server::BoundSocket;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn directory(mode: u32) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    directory
}

// IPC-02
#[tokio::test]
async fn at_no_moment_is_the_socket_reachable_with_another_mode_or_owner() {
    let directory = directory(0o755);
    let path = directory.path().join("helper.sock");
    let stop = Arc::new(AtomicBool::new(false));
    // The widest umask: what the process happens to have must not matter.
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let watcher = {
        let (root, path, stop) = (directory.path().to_owned(), path.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                if let Ok(found) = fs::symlink_metadata(&path) {
                    seen.insert((false, found.mode() & 0o7777, found.uid()));
                }
                for entry in fs::read_dir(&root).unwrap().flatten() {
                    if let (true, Ok(found)) = (entry.file_name().to_string_lossy().starts_with(".socket-"), entry.metadata()) {
                        seen.insert((true, found.mode() & 0o7777, found.uid()));
                    }
                }
            }
            seen
        })
    };
    for _ in 0..500 {
        drop(BoundSocket::bind(&path).unwrap());
    }
    let last = BoundSocket::bind(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    stop.store(true, Ordering::Relaxed);
    nix::sys::stat::umask(old);
    let seen = watcher.join().unwrap();
    let own = nix::unistd::geteuid().as_raw();
    assert!(seen.contains(&(false, 0o666, own)), "the watcher saw the socket: {seen:?}");
    assert!(seen.iter().all(|(private, mode, uid)| *uid == own && *mode == if *private { 0o700 } else { 0o666 }), "{seen:?}");
    drop(last);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn a_directory_that_others_control_is_refused() {
    let loose = directory(0o777);
    assert!(BoundSocket::bind(&loose.path().join("s")).is_err());
    let foreign = directory(0o755);
    std::os::unix::fs::chown(foreign.path(), Some(65534), None).unwrap();
    assert!(BoundSocket::bind(&foreign.path().join("s")).is_err());
    let good = directory(0o755);
    let link = good.path().join("link");
    symlink(loose.path(), &link).unwrap();
    assert!(BoundSocket::bind(&link.join("s")).is_err());
    fs::write(good.path().join("s"), "a file").unwrap();
    assert!(BoundSocket::bind(&good.path().join("s")).is_err());
    assert_eq!(fs::read_to_string(good.path().join("s")).unwrap(), "a file");
}

#[tokio::test]
async fn a_second_helper_does_not_take_the_socket_of_a_living_one_but_of_a_dead_one() {
    let directory = directory(0o755);
    let path = directory.path().join("s");
    let first = BoundSocket::bind(&path).unwrap();
    assert_eq!(BoundSocket::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead helper leaves its file");
    assert!(BoundSocket::bind(&path).is_ok());
}

// IPC-06
#[tokio::test]
async fn the_client_refuses_a_squatted_socket() {
    let directory = directory(0o755);
    let code = async |path: &std::path::Path| Client::open(Some(path)).await.map(|_| ()).unwrap_err().code;
    let path = directory.path().join("s");
    assert_eq!(code(&path).await, ProblemCode::HelperUnreachable);
    fs::write(&path, "").unwrap();
    assert_eq!(code(&path).await, ProblemCode::HelperUntrusted, "a plain file");
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    assert!(Client::open(Some(&path)).await.is_ok(), "the negative control");
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    assert_eq!(code(&path).await, ProblemCode::HelperUntrusted, "another owner");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(code(&link).await, ProblemCode::HelperUntrusted, "a symlink");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(code(&path).await, ProblemCode::HelperUntrusted, "a directory for everybody");
}

// IPC-06: the file belongs to root, but a process of somebody else listens behind it.
#[tokio::test]
async fn the_client_refuses_a_listener_of_another_user() {
    use std::os::unix::process::CommandExt;
    let directory = directory(0o777);
    let path = directory.path().join("s");
    let mut squatter = std::process::Command::new("/usr/bin/socat")
        .arg(format!("UNIX-LISTEN:{},fork", path.display()))
        .arg("EXEC:/bin/cat")
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !path.exists() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
    let mut result = Client::open(Some(&path)).await;
    while matches!(&result, Err(problem) if problem.code == ProblemCode::HelperUnreachable)
        && std::time::Instant::now() < deadline
    {
        result = Client::open(Some(&path)).await;
    }
    squatter.kill().unwrap();
    squatter.wait().unwrap();
    let problem = result.map(|_| ()).unwrap_err();
    assert_eq!(problem.code, ProblemCode::HelperUntrusted, "{problem}");
    assert!(problem.detail.unwrap().contains("65534"));
}

#[tokio::test]
async fn a_server_that_stops_ends_streams_with_a_line_and_removes_its_socket() {
    use futures_util::StreamExt;
    let mut fake = Fake::start(Script::default());
    let client = Client::open(Some(&fake.socket)).await.unwrap();
    let mut events = Box::pin(client.events().await.unwrap());
    let first = events.next().await.unwrap().unwrap();
    assert_eq!((first.sequence, first.status.unwrap()), (1, fake::status()));
    fake.stop().await;
    let last = events.next().await.unwrap().unwrap();
    assert_eq!((last.kind, last.code.as_deref()), (hamn_ipc::wire::EventKind::End, Some("shutdown")));
    assert!(events.next().await.is_none());
    assert!(!fake.socket.exists());
}
