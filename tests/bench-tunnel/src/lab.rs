//! Network namespaces, each a thread of this process, and the two networks that are built of them.

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, unshare};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own. What it starts lives there; the namespace goes with the last user.
#[derive(Clone, Debug)]
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: i32,
}

impl Namespace {
    /// A new one, with nothing but a loopback interface.
    ///
    /// # Errors
    /// Without the right to make one.
    pub fn new() -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map(|()| nix::unistd::gettid().as_raw());
            let good = made.is_ok();
            let _ = ready.send(made);
            if good {
                queue.iter().for_each(|job| job());
            }
        });
        let thread = is_ready.recv()?.context("make a network namespace; this needs root")?;
        let namespace = Self { jobs, thread };
        namespace.sh("ip link set lo up")?;
        Ok(namespace)
    }

    /// Its name for `ip link set … netns`.
    #[must_use]
    pub const fn id(&self) -> i32 {
        self.thread
    }

    /// Does something in the namespace.
    ///
    /// # Errors
    /// When the work panicked.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            // A panic must not end the namespace for everybody else.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                let _ = done.send(value);
            }
        });
        self.jobs.send(job).map_err(|_| anyhow!("the namespace is gone"))?;
        result.recv().context("work in a namespace panicked")
    }

    /// Does something in the namespace, on a thread of its own.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<std::thread::JoinHandle<T>> {
        self.run(move || std::thread::spawn(work))
    }

    /// Runs a program to its end on a thread of its own and gives what it printed, whether it succeeded or not.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, mut command: Command) -> Result<(bool, String)> {
        let name = format!("{command:?}");
        let joined = self.spawn(move || command.stdin(Stdio::null()).output())?.join();
        let output = joined.map_err(|_| anyhow!("panicked"))?.with_context(|| format!("run {name}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), text))
    }

    /// Runs a shell script.
    ///
    /// # Errors
    /// When a command of it fails, with what it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-ec", script]);
        match self.output(command)? {
            (true, text) => Ok(text),
            (false, text) => bail!("{script}: {text}"),
        }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, mut command: Command) -> Result<Child> {
        let name = format!("{command:?}");
        self.run(move || command.spawn())?.with_context(|| format!("start {name}"))
    }
}

/// The client's address beside the ISP's router, without a tunnel.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
/// The gateway's outer address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same, IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 10);
/// The network of the thousand clients; all of it is the client host's.
pub const MANY: [u8; 2] = [10, 9];

/// client – isp (bridge, NAT) – gateway (NAT) – net, all with an MTU of 1500.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Where tunnels begin.
    pub client: Namespace,
    /// The router between.
    pub isp: Namespace,
    /// Where tunnels end.
    pub gateway: Namespace,
    /// The servers.
    pub net: Namespace,
}

/// The servers' address number `index`: 0 is reached without a tunnel, each other one through its own tunnel only.
#[must_use]
pub fn server(index: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 1, u16::from(index)).into()
    } else {
        Ipv4Addr::new(198, 51, 100, 20 + index).into()
    }
}

impl Lab {
    /// Builds it.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub fn new() -> Result<Self> {
        let lab = Self { client: Namespace::new()?, isp: Namespace::new()?, gateway: Namespace::new()?, net: Namespace::new()? };
        let Self { client, isp, gateway, net } = &lab;
        client.sh(&format!("ip link add eth0 type veth peer name lan1; ip link set lan1 netns {}", isp.id()))?;
        isp.sh(&format!("ip link add wan0 type veth peer name gw0; ip link set gw0 netns {} name eth0", gateway.id()))?;
        gateway.sh(&format!("ip link add eth1 type veth peer name net0; ip link set net0 netns {} name eth0", net.id()))?;
        client.sh("ip addr add 192.168.1.2/24 dev eth0; ip addr add fd00:1::2/64 dev eth0 nodad; ip link set eth0 up
             ip route add default via 192.168.1.1; ip -6 route add default via fd00:1::1
             ip route add local 10.9.0.0/16 dev lo")?;
        isp.sh("ip link add br0 type bridge; ip link set lan1 master br0; ip link set lan1 up; ip link set br0 up; ip link set wan0 up
             ip addr add 192.168.1.1/24 dev br0; ip addr add fd00:1::1/64 dev br0 nodad
             ip addr add 203.0.113.1/24 dev wan0; ip addr add 2001:db8:9::1/64 dev wan0 nodad
             ip route add 10.9.0.0/16 via 192.168.1.2
             ip route add 198.51.100.20/32 via 203.0.113.10; ip -6 route add 2001:db8:51::1:0/128 via 2001:db8:9::10
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             nft 'table inet nat { chain out { type nat hook postrouting priority srcnat
                 oifname wan0 ip saddr 192.168.1.0/24 masquerade; oifname wan0 ip6 saddr fd00:1::/64 masquerade; }; }'")?;
        gateway.sh("ip link set eth0 up; ip link set eth1 up
             ip addr add 203.0.113.10/24 dev eth0; ip addr add 2001:db8:9::10/64 dev eth0 nodad
             ip addr add 198.51.100.1/24 dev eth1; ip addr add 2001:db8:51::1/64 dev eth1 nodad
             ip route add 10.9.0.0/16 via 203.0.113.1
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             nft 'table inet nat { chain out { type nat hook postrouting priority srcnat; oifname eth1 masquerade; }; }'")?;
        let addresses: String = (0..30_u8)
            .map(|index| {
                format!(
                    "ip addr add {}/24 dev eth0; ip addr add {}/64 dev eth0 nodad\n",
                    server(index, false),
                    server(index, true)
                )
            })
            .collect();
        net.sh(&format!("{addresses} ip link set eth0 up"))?;
        Ok(lab)
    }

    /// Lets the outer links carry datagrams one by one, or whole trains.
    ///
    /// # Errors
    /// Without `ethtool`.
    pub fn set_outer_segmentation(&self, on: bool) -> Result<()> {
        let word = if on { "on" } else { "off" };
        let turn = |device: &str| format!("ethtool -K {device} tx-udp-segmentation {word};");
        self.client.sh(&turn("eth0"))?;
        self.isp.sh(&(turn("lan1") + &turn("wan0")))?;
        self.gateway.sh(&turn("eth0"))?;
        Ok(())
    }
}
