//! macOS's packet filter, routes, DNS and host as things that are kept: what is called, what is read back, and what wakes.

use super::guarded::{Asks, Difference, Guarded, Wish};
use super::host::{Ears, Host};
use crate::dns::apply::{BACKEND, Dns, DnsError, StoreWatch};
use crate::dns::plan::DnsWish;
use crate::firewall::apply::macos::{Pf, PfError};
use crate::firewall::compile::pf::PfRule;
use crate::monitor::HostView;
use crate::monitor::bell::Bell;
use crate::monitor::macos::{Notices, asleep_since_boot};
use crate::routes::apply::macos::{RouteError, Routing, read};
use crate::routes::plan_macos::MacRoutePlan;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The kernel tells nobody of changes in the packet filter, so what is in force is read four times a second: a dozen calls
/// that cost microseconds (TAMPER-01).
const FILTER_EVERY: Duration = Duration::from_millis(250);
/// How often the clocks are looked at for sleep; the timer stops in sleep and goes on after it. Routes are compared so often
/// too: the kernel says nothing when it drops a notice because its buffer is full.
const ROUTES_EVERY: Duration = Duration::from_secs(1);
/// The store announces its changes, so this is for a watch that missed one.
const DNS_EVERY: Duration = Duration::from_secs(10);
/// Without a watch.
const DNS_UNWATCHED: Duration = Duration::from_secs(1);

/// The packet filter. It is opened anew for each change and each comparison.
pub struct Firewall {
    state_dir: PathBuf,
}

impl Firewall {
    /// The note of the filter's token is kept in this directory, which exists.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }
}

impl Guarded for Firewall {
    type Wish = Option<Arc<Vec<PfRule>>>;
    type Error = PfError;
    const NAME: &'static str = "firewall";
    const ALL_OR_NOTHING: bool = true;

    fn every(&self) -> Duration {
        FILTER_EVERY
    }

    fn put(&mut self, wish: &Self::Wish) -> Result<Option<String>, PfError> {
        let pf = Pf::open(&self.state_dir)?;
        match wish {
            Some(rules) => pf.enforce(rules).map(|()| None),
            None if pf.is_present()? => pf.remove().map(|()| Some("rules of the packet filter removed".to_owned())),
            None => Ok(None),
        }
    }

    fn difference(&mut self, wish: &Self::Wish) -> Result<Option<Difference>, PfError> {
        let pf = Pf::open(&self.state_dir)?;
        let Some(rules) = wish else {
            let left = || Difference { what: "rules of ours are still there".to_owned(), tampered: true };
            return Ok(pf.is_present()?.then(left));
        };
        // A flag that keeps the filter from being asked shows in no rule, and taking it away again costs as little as asking.
        pf.skip_nothing()?;
        let changed = |what| Difference { what: format!("firewall changed: {what}"), tampered: true };
        Ok(pf.difference(rules)?.map(changed))
    }

    fn in_words(wish: &Self::Wish) -> &'static str {
        if wish.is_some() { "the rules are those of the policy" } else { "no rule of ours" }
    }
}

/// The routing table.
pub struct Routes;

impl Wish for MacRoutePlan {
    fn asks(&self) -> Asks {
        if *self == Self::default() { Asks::Removal } else { Asks::Keeping }
    }
}

impl Guarded for Routes {
    type Wish = MacRoutePlan;
    type Error = RouteError;
    const NAME: &'static str = "routes";
    const ALL_OR_NOTHING: bool = false;

    fn every(&self) -> Duration {
        ROUTES_EVERY
    }

    fn put(&mut self, plan: &MacRoutePlan) -> Result<Option<String>, RouteError> {
        let difference = read()?.difference(plan);
        if difference.is_empty() {
            return Ok(None);
        }
        Routing::open()?.close(&difference)?;
        Ok((plan.asks() == Asks::Removal).then(|| "routes removed".to_owned()))
    }

    fn difference(&mut self, plan: &MacRoutePlan) -> Result<Option<Difference>, RouteError> {
        let found = read()?.difference(plan);
        let differs = || Difference { what: found.describe(), tampered: !found.only_follows_links() };
        Ok((!found.is_empty()).then(differs))
    }

    fn lacks(&mut self, plan: &MacRoutePlan) -> Result<Option<String>, RouteError> {
        let Some(name) = plan.tunnel.as_ref().filter(|_| plan.tunnel_required) else { return Ok(None) };
        let up = plan.tunnel_index(&read()?.view).is_some();
        Ok((!up).then(|| format!("the tunnel interface {name} is not there or not up")))
    }

    fn in_words(plan: &MacRoutePlan) -> &'static str {
        match plan.asks() {
            Asks::Keeping => "the routes are those of the policy",
            Asks::Nothing | Asks::Removal => "no route of ours",
        }
    }
}

/// The resolvers in the dynamic store. While they are ours the store is watched.
pub struct Resolvers {
    dns: Dns,
    bell: Arc<Bell>,
    watch: Option<StoreWatch>,
}

impl Resolvers {
    /// Notes are kept in this directory, which exists; the bell is rung when another program changes the store.
    #[must_use]
    pub fn new(state_dir: &Path, bell: Arc<Bell>) -> Self {
        Self { dns: Dns::new(state_dir), bell, watch: None }
    }

    fn listen(&mut self) {
        if self.watch.is_none() {
            let watch = StoreWatch::new(Arc::clone(&self.bell));
            let late =
                |error: &io::Error| tracing::warn!(%error, "DNS settings are compared every second: they cannot be watched");
            self.watch = watch.inspect_err(late).ok();
        }
    }
}

impl Guarded for Resolvers {
    type Wish = DnsWish;
    type Error = DnsError;
    const NAME: &'static str = "DNS";
    const ALL_OR_NOTHING: bool = false;

    fn every(&self) -> Duration {
        if self.watch.is_some() { DNS_EVERY } else { DNS_UNWATCHED }
    }

    fn put(&mut self, wish: &DnsWish) -> Result<Option<String>, DnsError> {
        match wish {
            DnsWish::Unchanged => Ok(None),
            DnsWish::Original => {
                self.watch = None;
                self.dns.restore()
            }
            DnsWish::Set(plan) => {
                // Watched before it is written, so that no change in between goes unnoticed.
                self.listen();
                self.dns.set(plan).map(|()| None)
            }
        }
    }

    fn difference(&mut self, wish: &DnsWish) -> Result<Option<Difference>, DnsError> {
        match wish {
            DnsWish::Unchanged => Ok(None),
            DnsWish::Original => {
                let left = || Difference { what: "the original DNS settings are not back".to_owned(), tampered: false };
                Ok(self.dns.is_noted()?.then(left))
            }
            DnsWish::Set(plan) => self.dns.difference(plan),
        }
    }

    fn in_words(wish: &DnsWish) -> &'static str {
        match wish {
            DnsWish::Unchanged => "not changed by this policy",
            DnsWish::Original => "the host's own settings",
            DnsWish::Set(_) => "all services use the tunnel's resolvers",
        }
    }
}

/// The name of what holds DNS settings.
pub const DNS_BACKEND: &str = BACKEND;

/// Links, addresses, routes and clocks.
pub struct MacHost {
    /// The newest look, for whoever asks for the way outside.
    pub view: watch::Sender<HostView>,
}

impl Host for MacHost {
    type Ears = Notices;

    fn listen(&self, bell: &Arc<Bell>) -> io::Result<Notices> {
        Notices::open(Arc::clone(bell))
    }

    fn look(&self) -> io::Result<HostView> {
        let view = read().map_err(io::Error::other)?.view;
        self.view.send_replace(view.clone());
        Ok(view)
    }

    fn asleep_since_boot(&self) -> io::Result<Duration> {
        Ok(asleep_since_boot()?)
    }
}

impl Ears for Notices {
    fn every(&self) -> Duration {
        ROUTES_EVERY
    }

    fn deaf(&self) -> Option<String> {
        self.ended()
    }
}
