//! Builds the package from stand-in programs (nothing for macOS can be linked here) and reads it back: the archive with libarchive, the bill
//! of materials with a reader of its own, the scripts with a shell. No Apple software has seen any of it.

use super::tree::{DIRECTORY, HOME, Node, tree};
use super::*;
use crate::build::root;
use crate::package::read;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hamn-macos-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn can_pack() -> bool {
    let can = NEEDS.iter().all(|(program, _)| find(program).is_some());
    if !can {
        say("skipped: bsdtar or gzip is missing (cargo xtask package macos installs them)");
    }
    can
}

fn release(directory: &Path, version: &str) -> Release {
    let binaries = directory.join("binaries");
    fs::create_dir_all(&binaries).unwrap();
    fs::write(binaries.join("hamn"), "in place of the command line").unwrap();
    fs::write(binaries.join("hamn-helper"), vec![7_u8; 5000]).unwrap();
    fs::write(binaries.join("hamn-gui"), "in place of the window").unwrap();
    Release { version: version.to_owned(), epoch: 1_700_000_000, binaries, work: directory.join("work") }
}

/// Takes a package apart below a directory of its own.
fn unpack(package: &Path, to: &Path) -> PathBuf {
    let out = to.join("out");
    fs::create_dir_all(&out).unwrap();
    output(tool("bsdtar").unwrap().arg("-xf").arg(package).arg("-C").arg(&out)).unwrap();
    out
}

/// What `bsdtar -tv` says of an archive of an archive: rights, owner, group and path.
fn listing(archive: &Path) -> BTreeMap<String, String> {
    let text = output(tool("bsdtar").unwrap().args(["--numeric-owner", "-tvf"]).arg(archive)).unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let path = words[8..].join(" ");
            (path.trim_end_matches('/').to_owned(), format!("{} {}:{}", words[0], words[2], words[3]))
        })
        .collect()
}

#[test]
fn the_package_has_every_file_with_its_rights_and_root_as_owner() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("contents");
    let release = release(&scratch.0, "1.2.3");
    let package = flat::build(&release, &scratch.0).unwrap();
    assert_eq!(&fs::read(&package).unwrap()[..4], b"xar!");
    let out = unpack(&package, &scratch.0);
    let payload = listing(&out.join("hamn.pkg/Payload"));
    let nodes = tree(&release).unwrap();
    assert_eq!(payload.len(), nodes.len());
    for (path, want) in [
        (format!("./{HOME}/bin/hamn-helper"), "-rwxr-xr-x 0:0"),
        (format!("./{HOME}/bin/hamn"), "-rwxr-xr-x 0:0"),
        (format!("./{HOME}"), "drwxr-xr-x 0:0"),
        ("./Library/Application Support".to_owned(), "drwxr-xr-x 0:80"),
        ("./Library/LaunchDaemons/org.hamn.helper.plist".to_owned(), "-rw-r--r-- 0:0"),
        ("./Applications/Hamn.app/Contents/MacOS/hamn-gui".to_owned(), "-rwxr-xr-x 0:0"),
        ("./Applications/Hamn.app/Contents/Info.plist".to_owned(), "-rw-r--r-- 0:0"),
    ] {
        assert_eq!(payload.get(&path).map(String::as_str), Some(want), "{path}");
    }
    assert!(payload.values().all(|rights| !rights.contains('s') && !rights.contains('t')), "no program is setuid");
    let scripts = listing(&out.join("hamn.pkg/Scripts"));
    assert!(flat::SCRIPTS.iter().all(|name| scripts.get(&format!("./{name}")).is_some_and(|rights| rights == "-rwxr-xr-x 0:0")));
    for name in ["Distribution", "hamn.pkg/PackageInfo"] {
        let text = read(&out.join(name)).unwrap();
        assert!(text.contains("version=\"1.2.3\"") && text.contains("org.hamn.client") && !text.contains('@'), "{text}");
    }
    // The programs come back as they were.
    let files = scratch.0.join("files");
    fs::create_dir_all(&files).unwrap();
    output(tool("bsdtar").unwrap().arg("-xf").arg(out.join("hamn.pkg/Payload")).arg("-C").arg(&files)).unwrap();
    assert!(fs::read(files.join(HOME).join("bin/hamn-helper")).unwrap() == vec![7_u8; 5000]);
}

#[test]
fn the_window_is_put_together_or_taken_as_it_was_signed_and_answers_to_its_links() {
    let scratch = Scratch::new("window");
    let mut release = release(&scratch.0, "1.2.3");
    let made = tree(&release).unwrap();
    let content = |nodes: &[Node], path: &str| {
        let path = format!("Applications/Hamn.app/Contents/{path}");
        nodes.iter().find(|node| node.path == path).map(|node| node.content.clone())
    };
    let information = String::from_utf8(content(&made, "Info.plist").unwrap()).unwrap();
    assert!(information.contains("<string>1.2.3</string>") && !information.contains('@'), "{information}");
    // What the system asks for, and what the program calls itself.
    let flat: String = information.split_whitespace().collect();
    assert!(flat.contains("<key>CFBundleURLSchemes</key><array><string>hamn</string></array>"), "{flat}");
    let configuration = read(&root().unwrap().join("src-tauri/tauri.conf.json")).unwrap();
    let configuration: serde_json::Value = serde_json::from_str(&configuration).unwrap();
    for (key, name) in [("CFBundleIdentifier", "identifier"), ("CFBundleExecutable", "mainBinaryName")] {
        let value = configuration[name].as_str().unwrap();
        assert!(flat.contains(&format!("<key>{key}</key><string>{value}</string>")), "{key}");
    }
    assert_eq!(content(&made, "Resources/icon.icns").unwrap()[..4], *b"icns");

    // Made and signed on a Mac: every byte stays.
    let bundle = release.binaries.join("Hamn.app/Contents");
    for folder in ["MacOS", "_CodeSignature"] {
        fs::create_dir_all(bundle.join(folder)).unwrap();
    }
    fs::write(bundle.join("MacOS/hamn-gui"), "signed").unwrap();
    fs::set_permissions(bundle.join("MacOS/hamn-gui"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(bundle.join("_CodeSignature/CodeResources"), "seal").unwrap();
    fs::write(bundle.join("Info.plist"), &information).unwrap();
    let taken = tree(&release).unwrap();
    assert_eq!(content(&taken, "MacOS/hamn-gui").unwrap(), b"signed");
    assert_eq!(content(&taken, "_CodeSignature/CodeResources").unwrap(), b"seal");
    release.version = "1.2.4".to_owned();
    assert!(tree(&release).is_err(), "another version's window");
}

#[test]
fn the_same_programs_give_the_same_bytes_inside() {
    if !can_pack() {
        return;
    }
    let (one, two, three) = (Scratch::new("same-1"), Scratch::new("same-2"), Scratch::new("other"));
    let parts = |scratch: &Scratch, version: &str| {
        let out = unpack(&flat::build(&release(&scratch.0, version), &scratch.0).unwrap(), &scratch.0);
        let names = ["Distribution", "hamn.pkg/Bom", "hamn.pkg/PackageInfo", "hamn.pkg/Payload", "hamn.pkg/Scripts"];
        names.map(|name| fs::read(out.join(name)).unwrap())
    };
    let first = parts(&one, "1.2.3");
    assert!(first == parts(&two, "1.2.3"));
    assert!(first != parts(&three, "1.2.4"), "the negative control");
}

/// Reads a bill of materials as its description in `bom.rs` says, without any of that code: path, mode, owner, group, size, checksum.
fn read_bill(bytes: &[u8]) -> Vec<(String, u16, u32, u32, u32, u32)> {
    let number = |data: &[u8], at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
    let place = |data: &[u8], at: usize| usize::try_from(number(data, at)).unwrap();
    assert_eq!(&bytes[..8], b"BOMStore");
    let (index, names) = (place(bytes, 16), place(bytes, 24));
    let block = |which: u32| {
        let entry = index + 4 + usize::try_from(which).unwrap() * 8;
        let (from, length) = (place(bytes, entry), place(bytes, entry + 4));
        &bytes[from..from + length]
    };
    let mut variables = BTreeMap::new();
    let mut at = names + 4;
    for _ in 0..number(bytes, names) {
        let length = usize::from(bytes[at + 4]);
        variables.insert(String::from_utf8(bytes[at + 5..at + 5 + length].to_vec()).unwrap(), number(bytes, at));
        at += 5 + length;
    }
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["BomInfo", "HLIndex", "Paths", "Size64", "VIndex"]);
    let paths = block(variables["Paths"]);
    assert_eq!(&paths[..4], b"tree");
    let leaf = block(number(paths, 8));
    let count = usize::from(u16::from_be_bytes([leaf[2], leaf[3]]));
    assert_eq!((leaf[1], count), (1, place(paths, 16)));
    let mut known: BTreeMap<u32, String> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in 0..count {
        let (info, file) = (block(number(leaf, 12 + entry * 8)), block(number(leaf, 16 + entry * 8)));
        let name = std::ffi::CStr::from_bytes_with_nul(&file[4..]).unwrap().to_str().unwrap();
        let path = known.get(&number(file, 0)).map_or_else(|| name.to_owned(), |parent| format!("{parent}/{name}"));
        known.insert(number(info, 0), path.clone());
        let record = block(number(info, 4));
        let mode = u16::from_be_bytes([record[4], record[5]]);
        found.push((path, mode, number(record, 6), number(record, 10), number(record, 18), number(record, 23)));
    }
    found
}

#[test]
fn the_bill_of_materials_names_what_the_payload_has() {
    let scratch = Scratch::new("bill");
    let nodes = tree(&release(&scratch.0, "1.2.3")).unwrap();
    let bill = read_bill(&bom::bill(&nodes, 1_700_000_000).unwrap());
    assert_eq!(bill.len(), nodes.len());
    for (node, (path, mode, owner, group, size, sum)) in nodes.iter().zip(&bill) {
        let want = if node.path.is_empty() { ".".to_owned() } else { format!("./{}", node.path) };
        assert_eq!((path, u32::from(*mode), *owner, *group), (&want, node.mode, 0, node.group));
        assert_eq!(usize::try_from(*size).unwrap(), node.content.len());
        assert_eq!(*sum != 0, node.mode & 0o170_000 != DIRECTORY, "{path}");
    }
    let mut orphan = nodes.clone();
    orphan.retain(|node| node.path != HOME);
    assert!(bom::bill(&orphan, 0).is_err(), "the negative control: a file without its directory");
}

/// The Mac's own programs, in place of which these note how they were called. `launchctl print` knows the service while `loaded` is there.
fn stand_ins(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let note = "echo \"$(basename \"$0\") $*\" >>\"$(dirname \"$0\")/calls\"\n";
    let launchctl = "d=$(dirname \"$0\"); case $1 in print) test -e \"$d/loaded\" ;; bootout) rm -f \"$d/loaded\" ;; bootstrap) touch \"$d/loaded\" ;; esac\n";
    for (name, text) in [("launchctl", launchctl), ("chown", ""), ("pkgutil", "")] {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{note}{text}")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs a script of the repository with the stand-ins in front, and in a directory in place of the root; returns code and what it said.
fn run(scratch: &Scratch, name: &str, words: &[&str], version: &str) -> (i32, String) {
    let (tools, root_dir) = (scratch.0.join("tools"), scratch.0.join("root"));
    fs::create_dir_all(&root_dir).unwrap();
    let text = read(&root().unwrap().join("installers/macos").join(name)).unwrap();
    let moved = text
        .replace("PATH=/usr/bin:/bin:/usr/sbin:/sbin", &format!("PATH={}:/usr/bin:/bin:/usr/sbin:/sbin", tools.display()))
        .replace("@VERSION@", version)
        .replace("root=${volume%/}", &format!("root={}", root_dir.display()))
        .replace("[ -n \"$root\" ]", "[ \"$volume\" != / ]")
        .replace("=\"/Library", &format!("=\"{}/Library", root_dir.display()))
        .replace("=/Library", &format!("={}/Library", root_dir.display()))
        .replace(" /private", &format!(" {}/private", root_dir.display()))
        .replace(" /Applications", &format!(" {}/Applications", root_dir.display()))
        .replace(" /var/run/hamn", &format!(" {}/var/run/hamn", root_dir.display()));
    let path = scratch.0.join("script");
    fs::write(&path, moved).unwrap();
    let done = Command::new("sh").arg(path).args(words).stdin(Stdio::null()).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn scripts_install_upgrade_refuse_an_older_version_and_remove() {
    let scratch = Scratch::new("scripts");
    let (tools, home) = (scratch.0.join("tools"), scratch.0.join("root").join(HOME));
    stand_ins(&tools);
    let calls = || {
        let text = fs::read_to_string(tools.join("calls")).unwrap_or_default();
        let _ = fs::remove_file(tools.join("calls"));
        text.lines().filter(|line| !line.starts_with("chown") && !line.contains(" print ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let installer = ["package", "/", "/"];
    assert_eq!(run(&scratch, "scripts/preinstall", &installer, "1.2.3").0, 0);
    fs::create_dir_all(home.join("bin")).unwrap();
    fs::write(home.join("version"), "1.2.3\n").unwrap();
    let helper = home.join("bin/hamn-helper");
    fs::write(&helper, format!("#!/bin/sh\necho \"helper $*\" >>'{}/calls'\n", tools.display())).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run(&scratch, "scripts/postinstall", &installer, "1.2.3"), (0, String::new()));
    let plist = scratch.0.join("root/Library/LaunchDaemons/org.hamn.helper.plist");
    let start = ["launchctl enable system/org.hamn.helper".to_owned(), format!("launchctl bootstrap system {}", plist.display())];
    assert_eq!(calls(), start);
    assert_eq!(fs::metadata(home.join("state")).unwrap().permissions().mode() & 0o777, 0o700);

    // An upgrade replaces the running helper; an older version is refused and nothing is called.
    for (version, code) in [("1.2.3", 0), ("1.10.0", 0), ("1.2.2", 1), ("0.9", 1)] {
        assert_eq!(run(&scratch, "scripts/preinstall", &installer, version).0, code, "{version}");
    }
    assert_eq!(calls(), Vec::<String>::new());
    assert_eq!(run(&scratch, "scripts/postinstall", &installer, "1.10.0").0, 0);
    let end = ["launchctl kill SIGUSR1 system/org.hamn.helper", "launchctl bootout system/org.hamn.helper"].map(str::to_owned);
    assert_eq!(calls(), [end.as_slice(), start.as_slice()].concat());
    // Nothing is started on a volume that is not the running system.
    assert_eq!(run(&scratch, "scripts/postinstall", &["package", "/", "/Volumes/Image"], "1.10.0").0, 0);
    assert_eq!(calls(), Vec::<String>::new());

    assert_eq!(run(&scratch, "uninstall.sh", &["--everything"], "").0, 2);
    assert_eq!(run(&scratch, "uninstall.sh", &[], "").0, 0);
    let said = calls();
    assert_eq!(said.first().map(String::as_str), Some("launchctl bootout system/org.hamn.helper"));
    assert!(said.iter().any(|call| call == "helper --restore-network"), "{said:?}");
    assert!(said.last().is_some_and(|call| call == "pkgutil --forget org.hamn.client"));
    assert!(!home.exists(), "no settings were made, so nothing is left");
}

#[test]
fn a_directory_that_others_made_is_refused() {
    let scratch = Scratch::new("owner");
    stand_ins(&scratch.0.join("tools"));
    let home = scratch.0.join("root").join(HOME);
    fs::create_dir_all(home.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/tmp", &home).unwrap();
    assert_eq!(run(&scratch, "scripts/preinstall", &["package", "/", "/"], "1.2.3").0, 1);
    fs::remove_file(&home).unwrap();
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run(&scratch, "scripts/preinstall", &["package", "/", "/"], "1.2.3").0, 1);
}

/// The values of the example, as the helper reads them: a plain one holds, a dictionary says its own lock. The form is the one that we
/// write ourselves, one element a line.
fn example_policy() -> serde_json::Map<String, serde_json::Value> {
    use serde_json::{Value, json};
    let text = read(&root().unwrap().join("installers/macos/org.hamn.client.mobileconfig")).unwrap();
    let (_, settings) = text.split_once("<string>Hamn settings</string>").unwrap();
    let mut lines = settings.lines().map(str::trim).filter(|line| !line.is_empty());
    let inner =
        |line: &str, tag: &str| Some(line.strip_prefix(&format!("<{tag}>"))?.strip_suffix(&format!("</{tag}>"))?.to_owned());
    fn value<'a>(lines: &mut impl Iterator<Item = &'a str>, inner: &impl Fn(&str, &str) -> Option<String>) -> Value {
        let line = lines.next().unwrap();
        match line {
            "<true/>" => json!(true),
            "<false/>" => json!(false),
            "<array>" => lines.take_while(|line| *line != "</array>").map(|line| inner(line, "string").unwrap()).collect(),
            "<dict>" => {
                let mut entries = serde_json::Map::new();
                while let Some(key) = lines.next().and_then(|line| inner(line, "key")) {
                    entries.insert(key, value(lines, inner));
                }
                Value::Object(entries)
            }
            text => json!(inner(text, "string").unwrap()),
        }
    }
    let mut policy = serde_json::Map::new();
    while let Some(key) = lines.next().and_then(|line| inner(line, "key")) {
        let value = value(&mut lines, &inner);
        policy.insert(key, if value.is_object() { value } else { json!({"value": value, "locked": true}) });
    }
    policy
}

#[test]
fn the_example_of_managed_preferences_is_a_policy_that_the_helper_takes() {
    let policy = example_policy();
    let read = hamn_core::managed::parse(serde_json::Value::Object(policy.clone()).to_string().as_bytes()).unwrap();
    assert_eq!(read.unknown_keys(), Vec::<String>::new());
    let effective = read.apply(&read.defaults());
    assert!(effective.is_locked("kill-switch") && effective.is_locked("dns") && !effective.is_locked("ipv6"));
    assert_eq!(read.organisation(), Some("Example AB"));
    assert!(policy.len() >= 9, "every kind of value is shown");
}

#[test]
fn the_directories_are_those_of_the_helper() {
    let host = read(&root().unwrap().join("platform/helper/src/host/macos.rs")).unwrap();
    let script = read(&root().unwrap().join("installers/macos/scripts/postinstall")).unwrap();
    for (inside, directory) in [("state", format!("/{HOME}/state")), ("etc", format!("/{HOME}/etc"))] {
        assert!(host.contains(&format!("\"{directory}\"")), "{directory}");
        assert!(script.contains(&format!("\"$home/{inside}\"")), "{inside}");
    }
    let plist = read(&root().unwrap().join("installers/macos/org.hamn.helper.plist")).unwrap();
    assert!(plist.contains(&format!("<string>/{HOME}/bin/hamn-helper</string>")));
}

#[test]
fn versions_that_the_scripts_cannot_compare_are_refused() {
    assert!(["0.1.0", "1", "10.20.30.40"].iter().all(|good| is_version(good)));
    assert!(["", "1.2-alpha", "1..2", "1.2.3.4.5", "1;reboot", "../1"].iter().all(|bad| !is_version(bad)));
}
