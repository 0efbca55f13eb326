//! A laboratory with everything running in it, and the verbs that tests use.

use anyhow::{Context, Result, bail, ensure};
use hamn_provider::sandbox::address as at;
use hamn_provider::sandbox::witness::Seen;
use hamn_provider::sandbox::{HostCommand, Lab, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::api::LocalApi;
use crate::binaries::{binary, for_everyone};
use crate::probe::{Fired, Salvo};
use crate::provider::Provider;
use crate::wait::{ms, s, until};

/// True when programs can run as nobody: not in a user namespace that knows only its maker.
#[must_use]
pub fn nobody_exists() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let covers = |line: &str| {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some((first..first + count).contains(&u64::from(hamn_provider::sandbox::namespace::NOBODY)))
    };
    map.lines().any(|line| covers(line) == Some(true))
}

/// How a world differs from the usual one.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The laboratory's options.
    pub lab: Options,
    /// Start the provider, and tell the helper about it.
    pub provider: bool,
    /// Start the helper.
    pub helper: bool,
    /// Log in.
    pub login: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { lab: Options::default(), provider: true, helper: true, login: true }
    }
}

/// See the module.
pub struct World {
    /// The laboratory.
    pub lab: Lab,
    /// The provider, if one runs.
    pub provider: Option<Provider>,
    helper: Option<Child>,
    directory: PathBuf,
}

impl World {
    /// Provider, helper, logged in, not connected.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn start() -> Result<Self> {
        Self::with(Setup::default())
    }

    /// A world of another kind.
    ///
    /// # Errors
    /// As `start`.
    pub fn with(setup: Setup) -> Result<Self> {
        let lab = Lab::with(setup.lab)?;
        let directory = lab.directory().join("client.d");
        std::fs::create_dir(&directory)?;
        let mut world = Self { lab, provider: None, helper: None, directory };
        std::fs::create_dir(world.policy_dir())?;
        if setup.provider {
            world.provider = Some(Provider::start(&world.lab, &world.policy_dir())?);
        }
        if setup.helper {
            world.start_helper()?;
        }
        if setup.login && setup.helper && setup.provider {
            world.login()?;
        }
        Ok(world)
    }

    /// The helper's state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The helper's runtime directory.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// The administrator's directory.
    #[must_use]
    pub fn policy_dir(&self) -> PathBuf {
        self.directory.join("policy")
    }

    /// The helper's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("helper.sock")
    }

    /// The helper's log.
    #[must_use]
    pub fn helper_log(&self) -> PathBuf {
        self.directory.join("helper.log")
    }

    /// The local API.
    #[must_use]
    pub fn api(&self) -> LocalApi {
        LocalApi::new(&self.socket())
    }

    /// The command that starts the helper.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn helper_command(&self) -> Result<HostCommand<'_>> {
        let mut command = self.lab.client.command(binary("hamn-helper")?);
        command = command.arg("--state-dir").arg(self.state_dir()).arg("--runtime-dir").arg(self.runtime_dir());
        command = command.arg("--policy-dir").arg(self.policy_dir());
        command.env("HAMN_LOG", "debug").log_to(&self.helper_log())
    }

    /// Starts the helper and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer within ten seconds.
    pub fn start_helper(&mut self) -> Result<()> {
        self.start_helper_with(&[])
    }

    /// Starts the helper with environment variables and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer within ten seconds.
    pub fn start_helper_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.helper_command()?;
        for (name, value) in environment {
            command = command.env(name, value);
        }
        let mut child = command.spawn()?;
        let api = self.api();
        let up = until("the helper answers", s(10), || {
            if let Some(status) = child.try_wait()? {
                bail!("the helper ended: {status}");
            }
            // Number 0 is the placeholder before the helper has read its files.
            Ok(api.status().ok().filter(|status| status["sequence"].as_u64() > Some(0)).map(drop))
        });
        self.helper = Some(child);
        up.with_context(|| self.helper_log_tail())
    }

    /// The last lines of the helper's log.
    #[must_use]
    pub fn helper_log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.helper_log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("operation=Status")).collect();
        format!("helper's log:\n{}", lines[lines.len().saturating_sub(120)..].join("\n"))
    }

    /// The helper's process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn helper_pid(&self) -> Result<Pid> {
        let child = self.helper.as_ref().context("the helper does not run")?;
        Ok(Pid::from_raw(i32::try_from(child.id())?))
    }

    /// Sends the helper a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_helper(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.helper_pid()?, signal)?)
    }

    /// Kills the helper with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_helper(&mut self) -> Result<()> {
        self.signal_helper(Signal::SIGKILL)?;
        self.helper.take().context("the helper does not run")?.wait()?;
        Ok(())
    }

    /// Ends the helper with a signal and waits for its own end.
    ///
    /// # Errors
    /// When it goes on for ten seconds.
    pub fn stop_helper(&mut self, signal: Signal) -> Result<()> {
        self.signal_helper(signal)?;
        let mut child = self.helper.take().context("the helper does not run")?;
        until("the helper ends", s(10), || Ok(child.try_wait()?.map(drop)))
    }

    /// A `hamn` command, as root.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn hamn(&self, words: &str) -> Result<HostCommand<'_>> {
        let command = self.lab.client.command(binary("hamn")?).args(words.split_whitespace());
        Ok(command.env("HAMN_SOCKET", self.socket()).timeout(s(60)))
    }

    /// Runs a `hamn` command that must succeed.
    ///
    /// # Errors
    /// When it fails; with the end of the helper's log.
    pub fn run(&self, words: &str) -> Result<String> {
        self.hamn(words)?.ok().with_context(|| self.helper_log_tail())
    }

    /// Runs a `hamn` command with `--json` and parses what it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, words: &str) -> Result<Value> {
        let text = self.run(&format!("{words} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("`hamn {words} --json` printed {text:?}"))
    }

    /// Logs in to the sandbox's account.
    ///
    /// # Errors
    /// When the login fails.
    pub fn login(&self) -> Result<()> {
        // The account number is a secret, so it is not among the arguments.
        self.hamn("login -")?
            .input(format!("{}\n", crate::provider::ACCOUNT))
            .ok()
            .with_context(|| self.helper_log_tail())
            .map(drop)
    }

    /// Connects and waits until traffic flows.
    ///
    /// # Errors
    /// When that takes more than the CLI's patience.
    pub fn connect(&self) -> Result<()> {
        self.run("connect --wait").map(drop)
    }

    /// Disconnects and waits.
    ///
    /// # Errors
    /// When it fails.
    pub fn disconnect(&self) -> Result<()> {
        self.run("disconnect --wait").map(drop)
    }

    /// `hamn restore-network`: with a helper, or without one.
    ///
    /// # Errors
    /// When it fails.
    pub fn restore_network(&self) -> Result<()> {
        self.run(&format!("restore-network --state-dir {}", self.state_dir().display())).map(drop)
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// When it is refused.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.run(&format!("settings set {key} {value}")).map(drop)
    }

    /// A call of the local API that must succeed.
    ///
    /// # Errors
    /// When it is refused; with the end of the helper's log.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.api().call(method, path, Some(body)).with_context(|| self.helper_log_tail())?;
        ensure!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Asks for a tunnel and returns at once.
    ///
    /// # Errors
    /// When it is refused.
    pub fn want(&self, destination: &str) -> Result<()> {
        self.call("POST", "/v1/connect", &serde_json::json!({ "destination": destination })).map(drop)
    }

    /// Gives the intent up and returns at once.
    ///
    /// # Errors
    /// When it is refused.
    pub fn give_up(&self) -> Result<()> {
        self.call("POST", "/v1/disconnect", &serde_json::json!({})).map(drop)
    }

    /// Changes settings through the local API, all or none.
    ///
    /// # Errors
    /// When they are refused.
    pub fn patch(&self, settings: &Value) -> Result<()> {
        self.call("PATCH", "/v1/settings", settings).map(drop)
    }

    /// Waits until the wanted policy is in force.
    ///
    /// # Errors
    /// When it does not come into force.
    pub fn wait_in_force(&self) -> Result<Value> {
        let api = self.api();
        until("the wanted policy is in force", s(5), || {
            let status = api.status()?;
            Ok((status["protection"]["in_force"] == true).then_some(status))
        })
        .with_context(|| self.helper_log_tail())
    }

    /// The status.
    ///
    /// # Errors
    /// When the helper does not answer.
    pub fn status(&self) -> Result<Value> {
        self.api().status()
    }

    /// Waits for this state and returns the status.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_for_state(&self, state: &str, limit: Duration) -> Result<Value> {
        let api = self.api();
        let mut last = Value::Null;
        let result = until(&format!("state {state}"), limit, || {
            last = api.status().unwrap_or_default();
            Ok((last["state"] == state).then(|| last.clone()))
        });
        result.with_context(|| format!("last status: {last:#}\n{}", self.helper_log_tail()))
    }

    /// The address under which the web sees the client.
    ///
    /// # Errors
    /// When the laboratory fails.
    pub fn exit_address(&self) -> Result<Option<String>> {
        self.lab.exit_address(false, ms(1500))
    }

    /// The IPv6 address under which the web sees the client.
    ///
    /// # Errors
    /// When the laboratory fails.
    pub fn exit_address_v6(&self) -> Result<Option<String>> {
        self.lab.exit_address(true, ms(1500))
    }

    /// Waits until traffic flows with this exit address; returns how long that took.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_exit(&self, address: IpAddr, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let wanted = address.to_string();
        until(&format!("exit address {wanted}"), limit, || {
            let seen = self.lab.exit_address(address.is_ipv6(), ms(300))?;
            Ok((seen.as_ref() == Some(&wanted)).then_some(()))
        })
        .with_context(|| self.helper_log_tail())?;
        Ok(start.elapsed())
    }

    /// Set P against everything of interest.
    #[must_use]
    pub fn salvo(&self) -> Salvo {
        let multicast: [IpAddr; 4] = ["224.0.0.251".parse(), "ff02::fb".parse(), "255.255.255.255".parse(), "10.0.1.255".parse()]
            .map(|address| address.unwrap_or(at::WEB_V4));
        let mut targets = vec![at::WEB_V4, at::WEB_V6, at::OBSERVER_V4, at::OBSERVER_V6, at::RESOLVER_V4, at::RESOLVER_V6];
        targets.extend([at::LAN_HOST_V4, at::LAN_HOST_V6, at::ROUTER_V4, at::ROUTER_V6, at::GATEWAY_V4, at::GATEWAY_V6]);
        targets.extend([at::GATEWAY_US_V4, at::API_V4, at::API_V6, at::API_SECOND_V4]);
        targets.extend(multicast);
        Salvo {
            targets,
            sources: vec![at::CLIENT_V4, at::CLIENT_V6],
            devices: vec!["eth0".to_owned()],
            raw: true,
            flood_ms: 0,
            flood_ports: vec![],
        }
    }

    /// The command that fires a salvo in the client.
    ///
    /// # Errors
    /// When the probe program has not been built.
    pub fn probe(&self, salvo: &Salvo) -> Result<HostCommand<'_>> {
        Ok(self.lab.client.command(for_everyone("hamn-probe", self.lab.directory())?).input(serde_json::to_vec(salvo)?))
    }

    /// Fires a salvo as root and, where there is one, as nobody.
    ///
    /// # Errors
    /// When the probe program fails.
    pub fn fire_salvo(&self, salvo: &Salvo) -> Result<Fired> {
        let root: Fired = serde_json::from_str(&self.probe(salvo)?.ok()?)?;
        if !nobody_exists() {
            return Ok(root);
        }
        let unprivileged = Salvo { raw: false, ..salvo.clone() };
        let nobody: Fired = serde_json::from_str(&self.probe(&unprivileged)?.as_nobody().ok()?)?;
        Ok(Fired { tried: root.tried + nobody.tried, accepted: root.accepted + nobody.accepted })
    }

    /// Fires set P as root and as nobody.
    ///
    /// # Errors
    /// When the probe program fails.
    pub fn fire(&self) -> Result<Fired> {
        self.fire_salvo(&self.salvo())
    }

    /// Starts a program without rights that sends UDP without pause for this long: to the internet in both families on
    /// ports 53 and 9999, and to the LAN on port 53, which is never allowed.
    ///
    /// # Errors
    /// When the probe program cannot be started.
    pub fn flood(&self, time: Duration) -> Result<[Child; 2]> {
        let internet = vec![at::OBSERVER_V4, at::OBSERVER_V6, at::GATEWAY_V4];
        Ok([self.flood_at(internet, &[53, 9999], time)?, self.flood_at(vec![at::LAN_HOST_V4, at::LAN_HOST_V6], &[53], time)?])
    }

    /// Starts one flooder; it ends by itself and prints what it sent.
    ///
    /// # Errors
    /// When the probe program cannot be started.
    pub fn flood_at(&self, targets: Vec<IpAddr>, ports: &[u16], time: Duration) -> Result<Child> {
        let flood_ms = u64::try_from(time.as_millis())?;
        let salvo = Salvo { targets, sources: vec![], devices: vec![], raw: false, flood_ms, flood_ports: ports.to_vec() };
        // Takes only the time that nobody else wants: the flood shall test the rules, not starve the helper.
        let probe = for_everyone("hamn-probe", self.lab.directory())?;
        let command = self.lab.client.command("nice").args(["-n", "19"]).arg(probe).input(serde_json::to_vec(&salvo)?);
        command
            .with(|command| {
                command.stdout(std::process::Stdio::piped());
            })
            .as_nobody()
            .spawn()
    }

    /// Waits for a flooder's end and returns how many datagrams it tried to send.
    ///
    /// # Errors
    /// When it failed.
    pub fn flooded(child: Child) -> Result<Fired> {
        let output = child.wait_with_output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The negative control: without protection, the witness sees set P. A leak test without it proves nothing.
    ///
    /// # Errors
    /// When the witness does not see the probes.
    pub fn control(&mut self) -> Result<()> {
        let before = self.lab.seen()?.outside;
        self.fire()?;
        let seen = self.lab.seen()?.outside - before;
        ensure!(seen > 500, "negative control: the witness saw only {seen} of the probes");
        Ok(())
    }

    /// Fires set P and demands that none of it reached the ISP.
    ///
    /// # Errors
    /// When something did, with what it was.
    pub fn assert_no_leak(&mut self, when: &str) -> Result<()> {
        self.lab.reset_witness()?;
        let fired = self.fire()?;
        ensure!(fired.tried > 500, "the salvo was too small: {fired:?}");
        self.assert_nothing_outside(when)
    }

    /// Demands that nothing was outside since the witness was reset.
    ///
    /// # Errors
    /// When something was, with what it was.
    pub fn assert_nothing_outside(&self, when: &str) -> Result<()> {
        // Frames on their way through the virtual cable arrive within a scheduler tick.
        std::thread::sleep(ms(20));
        let Seen { outside, membership, .. } = self.lab.seen()?;
        let escaped = outside + membership;
        ensure!(escaped == 0, "{when}: {escaped} packets escaped:\n  {}", self.lab.witness.samples().join("\n  "));
        Ok(())
    }

    /// As `assert_nothing_outside`, but allows the kernel's reports of multicast groups: they belong to LAN access, and to
    /// moments in which another program has removed the rules.
    ///
    /// # Errors
    /// When something was outside, with what it was.
    pub fn assert_no_traffic_outside(&self, when: &str) -> Result<()> {
        std::thread::sleep(ms(20));
        let outside = self.lab.seen()?.outside;
        ensure!(outside == 0, "{when}: {outside} packets escaped:\n  {}", self.lab.witness.samples().join("\n  "));
        Ok(())
    }

    /// Where the helper keeps its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
