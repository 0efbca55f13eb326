//! Following a host that a test changes.

use super::*;
use crate::monitor::reporter::tests::host;
use hamn_core::net::InterfaceName;
use std::sync::{Mutex, MutexGuard};

const MINUTE: Duration = Duration::from_secs(60);

/// What the host looks like, and how it behaves.
#[derive(Default)]
pub struct Scene {
    pub view: HostView,
    pub asleep: Duration,
    pub unreadable: bool,
    pub refuses_to_tell: bool,
    /// Who listens hears no more.
    pub silent: bool,
    pub listened: usize,
    /// The next look at the clocks ends the task.
    pub breaks: bool,
}

#[derive(Clone, Default)]
pub struct FakeHost(pub Arc<Mutex<Scene>>);

impl FakeHost {
    pub fn new() -> Self {
        let fake = Self::default();
        fake.scene().view = host();
        fake
    }

    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        self.0.lock().unwrap()
    }
}

pub struct FakeEars(FakeHost);

impl Ears for FakeEars {
    fn every(&self) -> Duration {
        MINUTE * 60
    }

    fn deaf(&self) -> Option<String> {
        self.0.scene().silent.then(|| "the line is dead".to_owned())
    }
}

impl Host for FakeHost {
    type Ears = FakeEars;

    fn listen(&self, _bell: &Arc<Bell>) -> io::Result<FakeEars> {
        let mut scene = self.scene();
        if scene.refuses_to_tell {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        scene.listened += 1;
        scene.silent = false;
        Ok(FakeEars(self.clone()))
    }

    fn look(&self) -> io::Result<HostView> {
        let scene = self.scene();
        if scene.unreadable { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(scene.view.clone()) }
    }

    fn asleep_since_boot(&self) -> io::Result<Duration> {
        let (asleep, breaks) = {
            let scene = self.scene();
            (scene.asleep, scene.breaks)
        };
        assert!(!breaks, "wanted by the test");
        Ok(asleep)
    }
}

struct Stand {
    host: FakeHost,
    bell: Arc<Bell>,
    keeper: HostKeeper,
    events: mpsc::Receiver<HostEvent>,
}

impl Stand {
    /// After the first facts.
    async fn new() -> Self {
        let (host, bell) = (FakeHost::new(), Arc::new(Bell::default()));
        let (sender, events) = mpsc::channel(4);
        let keeper = HostKeeper::start(host.clone(), &bell, sender).await.unwrap();
        let mut stand = Self { host, bell, keeper, events };
        let first = stand.event().await;
        assert_eq!(first, HostEvent::Facts { facts: stand.keeper.facts(), path_changed: false });
        stand
    }

    fn change(&self, change: impl FnOnce(&mut Scene)) {
        change(&mut self.host.scene());
        self.bell.ring();
    }

    async fn event(&mut self) -> HostEvent {
        tokio::time::timeout(MINUTE, self.events.recv()).await.unwrap().unwrap()
    }

    /// The next event tells that the only link went down.
    async fn hears_of_a_link(&mut self) {
        self.host.scene().view.links[0].up = false;
        assert!(matches!(self.event().await, HostEvent::Facts { facts, .. } if !facts.online));
        assert!(!self.keeper.facts().online);
    }
}

#[tokio::test]
async fn changes_and_sleep_are_told_when_the_bell_rings() {
    let mut stand = Stand::new().await;
    stand.change(|scene| scene.asleep = Duration::from_secs(90));
    assert_eq!(stand.event().await, HostEvent::Resumed { asleep_ms: 90_000 });
    stand.bell.ring();
    stand.hears_of_a_link().await;
}

#[tokio::test]
async fn the_loss_of_a_tunnel_in_use_is_told() {
    let mut stand = Stand::new().await;
    let tunnel = TunnelUse { interface: InterfaceName::tunnel(), required: true };
    stand.keeper.use_tunnel(Some(tunnel)).await.unwrap();
    stand.change(|scene| scene.view.addresses.truncate(1));
    assert_eq!(stand.event().await, HostEvent::TunnelInterfaceLost);
}

#[tokio::test]
async fn who_hears_nothing_any_more_listens_anew_and_misses_nothing() {
    let mut stand = Stand::new().await;
    stand.change(|scene| {
        scene.silent = true;
        scene.view.links[0].up = false;
    });
    stand.hears_of_a_link().await;
    assert_eq!(stand.host.scene().listened, 2);
}

#[tokio::test]
async fn who_can_hear_no_more_says_so_once_and_looks_all_the_same() {
    let mut stand = Stand::new().await;
    stand.change(|scene| (scene.silent, scene.refuses_to_tell) = (true, true));
    let told = stand.event().await;
    assert!(matches!(told, HostEvent::RestoreFailed { reason } if reason.ends_with("followed: the line is dead")));
    stand.hears_of_a_link().await;
    stand.host.scene().refuses_to_tell = false;
    stand.host.scene().view.links[0].up = true;
    assert!(matches!(stand.event().await, HostEvent::Facts { facts, .. } if facts.online));
    assert_eq!(stand.host.scene().listened, 2);
}

#[tokio::test]
async fn a_host_that_cannot_be_read_or_heard_is_not_followed_and_one_that_fails_once_is() {
    for (unreadable, refuses_to_tell) in [(true, false), (false, true)] {
        let host = FakeHost::new();
        {
            let mut scene = host.scene();
            (scene.unreadable, scene.refuses_to_tell) = (unreadable, refuses_to_tell);
        }
        assert!(HostKeeper::start(host, &Arc::default(), mpsc::channel(4).0).await.is_err());
    }
    let mut stand = Stand::new().await;
    stand.change(|scene| {
        scene.unreadable = true;
        scene.asleep = Duration::from_secs(2);
    });
    assert_eq!(stand.event().await, HostEvent::Resumed { asleep_ms: 2000 }, "the clocks are looked at all the same");
    stand.host.scene().unreadable = false;
    stand.hears_of_a_link().await;
}
