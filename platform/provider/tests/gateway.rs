//! A real gateway with a real WireGuard client in the laboratory: exits, resolver, key change, revocation, outage of the API.
//! Needs root, `wireguard-go`, `wg`, `dig`, `curl`.

#[cfg(test)]
#[cfg(target_os = "linux")]
mod laboratory {
    use hamn_api::{Client, Credentials, Device, ProviderConfig, Token};
    use hamn_core::key::{PublicKey, SecretKey};
    use hamn_provider::keys::wireguard_pair;
    use hamn_provider::sandbox::Lab;
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const PROVIDER: &str = env!("CARGO_BIN_EXE_hamn-provider");

    struct World {
        lab: Lab,
        dir: PathBuf,
        interface: String,
        gateway_key: String,
    }

    /// Polls until it holds; the time it took.
    fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < limit, "{what} within {limit:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        started.elapsed()
    }

    /// Starts the provider's program on a host and waits for its `ready`.
    fn start(host: &hamn_provider::sandbox::Host, arguments: &[&str]) -> Child {
        let mut child = host
            .command(PROVIDER)
            .args(arguments)
            .with(|command| {
                command.stdout(Stdio::piped());
            })
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{arguments:?}");
        child
    }

    fn end(mut child: Child) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), nix::sys::signal::Signal::SIGTERM)
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn path(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    impl World {
        fn new() -> Self {
            let lab = Lab::new().unwrap();
            let dir = lab.directory().join("provider");
            assert!(lab.internet.command(PROVIDER).args(["init", "--dir", path(&dir)]).succeeds());
            let list: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("servers.json")).unwrap()).unwrap();
            let gateway_key = list["servers"][4]["endpoints"][0]["public_key"].as_str().unwrap().to_owned();
            // wireguard-go's control socket has a global name.
            let interface = format!("wgt{}", std::process::id());
            Self { lab, dir, interface, gateway_key }
        }

        fn api(&self) -> Child {
            start(&self.lab.internet, &["api", "--dir", path(&self.dir)])
        }

        fn gateway(&self) -> Child {
            let (config, state) = (self.dir.join("gateways/vpn05.json"), self.dir.join("state"));
            start(&self.lab.gateway, &["gateway", "--config", path(&config), "--state", path(&state)])
        }

        /// Runs calls of the API client on the client host.
        fn ask<T: Send + 'static, F: Future<Output = T>>(&self, calls: impl FnOnce(Client) -> F + Send + 'static) -> T {
            let config = ProviderConfig::parse(&std::fs::read(self.dir.join("provider.json")).unwrap()).unwrap();
            let cache = self.lab.directory().join("cache");
            let work = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let client = Client::new(config, cache, Arc::new(|_| Ok(()))).unwrap();
                runtime.block_on(async {
                    let credentials = Credentials { account: Token::new("1000200030004000".into()), password: None, otp: None };
                    client.login(&credentials, "linux").await.unwrap();
                    calls(client).await
                })
            };
            self.lab.client.run(work).unwrap()
        }

        fn wg(&self, arguments: &[&str], input: &str) {
            self.lab.client.command("wg").args(arguments).input(input).ok().unwrap();
        }

        fn use_key(&self, key: &SecretKey) {
            self.wg(&["set", &self.interface, "private-key", "/dev/stdin"], &format!("{}\n", key.reveal_base64().as_str()));
        }

        /// Brings up wireguard-go with everything but the gateway itself inside.
        fn tunnel(&self, key: &SecretKey, device: &Device) -> Child {
            let name = &self.interface;
            // `/run` is private to the host, so the directory for the control socket must be made.
            self.lab.client.command("mkdir").args(["-p", "/run/wireguard"]).ok().unwrap();
            let quiet = |command: &mut std::process::Command| {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            };
            let child = self.lab.client.command("wireguard-go").args(["-f", name]).with(quiet).spawn().unwrap();
            let lab = &self.lab;
            until("wireguard-go", Duration::from_secs(5), || lab.client.command("wg").args(["show", name]).succeeds());
            self.use_key(key);
            let endpoint = "198.51.100.1:51820";
            let peer = [
                "set",
                name,
                "peer",
                &self.gateway_key,
                "endpoint",
                endpoint,
                "allowed-ips",
                "0.0.0.0/0,::/0",
                "persistent-keepalive",
                "1",
            ];
            self.wg(&peer, "");
            let batch = format!(
                "address add {} dev {name}\naddress add {} dev {name} nodad\nlink set {name} mtu 1420 up\n\
                 route add 198.51.100.1 via 10.0.1.1\nroute add 192.0.2.10 via 10.0.1.1\nroute add 192.0.2.11 via 10.0.1.1\n\
                 route add 0.0.0.0/1 dev {name}\nroute add 128.0.0.0/1 dev {name}\n\
                 route add 2000::/4 dev {name}\nroute add fd5a:7e57::/64 dev {name}\n",
                device.ipv4, device.ipv6
            );
            self.lab.client.ip_batch(&batch).unwrap();
            child
        }

        fn exit(&self, ipv6: bool) -> Option<String> {
            self.lab.exit_address(ipv6, Duration::from_secs(1)).unwrap()
        }

        fn pings(&self) -> bool {
            self.lab.client.command("ping").args(["-c1", "-W1", "10.64.0.1"]).succeeds()
        }
    }

    fn pair() -> (SecretKey, PublicKey) {
        wireguard_pair().unwrap()
    }

    #[test]
    fn gateway_serves_changes_exit_and_key_survives_an_outage_and_revokes() {
        let world = World::new();
        let (api, gateway) = (world.api(), world.gateway());
        let (secret, public) = pair();
        let device = world.ask(move |client| async move { client.add_device(public, "laptop", "linux", "one").await.unwrap() });
        let mut tunnel = world.tunnel(&secret, &device);
        until("the tunnel", Duration::from_secs(10), || world.pings());
        assert_eq!(world.exit(false).as_deref(), Some("198.51.100.1"));
        assert_eq!(world.exit(true).as_deref(), Some("2001:db8:5::1"));
        // The resolver inside, both transports and families; the LAN's resolver hears nothing.
        for arguments in
            [["@10.64.0.1", "+notcp"], ["@10.64.0.1", "+tcp"], ["@fd5a:7e57::1", "+notcp"], ["@fd5a:7e57::1", "+tcp"]]
        {
            let answer = world
                .lab
                .client
                .command("dig")
                .args(["+short", "+tries=1", "+time=3", "api.sandbox.test"])
                .args(arguments)
                .ok()
                .unwrap();
            assert!(answer.contains("192.0.2.10"), "{arguments:?}: {answer}");
        }
        assert_eq!(world.lab.lan_dns.entries(), []);
        assert_eq!(world.lab.internet_dns.entries().len(), 4);

        // Row O17: another exit on the same server; the tunnel is not touched, and IPv6 does not come out elsewhere.
        let id = device.id.clone();
        world.ask(move |client| async move { client.set_exit(&id, Some("us")).await.unwrap() });
        until("the US exit", Duration::from_secs(5), || world.exit(false).as_deref() == Some("198.51.100.129"));
        assert_eq!(world.exit(true), None);
        let id = device.id.clone();
        world.ask(move |client| async move { client.set_exit(&id, None).await.unwrap() });
        until("the Swedish exit", Duration::from_secs(5), || world.exit(true).as_deref() == Some("2001:db8:5::1"));

        // KEY-01: both keys are known; the old one works until the new one is used, and then no more.
        let (new_secret, new_public) = pair();
        let id = device.id.clone();
        world.ask(move |client| async move { client.rotate_key(&id, new_public).await.unwrap() });
        assert!(world.pings());
        world.use_key(&new_secret);
        until("the new key", Duration::from_secs(8), || world.pings());
        world.use_key(&secret);
        until("the old key to be dead", Duration::from_secs(8), || !world.pings());
        world.use_key(&new_secret);
        until("the new key again", Duration::from_secs(12), || world.pings());

        // An outage of the API, and a restart of the gateway in the middle of it.
        end(api);
        assert_eq!(world.exit(false).as_deref(), Some("198.51.100.1"));
        end(gateway);
        assert!(
            !world.lab.gateway.command("nft").args(["list", "table", "inet", "hamn_gateway"]).succeeds(),
            "the gateway cleans up"
        );
        let gateway = world.gateway();
        // The client notices after 15 s without an answer (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT of the WireGuard paper).
        until("the tunnel after a restart without API", Duration::from_secs(30), || world.pings());
        assert_eq!(world.exit(false).as_deref(), Some("198.51.100.1"));

        // Revocation reaches the gateway within five seconds.
        let api = world.api();
        let load = || {
            world.ask(
                |client| async move { client.loads().await.unwrap().servers.get("vpn05").and_then(|load| load.state.clone()) },
            )
        };
        until("a heartbeat", Duration::from_secs(12), || load().as_deref() == Some("online"));
        let id = device.id.clone();
        world.ask(move |client| async move { client.remove_device(&id).await.unwrap() });
        until("the revoked device to be cut off", Duration::from_secs(5), || !world.pings());
        assert_eq!(world.exit(false), None);
        tunnel.kill().unwrap();
        tunnel.wait().unwrap();
        end(gateway);
        end(api);
    }
}
