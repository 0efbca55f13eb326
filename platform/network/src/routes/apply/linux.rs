//! Rules and routes over rtnetlink: what is missing is added, then what is ours and not wanted is removed, then all is read back.
//!
//! In the kernel, for a connected IPv4-only tunnel without LAN access (`ip rule`, `ip route show table 0x68616d6e`):
//! ```text
//! 4200: from all fwmark 0x68616d6e lookup main        4210: from all ipproto udp sport 68 dport 67 lookup main
//! 4230: from all ipproto udp dport 53 lookup hamn     (and tcp, and 853)          4290: from all lookup hamn
//! default dev hamn0 scope link metric 50              unreachable default metric 4294967294
//! ```

use super::wire::{self, KernelRoute};
use crate::routes::plan::{Family, RouteKind, RoutePlan, RouteSpec, RuleSpec, TABLE};
use futures_util::{Stream, StreamExt, TryStreamExt};
use hamn_core::net::InterfaceName;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::rule::RuleMessage;
use rtnetlink::IpVersion;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

/// The kernel answers in microseconds; more than this is a fault.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// More rules, links or routes of one table than this are not read. Far above what a desktop has.
const DUMP_LIMIT: usize = 100_000;

/// Why rules and routes could not be made as planned.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] std::io::Error),
    /// The kernel refused.
    #[error("cannot {action}: {source}")]
    Refused {
        /// What was tried, for people.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// No answer in time.
    #[error("the kernel did not answer: {0}")]
    Silent(&'static str),
    /// The tunnel interface is not there or not up although all traffic is meant to use it.
    #[error("the tunnel interface {0} is not there or not up")]
    NoTunnelInterface(String),
    /// Everything was accepted but reads back differently.
    #[error("rules and routes read back differently: {0}")]
    NotInForce(String),
}

impl RouteError {
    /// The error number of a refusal.
    fn errno(&self) -> Option<i32> {
        if let Self::Refused { source: rtnetlink::Error::NetlinkError(error), .. } = self {
            Some(error.raw_code().abs())
        } else {
            None
        }
    }
}

/// How the kernel differs from a plan.
#[derive(Debug, Default)]
pub struct Difference {
    missing_rules: Vec<RuleSpec>,
    unwanted_rules: Vec<RuleMessage>,
    missing_routes: Vec<KernelRoute>,
    unwanted_routes: Vec<RouteMessage>,
    /// The interface of the plan is there and up, or the plan has none.
    tunnel_present: bool,
}

impl Difference {
    /// True when the kernel has exactly what was planned.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.missing_rules.is_empty()
            && self.unwanted_rules.is_empty()
            && self.missing_routes.is_empty()
            && self.unwanted_routes.is_empty()
    }

    /// True when nothing was touched but routes into the tunnel are missing, as after its device was made anew.
    #[must_use]
    pub fn only_tunnel_routes_missing(&self) -> bool {
        self.missing_rules.is_empty()
            && self.unwanted_rules.is_empty()
            && self.unwanted_routes.is_empty()
            && self.missing_routes.iter().all(|route| route.spec.kind == RouteKind::Tunnel)
    }

    /// Short text for people, at most a few items.
    #[must_use]
    pub fn describe(&self) -> String {
        let rules = self.missing_rules.iter().map(|rule| format!("missing {rule}"));
        let routes = self.missing_routes.iter().map(|route| format!("missing {}", route.spec));
        let foreign = self.unwanted_rules.len() + self.unwanted_routes.len();
        let foreign = (foreign > 0).then(|| format!("{foreign} unwanted"));
        let all: Vec<String> = rules.chain(routes).chain(foreign).collect();
        let shown = all.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
        if all.len() > 3 { format!("{shown}; {} more", all.len() - 3) } else { shown }
    }
}

/// A connection to the kernel's routing.
pub struct Routing {
    handle: rtnetlink::Handle,
    connection: tokio::task::JoinHandle<()>,
    families: &'static [Family],
    proc_sys: PathBuf,
}

impl Drop for Routing {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Routing {
    /// Opens a socket in the network namespace of the calling thread. IPv6 is left out where the kernel has none.
    ///
    /// # Errors
    /// No socket.
    pub fn open(proc_sys: &Path) -> Result<Self, RouteError> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(RouteError::Socket)?;
        let has_ipv6 = proc_sys.join("net/ipv6").exists();
        let families: &[Family] = if has_ipv6 { &Family::BOTH } else { &[Family::V4] };
        Ok(Self { handle, connection: tokio::spawn(connection), families, proc_sys: proc_sys.to_owned() })
    }

    /// Makes the plan true. Nothing is removed before all that is missing was added, so protection never shrinks on the way.
    ///
    /// # Errors
    /// A refusal, or a result that reads back differently. What could be added stays.
    pub async fn apply(&self, plan: &RoutePlan) -> Result<(), RouteError> {
        let difference = self.difference(plan).await?;
        self.close(&difference).await?;
        let mut left = self.difference(plan).await?;
        if !left.is_empty() {
            // A dump that ran into a change by somebody else reads wrongly once.
            self.close(&left).await?;
            left = self.difference(plan).await?;
        }
        if !left.is_empty() {
            return Err(RouteError::NotInForce(left.describe()));
        }
        if plan.tunnel_required && !left.tunnel_present {
            let name = plan.tunnel.as_ref().map_or_else(String::new, ToString::to_string);
            return Err(RouteError::NoTunnelInterface(name));
        }
        Ok(())
    }

    /// Reads the kernel and compares.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub async fn difference(&self, plan: &RoutePlan) -> Result<Difference, RouteError> {
        let mut difference = Difference::default();
        let mut wanted_rules: Vec<RuleSpec> =
            plan.rules.iter().filter(|rule| self.families.contains(&rule.family)).copied().collect();
        for message in self.our_rules().await? {
            match wire::parse_rule(&message).and_then(|rule| wanted_rules.iter().position(|wanted| *wanted == rule)) {
                // A second copy of the same rule finds nothing left to match and is unwanted.
                Some(position) => drop(wanted_rules.remove(position)),
                None => difference.unwanted_rules.push(message),
            }
        }
        difference.missing_rules = wanted_rules;
        let index = match &plan.tunnel {
            Some(name) => self.interface_up(name.as_str()).await?,
            None => None,
        };
        difference.tunnel_present = plan.tunnel.is_none() || index.is_some();
        let mut wanted = self.wanted_routes(plan, index);
        for message in self.table(TABLE).await? {
            match wire::parse_route(&message).and_then(|route| wanted.iter().position(|wanted| *wanted == route)) {
                Some(position) => drop(wanted.remove(position)),
                None => difference.unwanted_routes.push(message),
            }
        }
        difference.missing_routes = wanted;
        Ok(difference)
    }

    fn wanted_routes(&self, plan: &RoutePlan, tunnel_index: Option<u32>) -> Vec<KernelRoute> {
        // Where IPv6 is switched off no IPv6 route can be set, and the unreachable one refuses it all.
        let no_ipv6 = plan.tunnel.as_ref().is_some_and(|name| self.ipv6_is_off(name));
        let usable = |route: &&RouteSpec| {
            let family = Family::of(route.destination.addr());
            self.families.contains(&family) && !(no_ipv6 && family == Family::V6 && route.kind == RouteKind::Tunnel)
        };
        let routes = plan.routes.iter().filter(usable);
        routes
            .filter_map(|spec| match (spec.kind, tunnel_index) {
                (RouteKind::Unreachable, _) => Some(KernelRoute { spec: *spec, interface: None }),
                (RouteKind::Tunnel, Some(index)) => Some(KernelRoute { spec: *spec, interface: Some(index) }),
                (RouteKind::Tunnel, None) => None,
            })
            .collect()
    }

    fn ipv6_is_off(&self, interface: &InterfaceName) -> bool {
        let switch = self.proc_sys.join("net/ipv6/conf").join(interface.as_str()).join("disable_ipv6");
        std::fs::read_to_string(switch).is_ok_and(|value| value.trim() == "1")
    }

    /// Unreachable routes, then the tunnel's, then rules, then removals: a rule never points at a table that leads on to main.
    async fn close(&self, difference: &Difference) -> Result<(), RouteError> {
        let mut routes = difference.missing_routes.clone();
        routes.sort_by_key(|route| route.spec.kind != RouteKind::Unreachable);
        for route in &routes {
            let request = self.handle.route().add(wire::route_message(route)).replace();
            within("add a route", request.execute(), || format!("add {}", route.spec)).await?;
        }
        for rule in &difference.missing_rules {
            let mut request = self.handle.rule().add();
            *request.message_mut() = wire::rule_message(rule);
            let added = within("add a rule", request.execute(), || format!("add {rule}")).await;
            tolerate(added, libc::EEXIST)?;
        }
        for message in &difference.unwanted_rules {
            let removed = self.handle.rule().del(message.clone()).execute();
            tolerate(within("remove a rule", removed, || "remove a rule".to_owned()).await, libc::ENOENT)?;
        }
        for message in &difference.unwanted_routes {
            let removed = self.handle.route().del(bare(message)).execute();
            tolerate(within("remove a route", removed, || "remove a route".to_owned()).await, libc::ESRCH)?;
        }
        Ok(())
    }

    async fn our_rules(&self) -> Result<Vec<RuleMessage>, RouteError> {
        let mut all = Vec::new();
        for family in self.families {
            let version = match family {
                Family::V4 => IpVersion::V4,
                Family::V6 => IpVersion::V6,
            };
            let rules = collect("read rules", self.handle.rule().get(version).execute()).await?;
            let family = wire::address_family(*family);
            all.extend(rules.into_iter().filter(|rule| rule.header.family == family && wire::is_our_rule(rule)));
        }
        Ok(all)
    }

    /// All routes of one table, both families.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub async fn table(&self, number: u32) -> Result<Vec<RouteMessage>, RouteError> {
        let mut all = Vec::new();
        for family in self.families {
            let mut filter = RouteMessage::default();
            filter.header.address_family = wire::address_family(*family);
            filter.attributes.push(RouteAttribute::Table(number));
            match collect("read routes", self.handle.route().get(filter).execute()).await {
                Ok(routes) => all.extend(routes.into_iter().filter(|route| wire::table_number(route) == number)),
                // A table without routes does not exist.
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub async fn links(&self) -> Result<Vec<LinkMessage>, RouteError> {
        collect("read links", self.handle.link().get().execute()).await
    }

    /// All addresses.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub async fn addresses(&self) -> Result<Vec<netlink_packet_route::address::AddressMessage>, RouteError> {
        collect("read addresses", self.handle.address().get().execute()).await
    }

    /// The index of the interface with this name, if it is up.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub async fn interface_up(&self, name: &str) -> Result<Option<u32>, RouteError> {
        let wanted = LinkAttribute::IfName(name.to_owned());
        let links = self.links().await?;
        let link = links.iter().find(|link| link.attributes.contains(&wanted));
        Ok(link.filter(|link| link.header.flags.contains(LinkFlags::Up)).map(|link| link.header.index))
    }
}

/// Only what identifies a route: what a dump carries beside it (cache, preference, metrics) is refused or ignored in a removal.
fn bare(message: &RouteMessage) -> RouteMessage {
    let mut bare = RouteMessage::default();
    bare.header = message.header.clone();
    bare.header.flags = netlink_packet_route::route::RouteFlags::empty();
    let keep = |attribute: &&RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Table(_)
                | RouteAttribute::Destination(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::Gateway(_)
        )
    };
    bare.attributes = message.attributes.iter().filter(keep).cloned().collect();
    bare
}

fn tolerate(result: Result<(), RouteError>, errno: i32) -> Result<(), RouteError> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        other => other,
    }
}

async fn within<F>(what: &'static str, request: F, action: impl FnOnce() -> String) -> Result<(), RouteError>
where
    F: Future<Output = Result<(), rtnetlink::Error>>,
{
    match tokio::time::timeout(ANSWER_WAIT, request).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(RouteError::Refused { action: action(), source }),
        Err(_) => Err(RouteError::Silent(what)),
    }
}

async fn collect<T>(what: &'static str, dump: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>, RouteError> {
    let dump = pin!(dump.take(DUMP_LIMIT));
    match tokio::time::timeout(ANSWER_WAIT, dump.try_collect()).await {
        Ok(Ok(all)) => Ok(all),
        Ok(Err(source)) => Err(RouteError::Refused { action: what.to_owned(), source }),
        Err(_) => Err(RouteError::Silent(what)),
    }
}
