//! The conversation with a helper over a real socket: snapshots, restarts, refusals, impostors, other versions, a hanging helper.
#![cfg(test)]

#[path = "../../platform/ipc/tests/fake/mod.rs"]
mod fake;

#[cfg(unix)]
#[path = "link/unix.rs"]
mod by_hand;

use fake::{Fake, Outcome, Script};
use hamn_core::state::BlockReason;
use hamn_core::status::StateKind;
use hamn_ipc::ProblemCode;
use hamn_ipc::client::Client;
use hamn_ipc::wire::{ConnectRequest, VersionInfo};
use hamn_window::link::{Board, Conversation, Link, LinkState, Word};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// A window without a window: everything that it was told, in order.
struct Window {
    told: Arc<Mutex<Vec<Link>>>,
    board: Arc<Board>,
    visible: watch::Sender<bool>,
    nudge: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Window {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Window {
    fn open(socket: &Path, visible: bool) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let board = Arc::new(Board::new(move |before, after| {
            assert!(after.seq > before.seq);
            sink.lock().unwrap().push(after.clone());
        }));
        let visible = watch::Sender::new(visible);
        let nudge = Arc::new(Notify::new());
        let talk = Conversation::new(Some(socket.to_owned()), Arc::clone(&board), visible.subscribe(), Arc::clone(&nudge));
        Self { told, board, visible, nudge, task: tokio::spawn(talk.run()) }
    }

    fn told(&self) -> Vec<Link> {
        self.told.lock().unwrap().clone()
    }

    /// The first link from the `after`-th on that is as wanted, and how many were told by then.
    async fn wait(&self, after: usize, wanted: impl Fn(&Link) -> bool) -> (Link, usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let told = self.told();
            if let Some(found) = told.iter().skip(after).position(&wanted) {
                return (told[after + found].clone(), after + found + 1);
            }
            assert!(
                Instant::now() < deadline,
                "not told; told was {:?}",
                told.iter().map(|link| (link.seq, link.state)).collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn state_of(link: &Link) -> Option<StateKind> {
    link.status.as_ref().map(|status| status.state)
}

#[tokio::test]
async fn every_step_of_a_connection_is_told_in_order() {
    let mut fake = Fake::start(Script::default());
    let window = Window::open(&fake.socket, true);
    assert_eq!(window.board.current().state, LinkState::Connecting);
    let (first, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    assert_eq!(first.versions.as_ref().map(|versions| versions.helper.as_str()), Some("9.9.9"));
    Client::open(Some(&fake.socket)).await.unwrap().connect(&ConnectRequest::default()).await.unwrap();
    window.wait(count, |link| state_of(link) == Some(StateKind::Connected)).await;
    let told = window.told();
    assert!(told.windows(2).all(|pair| pair[0].seq < pair[1].seq), "the numbers grow");
    let states: Vec<_> = told.iter().filter_map(state_of).collect();
    let connecting = states.iter().filter(|state| **state == StateKind::Connecting).count();
    assert_eq!((states.first(), connecting, states.last()), (Some(&StateKind::Disconnected), 4, Some(&StateKind::Connected)));
    assert!(told.iter().all(|link| link.problem.is_none() && link.public.is_none()));
    fake.stop().await;
}

#[tokio::test]
async fn counters_are_fresh_while_somebody_looks_and_left_alone_otherwise() {
    let mut fake = Fake::start(Script::default());
    fake.status.send_modify(|status| Arc::make_mut(status).tunnel = Some(fake::tunnel()));
    let window = Window::open(&fake.socket, false);
    let (_, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    let received = |bytes: u64| {
        fake.status.send_modify(|status| {
            if let Some(tunnel) = &mut Arc::make_mut(status).tunnel {
                tunnel.rx_bytes = bytes;
            }
        });
    };
    received(7);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(window.told().len(), count, "nobody looks");
    window.visible.send_replace(true);
    let shows = |bytes: u64| {
        move |link: &Link| link.status.iter().flat_map(|status| &status.tunnel).any(|tunnel| tunnel.rx_bytes == bytes)
    };
    let (_, count) = window.wait(count, shows(7)).await;
    received(8);
    let began = Instant::now();
    let (_, count) = window.wait(count, shows(8)).await;
    received(9);
    window.wait(count, shows(9)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    fake.stop().await;
}

#[test]
fn older_words_never_replace_newer_ones() {
    let versions = VersionInfo { helper: "9.9.9".into(), api: 1 };
    let word = |session: u64, sequence: u64| {
        let status = Box::new(hamn_core::status::Status { sequence, ..fake::status() });
        Word::Status { session, status, versions: versions.clone() }
    };
    let board = Board::new(|_, _| {});
    let take = |word: Word| {
        board.take(word);
        let link = board.current();
        (link.seq, link.status.map(|status| status.sequence))
    };
    assert_eq!(take(word(1, 5)), (2, Some(5)));
    assert_eq!(take(word(1, 4)), (2, Some(5)), "older in its connection");
    assert_eq!(take(word(1, 5)), (2, Some(5)), "nothing new");
    assert_eq!(take(word(2, 1)), (3, Some(1)), "a new connection counts anew");
    assert_eq!(take(word(1, 9)), (3, Some(1)), "late, from the connection before");
    let problem = hamn_ipc::Problem::new(ProblemCode::HelperUnreachable);
    let down = Word::Down { state: LinkState::Unreachable, problem, public: None, versions: None };
    assert_eq!(take(down.clone()), (4, None));
    assert_eq!(take(down), (4, None));
    assert_eq!(take(word(1, 9)), (4, None), "late, after the end");
    assert_eq!(take(word(3, 1)), (5, Some(1)));
}

#[tokio::test]
async fn a_blocked_tunnel_comes_with_its_reason() {
    let mut fake = Fake::start(Script { outcome: Outcome::Blocks(BlockReason::GatewaySilent), ..Script::default() });
    let window = Window::open(&fake.socket, true);
    let (_, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    Client::open(Some(&fake.socket)).await.unwrap().connect(&ConnectRequest::default()).await.unwrap();
    let (link, _) = window.wait(count, |link| state_of(link) == Some(StateKind::Blocked)).await;
    assert_eq!(link.status.and_then(|status| status.blocked).map(|blocked| blocked.code), Some(BlockReason::GatewaySilent));
    fake.stop().await;
}

#[tokio::test]
async fn a_nudge_asks_although_nobody_looks() {
    let mut fake = Fake::start(Script::default());
    let window = Window::open(&fake.socket, false);
    let (_, count) = window.wait(0, |link| link.state == LinkState::Up).await;
    fake.status.send_modify(|status| Arc::make_mut(status).sequence = 500);
    window.nudge.notify_one();
    window.wait(count, |link| link.status.as_ref().is_some_and(|status| status.sequence == 500)).await;
    fake.stop().await;
}
