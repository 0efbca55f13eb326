//! Where two starts of the program meet: a lock, which ends with its process, and a socket beside it, in a directory of the user's.

use crate::private_file;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Longest command line that is taken, in bytes.
const LONGEST: u64 = 64 * 1024;
/// Time for the other side.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who this start is.
#[derive(Debug)]
pub enum Claim {
    /// The first: it listens for others.
    First(Place),
    /// The first one was told.
    Told,
}

/// The meeting place of the first start; the lock goes with it.
#[derive(Debug)]
pub struct Place {
    lock: File,
    listener: UnixListener,
}

/// Takes the place in `directory`, or hands `arguments` to whoever has it.
///
/// # Errors
/// What the operating system says; the one who has the place does not answer.
pub fn claim(directory: &Path, arguments: &[String]) -> io::Result<Claim> {
    private_file::make_directory(directory)?;
    let socket: PathBuf = directory.join("window.sock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join("window.lock"))?;
    match lock.try_lock() {
        Ok(()) => {
            // Left by one that ended.
            match std::fs::remove_file(&socket) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(()) => {}
            }
            Ok(Claim::First(Place { lock, listener: UnixListener::bind(&socket)? }))
        }
        Err(TryLockError::WouldBlock) => tell(&socket, arguments).map(|()| Claim::Told),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn tell(socket: &Path, arguments: &[String]) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // The first one may have its lock and not yet its socket.
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(25)),
        }
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    // No argument has a 0 in it.
    stream.write_all(arguments.join("\0").as_bytes())
}

impl Place {
    /// Hands the arguments of every later start to `heard`, for as long as the process lives.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn listen(self, heard: impl Fn(Vec<String>) + Send + 'static) -> io::Result<()> {
        let listen = move || {
            let Self { lock, listener } = self;
            // One after another: each has a short time and a short line.
            for stream in listener.incoming() {
                match stream.and_then(|stream| hear(&stream)) {
                    Ok(arguments) => heard(arguments),
                    Err(error) => {
                        tracing::warn!(%error, "another start was not understood");
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
            drop(lock);
        };
        thread::Builder::new().name("instance".to_owned()).spawn(listen).map(drop)
    }
}

fn hear(stream: &UnixStream) -> io::Result<Vec<String>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(LONGEST).read_to_string(&mut text)?;
    Ok(text.split('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_first_hears_the_arguments_of_the_second() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("hamn");
        // Left by one that was killed.
        std::fs::create_dir(&config).unwrap();
        drop(UnixListener::bind(config.join("window.sock")).unwrap());
        let Claim::First(place) = claim(&config, &[]).unwrap() else { panic!("nobody else is there") };
        let (said, heard) = mpsc::channel();
        place.listen(move |arguments| said.send(arguments).unwrap()).unwrap();
        for link in ["hamn://connect/se", "hamn://connect/us"] {
            let arguments = ["hamn-gui".to_owned(), link.to_owned()];
            assert!(matches!(claim(&config, &arguments).unwrap(), Claim::Told));
            assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), arguments);
        }
        // What is no text is nobody's command line, and the next one is heard again.
        UnixStream::connect(config.join("window.sock")).unwrap().write_all(b"\xff\xfe").unwrap();
        assert!(matches!(claim(&config, &["--hidden".to_owned()]).unwrap(), Claim::Told));
        assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), ["--hidden"]);
    }

    #[test]
    fn one_that_hangs_is_an_error_and_one_that_ended_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let first = claim(directory.path(), &[]).unwrap();
        std::fs::remove_file(directory.path().join("window.sock")).unwrap();
        assert!(claim(directory.path(), &[]).is_err());
        drop(first);
        assert!(matches!(claim(directory.path(), &[]).unwrap(), Claim::First(_)));
    }
}
