//! systemd-resolved and NetworkManager as stand-ins on a private bus: the exact calls, resets that are undone, a hung service.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod routes_lab;

use hamn_core::event::HostEvent;
use hamn_core::policy::NetworkPolicy;
use hamn_network::{ApplyError, Config, Network};
use routes_lab::{Lab, connected, event, eventually, output_of};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zbus::{OwnedObjectPath, OwnedVariant, interface};

/// A bus of the test's own, with nothing on it.
struct PrivateBus {
    daemon: Child,
    address: String,
}

impl PrivateBus {
    fn start(directory: &std::path::Path) -> Self {
        let config = directory.join("bus.conf");
        let text = format!(
            r#"<busconfig><type>custom</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
               <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>"#,
            directory.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs dbus-daemon (package \"dbus-daemon\")");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { daemon, address: address.trim().to_owned() }
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[derive(Clone, Default)]
struct LinkState {
    servers: Vec<(i32, Vec<u8>)>,
    domains: Vec<(String, bool)>,
    default_route: bool,
}

/// What the stand-ins know and heard.
#[derive(Default)]
struct Host {
    calls: Vec<String>,
    links: BTreeMap<i32, LinkState>,
    hang: bool,
    global: HashMap<String, OwnedVariant>,
    managed: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Host>>);

impl Shared {
    fn host(&self) -> std::sync::MutexGuard<'_, Host> {
        self.0.lock().unwrap()
    }
    fn heard(&self, call: String) {
        self.host().calls.push(call);
    }
    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.host().calls)
    }
}

struct Resolved(Shared);

#[interface(name = "org.freedesktop.resolve1.Manager")]
impl Resolved {
    fn get_link(&self, index: i32) -> zbus::fdo::Result<OwnedObjectPath> {
        if self.0.host().links.contains_key(&index) {
            Ok(OwnedObjectPath::try_from(format!("/org/freedesktop/resolve1/link/_{index}")).unwrap())
        } else {
            Err(zbus::fdo::Error::Failed("no such link".to_owned()))
        }
    }
    #[zbus(name = "SetLinkDNS")]
    async fn set_link_dns(&self, index: i32, servers: Vec<(i32, Vec<u8>)>) {
        if self.0.host().hang {
            std::future::pending::<()>().await;
        }
        self.0.heard(format!("SetLinkDNS({index}, {servers:?})"));
        self.0.host().links.get_mut(&index).unwrap().servers = servers;
    }
    fn set_link_domains(&self, index: i32, domains: Vec<(String, bool)>) {
        self.0.heard(format!("SetLinkDomains({index}, {domains:?})"));
        self.0.host().links.get_mut(&index).unwrap().domains = domains;
    }
    fn set_link_default_route(&self, index: i32, flag: bool) {
        self.0.heard(format!("SetLinkDefaultRoute({index}, {flag})"));
        self.0.host().links.get_mut(&index).unwrap().default_route = flag;
    }
    #[zbus(name = "SetLinkLLMNR")]
    fn set_link_llmnr(&self, index: i32, mode: String) {
        self.0.heard(format!("SetLinkLLMNR({index}, {mode})"));
    }
    #[zbus(name = "SetLinkMulticastDNS")]
    fn set_link_multicast_dns(&self, index: i32, mode: String) {
        self.0.heard(format!("SetLinkMulticastDNS({index}, {mode})"));
    }
    fn revert_link(&self, index: i32) {
        self.0.heard(format!("RevertLink({index})"));
        *self.0.host().links.get_mut(&index).unwrap() = LinkState::default();
    }
    fn flush_caches(&self) {
        self.0.heard("FlushCaches()".to_owned());
    }
}

struct ResolvedLink(Shared, i32);

#[interface(name = "org.freedesktop.resolve1.Link")]
impl ResolvedLink {
    #[zbus(property, name = "DNS")]
    fn dns(&self) -> Vec<(i32, Vec<u8>)> {
        self.0.host().links[&self.1].servers.clone()
    }
    #[zbus(property)]
    fn domains(&self) -> Vec<(String, bool)> {
        self.0.host().links[&self.1].domains.clone()
    }
    #[zbus(property)]
    fn default_route(&self) -> bool {
        self.0.host().links[&self.1].default_route
    }
}

struct NetworkManager(Shared);

#[interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    fn get_device_by_ip_iface(&self, name: String) -> OwnedObjectPath {
        assert_eq!(name, "hamn0");
        OwnedObjectPath::try_from("/org/freedesktop/NetworkManager/Devices/7").unwrap()
    }
    #[zbus(property)]
    fn global_dns_configuration(&self) -> HashMap<String, OwnedVariant> {
        self.0.host().global.clone()
    }
    #[zbus(property)]
    fn set_global_dns_configuration(&mut self, value: HashMap<String, OwnedVariant>) {
        self.0.heard(format!("GlobalDnsConfiguration = {value:?}"));
        self.0.host().global = value;
    }
}

struct Device(Shared);

#[interface(name = "org.freedesktop.NetworkManager.Device")]
impl Device {
    #[zbus(property)]
    fn managed(&self) -> bool {
        self.0.host().managed
    }
    #[zbus(property)]
    fn set_managed(&mut self, managed: bool) {
        self.0.heard(format!("Managed = {managed}"));
        self.0.host().managed = managed;
    }
}

/// Serves the stand-ins on a thread of their own until the returned value is dropped.
struct StandIns {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl StandIns {
    fn start(address: &str, host: &Shared, network_manager: bool, links: [i32; 2]) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (address, host) = (address.to_owned(), host.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut builder = zbus::connection::Builder::address(address.as_str());
                if network_manager {
                    builder = builder
                        .serve_at("/org/freedesktop/NetworkManager", NetworkManager(host.clone()))
                        .serve_at("/org/freedesktop/NetworkManager/Devices/7", Device(host.clone()))
                        .name("org.freedesktop.NetworkManager");
                } else {
                    builder = builder.serve_at("/org/freedesktop/resolve1", Resolved(host.clone()));
                    for index in links {
                        let path = format!("/org/freedesktop/resolve1/link/_{index}");
                        builder = builder.serve_at(path, ResolvedLink(host.clone(), index));
                    }
                    builder = builder.name("org.freedesktop.resolve1");
                }
                let built = tokio::time::timeout(Duration::from_secs(5), builder.build());
                let _connection = built.await.expect("the bus lets us in").unwrap();
                ready.send(()).unwrap();
                let _ = stopped.await;
            });
        });
        is_ready.recv().unwrap();
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

struct Stage {
    lab: Lab,
    host: Shared,
    ethernet: i32,
    tunnel: i32,
    _stand_ins: StandIns,
    bus: PrivateBus,
}

impl Stage {
    fn new(network_manager: bool) -> Self {
        let lab = Lab::new();
        let bus = PrivateBus::start(lab.dir.path());
        let host = Shared::default();
        let index = |name: &str| {
            let line = lab.client.run(|| output_of(&format!("ip -o link show {name}")));
            line.split(':').next().unwrap().parse::<i32>().unwrap()
        };
        let (ethernet, tunnel) = (index("eth0"), index("hamn0"));
        let attached = LinkState { default_route: true, ..LinkState::default() };
        host.host().links = BTreeMap::from([(ethernet, attached), (tunnel, LinkState::default())]);
        let stand_ins = StandIns::start(&bus.address, &host, network_manager, [ethernet, tunnel]);
        Self { lab, host, ethernet, tunnel, _stand_ins: stand_ins, bus }
    }

    fn config(&self) -> Config {
        let mut config = self.lab.config();
        config.bus_address = Some(self.bus.address.clone());
        config
    }

    async fn network(&self) -> (Network, tokio::sync::mpsc::Receiver<HostEvent>) {
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        (Network::open(self.config(), sender).await.unwrap(), receiver)
    }
}

#[test]
fn resolved_gets_exactly_these_calls_and_a_reset_flag_is_taken_back() {
    let stage = Stage::new(false);
    let (ethernet, tunnel) = (stage.ethernet, stage.tunnel);
    symlink("/run/systemd/resolve/stub-resolv.conf", stage.lab.resolv_conf()).unwrap();
    stage.lab.client.block_on(async || {
        let (mut network, mut events) = stage.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(network.dns_backend(), Some("systemd-resolved"));
        let expected = [
            format!("SetLinkDNS({tunnel}, [(2, [10, 64, 0, 1])])"),
            format!("SetLinkDomains({tunnel}, [(\".\", true)])"),
            format!("SetLinkDefaultRoute({tunnel}, true)"),
            format!("SetLinkLLMNR({tunnel}, no)"),
            format!("SetLinkMulticastDNS({tunnel}, no)"),
            format!("SetLinkDefaultRoute({ethernet}, false)"),
            "FlushCaches()".to_owned(),
        ];
        assert_eq!(stage.host.take_calls(), expected);
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(stage.host.take_calls(), Vec::<String>::new(), "what is so already is not set again");
        // As NetworkManager does on `nmcli con up`.
        stage.host.host().links.get_mut(&ethernet).unwrap().default_route = true;
        let took = eventually("taken back", || !stage.host.host().links[&ethernet].default_route).await;
        assert!(took < Duration::from_millis(1500), "{took:?}");
        event(&mut events, |event| matches!(event, HostEvent::Tampered { .. }).then_some(())).await;
        assert!(network.verify().await.iter().all(|finding| finding.ok), "{:?}", network.verify().await);
        stage.host.take_calls();
        drop(network);
        let (mut network, _events) = stage.network().await;
        network.apply(&NetworkPolicy::Open).await.unwrap();
        let expected = [format!("SetLinkDefaultRoute({ethernet}, true)"), "FlushCaches()".to_owned()];
        let calls = stage.host.take_calls();
        assert_eq!(calls[0], format!("RevertLink({tunnel})"));
        assert_eq!(calls[1..], expected);
        assert!(std::fs::symlink_metadata(stage.lab.resolv_conf()).unwrap().is_symlink(), "the file is not ours to touch");
    });
}

#[test]
fn a_service_that_hangs_is_an_error_in_time_and_opens_nothing() {
    let stage = Stage::new(false);
    symlink("/run/systemd/resolve/stub-resolv.conf", stage.lab.resolv_conf()).unwrap();
    stage.host.host().hang = true;
    stage.lab.client.block_on(async || {
        let (mut network, _events) = stage.network().await;
        let start = Instant::now();
        let error = network.apply(&connected(|_| {})).await.unwrap_err();
        assert!(
            matches!(error, ApplyError::Dns(_)) && start.elapsed() < Duration::from_secs(4),
            "{error}, {:?}",
            start.elapsed()
        );
        let findings = network.verify().await;
        assert!(findings.iter().all(|finding| finding.ok == (finding.what != "DNS")), "{findings:?}");
        stage.host.host().hang = false;
        network.apply(&connected(|_| {})).await.unwrap();
    });
}

#[test]
fn network_manager_gets_a_global_configuration_and_leaves_the_tunnel_alone() {
    let stage = Stage::new(true);
    stage.host.host().managed = true;
    let searches = OwnedVariant::try_from(zbus::Variant::from(vec!["example.org"])).unwrap();
    let before = HashMap::from([("searches".to_owned(), searches)]);
    stage.host.host().global = before.clone();
    let written = "# Generated by NetworkManager\nnameserver 192.168.1.53\n";
    std::fs::write(stage.lab.resolv_conf(), written).unwrap();
    stage.lab.client.block_on(async || {
        let (mut network, mut events) = stage.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(network.dns_backend(), Some("network-manager"));
        assert!(!stage.host.host().managed, "the device is unmanaged");
        let set = format!("{:?}", stage.host.host().global);
        assert!(set.contains("10.64.0.1") && set.contains('*') && !set.contains("example.org"), "{set}");
        stage.host.host().managed = true;
        stage.host.host().global.clear();
        eventually("set again", || !stage.host.host().managed && !stage.host.host().global.is_empty()).await;
        event(&mut events, |event| matches!(event, HostEvent::Tampered { .. }).then_some(())).await;
        drop(network);
        let (mut network, _events) = stage.network().await;
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert_eq!(stage.host.host().global, before, "also after a crash");
        assert_eq!(std::fs::read_to_string(stage.lab.resolv_conf()).unwrap(), written);
    });
}

#[test]
fn without_a_bus_the_file_is_used_and_with_one_the_backend_is_chosen_anew() {
    let stage = Stage::new(false);
    let path = stage.lab.resolv_conf();
    std::fs::write(&path, "nameserver 192.168.1.53\n").unwrap();
    stage.lab.client.block_on(async || {
        let (mut network, _events) = stage.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(network.dns_backend(), Some("static-file"));
        // The host changes hands: an administrator turns on resolved.
        symlink("/run/systemd/resolve/stub-resolv.conf", path.with_extension("new")).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        eventually("resolved is used", || network.dns_backend() == Some("systemd-resolved")).await;
        assert_eq!(stage.host.host().links[&stage.tunnel].servers, vec![(2, vec![10, 64, 0, 1])]);
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(stage.host.host().links[&stage.tunnel].servers.is_empty());
    });
}
