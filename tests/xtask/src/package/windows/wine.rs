//! The installers' whole life under Wine, silently: installed with properties, repaired, upgraded, an older version refused, removed. After
//! each step files, registry, service and exit code are compared with what the package and the administrators' page say.
//! Each test has a Wine of its own, which ends with it. They take a minute each: `cargo xtask check-cross` runs them.

use super::tests::{Scratch, build_both, can_pack, release};
use super::*;
use crate::system::find;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An own Windows.
struct Wine {
    scratch: Scratch,
}

/// What every installation puts into its directory.
const FILES: [&str; 9] = [
    "LICENSE.txt",
    "LICENSES-LIBRARIES.txt",
    "PolicyDefinitions/en-US/hamn.adml",
    "PolicyDefinitions/hamn.admx",
    "README.md",
    "hamn-helper.exe",
    "hamn.exe",
    "wintun-LICENSE.txt",
    "wintun.dll",
];
const SERVICE: &str = r"System\CurrentControlSet\Services\HamnHelper";

impl Wine {
    /// None on a machine without Wine.
    fn new(name: &str) -> Option<Self> {
        if !can_pack() || find("wine").is_none() {
            say("skipped: wine is missing");
            return None;
        }
        let wine = Self { scratch: Scratch::new(name) };
        fs::create_dir_all(wine.prefix()).unwrap();
        assert!(wine.command("wineboot").arg("-i").status().unwrap().success());
        // Wine begins as Windows 7, for which there is no Hamn.
        wine.command("wine").args(["winecfg", "-v", "win10"]).status().unwrap();
        // A service has ten seconds to appear, which a busy machine may not have: one minute.
        let timeout =
            [r"HKLM\System\CurrentControlSet\Control", "/v", "ServicesPipeTimeout", "/t", "REG_SZ", "/d", "60000", "/f"];
        assert!(wine.command("wine").args(["reg", "add"]).args(timeout).status().unwrap().success());
        wine.command("wineserver").arg("-k").status().unwrap();
        wine.command("wineserver").arg("-w").status().unwrap();
        let shim = std::env::var_os("HAMN_WINE_SHIM").map(PathBuf::from);
        if let Some(shim) = shim {
            fs::copy(shim, wine.drive().join("windows/system32/bcryptprimitives.dll")).unwrap();
        }
        super::tests::compile_stand_in("run", &wine.drive().join("run.exe"));
        Some(wine)
    }

    fn prefix(&self) -> PathBuf {
        self.scratch.0.join("wine")
    }

    fn drive(&self) -> PathBuf {
        self.prefix().join("drive_c")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).unwrap());
        command.env("WINEPREFIX", self.prefix()).env("WINEARCH", "win64").env("DISPLAY", "");
        command.env("WINEDEBUG", "fixme-all,warn+msi,warn+service");
        // Files and not pipes: a background process of Wine would keep a pipe open for ever.
        let log = fs::File::options().append(true).create(true).open(self.log()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// What Wine complains about.
    fn log(&self) -> PathBuf {
        self.scratch.0.join("wine.log")
    }

    /// Runs a command line that must end with this code.
    fn expect(&self, line: &str, code: u32) {
        let ended = self.run(line);
        if ended != code {
            let log = String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            panic!("{line}: {ended} instead of {code}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }

    /// Puts a file into the root of the drive and returns its name there.
    fn bring(&self, path: &Path) -> String {
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::copy(path, self.drive().join(name)).unwrap();
        format!(r"C:\{name}")
    }

    /// Runs a command line and returns its whole exit code.
    fn run(&self, line: &str) -> u32 {
        let said = self.scratch.0.join("said");
        let mut command = self.command("wine");
        command.args([r"C:\run.exe", "--run"]).args(line.split(' ')).stdout(fs::File::create(&said).unwrap());
        assert!(command.status().unwrap().success(), "{line}");
        let text = fs::read_to_string(said).unwrap();
        let code = text.lines().find_map(|line| line.strip_prefix("code "));
        code.unwrap_or_else(|| panic!("{line}: {text}")).trim().parse().unwrap()
    }

    /// The registry as text, from what Wine keeps on disk after its server has written it.
    fn registry(&self) -> Registry {
        // The server writes when it ends; the service is started again by the next program.
        self.command("wineserver").arg("-k").status().unwrap();
        self.command("wineserver").arg("-w").status().unwrap();
        Registry::read(&self.prefix().join("system.reg"))
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.drive().join("hamn-calls.txt")).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with("run.exe")).map(str::to_owned).collect()
    }

    fn forget_calls(&self) {
        let _ = fs::remove_file(self.drive().join("hamn-calls.txt"));
    }

    fn installed(&self) -> Vec<String> {
        let home = self.drive().join("Program Files/Hamn");
        if !home.is_dir() {
            return Vec::new();
        }
        stage::files_below(&home).unwrap().iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    /// Windows has everybody's Start menu for an installation for everybody; Wine takes the user's.
    fn is_in_start_menu(&self) -> bool {
        let menu = "Microsoft/Windows/Start Menu/Programs/Hamn.lnk";
        let users = fs::read_dir(self.drive().join("users")).unwrap().map(|user| user.unwrap().path().join("AppData/Roaming"));
        users.chain([self.drive().join("ProgramData")]).any(|place| place.join(menu).is_file())
    }

    /// Every installed file is the one that was packed.
    fn assert_files(&self, version: &str) {
        self.assert_these(&FILES, version);
    }

    fn assert_these(&self, files: &[&str], version: &str) {
        assert_eq!(self.installed(), files);
        let work = self.scratch.0.join(format!("work-{version}"));
        for name in files {
            let packed = work.join(Path::new(name).file_name().unwrap());
            let installed = self.drive().join("Program Files/Hamn").join(name);
            assert!(fs::read(&installed).unwrap() == fs::read(&packed).unwrap(), "{name} is not the one of {version}");
        }
    }

    /// Waits until the programs have been called like this.
    fn await_call(&self, call: &str) {
        let start = Instant::now();
        while !self.calls().iter().any(|known| known == call) {
            assert!(start.elapsed() < Duration::from_secs(30), "{call} was not called: {:?}", self.calls());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        let _ = self.command("wineserver").arg("-k").status();
        let _ = self.command("wineserver").arg("-w").status();
    }
}

/// Keys and values, names in small letters.
struct Registry(BTreeMap<String, BTreeMap<String, String>>);

impl Registry {
    fn read(path: &Path) -> Self {
        let mut keys: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut key = String::new();
        for line in fs::read_to_string(path).unwrap().lines() {
            if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')) {
                key = name.replace(r"\\", r"\").to_lowercase();
                keys.entry(key.clone()).or_default();
            } else if let Some((name, value)) = line.strip_prefix('"').and_then(|rest| rest.split_once("\"=")) {
                keys.entry(key.clone()).or_default().insert(name.to_lowercase(), value.replace(r"\\", r"\"));
            }
        }
        Self(keys)
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(&key.to_lowercase())
    }

    fn value(&self, key: &str, name: &str) -> Option<&str> {
        self.0.get(&key.to_lowercase())?.get(&name.to_lowercase()).map(String::as_str)
    }

    /// The version in the list of programs; panics when there are two.
    fn listed_version(&self) -> Option<String> {
        let entries: Vec<_> = self
            .0
            .iter()
            .filter(|(key, values)| {
                key.contains(r"currentversion\uninstall\") && values.get("displayname").is_some_and(|name| name == "\"Hamn\"")
            })
            .collect();
        assert!(entries.len() <= 1, "{entries:?}");
        let (_, values) = entries.first()?;
        assert_eq!(
            (values.get("norepair"), values.get("nomodify")),
            (Some(&"dword:00000001".to_owned()), Some(&"dword:00000001".to_owned()))
        );
        Some(values.get("displayversion").unwrap().trim_matches('"').to_owned())
    }

    fn assert_service(&self) {
        for (name, value) in [
            ("DisplayName", "\"Hamn helper\""),
            ("ObjectName", "\"LocalSystem\""),
            ("Start", "dword:00000002"),
            ("Type", "dword:00000010"),
        ] {
            assert_eq!(self.value(SERVICE, name), Some(value), "{name}");
        }
        // Windows puts the path into quotation marks; Wine's installer does not, and the real helper corrects that when it configures
        // the service: without them Windows would try C:\Program.exe first.
        let image = self.value(SERVICE, "ImagePath").unwrap().replace("\\\"", "");
        assert_eq!(image.trim_matches('"'), r"C:\Program Files\Hamn\hamn-helper.exe --service");
    }

    /// Nothing of Hamn is left but what is the administrator's.
    fn assert_clean(&self) {
        assert_eq!(self.listed_version(), None);
        let left: Vec<&String> = self
            .0
            .keys()
            .filter(|key| key.contains("hamn") && !key.contains(r"policies\hamn"))
            .filter(|key| !self.0[*key].is_empty() || key.contains("services"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.path().contains("Hamn"), "{}", self.path());
    }

    fn path(&self) -> &str {
        self.value(r"System\CurrentControlSet\Control\Session Manager\Environment", "PATH").unwrap_or_default()
    }
}

const SETUP: &str = r"Software\Hamn\Setup";
const POLICY: &str = r"Software\Hamn\Policy";

#[test]
#[ignore = "needs Wine: cargo xtask check-cross"]
fn wine_the_msi_is_installed_repaired_upgraded_and_removed_and_an_older_one_is_refused() {
    let Some(wine) = Wine::new("msi") else { return };
    let packages: Vec<String> = ["1.2.3", "1.3.0"].map(|version| wine.bring(&build_both(&wine.scratch.0, version).0)).to_vec();
    let (old, new) = (&packages[0], &packages[1]);
    // A failing custom action does not stop anything.
    fs::write(wine.drive().join("hamn-fail"), "").unwrap();

    for wrong in [
        "AUTOCONNECT=yes",
        "KILLSWITCH=maybe",
        "PROVIDER=http://vpn.example.org",
        r"INSTALLDIR=C:\Hamn",
        "LOCKED=2",
        "ALLUSERS=0",
    ] {
        wine.expect(&format!("msiexec /i {old} /qn {wrong}"), 1603);
    }
    assert_eq!((wine.installed(), wine.calls()), (Vec::new(), Vec::new()), "a refused installation changes nothing");

    let words = "AUTOCONNECT=1 KILLSWITCH=always DNS=9.9.9.9,149.112.112.112";
    wine.expect(&format!(r"msiexec /i {old} /qn /l*v C:\install.log {words}"), 0);
    wine.assert_files("1.2.3");
    wine.await_call("hamn-helper.exe 1.2.3 --service");
    assert_eq!(wine.calls(), ["hamn-helper.exe 1.2.3 --configure-service", "hamn-helper.exe 1.2.3 --service"]);
    let registry = wine.registry();
    registry.assert_service();
    assert_eq!(registry.listed_version().as_deref(), Some("1.2.3"));
    assert_eq!(registry.value(POLICY, "auto_connect"), Some("dword:00000001"));
    assert_eq!(registry.value(POLICY, "kill_switch"), Some("\"always\""));
    assert_eq!(registry.value(POLICY, "dns"), Some("\"9.9.9.9,149.112.112.112\""));
    assert_eq!((registry.value(POLICY, "lockdown"), registry.has(&format!(r"{POLICY}\Recommended"))), (None, false));
    assert!(registry.value(r"System\CurrentControlSet\Services\EventLog\Application\Hamn", "EventMessageFile").is_some());
    assert!(registry.path().contains(r"C:\Program Files\Hamn\"), "{}", registry.path());

    repair(&wine, old);
    let product = upgrade(&wine, old, new);
    remove(&wine, new, &product);
    remove_everything(&wine, old, new);
}

/// Anybody may ask for a repair, so it takes no settings.
fn repair(wine: &Wine, old: &str) {
    wine.forget_calls();
    let lost = wine.drive().join("Program Files/Hamn/hamn.exe");
    fs::remove_file(&lost).unwrap();
    wine.expect(&format!("msiexec /i {old} /qn REINSTALL=ALL REINSTALLMODE=amus AUTOCONNECT=0 KILLSWITCH=off"), 0);
    wine.assert_files("1.2.3");
    let registry = wine.registry();
    assert_eq!(
        (registry.value(POLICY, "auto_connect"), registry.value(POLICY, "kill_switch")),
        (Some("dword:00000001"), Some("\"always\""))
    );
    assert!(!wine.calls().iter().any(|call| call.contains("--restore-network")), "{:?}", wine.calls());
}

/// Upgrades, tries to go back, and returns the newer product's code.
fn upgrade(wine: &Wine, old: &str, new: &str) -> String {
    wine.forget_calls();
    wine.expect(&format!(r"msiexec /i {new} /qn /l*v C:\upgrade.log DNS=9.9.9.9"), 0);
    wine.assert_files("1.3.0");
    wine.await_call("hamn-helper.exe 1.3.0 --service");
    let registry = wine.registry();
    registry.assert_service();
    assert_eq!(registry.listed_version().as_deref(), Some("1.3.0"));
    let product = registry.value(SETUP, "ProductCode").unwrap().trim_matches('"').to_owned();
    assert_eq!(registry.value(POLICY, "kill_switch"), Some("\"always\""), "settings are remembered");
    assert_eq!(registry.value(POLICY, "dns"), Some("\"9.9.9.9\""), "and changed when they are said again");

    wine.forget_calls();
    wine.expect(&format!("msiexec /i {old} /qn"), 1603);
    wine.assert_files("1.3.0");
    assert_eq!(wine.registry().listed_version().as_deref(), Some("1.3.0"));
    product
}

/// Settings and secrets stay.
fn remove(wine: &Wine, new: &str, product: &str) {
    let data = wine.drive().join("ProgramData/Hamn");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("settings.json"), "{}").unwrap();
    wine.forget_calls();
    wine.expect(&format!(r"msiexec /x {new} /qn /l*v C:\remove.log"), 0);
    assert!(wine.calls().contains(&"hamn-helper.exe 1.3.0 --restore-network".to_owned()), "{:?}", wine.calls());
    assert_eq!(wine.installed(), Vec::<String>::new());
    assert!(!wine.drive().join("Program Files/Hamn").exists() && data.join("settings.json").is_file());
    let registry = wine.registry();
    registry.assert_clean();
    assert!(!registry.has(SERVICE) && !registry.has(SETUP));
    // For a file instead of a code Wine says 0 here, Windows 1605.
    wine.expect(&format!("msiexec /x {product} /qn"), 1605);
}

/// Settings that people may change, a removal that leaves nothing, and one that is a part of an upgrade.
fn remove_everything(wine: &Wine, old: &str, new: &str) {
    let data = wine.drive().join("ProgramData/Hamn");
    wine.expect(&format!("msiexec /i {new} /qn LOCKED=0 ALLOWLAN=1"), 0);
    let registry = wine.registry();
    assert_eq!(registry.value(&format!(r"{POLICY}\Recommended"), "allow_lan"), Some("dword:00000001"));
    assert_eq!((registry.value(POLICY, "allow_lan"), registry.value(POLICY, "kill_switch")), (None, None));
    wine.expect(&format!("msiexec /x {new} /qn PURGE=1"), 0);
    wine.registry().assert_clean();
    assert!(!data.exists(), "PURGE=1 leaves settings and secrets");

    wine.expect(&format!("msiexec /i {old} /qn ALLOWLAN=1 IPV6=0"), 0);
    wine.expect(&format!("msiexec /i {new} /qn FORGET=1 IPV6=1"), 0);
    let registry = wine.registry();
    assert_eq!((registry.value(POLICY, "allow_lan"), registry.value(POLICY, "ipv6")), (None, Some("dword:00000001")));

    // What Windows says to the older product in an upgrade. Wine does not, so it is said here: the network stays closed, secrets stay.
    fs::create_dir_all(&data).unwrap();
    wine.forget_calls();
    wine.expect(&format!("msiexec /x {new} /qn PURGE=1 UPGRADINGPRODUCTCODE={{19EBE2A4-5FA4-4DF8-BD32-9B960F7AA87E}}"), 0);
    assert!(
        !wine.calls().iter().any(|call| call.contains("--restore-network")),
        "an upgrade opened the network: {:?}",
        wine.calls()
    );
    assert!(data.is_dir() && wine.installed().is_empty());
}

#[test]
#[ignore = "needs Wine: cargo xtask check-cross"]
fn wine_the_setup_program_installs_repairs_upgrades_and_removes_silently() {
    let Some(wine) = Wine::new("setup") else { return };
    let setups: Vec<String> = ["1.2.3", "1.3.0"].map(|version| wine.bring(&build_both(&wine.scratch.0, version).1)).to_vec();
    let (old, new) = (&setups[0], &setups[1]);
    wine.expect(&format!("{old} /S /REMOVE"), 1605);
    wine.expect(&format!("{old} /S /LOCKDOWN=perhaps"), 1603);
    assert_eq!(wine.installed(), Vec::<String>::new());

    // As somebody types it: words with spaces, and with slashes.
    let words =
        r#"/S /LOCKDOWN=1 /ORGANISATION="Example AB" /PROVIDER=https://vpn.example.org,https://b.example.org/x /ALLOWLAN=0"#;
    fs::write(wine.drive().join("try.bat"), format!("{old} {words} /LOG=C:\\install.log\r\n")).unwrap();
    wine.expect(r"cmd /c C:\try.bat", 0);
    wine.assert_files("1.2.3");
    assert!(wine.drive().join("install.log").is_file() && !wine.drive().join("Program Files/Hamn Setup").exists());
    let registry = wine.registry();
    registry.assert_service();
    for (name, value) in [
        ("lockdown", "dword:00000001"),
        ("allow_lan", "dword:00000000"),
        ("organisation", "\"Example AB\""),
        ("provider", "\"https://vpn.example.org,https://b.example.org/x\""),
    ] {
        assert_eq!(registry.value(POLICY, name), Some(value), "{name}");
    }

    fs::remove_file(wine.drive().join("Program Files/Hamn/hamn-helper.exe")).unwrap();
    wine.expect(&format!("{old} /S"), 0);
    wine.assert_files("1.2.3");

    wine.expect(&format!("{new} /S"), 0);
    wine.assert_files("1.3.0");
    let registry = wine.registry();
    assert_eq!(
        (registry.listed_version().as_deref(), registry.value(POLICY, "lockdown")),
        (Some("1.3.0"), Some("dword:00000001"))
    );
    wine.expect(&format!("{old} /S"), 1603);
    wine.assert_files("1.3.0");

    wine.forget_calls();
    // The setup program of any version removes what is installed.
    wine.expect(&format!("{old} /S /REMOVE"), 0);
    assert!(wine.calls().contains(&"hamn-helper.exe 1.3.0 --restore-network".to_owned()), "{:?}", wine.calls());
    assert_eq!(wine.installed(), Vec::<String>::new());
    wine.registry().assert_clean();
}

/// With the programs of the cross build, which `HAMN_WINDOWS_PROGRAMS` names: the MSI has them, the service's entry is the one that the
/// helper configures, and the installed command line runs; with a window among them, its shortcut and its links come and go with it.
#[test]
#[ignore = "needs Wine and HAMN_WINDOWS_PROGRAMS: cargo xtask check-cross"]
fn wine_real_programs_are_installed_configured_and_removed() {
    let Some(programs) = std::env::var_os("HAMN_WINDOWS_PROGRAMS") else {
        return say("skipped: HAMN_WINDOWS_PROGRAMS names no directory with hamn.exe and hamn-helper.exe");
    };
    let Some(wine) = Wine::new("real") else { return };
    let mut release = release(&wine.scratch.0, "1.2.3", None);
    release.programs = PathBuf::from(programs);
    let msi = wine.bring(&build(&release, &wine.scratch.0).unwrap()[0]);
    wine.expect(&format!(r"msiexec /i {msi} /qn /l*v C:\install.log ORGANISATION=Example"), 0);
    let window = release.programs.join(WINDOW[0]).is_file();
    let mut files = FILES.to_vec();
    files.extend(WINDOW.iter().filter(|_| window));
    files.sort_unstable();
    wine.assert_these(&files, "1.2.3");
    for program in ["hamn.exe", WINDOW[0]].into_iter().take(if window { 2 } else { 1 }) {
        let path = format!(r"C:\Program Files\Hamn\{program}");
        assert!(wine.command("wine").args([&path, "--version"]).status().unwrap().success(), "{program}");
    }
    assert_eq!(wine.is_in_start_menu(), window);
    let registry = wine.registry();
    registry.assert_service();
    assert_eq!(registry.value(r"Software\Classes\hamn", "URL Protocol").is_some(), window);
    assert!(registry.value(SERVICE, "ImagePath").unwrap().contains("\\\""), "the helper puts its path into quotation marks");
    wine.expect(&format!(r"msiexec /x {msi} /qn /l*v C:\remove.log PURGE=1"), 0);
    assert!(wine.installed().is_empty() && !wine.is_in_start_menu(), "{:?}", wine.installed());
    wine.registry().assert_clean();
}
