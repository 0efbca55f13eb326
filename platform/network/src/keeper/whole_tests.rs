//! The order of the parts and what a failure of one means for the others, with parts that only remember.

use super::*;
use crate::fixtures::{all, everything, through, tunnel};
use crate::keeper::guarded::{Asks, Difference, Wish};
use crate::keeper::host::tests::FakeHost;
use hamn_core::policy::{Enforced, TunnelAccess};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const NAMES: [&str; 3] = ["firewall", "routes", "DNS"];

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refused;

/// What was called, what there is, and what refuses.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    calls: Vec<String>,
    there: BTreeSet<&'static str>,
    broken: BTreeSet<&'static str>,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }

    /// What was called since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }
}

struct Part<W, const N: usize>(World, PhantomData<W>);

impl<W, const N: usize> Part<W, N> {
    const fn new(world: World) -> Self {
        Self(world, PhantomData)
    }
}

impl<W: Wish, const N: usize> Guarded for Part<W, N> {
    type Wish = W;
    type Error = Refused;
    const NAME: &'static str = NAMES[N];
    const ALL_OR_NOTHING: bool = N == 0;

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn put(&mut self, wish: &W) -> Result<Option<String>, Refused> {
        let mut memory = self.0.lock();
        let keeps = wish.asks() == Asks::Keeping;
        memory.calls.push(format!("{}{}", if keeps { '+' } else { '-' }, Self::NAME));
        if memory.broken.contains(Self::NAME) {
            return Err(Refused);
        }
        let changed = if keeps { memory.there.insert(Self::NAME) } else { memory.there.remove(Self::NAME) };
        Ok((changed && !keeps).then(|| format!("{} removed", Self::NAME)))
    }

    fn difference(&mut self, wish: &W) -> Result<Option<Difference>, Refused> {
        let there = self.0.lock().there.contains(Self::NAME);
        let differs = || Difference { what: format!("{} is there: {there}", Self::NAME), tampered: true };
        Ok((there != (wish.asks() == Asks::Keeping)).then(differs))
    }

    fn in_words(_wish: &W) -> &'static str {
        "as wished"
    }
}

struct Fake<const ROUTES_ARE_A_FENCE: bool>;

impl<const ROUTES_ARE_A_FENCE: bool> System for Fake<ROUTES_ARE_A_FENCE> {
    type Firewall = Part<Option<()>, 0>;
    type Routes = Part<Option<()>, 1>;
    type Dns = Part<DnsWish, 2>;
    type Host = FakeHost;
    const DNS_BACKEND: &'static str = "memory";
    const ROUTES_ARE_A_FENCE: bool = ROUTES_ARE_A_FENCE;

    fn rules(policy: &NetworkPolicy) -> Option<()> {
        (!policy.is_open()).then_some(())
    }

    fn routes(policy: &NetworkPolicy) -> Option<()> {
        (!policy.is_open()).then_some(())
    }
}

fn parts<const FENCE: bool>(world: &World) -> Parts<Fake<FENCE>> {
    Parts { firewall: Part::new(world.clone()), routes: Part::new(world.clone()), dns: Part::new(world.clone()) }
}

async fn whole<const FENCE: bool>() -> (Whole<Fake<FENCE>>, World) {
    whole_on(FakeHost::new()).await
}

async fn whole_on<const FENCE: bool>(host: FakeHost) -> (Whole<Fake<FENCE>>, World) {
    let (world, bell) = (World::default(), Arc::new(Bell::default()));
    let listeners = Listeners { firewall: bell.listen(), routes: bell.listen(), dns: bell.listen() };
    let (sender, _) = mpsc::channel(4);
    (Whole::start(parts(&world), listeners, host, &bell, sender).await.unwrap(), world)
}

fn connected() -> NetworkPolicy {
    let tunnel = tunnel(&["10.64.0.2/32"], everything(&["0.0.0.0/0"]));
    through(TunnelAccess { resolvers: all(&["10.64.0.1"]), ..tunnel })
}

#[tokio::test]
async fn fences_close_before_dns_changes_and_open_after_it_is_back() {
    let (mut whole, world) = whole::<true>().await;
    assert!(whole.facts().online);
    assert_eq!((whole.verify().await, world.calls().len()), (vec![Finding::no_policy()], 0));
    whole.apply(&connected()).await.unwrap();
    assert_eq!(world.calls(), ["+firewall", "+routes", "+DNS"]);
    assert!(whole.verify().await.iter().all(|finding| finding.ok));
    assert_eq!(whole.dns_backend(), Some("memory"));
    let lockdown = NetworkPolicy::Enforce(Enforced::default());
    whole.apply(&lockdown).await.unwrap();
    assert_eq!(world.calls(), ["+firewall", "+routes"]);
    assert_eq!(whole.dns_backend(), Some("memory"), "DNS is left as it is in between");
    whole.apply(&NetworkPolicy::Open).await.unwrap();
    assert_eq!(world.calls(), ["-DNS", "-routes", "-firewall"]);
    assert_eq!(whole.dns_backend(), None);
}

#[tokio::test]
async fn without_a_firewall_routes_close_where_they_are_a_fence_and_dns_is_never_touched() {
    let (mut fenced, world) = whole::<true>().await;
    world.lock().broken.insert("firewall");
    assert_eq!(fenced.apply(&connected()).await.unwrap_err().to_string(), "firewall: refused");
    assert_eq!(world.calls(), ["+firewall", "+routes"]);
    let wrong: Vec<String> =
        fenced.verify().await.into_iter().filter(|finding| !finding.ok).map(|finding| finding.what).collect();
    assert_eq!(wrong, ["firewall", "DNS"]);
    let (mut bare, world) = whole::<false>().await;
    world.lock().broken.insert("firewall");
    assert_eq!(bare.apply(&connected()).await.unwrap_err().to_string(), "firewall: refused");
    assert_eq!(world.calls(), ["+firewall"]);
}

#[tokio::test]
async fn without_routes_dns_is_not_touched() {
    let (mut whole, world) = whole::<false>().await;
    world.lock().broken.insert("routes");
    assert_eq!(whole.apply(&connected()).await.unwrap_err().to_string(), "routes: refused");
    assert_eq!(world.calls(), ["+firewall", "+routes"]);
    assert_eq!(whole.dns_backend(), None);
}

#[tokio::test]
async fn whatever_fails_while_opening_the_rest_is_opened() {
    for broken in NAMES {
        let (mut whole, world) = whole::<true>().await;
        whole.apply(&connected()).await.unwrap();
        world.calls();
        world.lock().broken.insert(broken);
        assert_eq!(whole.apply(&NetworkPolicy::Open).await.unwrap_err().to_string(), format!("{broken}: refused"));
        assert_eq!(world.calls(), ["-DNS", "-routes", "-firewall"]);
        assert_eq!(world.lock().there, BTreeSet::from([broken]));
        let wrong: Vec<Finding> = whole.verify().await.into_iter().filter(|finding| !finding.ok).collect();
        assert!(wrong.len() == 1 && wrong[0].what == broken, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_monitor_that_ended_keeps_nothing_from_being_closed_or_opened_and_is_told() {
    let host = FakeHost::new();
    let (mut whole, world) = whole_on::<true>(host.clone()).await;
    whole.apply(&connected()).await.unwrap();
    host.scene().breaks = true;
    // The look that follows a change ends it.
    while whole.apply(&connected()).await.is_ok() {}
    world.calls();
    let error = whole.apply(&connected()).await.unwrap_err();
    assert!(matches!(error, ApplyError::Ended(_)), "{error}");
    assert_eq!(world.calls(), ["+firewall", "+routes", "+DNS"]);
    assert!(matches!(whole.apply(&NetworkPolicy::Open).await, Err(ApplyError::Ended(_))));
    assert!(world.lock().there.is_empty());
}

#[tokio::test]
async fn an_administrator_removes_what_is_there_and_is_told_what_stays() {
    let world = World::default();
    world.lock().there.extend(NAMES);
    world.lock().broken.insert("routes");
    match remove(parts::<true>(&world)).await {
        Err(NetworkError::Incomplete { done, failed }) => {
            assert_eq!(
                (done, failed),
                (vec!["DNS removed".to_owned(), "firewall removed".to_owned()], vec!["routes: refused".to_owned()])
            );
        }
        other => panic!("{other:?}"),
    }
    world.lock().broken.clear();
    assert_eq!(remove(parts::<true>(&world)).await.unwrap(), ["routes removed"]);
    assert_eq!(remove(parts::<true>(&world)).await.unwrap(), Vec::<String>::new(), "a second call does nothing");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = NetworkError::directory(Path::new("/notes"))(io::ErrorKind::PermissionDenied.into());
    assert_eq!(error.to_string(), "cannot make /notes: permission denied");
}
