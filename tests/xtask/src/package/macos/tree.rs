//! The files of the package as they will lie on the computer, with owners and rights; nothing of the machine that builds.

use super::Release;
use crate::build::root;
use crate::package::read;
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::fs;
use std::path::Path;

/// Group of the users who administer a Mac.
const ADMIN: u32 = 80;
/// Bits of a mode that say what kind of thing it is.
pub const DIRECTORY: u32 = 0o040_000;
/// The same, of a regular file.
pub const REGULAR: u32 = 0o100_000;
/// Where everything but the window is.
pub const HOME: &str = "Library/Application Support/Hamn";
/// What launchd reads.
pub const DAEMON: &str = "Library/LaunchDaemons/org.hamn.helper.plist";

/// Where the window is.
const WINDOW: &str = "Applications/Hamn.app";

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Below the root, without a leading slash; empty for the root itself.
    pub path: String,
    /// Kind and rights.
    pub mode: u32,
    /// Group; the owner is always root.
    pub group: u32,
    /// Bytes of a file.
    pub content: Vec<u8>,
}

impl Node {
    /// True for a directory.
    pub const fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == DIRECTORY
    }

    /// The part after the last slash.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The directory that has it; none for the root.
    pub fn parent(&self) -> Option<&str> {
        if self.path.is_empty() { None } else { Some(self.path.rsplit_once('/').map_or("", |(parent, _)| parent)) }
    }
}

/// Everything, each directory before what it has, names in order: the order of the bill of materials.
pub fn tree(release: &Release) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut directory = |path: &str, rights: u32, group: u32| nodes.push(node(path, DIRECTORY | rights, group, Vec::new()));
    // As they are on every Mac.
    for (path, rights, group) in [
        ("", 0o755, 0),
        ("Library", 0o755, 0),
        ("Library/Application Support", 0o755, ADMIN),
        ("Library/LaunchDaemons", 0o755, 0),
        ("private", 0o755, 0),
        ("private/etc", 0o755, 0),
        ("private/etc/paths.d", 0o755, 0),
    ] {
        directory(path, rights, group);
    }
    directory(HOME, 0o755, 0);
    directory(&format!("{HOME}/bin"), 0o755, 0);
    for name in ["hamn", "hamn-helper"] {
        let path = release.binaries.join(name);
        let content = fs::read(&path).with_context(|| format!("read {}: it has not been built", path.display()))?;
        nodes.push(node(&format!("{HOME}/bin/{name}"), REGULAR | 0o755, 0, content));
    }
    let folder = root()?.join("installers/macos");
    let text = |name: &str| read(&folder.join(name)).map(String::into_bytes);
    nodes.push(node(&format!("{HOME}/uninstall.sh"), REGULAR | 0o755, 0, text("uninstall.sh")?));
    nodes.push(node(&format!("{HOME}/README.md"), REGULAR | 0o644, 0, text("README.md")?));
    nodes.push(node(&format!("{HOME}/LICENSE.txt"), REGULAR | 0o644, 0, read(&root()?.join("LICENSE"))?.into_bytes()));
    nodes.push(node(&format!("{HOME}/version"), REGULAR | 0o644, 0, format!("{}\n", release.version).into_bytes()));
    nodes.push(node(DAEMON, REGULAR | 0o644, 0, text("org.hamn.helper.plist")?));
    nodes.push(node("private/etc/paths.d/org.hamn", REGULAR | 0o644, 0, format!("/{HOME}/bin\n").into_bytes()));
    window(release, &mut nodes)?;
    Ok(in_order(&nodes))
}

/// The window: as the Mac that built and signed it made it, or put together here around the program.
fn window(release: &Release, nodes: &mut Vec<Node>) -> Result<()> {
    let (bundle, program) = (release.binaries.join("Hamn.app"), release.binaries.join("hamn-gui"));
    if !bundle.is_dir() && !program.is_file() {
        return Ok(());
    }
    nodes.push(node("Applications", DIRECTORY | 0o775, ADMIN, Vec::new()));
    let information = information(&release.version)?;
    if bundle.is_dir() {
        let found = read(&bundle.join("Contents/Info.plist"))?;
        ensure!(
            found == information,
            "{}: its Info.plist is not the one that `cargo xtask package macos --info` prints",
            bundle.display()
        );
        return add(&bundle, WINDOW, nodes);
    }
    for path in ["", "/Contents", "/Contents/MacOS", "/Contents/Resources"] {
        nodes.push(node(&format!("{WINDOW}{path}"), DIRECTORY | 0o755, 0, Vec::new()));
    }
    let icon = fs::read(root()?.join("src-tauri/icons/icon.icns")).context("read the icon")?;
    for (name, rights, content) in [
        ("Info.plist", 0o644, information.into_bytes()),
        ("PkgInfo", 0o644, b"APPL????".to_vec()),
        ("MacOS/hamn-gui", 0o755, fs::read(&program).with_context(|| format!("read {}", program.display()))?),
        ("Resources/icon.icns", 0o644, icon),
    ] {
        nodes.push(node(&format!("{WINDOW}/Contents/{name}"), REGULAR | rights, 0, content));
    }
    Ok(())
}

/// What the window says of itself to macOS: its name, and that links which begin with `hamn:` are its.
pub fn information(version: &str) -> Result<String> {
    Ok(read(&root()?.join("installers/macos/Info.plist"))?.replace("@VERSION@", version))
}

fn node(path: &str, mode: u32, group: u32, content: Vec<u8>) -> Node {
    Node { path: path.to_owned(), mode, group, content }
}

/// A directory of the Mac that built, with everything in it. Rights become root's: nobody else changes what was signed.
fn add(from: &Path, to: &str, nodes: &mut Vec<Node>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    nodes.push(node(to, DIRECTORY | 0o755, 0, Vec::new()));
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (data, path) = (entry.path().symlink_metadata()?, entry.path());
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { bail!("{} is no text", path.display()) };
        let below = format!("{to}/{name}");
        if data.is_dir() {
            add(&path, &below, nodes)?;
        } else {
            ensure!(data.is_file(), "{} is neither a file nor a directory", path.display());
            let rights = if data.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            nodes.push(node(&below, REGULAR | rights, 0, fs::read(&path)?));
        }
    }
    Ok(())
}

/// Level by level, and by name within a directory.
fn in_order(nodes: &[Node]) -> Vec<Node> {
    let mut ordered = Vec::new();
    let mut waiting: VecDeque<&Node> = nodes.iter().filter(|node| node.parent().is_none()).collect();
    while let Some(node) = waiting.pop_front() {
        ordered.push(node.clone());
        let mut below: Vec<&Node> = nodes.iter().filter(|other| other.parent() == Some(node.path.as_str())).collect();
        below.sort_by(|one, other| one.path.cmp(&other.path));
        waiting.extend(below);
    }
    ordered
}
