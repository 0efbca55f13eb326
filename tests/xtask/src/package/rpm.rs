//! The package for dnf, zypper and rpm, packed by `rpmbuild` from a specification that is written here.

use super::contents::{Entry, Package, Source};
use super::{Format, REVISION, Release, output, script, stage, tool};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Section of the specification, and the script in `installers/linux/scripts/rpm`.
const SCRIPTS: [&str; 3] = ["post", "preun", "postun"];

/// Packs one package and returns its path.
pub fn build(package: &Package, release: &Release, to: &Path) -> Result<PathBuf> {
    let stage = stage::lay_out(package, Format::Rpm, release)?;
    stage::settle(&stage, release)?;
    let top = release.work.join(format!("{}-rpmbuild", package.name));
    fs::create_dir_all(&top)?;
    let spec = top.join(format!("{}.spec", package.name));
    fs::write(&spec, specification(package, release, &stage)?)?;
    let mut build = tool("rpmbuild")?;
    build.arg("-bb").arg(&spec).env("SOURCE_DATE_EPOCH", release.epoch.to_string()).env("LC_ALL", "C");
    for (name, value) in macros(release, &top) {
        build.arg("--define").arg(format!("{name} {value}"));
    }
    output(&mut build)?;
    let name = format!("{}-{}.{}.rpm", package.name, release.full_version(), std::env::consts::ARCH);
    let made = top.join("RPMS").join(std::env::consts::ARCH).join(&name);
    ensure!(made.is_file(), "rpmbuild did not make {}", made.display());
    let path = to.join(name);
    fs::copy(&made, &path).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The machine that builds, its configuration and the time leave no trace.
fn macros(release: &Release, top: &Path) -> Vec<(&'static str, String)> {
    let payload = if release.quick { "w1.gzdio" } else { "w6.xzdio" };
    vec![
        ("_topdir", top.display().to_string()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("build_mtime_policy", "clamp_to_source_date_epoch".to_owned()),
        ("source_date_epoch_from_changelog", "0".to_owned()),
        ("_build_id_links", "none".to_owned()),
        ("debug_package", "%{nil}".to_owned()),
        ("__os_install_post", "%{nil}".to_owned()),
        ("optflags", "%{nil}".to_owned()),
        ("_binary_payload", payload.to_owned()),
    ]
}

/// `%` begins a macro in specifications.
fn plain(text: &str) -> String {
    text.replace('%', "%%")
}

fn specification(package: &Package, release: &Release, stage: &Path) -> Result<String> {
    let mut lines = vec![
        format!("Name: {}", package.name),
        format!("Version: {}", release.version),
        format!("Release: {REVISION}"),
        format!("Summary: {}", plain(package.summary)),
        "License: MPL-2.0".to_owned(),
        "Group: Productivity/Networking/Security".to_owned(),
        format!("Packager: {}", plain(&release.maintainer)),
    ];
    let same = |relation: &&str| relation.replace("@SAME@", &release.full_version());
    lines.extend(package.rpm.depends.iter().map(|relation| format!("Requires: {}", same(relation))));
    for stage in ["post", "preun"] {
        lines.extend(package.rpm.for_scripts.iter().map(|relation| format!("Requires({stage}): {}", same(relation))));
    }
    lines.extend(package.rpm.recommends.iter().map(|relation| format!("Recommends: {}", same(relation))));
    lines.push(format!("\n%description\n{}", plain(&package.description.join("\n\n"))));
    lines.push(format!("\n%install\ncp -a \"{}\"/. \"%{{buildroot}}\"/", plain(&stage.display().to_string())));
    if package.has_scripts {
        for name in SCRIPTS {
            lines.push(format!("\n%{name}\n{}", plain(&script(Format::Rpm, name)?)));
        }
    }
    lines.push("\n%files\n%defattr(-,root,root,-)".to_owned());
    lines.extend(package.entries(Format::Rpm).map(listed));
    Ok(lines.join("\n") + "\n")
}

/// An entry in the list of files.
fn listed(entry: &Entry) -> String {
    let Entry { to, mode, .. } = entry;
    let kind = if entry.from == Source::Directory {
        "%dir "
    } else if to.starts_with("/usr/share/licenses/") {
        "%license "
    } else if to.starts_with("/usr/share/doc/") {
        "%doc "
    } else {
        ""
    };
    format!("{kind}%attr(0{mode:o},root,root) \"{to}\"")
}
