//! Listens on a named pipe so that nobody else can have its name, open it wider or come over the network (IPC-02).
//!
//! A thread of its own waits for clients with plain overlapped calls: a pipe that belonged to the runtime would be read from as
//! soon as it is connected, and who a client is must be asked before anything is read (see `Token::of_client`).
#![expect(unsafe_code, reason = "the Windows API")]

use crate::caller::{Caller, GroupId, Identity, Share};
use crate::pipe;
use crate::server::system;
use crate::windows::security::create_pipe;
use crate::windows::token::Token;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::windows::named_pipe::NamedPipeServer;
use tokio::sync::mpsc;
use tokio::time::timeout;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_IO_PENDING, ERROR_PIPE_CONNECTED, WAIT_OBJECT_0};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, DisconnectNamedPipe, GetNamedPipeClientProcessId};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects, WaitForSingleObject};

/// Callers that wait while the server is busy.
const BACKLOG: usize = 16;
/// Time between attempts when an instance cannot be made or waited on.
const PAUSE_MS: u32 = 50;
/// Time in which a caller must take the sentence that refuses it.
const REFUSAL: Duration = Duration::from_millis(200);

/// What a connection speaks through.
pub(in crate::server) type Stream = NamedPipeServer;

/// Somebody who has connected, and what the system said about who it is.
#[derive(Debug)]
pub(in crate::server) struct Arrival {
    stream: NamedPipeServer,
    caller: Option<io::Result<Caller>>,
}

impl Arrival {
    /// Who it is, or `None` when `in_time` says that this one comes too often.
    ///
    /// # Errors
    /// When the system does not tell: the connection is then refused.
    pub(in crate::server) fn identify(&mut self, in_time: impl FnOnce(&Share) -> bool) -> io::Result<Option<Caller>> {
        let caller = self.caller.take().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
        Ok(in_time(&caller.share()).then_some(caller))
    }

    /// Says why and hangs up. How many do so at the same time is bounded by the instances of the pipe.
    pub(in crate::server) fn refuse(mut self, answer: &[u8]) {
        let answer = answer.to_vec();
        tokio::spawn(async move { timeout(REFUSAL, self.stream.write_all(&answer)).await });
    }

    pub(in crate::server) fn into_stream(self) -> Stream {
        self.stream
    }
}

type Opened = (OwnedHandle, io::Result<Caller>);

/// A listening pipe. Its name is free again when the last instance is closed.
#[derive(Debug)]
pub struct BoundSocket {
    path: PathBuf,
    opened: mpsc::Receiver<Opened>,
    stop: Arc<Event>,
    thread: Option<JoinHandle<()>>,
}

impl BoundSocket {
    /// Claims the pipe's name. The owner is the user of this process (for the service: the system), the rest is in
    /// `pipe::descriptor`; both are there from the first moment.
    ///
    /// # Errors
    /// `path` is not the name of a local pipe; another process has the name, or only others may take it.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let name = pipe::name(path).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let owner = Token::own()?.user()?;
        let group = match system::control_group() {
            Some(GroupId::Windows(group)) => Some(group),
            Some(GroupId::Unix(_)) | None => None,
        };
        let made = Maker { name: name.to_owned(), descriptor: pipe::descriptor(&owner, group.as_ref()) };
        let first = made.instance(true).map_err(|error| {
            if is(&error, ERROR_ACCESS_DENIED) {
                io::Error::new(io::ErrorKind::AddrInUse, "another process has the pipe's name, or this one may not take it")
            } else {
                error
            }
        })?;
        let (sender, opened) = mpsc::channel(BACKLOG);
        let (stop, arrived) = (Arc::new(Event::new()?), Event::new()?);
        let listening = Listening { made, ready: first, arrived, stop: Arc::clone(&stop) };
        let thread = thread::Builder::new().name("pipe".to_owned()).spawn(move || listening.run(&sender))?;
        Ok(Self { path: path.to_owned(), opened, stop, thread: Some(thread) })
    }

    /// The next caller. Safe to cancel.
    pub(in crate::server) async fn accept(&mut self) -> io::Result<Arrival> {
        let Some((handle, caller)) = self.opened.recv().await else {
            return Err(io::Error::other("nobody listens at the pipe any more"));
        };
        // SAFETY: the handle is that of our end of a pipe, made for overlapped calls, and ownership passes on with it.
        let stream = unsafe { NamedPipeServer::from_raw_handle(handle.into_raw_handle()) }?;
        Ok(Arrival { stream, caller: Some(caller) })
    }

    /// The pipe's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        self.stop.set();
        // A thread that waits for room in the channel is let go by this.
        self.opened.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes instances that are all alike.
#[derive(Debug)]
struct Maker {
    name: String,
    descriptor: String,
}

impl Maker {
    fn instance(&self, first: bool) -> io::Result<OwnedHandle> {
        create_pipe(&self.name, &self.descriptor, pipe::instance(first))
    }
}

/// The thread that waits for clients.
struct Listening {
    made: Maker,
    ready: OwnedHandle,
    arrived: Event,
    stop: Arc<Event>,
}

impl Listening {
    fn run(mut self, callers: &mpsc::Sender<Opened>) {
        loop {
            match self.wait() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "a local caller came and went");
                    disconnect(self.ready.as_handle());
                    if self.stop.is_set_within(PAUSE_MS) {
                        return;
                    }
                    continue;
                }
            }
            // The next instance is there before this one is handed over: at no moment is the name free for others.
            let next = loop {
                match self.made.instance(false) {
                    Ok(next) => break next,
                    Err(error) => tracing::warn!(%error, "make the next instance of the local pipe"),
                }
                if self.stop.is_set_within(PAUSE_MS) {
                    return;
                }
            };
            let connected = std::mem::replace(&mut self.ready, next);
            let caller = identify(connected.as_handle());
            if callers.blocking_send((connected, caller)).is_err() {
                return;
            }
        }
    }

    /// True when a client has opened the pipe, false when it is time to stop (`ConnectNamedPipe`, learn.microsoft.com,
    /// namedpipeapi.h).
    fn wait(&self) -> io::Result<bool> {
        let pipe = self.ready.as_raw_handle();
        let mut call = OVERLAPPED { hEvent: self.arrived.0.as_raw_handle(), ..OVERLAPPED::default() };
        // SAFETY: `call` stays where it is until the end of this function, before which the call has ended.
        if unsafe { ConnectNamedPipe(pipe, &raw mut call) } != 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if is(&error, ERROR_PIPE_CONNECTED) {
            return Ok(true);
        }
        if !is(&error, ERROR_IO_PENDING) {
            return Err(error);
        }
        let events = [self.arrived.0.as_raw_handle(), self.stop.0.as_raw_handle()];
        // SAFETY: both events are open through the call.
        let woken = unsafe { WaitForMultipleObjects(2, events.as_ptr(), 0, INFINITE) };
        if woken != WAIT_OBJECT_0 {
            // SAFETY: `call` is the one that is under way on `pipe`.
            let _ = unsafe { CancelIoEx(pipe, &raw const call) };
        }
        let mut bytes = 0;
        // SAFETY: `call` is the one that is under way on `pipe`; this waits for its end.
        let done = unsafe { GetOverlappedResult(pipe, &raw const call, &raw mut bytes, 1) };
        let failed = io::Error::last_os_error();
        if woken != WAIT_OBJECT_0 {
            return Ok(false);
        }
        if done == 0 { Err(failed) } else { Ok(true) }
    }
}

fn identify(pipe: BorrowedHandle<'_>) -> io::Result<Caller> {
    let token = Token::of_client(pipe)?.facts()?;
    let mut pid = 0;
    // SAFETY: `pid` takes one number. Not knowing it harms nobody: it is for the log.
    let _ = unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut pid) };
    Ok(Caller { pid, identity: Identity::Windows(token) })
}

fn disconnect(pipe: BorrowedHandle<'_>) {
    // SAFETY: the handle is open. When it fails, the next wait says so.
    let _ = unsafe { DisconnectNamedPipe(pipe.as_raw_handle()) };
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error().and_then(|found| u32::try_from(found).ok()) == Some(code)
}

/// An event that stays set until a call resets it.
#[derive(Debug)]
struct Event(OwnedHandle);

impl Event {
    fn new() -> io::Result<Self> {
        // SAFETY: no attributes, no name.
        let event = unsafe { CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made for us just now, and nobody else knows it.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(event) }))
    }

    fn set(&self) {
        // SAFETY: the event is open.
        let _ = unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    fn is_set_within(&self, milliseconds: u32) -> bool {
        // SAFETY: the event is open.
        let waited = unsafe { WaitForSingleObject(self.0.as_raw_handle(), milliseconds) };
        waited == WAIT_OBJECT_0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::security::owner;
    use crate::windows::security::tests::is_wine;
    use std::fs::{File, OpenOptions};
    use std::os::windows::fs::OpenOptionsExt;
    use windows_sys::Win32::Storage::FileSystem::SECURITY_IDENTIFICATION;
    use windows_sys::Win32::System::Pipes::{GetNamedPipeInfo, PIPE_SERVER_END, PIPE_TYPE_MESSAGE};

    fn path(name: &str) -> PathBuf {
        PathBuf::from(format!(r"\\.\pipe\hamn-listen-{}-{name}", std::process::id()))
    }

    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().access_mode(pipe::CLIENT_RIGHTS).security_qos_flags(SECURITY_IDENTIFICATION).open(path)
    }

    /// Wine makes a further instance where Windows refuses a second claim to a name.
    fn claims_are_refused() -> bool {
        if is_wine() {
            println!("skipped: Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE");
        }
        !is_wine()
    }

    // IPC-02
    #[tokio::test]
    async fn a_second_helper_does_not_get_the_name_and_a_successor_does() {
        for bad in [r"C:\hamn", r"\\server\pipe\hamn", "helper.sock"] {
            assert_eq!(BoundSocket::bind(Path::new(bad)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
        let path = path("name");
        let mut first = BoundSocket::bind(&path).unwrap();
        let client = open(&path).unwrap();
        let arrival = first.accept().await.unwrap();
        if claims_are_refused() {
            assert_eq!(BoundSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        drop((first, arrival, client));
        // The runtime closes a connection's handle when it sees that nothing is under way on it.
        let started = tokio::time::Instant::now();
        while open(&path).map_err(|error| error.kind()).err() != Some(io::ErrorKind::NotFound) {
            assert!(started.elapsed() < Duration::from_secs(10), "something is left behind");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(BoundSocket::bind(&path).is_ok());
    }

    // At no moment between one client and the next could somebody else make the pipe's first instance.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_name_is_never_free_while_clients_come_and_go() {
        let path = path("gap");
        let mut socket = BoundSocket::bind(&path).unwrap();
        let clients = {
            let path = path.clone();
            thread::spawn(move || {
                let text = path.to_str().unwrap();
                let (mut served, mut free, mut taken) = (0, 0, 0);
                for _ in 0..500 {
                    match open(&path) {
                        Ok(_) => served += 1,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => free += 1,
                        Err(_) => {}
                    }
                    let squatter = || create_pipe(text, "D:(A;;GA;;;S-1-1-0)", pipe::instance(true)).is_ok();
                    taken += i32::from(!is_wine() && squatter());
                }
                (served, free, taken)
            })
        };
        while !clients.is_finished() {
            let _ = timeout(Duration::from_millis(20), socket.accept()).await;
        }
        claims_are_refused();
        let (served, free, taken) = clients.join().unwrap();
        assert!(served > 0, "some clients got through");
        assert_eq!((free, taken), (0, 0), "the name was free");
    }

    #[tokio::test]
    async fn a_caller_is_known_by_its_token_before_anything_is_read() {
        let path = path("known");
        let mut socket = BoundSocket::bind(&path).unwrap();
        let client = open(&path).unwrap();
        let caller = socket.accept().await.unwrap().identify(|_| true).unwrap().unwrap();
        let own = Token::own().unwrap().facts().unwrap();
        let Identity::Windows(found) = &caller.identity else { panic!("{caller:?}") };
        assert_eq!((&found.user, found.session, found.elevated), (&own.user, own.session, own.elevated), "{found:?}");
        assert_eq!(caller.pid, std::process::id());
        assert!(Token::of_client(client.as_handle()).is_err(), "a client's end has no client");
        let _second = open(&path).unwrap();
        assert_eq!(socket.accept().await.unwrap().identify(|_| false).unwrap(), None, "comes too often");
    }

    // Learned from the first write, the identity of a client that lets the last writer count could be another process's.
    #[tokio::test]
    async fn a_caller_that_lets_the_last_writer_count_is_not_known() {
        let path = path("dynamic");
        let mut socket = BoundSocket::bind(&path).unwrap();
        let _client = OpenOptions::new().access_mode(pipe::CLIENT_RIGHTS).open(&path).unwrap();
        match socket.accept().await.unwrap().identify(|_| true) {
            Err(error) => println!("refused: {error}"),
            Ok(caller) if is_wine() => println!("skipped: Wine knows every client, and as the server itself: {caller:?}"),
            Ok(caller) => panic!("{caller:?}"),
        }
    }

    #[tokio::test]
    async fn instances_are_as_planned() {
        let path = path("plan");
        let mut socket = BoundSocket::bind(&path).unwrap();
        let client = open(&path).unwrap();
        let arrival = socket.accept().await.unwrap();
        let (mut flags, mut output, mut input, mut most) = (0, 0, 0, 0);
        // SAFETY: the pipe is open and four numbers are ours.
        let done = unsafe {
            GetNamedPipeInfo(arrival.stream.as_raw_handle(), &raw mut flags, &raw mut output, &raw mut input, &raw mut most)
        };
        assert_ne!(done, 0, "{}", io::Error::last_os_error());
        let plan = pipe::instance(false);
        assert_eq!(flags & (PIPE_SERVER_END | PIPE_TYPE_MESSAGE), PIPE_SERVER_END);
        assert_eq!((output, input, most), (plan.buffer, plan.buffer, plan.most));
        println!("not asked: no system tells the flag that refuses other computers; the plan's test holds it");
        let own = Token::own().unwrap().user().unwrap();
        assert_eq!(owner(client.as_handle()).unwrap(), own);
    }
}
