//! Builds the packages from small programs and reads them back with the formats' own tools.

use super::contents::{HELPER, Package, Source, WINDOW};
use super::*;
use std::collections::BTreeMap;
use std::fs;

/// A release whose programs are this machine's `true`: linked with the C library, and silent.
fn release(directory: &Path, version: &str) -> Release {
    let programs = directory.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in ["hamn", "hamn-helper", "hamn-gui"] {
        fs::copy("/bin/true", programs.join(name)).unwrap();
    }
    Release {
        version: version.to_owned(),
        epoch: 1_700_000_000,
        maintainer: "Somebody <somebody@example.org>".to_owned(),
        quick: true,
        programs,
        work: directory.join("work"),
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hamn-package-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn build_all(directory: &Path, version: &str) -> BTreeMap<String, PathBuf> {
    let release = release(directory, version);
    let mut made = BTreeMap::new();
    for package in [&HELPER, &WINDOW] {
        made.insert(format!("{}.deb", package.name), deb::build(package, &release, directory).unwrap());
        made.insert(format!("{}.rpm", package.name), rpm::build(package, &release, directory).unwrap());
    }
    made
}

fn prints(program: &str, arguments: &[&str], path: &Path) -> String {
    output(tool(program).unwrap().args(arguments).arg(path)).unwrap()
}

/// The packing tools are on every machine that packs; one that does not is told so by `cargo xtask package`.
fn can_pack() -> bool {
    let can = NEEDS.iter().all(|(program, _)| find(program).is_some());
    if !can {
        say("skipped: the packing tools are missing (cargo xtask package installs them)");
    }
    can
}

/// Mode and path of each thing in the table, as `rwxr-xr-x /path`.
fn expected(package: &Package, format: Format) -> Vec<String> {
    let word = |entry: &contents::Entry| {
        let kind = if entry.from == Source::Directory { 'd' } else { '-' };
        let rights = match entry.mode {
            0o755 => "rwxr-xr-x",
            0o644 => "rw-r--r--",
            other => panic!("{} has the unusual mode {other:o}", entry.to),
        };
        format!("{kind}{rights} {}", entry.to)
    };
    let mut words: Vec<String> = package.entries(format).map(word).collect();
    words.sort();
    words
}

#[test]
fn both_formats_have_what_the_table_says_with_its_rights_and_root_as_owner() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("contents");
    let made = build_all(&scratch.0, "1.2.3");
    for package in [&HELPER, &WINDOW] {
        let listing = prints("dpkg-deb", &["--contents"], &made[&format!("{}.deb", package.name)]);
        let mut found: Vec<String> = Vec::new();
        for line in listing.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[1], "root/root", "{line}");
            assert_eq!((words[3], words[4]), ("2023-11-14", "22:13"), "{line}");
            found.push(format!("{} {}", words[0], words[5].trim_start_matches('.').trim_end_matches('/')));
        }
        for entry in expected(package, Format::Deb) {
            assert!(found.contains(&entry), "the deb has no {entry}: {found:#?}");
            found.retain(|other| *other != entry);
        }
        assert!(found.iter().all(|rest| rest.starts_with("drwxr-xr-x ")), "more than the table says: {found:#?}");

        let format = "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEMTIMES} %{FILENAMES}\n]";
        let listing = prints("rpm", &["--query", "--package", "--queryformat", format], &made[&format!("{}.rpm", package.name)]);
        let mut found: Vec<String> = listing.lines().map(|line| line.replacen(" root root 1700000000 ", " ", 1)).collect();
        found.sort();
        assert_eq!(found, expected(package, Format::Rpm));
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_other_input_does_not() {
    if !can_pack() {
        return;
    }
    let (one, two, three) = (Scratch::new("same-1"), Scratch::new("same-2"), Scratch::new("other"));
    let (first, second, other) = (build_all(&one.0, "1.2.3"), build_all(&two.0, "1.2.3"), build_all(&three.0, "1.2.4"));
    for (name, path) in &first {
        let bytes = fs::read(path).unwrap();
        assert!(bytes == fs::read(&second[name]).unwrap(), "two builds of {name} differ");
        assert!(bytes != fs::read(&other[name]).unwrap(), "the negative control");
    }
}

#[test]
fn the_window_wants_the_helper_of_its_own_version_and_its_libraries() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("relations");
    let made = build_all(&scratch.0, "1.2.3");
    let field = |name: &str, field: &str| prints("dpkg-deb", &["--show", "--showformat", &format!("${{{field}}}")], &made[name]);
    let depends = field("hamn-gui.deb", "Depends");
    let depends: Vec<&str> = depends.split(", ").collect();
    assert!(depends.contains(&"hamn (= 1.2.3-1)"), "{depends:?}");
    for library in ["libwebkit2gtk-4.1-0", "libgtk-3-0", "libayatana-appindicator3-1", "libc6 (>= "] {
        assert!(depends.iter().any(|depend| depend.starts_with(library)), "{library}: {depends:?}");
    }
    let depends = field("hamn.deb", "Depends");
    assert!(depends.contains("nftables") && depends.contains("libc6 (>= ") && !depends.contains("gtk"), "{depends}");
    assert_eq!((field("hamn.deb", "Version").as_str(), field("hamn.deb", "Package").as_str()), ("1.2.3-1", "hamn"));

    let requires = prints("rpm", &["--query", "--package", "--requires"], &made["hamn-gui.rpm"]);
    for want in ["hamn = 1.2.3-1", "libwebkit2gtk-4.1.so.0()(64bit)", "libgtk-3.so.0()(64bit)", "libc.so.6("] {
        assert!(requires.lines().any(|line| line.starts_with(want)), "{want}: {requires}");
    }
    let requires = prints("rpm", &["--query", "--package", "--requires"], &made["hamn.rpm"]);
    assert!(["nftables", "systemd", "libc.so.6("].iter().all(|want| requires.contains(want)), "{requires}");
}

#[test]
fn scripts_parse_and_are_the_ones_of_the_repository() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("scripts");
    let made = build_all(&scratch.0, "1.2.3");
    let control = scratch.0.join("control");
    output(tool("dpkg-deb").unwrap().arg("--control").arg(&made["hamn.deb"]).arg(&control)).unwrap();
    for name in ["postinst", "prerm", "postrm"] {
        assert_eq!(read(&control.join(name)).unwrap(), script(Format::Deb, name).unwrap());
        output(Command::new("sh").arg("-n").arg(control.join(name))).unwrap();
    }
    assert!(!control.join("conffiles").exists(), "an administrator's files are no conffiles of ours");
    for (tag, name) in [("POSTIN", "post"), ("PREUN", "preun"), ("POSTUN", "postun")] {
        let text = prints("rpm", &["--query", "--package", "--queryformat", &format!("%{{{tag}}}")], &made["hamn.rpm"]);
        assert_eq!(text.trim(), script(Format::Rpm, name).unwrap().trim(), "rpm changed %{name}");
        let file = scratch.0.join(name);
        fs::write(&file, text).unwrap();
        output(Command::new("sh").arg("-n").arg(&file)).unwrap();
    }
    let none = prints("rpm", &["--query", "--package", "--scripts"], &made["hamn-gui.rpm"]);
    assert_eq!(none, "", "the window's package runs no code");
}

#[test]
fn rpm_finds_its_own_digests_right_and_a_changed_byte_wrong() {
    if !can_pack() {
        return;
    }
    let scratch = Scratch::new("digests");
    let made = build_all(&scratch.0, "1.2.3");
    let path = &made["hamn.rpm"];
    let check = || tool("rpm").unwrap().args(["--checksig", "--nosignature"]).arg(path).output().unwrap().status.success();
    assert!(check());
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
    assert!(!check(), "the negative control");
}

#[test]
fn a_version_cannot_name_a_path_or_a_macro() {
    assert!(["1.2.3", "1.2.3~alpha.1", "99.0"].iter().all(|good| is_version(good)));
    assert!(["", "../1", "1/2", "1 2", "1%2", "v1", "1.0-1"].iter().all(|bad| !is_version(bad)));
}

#[test]
fn every_source_file_of_the_table_exists() {
    let root = root().unwrap();
    for entry in HELPER.entries.iter().chain(WINDOW.entries) {
        if let Source::File(from) | Source::Template(from) | Source::Compressed(from) = entry.from {
            assert!(root.join(from).is_file(), "{} needs {from}", entry.to);
        }
    }
}

#[test]
fn libraries_of_programs_and_page_are_named_with_their_licences() {
    let text = licences::texts(&["hamn-cli"], false).unwrap();
    assert!(text.contains("\nclap-4") && text.contains("Permission is hereby granted") && !text.contains("hamn-"), "{text}");
    assert!(!text.contains("\nsvelte-"), "the command line has no page");
    let text = licences::texts(&["hamn-cli"], true).unwrap();
    assert!(text.contains("\nsvelte-5") && text.contains("\nd3-geo-") && !text.contains("\nvitest-"), "tools are not shipped");
}
