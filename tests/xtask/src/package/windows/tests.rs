//! Builds the installers from a small program and reads them back; compares the table of settings with what the helper understands.

use super::*;
use crate::system::find;
use hamn_core::managed;
use policy::{Kind, SETTINGS};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A directory of a test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hamn-windows-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The compiler for the small program.
const COMPILER: &str = "x86_64-w64-mingw32-gcc-posix";

/// The packing tools are on every machine that packs; one that does not is told so by `cargo xtask package windows`.
pub fn can_pack() -> bool {
    let can = NEEDS.iter().all(|(program, _)| find(program).is_some()) && find(COMPILER).is_some();
    if !can {
        say("skipped: wixl, msitools, nsis or mingw-w64 is missing (cargo xtask package windows installs the first three)");
    }
    can
}

/// Programs that only note how they were called, in place of Hamn's own.
fn stand_ins(directory: &Path, version: &str) -> PathBuf {
    let programs = directory.join(format!("programs-{version}"));
    fs::create_dir_all(&programs).unwrap();
    compile_stand_in(version, &programs.join("hamn.exe"));
    fs::copy(programs.join("hamn.exe"), programs.join("hamn-helper.exe")).unwrap();
    programs
}

/// The small program of this directory.
pub fn compile_stand_in(version: &str, to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/package/windows/stand_in.c");
    let mut compile = tool(COMPILER).unwrap();
    output(
        compile.args(["-O1", "-s", "-Wl,--no-insert-timestamp", &format!("-DVERSION=\"{version}\""), "-o"]).arg(to).arg(source),
    )
    .unwrap();
}

/// Any driver will do: what is installed is compared with this very file.
fn driver(directory: &Path) -> wintun::Driver {
    if let Ok(driver) = wintun::find_driver() {
        return driver;
    }
    let (library, licence) = (directory.join("stand-in.dll"), directory.join("stand-in.txt"));
    fs::write(&library, "in place of wintun.dll").unwrap();
    fs::write(&licence, "in place of its licence").unwrap();
    wintun::Driver { library, licence }
}

pub fn release(directory: &Path, version: &str, signer: Option<Signer>) -> Release {
    Release {
        version: version.to_owned(),
        epoch: 1_700_000_000,
        programs: stand_ins(directory, version),
        driver: driver(directory),
        licences: "none\n".to_owned(),
        work: directory.join(format!("work-{version}")),
        signer,
    }
}

/// Both installers of a version.
pub fn build_both(directory: &Path, version: &str) -> (PathBuf, PathBuf) {
    let made = build(&release(directory, version, None), directory).unwrap();
    (made[0].clone(), made[1].clone())
}

fn table(msi: &Path, name: &str) -> Vec<Vec<String>> {
    let text = output(tool("msiinfo").unwrap().arg("export").arg(msi).arg(name)).unwrap();
    text.lines().skip(3).map(|line| line.trim_end_matches('\r').split('\t').map(str::to_owned).collect()).collect()
}

fn property(msi: &Path, name: &str) -> Option<String> {
    table(msi, "Property").into_iter().find(|row| row[0] == name).map(|row| row[1].clone())
}

#[test]
fn the_tables_say_what_administrators_are_told() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("tables");
    let (msi, setup) = build_both(&scratch.0, "1.2.3");
    assert_eq!(property(&msi, "UpgradeCode").unwrap(), "{19EBE2A4-5FA4-4DF8-BD32-9B960F7AA87E}");
    assert_eq!(property(&msi, "ALLUSERS").unwrap(), "1");
    for (name, value) in [("ARPNOREPAIR", "1"), ("ARPNOMODIFY", "1"), ("LIMITUI", "1"), ("REBOOT", "ReallySuppress")] {
        assert_eq!(property(&msi, name).as_deref(), Some(value), "{name}");
    }
    let secure = property(&msi, "SecureCustomProperties").unwrap();
    let secure: BTreeSet<&str> = secure.split(';').collect();
    for name in SETTINGS.iter().map(|setting| setting.property).chain(tables::OTHERS) {
        assert!(secure.contains(name), "{name} would be lost on the way to the elevated part");
    }
    let service = &table(&msi, "ServiceInstall")[0];
    assert_eq!((service[1].as_str(), service[3].as_str(), service[4].as_str()), ("HamnHelper", "16", "2"));
    assert_eq!((service[8].as_str(), service[10].as_str()), ("LocalSystem", "--service"));
    // Nothing runs from a temporary directory or as the caller: installed files (18) and the system's shell (34) only, both deferred as
    // the system; and assignments (51).
    for action in table(&msi, "CustomAction") {
        let kind: u32 = action[1].parse().unwrap();
        match kind & 0x3f {
            18 => assert_eq!((kind & 0xc00, action[2].as_str()), (0xc00, "helper"), "{action:?}"),
            34 => assert!(kind & 0xc00 == 0xc00 && action[3].starts_with("\"[System64Folder]cmd.exe\" "), "{action:?}"),
            51 => assert!(action[3].starts_with("[WAS_"), "{action:?}"),
            other => panic!("an action of kind {other}: {action:?}"),
        }
    }
    let sequence = |action: &str| -> (u32, String) {
        let row = table(&msi, "InstallExecuteSequence").into_iter().find(|row| row[0] == action).unwrap();
        (row[2].parse().unwrap(), row[1].clone())
    };
    assert!(
        sequence("InstallInitialize").0 < sequence("RemoveExistingProducts").0,
        "a failed upgrade must bring the old version back"
    );
    assert!(
        sequence("StopServices").0 < sequence("RestoreNetwork").0 && sequence("RestoreNetwork").0 < sequence("RemoveFiles").0
    );
    assert!(sequence("RestoreNetwork").1.contains("NOT UPGRADINGPRODUCTCODE"), "an upgrade must not open the network");
    assert!(
        sequence("InstallServices").0 < sequence("ConfigureService").0
            && sequence("ConfigureService").0 < sequence("StartServices").0
    );
    let start = fs::read(setup).unwrap();
    let header = usize::try_from(u32::from_le_bytes(start[60..64].try_into().unwrap())).unwrap();
    assert_eq!(start[header + 4..header + 6], [0x64, 0x86], "the setup program is for 64-bit Windows");
}

#[test]
fn the_window_comes_with_its_library_its_place_in_the_start_menu_and_its_links() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("window");
    let mut release = release(&scratch.0, "1.2.3", None);
    let programs = scratch.0.join("with-window");
    fs::create_dir_all(&programs).unwrap();
    for name in ["hamn.exe", "hamn-helper.exe", "hamn-gui.exe", "WebView2Loader.dll"] {
        compile_stand_in("1.2.3", &programs.join(name));
    }
    release.programs = programs;
    let msi = build(&release, &scratch.0).unwrap().remove(0);
    let files: Vec<String> = table(&msi, "File").into_iter().map(|row| row[0].clone()).collect();
    assert!(files.contains(&"window".to_owned()) && files.contains(&"web_view".to_owned()), "{files:?}");
    let shortcut = &table(&msi, "Shortcut")[0];
    assert_eq!((shortcut[1].as_str(), shortcut[4].as_str()), ("ProgramMenuFolder", "[INSTALLDIR]hamn-gui.exe"));
    let link = table(&msi, "Registry").into_iter().find(|row| row[2].ends_with(r"hamn\shell\open\command")).unwrap();
    assert_eq!(link[4], r#""[INSTALLDIR]hamn-gui.exe" "%1""#);
    let names: Vec<Vec<String>> = table(&msi, "MsiShortcutProperty");
    assert_eq!(names, [["menu", &shortcut[0], "System.AppUserModel.ID", "org.hamn.client"]]);
    let configuration: Value = serde_json::from_str(&read(&root().unwrap().join("src-tauri/tauri.conf.json")).unwrap()).unwrap();
    assert_eq!(configuration["identifier"], tables::WINDOW, "what the process calls itself");
    let used: Vec<String> = table(&msi, "FeatureComponents").into_iter().map(|row| row[1].clone()).collect();
    assert!(used.contains(&"window".to_owned()) && used.contains(&"menu".to_owned()), "{used:?}");
}

#[test]
fn another_content_is_another_package_of_the_same_product_and_another_version_another_product() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("codes");
    let package = |version: &str, licences: &str| {
        let mut release = release(&scratch.0, version, None);
        licences.clone_into(&mut release.licences);
        let _ = fs::remove_dir_all(&release.work);
        let made = build(&release, &scratch.0).unwrap().remove(0);
        let code = output(tool("msiinfo").unwrap().arg("suminfo").arg(&made)).unwrap();
        let code = code.lines().find_map(|line| line.strip_prefix("Revision number (UUID): ")).unwrap().to_owned();
        let product = property(&made, "ProductCode").unwrap();
        let components: Vec<String> = table(&made, "Component").into_iter().map(|row| row[1].clone()).collect();
        (code, product, components)
    };
    let (one, again, other, newer) = (package("1.2.3", "a"), package("1.2.3", "a"), package("1.2.3", "b"), package("1.2.4", "a"));
    assert_eq!(one, again);
    assert_eq!((one.1 == other.1, one.0 == other.0), (true, false));
    assert_eq!((one.1 == newer.1, one.2 == newer.2), (false, true), "components are the same for ever");
    assert_eq!(one.2.iter().collect::<BTreeSet<_>>().len(), one.2.len());
}

/// The keys that the helper reads.
fn keys_of_managed() -> BTreeSet<String> {
    hamn_core::managed::KEYS.iter().map(ToString::to_string).collect()
}

/// A value as the helper reads it from the registry.
fn in_policy(setting: &policy::Setting, text: &str) -> Value {
    match setting.kind {
        Kind::Switch => json!(text == "1"),
        Kind::Choice(_) | Kind::Text => json!(text),
        Kind::List => json!(text.split(',').collect::<Vec<_>>()),
    }
}

#[test]
fn the_settings_are_those_of_the_helper_and_every_value_offered_is_one_that_it_takes() {
    let ours: BTreeSet<String> = SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
    assert_eq!(ours, keys_of_managed());
    for setting in &SETTINGS {
        let words: Vec<&str> = match setting.kind {
            Kind::Switch => vec!["0", "1"],
            Kind::Choice(words) => words.iter().map(|(word, _)| *word).collect(),
            Kind::Text | Kind::List => vec![setting.example],
        };
        for word in words.iter().chain([&setting.example]) {
            let mut policy = serde_json::Map::new();
            policy.insert(setting.key.to_owned(), json!({"value": in_policy(setting, word), "locked": false}));
            let read = managed::parse(Value::Object(policy).to_string().as_bytes());
            assert!(read.is_ok_and(|policy| policy.unknown_keys().is_empty()), "{}={word}", setting.property);
        }
        let wrong = json!({setting.key: {"value": {"not": "this"}}}).to_string();
        assert!(managed::parse(wrong.as_bytes()).is_err(), "the negative control: {}", setting.key);
        assert!(setting.begins.is_none_or(|begins| setting.example.starts_with(begins)));
    }
}

#[test]
fn the_templates_of_group_policy_are_those_of_the_table() {
    for (path, text) in templates_of_repository().unwrap() {
        assert_eq!(read(&path).unwrap(), text, "run `cargo xtask package templates`");
    }
    let (template, words) = (policy::admx(), policy::adml());
    for kind in ["string", "presentation"] {
        for rest in template.split(&format!("$({kind}.")).skip(1) {
            let (name, _) = rest.split_once(')').unwrap();
            assert!(words.contains(&format!("<{kind} id=\"{name}\"")), "the template has no {kind} {name}");
        }
    }
    assert_eq!(template.matches("<policy name=").count(), 2 * SETTINGS.len());
}

#[test]
fn the_service_and_its_event_source_are_those_of_the_helper() {
    let root = root().unwrap();
    let (main, plan) = (
        read(&root.join("installers/windows/hamn.wxs")).unwrap(),
        read(&root.join("platform/helper/src/service/plan.rs")).unwrap(),
    );
    let options = read(&root.join("platform/helper/src/host/windows.rs")).unwrap();
    for (ours, theirs) in [
        ("Name=\"HamnHelper\"", "NAME: &str = \"HamnHelper\""),
        ("DisplayName=\"Hamn helper\"", "display_name: \"Hamn helper\""),
        ("Arguments=\"--service\"", "ARGUMENT: &str = \"--service\""),
        ("keeps the tunnel of the VPN client Hamn.\"", "keeps the tunnel of the VPN client Hamn.\""),
        (r"Services\EventLog\Application\Hamn", r"Services\\EventLog\\Application\\Hamn"),
        (r"%SystemRoot%\System32\EventCreate.exe", r"%SystemRoot%\\System32\\EventCreate.exe"),
    ] {
        assert!(main.contains(ours) && plan.contains(theirs), "{ours}");
    }
    for option in ["service", "configure_service"] {
        assert!(options.contains(&format!("pub {option}: bool")), "{option}");
    }
}

#[test]
fn every_property_is_on_the_administrators_page() {
    let page = read(&root().unwrap().join("installers/windows/README.md")).unwrap();
    for name in SETTINGS.iter().map(|setting| setting.property).chain(tables::OTHERS) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not explained");
    }
}

#[test]
fn versions_that_the_windows_installer_cannot_compare_are_refused() {
    assert!(["0.1.0", "255.255.65535"].iter().all(|good| msi_version(good).is_ok()));
    assert!(["", "1.2", "1.2.3.4", "256.0.0", "1.2.65536", "1.2.3-alpha.1", "1.2.x"].iter().all(|bad| msi_version(bad).is_err()));
}

#[test]
fn another_library_than_the_reviewed_driver_is_refused() {
    let scratch = Scratch::new("driver");
    let library = scratch.0.join("wintun.dll");
    fs::write(&library, "not the driver").unwrap();
    assert!(wintun::check(&library).unwrap_err().to_string().contains("not the reviewed driver"));
    let pinned = read(&root().unwrap().join("platform/tunnel/src/tun/wintun/pin.rs")).unwrap();
    assert!(pinned.contains(wintun::SHA256), "the helper loads another library than the installers carry");
    if let Ok(driver) = wintun::find_driver() {
        fs::copy(&driver.library, &library).unwrap();
        wintun::check(&library).unwrap();
        assert!(read(&driver.licence).unwrap().contains("Prebuilt Binaries License"));
    }
}

#[test]
fn installers_and_programs_are_signed_and_a_changed_byte_breaks_it() {
    if !can_pack() || find("osslsigncode").is_none() || find("openssl").is_none() {
        return;
    }
    let scratch = Scratch::new("signed");
    let (key, certificate, both) = (scratch.0.join("key.pem"), scratch.0.join("cert.pem"), scratch.0.join("both.pem"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Hamn test", "-addext"]);
    make.args(["extendedKeyUsage=codeSigning", "-keyout"]).arg(&key).arg("-out").arg(&certificate);
    output(&mut make).unwrap();
    fs::write(&both, read(&certificate).unwrap() + &read(&key).unwrap()).unwrap();
    let release = release(&scratch.0, "1.2.3", Some(Signer::new(both).unwrap()));
    let made = build(&release, &scratch.0).unwrap();
    let verifies = |path: &Path| {
        let mut verify = tool("osslsigncode").unwrap();
        verify.arg("verify").arg("-CAfile").arg(&certificate).arg("-in").arg(path).output().unwrap().status.success()
    };
    for path in made.iter().cloned().chain(["hamn.exe", "hamn-helper.exe"].map(|name| release.work.join(name))) {
        assert!(verifies(&path), "{}", path.display());
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(!verifies(&path), "the negative control: {}", path.display());
    }
}
