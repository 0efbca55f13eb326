//! The package itself: a xar archive with a description for the Installer and one component (payload, scripts, bill of materials).

use super::tree::{Node, REGULAR, tree};
use super::{IDENTIFIER, Release, bom, cpio};
use crate::build::root;
use crate::package::{output, read, stage, tool};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the Installer runs before and after it puts the files in place.
pub const SCRIPTS: [&str; 2] = ["preinstall", "postinstall"];

/// Packs and returns the package's path.
pub fn build(release: &Release, to: &Path) -> Result<PathBuf> {
    let component = release.work.join("hamn.pkg");
    fs::create_dir_all(&component).with_context(|| format!("create {}", component.display()))?;
    let nodes = tree(release)?;
    compress(&cpio::archive(&nodes, release.epoch)?, &component.join("Payload"))?;
    compress(&cpio::archive(&scripts(release)?, release.epoch)?, &component.join("Scripts"))?;
    fs::write(component.join("Bom"), bom::bill(&nodes, release.epoch)?)?;
    let kilobytes = nodes.iter().map(|node| node.content.len().div_ceil(1024)).sum::<usize>();
    fs::write(component.join("PackageInfo"), package_info(release, nodes.len(), kilobytes))?;
    fs::write(release.work.join("Distribution"), distribution(release, kilobytes))?;
    let files = ["Distribution", "hamn.pkg", "hamn.pkg/Bom", "hamn.pkg/PackageInfo", "hamn.pkg/Payload", "hamn.pkg/Scripts"];
    for name in files {
        stage::set_time(&release.work.join(name), release.epoch)?;
    }
    let path = to.join(format!("hamn-{}.pkg", release.version));
    let _ = fs::remove_file(&path);
    let mut pack = tool("bsdtar")?;
    pack.current_dir(&release.work).args(["--format=xar", "--options", "xar:compression=gzip,xar:toc-checksum=sha1"]);
    pack.args(["--uid", "0", "--gid", "0", "--uname", "root", "--gname", "wheel", "--no-recursion", "-cf"]);
    output(pack.arg(&path).args(files))?;
    Ok(path)
}

/// The scripts, with the version that they compare filled in.
fn scripts(release: &Release) -> Result<Vec<Node>> {
    let folder = root()?.join("installers/macos/scripts");
    let mut nodes = vec![Node { path: String::new(), mode: super::tree::DIRECTORY | 0o755, group: 0, content: Vec::new() }];
    for name in SCRIPTS {
        let text = read(&folder.join(name))?.replace("@VERSION@", &release.version);
        nodes.push(Node { path: name.to_owned(), mode: REGULAR | 0o755, group: 0, content: text.into_bytes() });
    }
    Ok(nodes)
}

/// gzip without name and time.
fn compress(bytes: &[u8], to: &Path) -> Result<()> {
    let mut gzip = Command::new("gzip").args(["-6n"]).stdin(Stdio::piped()).stdout(File::create(to)?).spawn()?;
    gzip.stdin.take().context("gzip has no input")?.write_all(bytes)?;
    ensure!(gzip.wait()?.success(), "gzip failed");
    Ok(())
}

fn package_info(release: &Release, files: usize, kilobytes: usize) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<pkg-info overwrite-permissions=\"true\" relocatable=\"false\" identifier=\"{IDENTIFIER}\" \
         postinstall-action=\"none\" version=\"{}\" format-version=\"2\" install-location=\"/\" auth=\"root\">\n  \
         <payload numberOfFiles=\"{files}\" installKBytes=\"{kilobytes}\"/>\n  <scripts>\n    <preinstall file=\"./preinstall\"/>\n    \
         <postinstall file=\"./postinstall\"/>\n  </scripts>\n</pkg-info>\n",
        release.version
    )
}

/// For the startup volume only: launchd and the packet filter are that system's.
fn distribution(release: &Release, kilobytes: usize) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<installer-gui-script minSpecVersion=\"2\">\n  <title>Hamn</title>\n  \
         <options customize=\"never\" require-scripts=\"true\" rootVolumeOnly=\"true\" hostArchitectures=\"arm64,x86_64\"/>\n  \
         <domains enable_anywhere=\"false\" enable_currentUserHome=\"false\" enable_localSystem=\"true\"/>\n  <volume-check>\n    \
         <allowed-os-versions>\n      <os-version min=\"13.0\"/>\n    </allowed-os-versions>\n  </volume-check>\n  <choices-outline>\n    \
         <line choice=\"hamn\"/>\n  </choices-outline>\n  <choice id=\"hamn\" visible=\"false\">\n    <pkg-ref id=\"{IDENTIFIER}\"/>\n  \
         </choice>\n  <pkg-ref id=\"{IDENTIFIER}\" version=\"{}\" onConclusion=\"none\" installKBytes=\"{kilobytes}\" \
         auth=\"Root\">#hamn.pkg</pkg-ref>\n</installer-gui-script>\n",
        release.version
    )
}
