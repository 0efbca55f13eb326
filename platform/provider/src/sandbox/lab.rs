//! The laboratory: five hosts in private namespaces, wired as in the picture in the module's documentation.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::address::{
    API_SECOND_V4, API_V4, API_V6, GATEWAY_SECOND_V4, GATEWAY_SECOND_V6, GATEWAY_V4, GATEWAY_V6, LAN_HOST_V4, LAN_HOST_V6,
    OBSERVER_PORT, OBSERVER_V4, OBSERVER_V6, RESOLVER_V4, RESOLVER_V6, WEB_V4, WEB_V6, WIREGUARD_PORT,
};
use super::directory::LabDirectory;
use super::namespace::{Host, private_etc, private_state};
use super::packet::Allowed;
use super::service::{self, Log, Query, Seen, Stop};
use super::witness::Witness;

/// The link names of the client's uplinks, and of the ISP's ends of them.
const LINKS: [(&str, &str); 2] = [("eth0", "cl-eth0"), ("wlan0", "cl-wlan0")];

/// What can be different from one laboratory to the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// `rp_filter` on the client: 0 off, 1 strict, 2 loose (what systemd sets).
    pub rp_filter: u8,
    /// The client's `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// The client has IPv6 outside the tunnel.
    pub ipv6: bool,
    /// The client's first link comes up at once. False simulates a machine before the network starts.
    pub link_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rp_filter: 2, resolv_conf: format!("nameserver {LAN_HOST_V4}\n"), ipv6: true, link_up: true }
    }
}

/// All hosts and services. Dropping it ends everything.
pub struct Lab {
    /// The machine that runs Hamn: `eth0` and `wlan0` (down until asked for).
    pub client: Host,
    /// The client's router and its ISP in one: bridges `lan0` and `lan1`, address translation, the witness.
    pub router: Host,
    /// A printer on the client's LAN, which also resolves names.
    pub lan: Host,
    /// Web server, resolver, observer, and room for the provider's API.
    pub internet: Host,
    /// Room for gateways.
    pub gateway: Host,
    /// The ISP's witness.
    pub witness: Witness,
    /// Questions that reached the LAN's resolver.
    pub lan_dns: Log<Query>,
    /// Questions that reached the internet's resolver.
    pub internet_dns: Log<Query>,
    /// What reached the observer.
    pub observed: Log<Seen>,
    options: Options,
    _stop: Stop,
    directory: LabDirectory,
}

impl Lab {
    /// The usual laboratory.
    ///
    /// # Errors
    /// When namespaces, `ip` or `nft` are refused or missing.
    pub fn new() -> Result<Self> {
        Self::with(Options::default())
    }

    /// A laboratory with other options.
    ///
    /// # Errors
    /// As `new`.
    pub fn with(options: Options) -> Result<Self> {
        let directory = LabDirectory::new()?;
        let [client, router, lan, internet, gateway] =
            [Host::new("client")?, Host::new("router")?, Host::new("lan")?, Host::new("internet")?, Host::new("gateway")?];
        for host in [&client, &router, &lan, &internet, &gateway] {
            sysctls(host)?;
        }
        wire(&client, &router, &lan, &internet, &gateway)?;
        configure_core(&router, &lan, &internet, &gateway)?;
        configure_client(&client, &options)?;
        router.nft(ROUTER_RULES)?;
        let stop = Stop::new()?;
        let (lan_dns, internet_dns, observed) = start_services(&lan, &internet, &stop)?;
        let witness = Witness::start(&router, &LINKS.map(|(_, far)| far), usual_tuples())?;
        let lab = Self {
            client,
            router,
            lan,
            internet,
            gateway,
            witness,
            lan_dns,
            internet_dns,
            observed,
            options,
            _stop: stop,
            directory,
        };
        if lab.options.link_up {
            lab.plug_in()?;
        }
        Ok(lab)
    }

    /// A directory on disk that belongs to this laboratory and disappears with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The five hosts.
    #[must_use]
    pub const fn hosts(&self) -> [&Host; 5] {
        [&self.client, &self.router, &self.lan, &self.internet, &self.gateway]
    }

    /// Brings the client's `eth0` up with its addresses and default routes, as a DHCP client would.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn plug_in(&self) -> Result<()> {
        self.bring_up("eth0", "10.0.1.2/24", "10.0.1.1", "2001:db8:1::", 100)
    }

    /// Sets the client's `eth0` down, which removes its routes and IPv6 addresses.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn unplug(&self) -> Result<()> {
        self.client.ip_batch("link set eth0 down\naddress flush dev eth0\n")
    }

    /// Brings up the client's second link, with a worse metric than the first.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn plug_in_wlan(&self) -> Result<()> {
        self.bring_up("wlan0", "10.0.2.2/24", "10.0.2.1", "2001:db8:4::", 600)
    }

    /// Sets the second link down.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn unplug_wlan(&self) -> Result<()> {
        self.client.ip_batch("link set wlan0 down\naddress flush dev wlan0\n")
    }

    /// Gives the client another IPv4 address on `eth0`, as a new DHCP lease does.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn change_address(&self, address: &str) -> Result<()> {
        let batch = format!(
            "address flush dev eth0 scope global\naddress add {address} dev eth0\nroute replace default via 10.0.1.1 dev eth0 metric 100\n"
        );
        self.client.ip_batch(&batch)?;
        if self.options.ipv6 {
            self.client.ip_batch(
                "address add 2001:db8:1::2/64 dev eth0 nodad\nroute replace default via 2001:db8:1::1 dev eth0 metric 100\n",
            )?;
        }
        Ok(())
    }

    fn bring_up(&self, link: &str, v4: &str, router_v4: &str, v6_net: &str, metric: u32) -> Result<()> {
        let mut batch = format!("link set {link} up\naddress replace {v4} dev {link}\n");
        writeln!(batch, "route replace default via {router_v4} dev {link} metric {metric}")?;
        if self.options.ipv6 {
            writeln!(batch, "address replace {v6_net}2/64 dev {link} nodad")?;
            writeln!(batch, "route replace default via {v6_net}1 dev {link} metric {metric}")?;
        }
        self.client.ip_batch(&batch)
    }

    /// Makes the ISP drop packets of the client that match this nft expression, e.g. `ip daddr 198.51.100.1`.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn isp_drops(&self, expression: &str) -> Result<()> {
        self.router.nft(&format!("add rule inet isp faults {expression} drop\n"))
    }

    /// Ends all faults of `isp_drops`.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn isp_heals(&self) -> Result<()> {
        self.router.nft("flush chain inet isp faults\n")
    }

    /// Loses all address translations, as a rebooted router does.
    ///
    /// # Errors
    /// When `conntrack` is missing.
    pub fn forget_translations(&self) -> Result<()> {
        self.router.command("conntrack").arg("-F").ok().map(drop)
    }

    /// Ends the witness for good; see `Witness::retire`.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn retire_witness(&mut self) -> Result<()> {
        self.witness.retire(&self.router)
    }

    /// Starts the witness from zero.
    ///
    /// # Errors
    /// When nft cannot be read.
    pub fn reset_witness(&mut self) -> Result<()> {
        self.witness.reset(&self.router)
    }

    /// What the witness saw since the last reset.
    ///
    /// # Errors
    /// When nft cannot be read.
    pub fn seen(&self) -> Result<super::witness::Seen> {
        self.witness.seen(&self.router)
    }

    /// The address under which the web sees the client, or `None` when nothing gets through within the timeout.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn exit_address(&self, ipv6: bool, timeout: Duration) -> Result<Option<String>> {
        let server = SocketAddr::new(if ipv6 { WEB_V6 } else { WEB_V4 }, 80);
        let (answer, result) = sync_channel(1);
        // On a thread of its own: the host's thread must stay free for others.
        self.client.thread("ask", move || drop(answer.send(ask_for_address(server, timeout).ok())))?;
        Ok(result.recv().ok().flatten())
    }

    /// Writes one small script per host that runs a command there (`DIR/client ping 192.0.2.80`).
    ///
    /// # Errors
    /// When the scripts cannot be written.
    pub fn write_entries(&self, environment: &[(&str, &str)]) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let mut exports = String::new();
        for (name, value) in environment {
            writeln!(exports, "export {name}='{value}'")?;
        }
        for host in self.hosts() {
            let path = self.directory().join(host.name());
            let (net, mnt) = (host.network_path(), host.mount_path());
            let text = format!("#!/bin/sh\n{exports}exec nsenter --net={} --mount={} -- \"$@\"\n", net.display(), mnt.display());
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).context("make a script executable")?;
        }
        Ok(self.directory().to_owned())
    }
}

/// Asks the web server under which address it sees us.
fn ask_for_address(server: SocketAddr, timeout: Duration) -> Result<String> {
    let end = Instant::now().checked_add(timeout).context("timeout out of range")?;
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    stream.write_all(b"GET /ip HTTP/1.1\r\nHost: web.sandbox.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").context("not an HTTP answer")?.1.trim();
    Ok(body.to_owned())
}

/// The gateways and API addresses that the laboratory has room for.
#[must_use]
pub fn usual_tuples() -> Allowed {
    Allowed {
        gateways: vec![GATEWAY_V4, GATEWAY_SECOND_V4, GATEWAY_V6, GATEWAY_SECOND_V6],
        ports: vec![WIREGUARD_PORT, WIREGUARD_PORT + 1],
        api: vec![API_V4, API_SECOND_V4, API_V6],
    }
}

/// No duplicate address detection (it takes a second), no router advertisements unless a test sends them.
fn sysctls(host: &Host) -> Result<()> {
    for place in ["all", "default"] {
        host.write(&format!("/proc/sys/net/ipv6/conf/{place}/accept_dad"), "0")?;
        host.write(&format!("/proc/sys/net/ipv6/conf/{place}/disable_ipv6"), "0")?;
    }
    if host.name() == "router" || host.name() == "internet" || host.name() == "gateway" {
        host.write("/proc/sys/net/ipv4/ip_forward", "1")?;
        host.write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// All cables, laid from the router and the internet.
fn wire(client: &Host, router: &Host, lan: &Host, internet: &Host, gateway: &Host) -> Result<()> {
    let mut batch = String::new();
    for (bridge, (near, far)) in ["lan0", "lan1"].into_iter().zip(LINKS) {
        let netns = client.network_path();
        writeln!(batch, "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        writeln!(batch, "link add {far} type veth peer name {near} netns {}", netns.display())?;
        writeln!(batch, "link set {far} master {bridge}\nlink set {far} up\nlink set {bridge} up")?;
    }
    writeln!(batch, "link add lan-host type veth peer name eth0 netns {}", lan.network_path().display())?;
    writeln!(batch, "link set lan-host master lan0\nlink set lan-host up")?;
    writeln!(batch, "link add wan0 type veth peer name isp0 netns {}", internet.network_path().display())?;
    router.ip_batch(&batch)?;
    internet.ip_batch(&format!("link add gw0 type veth peer name eth0 netns {}\n", gateway.network_path().display()))
}

fn configure_core(router: &Host, lan: &Host, internet: &Host, gateway: &Host) -> Result<()> {
    router.ip_batch(ROUTER_ADDRESSES)?;
    lan.ip_batch(LAN_ADDRESSES)?;
    let mut batch = String::from(INTERNET_ADDRESSES);
    for (v4, v6) in
        [(WEB_V4, Some(WEB_V6)), (RESOLVER_V4, Some(RESOLVER_V6)), (OBSERVER_V4, Some(OBSERVER_V6)), (API_V4, Some(API_V6))]
    {
        writeln!(batch, "address add {v4}/32 dev lo")?;
        if let Some(v6) = v6 {
            writeln!(batch, "address add {v6}/128 dev lo nodad")?;
        }
    }
    writeln!(batch, "address add {API_SECOND_V4}/32 dev lo")?;
    internet.ip_batch(&batch)?;
    gateway.ip_batch(GATEWAY_ADDRESSES)
}

const ROUTER_ADDRESSES: &str = "link set lo up
address add 10.0.1.1/24 dev lan0
address add 2001:db8:1::1/64 dev lan0 nodad
address add 10.0.2.1/24 dev lan1
address add 2001:db8:4::1/64 dev lan1 nodad
address add 203.0.113.10/24 dev wan0
address add 2001:db8:3::2/64 dev wan0 nodad
link set wan0 up
route add default via 203.0.113.1
route add default via 2001:db8:3::1
";

const LAN_ADDRESSES: &str = "link set lo up
address add 10.0.1.50/24 dev eth0
address add 2001:db8:1::50/64 dev eth0 nodad
address add fd00:1::50/64 dev eth0 nodad
link set eth0 up
route add default via 10.0.1.1
route add default via 2001:db8:1::1
";

const INTERNET_ADDRESSES: &str = "link set lo up
address add 203.0.113.1/24 dev isp0
address add 2001:db8:3::1/64 dev isp0 nodad
link set isp0 up
address add 198.51.100.254/24 dev gw0
address add 2001:db8:5::fe/64 dev gw0 nodad
link set gw0 up
route add 2001:db8:1::/64 via 2001:db8:3::2
route add 2001:db8:4::/64 via 2001:db8:3::2
";

const GATEWAY_ADDRESSES: &str = "link set lo up
address add 198.51.100.1/24 dev eth0
address add 198.51.100.2/24 dev eth0
address add 198.51.100.129/24 dev eth0
address add 198.51.100.130/24 dev eth0
address add 2001:db8:5::1/64 dev eth0 nodad
address add 2001:db8:5::2/64 dev eth0 nodad preferred_lft 0
link set eth0 up
route add default via 198.51.100.254
route add default via 2001:db8:5::fe
";

/// Address translation for IPv4 as at home; IPv6 is routed. The ISP's faults come before everything.
const ROUTER_RULES: &str = "table inet isp {
    chain faults { type filter hook forward priority -10; policy accept; }
}
table ip isp_nat {
    chain out { type nat hook postrouting priority srcnat; policy accept; oifname \"wan0\" snat to 203.0.113.10; }
}
";

fn configure_client(client: &Host, options: &Options) -> Result<()> {
    let resolv_conf = options.resolv_conf.clone();
    client.run(move || private_etc(&resolv_conf))??;
    client.run(private_state)??;
    client.write("/proc/sys/net/ipv4/ip_local_port_range", "41000 60999")?;
    for place in ["all", "default", "eth0", "wlan0"] {
        client.write(&format!("/proc/sys/net/ipv4/conf/{place}/rp_filter"), &options.rp_filter.to_string())?;
        client.write(&format!("/proc/sys/net/ipv6/conf/{place}/accept_ra"), "0")?;
    }
    // Pings without rights, as desktops allow. A user namespace with one mapped user refuses; only tests need it.
    let _ = client.write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    client.ip_batch("link set lo up\n")
}

fn start_services(lan: &Host, internet: &Host, stop: &Stop) -> Result<(Log<Query>, Log<Query>, Log<Seen>)> {
    let both = |v4, v6, port| [SocketAddr::new(v4, port), SocketAddr::new(v6, port)];
    service::web(internet, stop, &both(WEB_V4, WEB_V6, 80), "the web")?;
    service::web(lan, stop, &[SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80)], "a printer")?;
    let internet_dns = service::resolver(internet, stop, &both(RESOLVER_V4, RESOLVER_V6, 53))?;
    let lan_dns = service::resolver(lan, stop, &both(LAN_HOST_V4, LAN_HOST_V6, 53))?;
    let observed = service::observer(internet, stop, &both(OBSERVER_V4, OBSERVER_V6, OBSERVER_PORT))?;
    Ok((lan_dns, internet_dns, observed))
}
