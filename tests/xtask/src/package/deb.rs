//! The package for apt and dpkg, packed by `dpkg-deb`.

use super::contents::{Package, Source};
use super::{Format, Release, output, script, stage, tool};
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs one package and returns its path.
pub fn build(package: &Package, release: &Release, to: &Path) -> Result<PathBuf> {
    let stage = stage::lay_out(package, Format::Deb, release)?;
    let files = stage::files_below(&stage)?;
    let control = stage.join("DEBIAN");
    fs::create_dir(&control)?;
    let architecture = architecture()?;
    let sums = output(Command::new("md5sum").args(&files).current_dir(&stage))?;
    write(&control.join("md5sums"), &sums, 0o644)?;
    write(&control.join("control"), &fields(package, release, &stage, &files, architecture)?, 0o644)?;
    if package.has_scripts {
        for name in SCRIPTS {
            write(&control.join(name), &script(Format::Deb, name)?, 0o755)?;
        }
    }
    stage::settle(&stage, release)?;
    let path = to.join(format!("{}_{}_{architecture}.deb", package.name, release.full_version()));
    let mut pack = tool("dpkg-deb")?;
    // One thread: with more of them xz cuts the data differently, and the bytes depend on the machine.
    pack.args(["--root-owner-group", "--threads-max=1", "-Zxz", if release.quick { "-z0" } else { "-z6" }, "--build"]);
    output(pack.arg(&stage).arg(&path).env("SOURCE_DATE_EPOCH", release.epoch.to_string()))?;
    Ok(path)
}

/// Debian's name of this machine's architecture.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => anyhow::bail!("packages for {other} are not made"),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

fn fields(package: &Package, release: &Release, stage: &Path, files: &[PathBuf], architecture: &str) -> Result<String> {
    let mut size = 0;
    for file in files {
        size += fs::metadata(stage.join(file))?.len().div_ceil(1024);
    }
    let depends = dependencies(package, release, stage)?;
    let mut text = format!(
        "Package: {}\nVersion: {}\nArchitecture: {architecture}\nMaintainer: {}\nInstalled-Size: {size}\nDepends: {}\n",
        package.name,
        release.full_version(),
        release.maintainer,
        depends.join(", "),
    );
    if !package.deb.recommends.is_empty() {
        text.push_str(&format!("Recommends: {}\n", package.deb.recommends.join(", ")));
    }
    let paragraphs: Vec<String> = package.description.iter().map(|paragraph| wrapped(paragraph).join("\n ")).collect();
    let description = paragraphs.join("\n .\n ");
    text.push_str(&format!(
        "Section: {}\nPriority: optional\nDescription: {}\n {description}\n",
        package.section, package.summary
    ));
    Ok(text)
}

/// What the table says, and the packages of the shared libraries that the programs were linked with.
fn dependencies(package: &Package, release: &Release, stage: &Path) -> Result<Vec<String>> {
    let mut depends: Vec<String> =
        package.deb.depends.iter().map(|depend| depend.replace("@SAME@", &release.full_version())).collect();
    for found in libraries(package, release, stage)? {
        let name = found.split(' ').next().unwrap_or_default();
        // The found one knows the version that is needed.
        depends.retain(|known| known.split(" |").next() != Some(name));
        depends.push(found);
    }
    depends.sort();
    Ok(depends)
}

fn libraries(package: &Package, release: &Release, stage: &Path) -> Result<Vec<String>> {
    // `dpkg-shlibdeps` wants to stand in a source package.
    let source = release.work.join(format!("{}-source", package.name));
    fs::create_dir_all(source.join("debian"))?;
    fs::write(source.join("debian/control"), format!("Source: {0}\n\nPackage: {0}\nArchitecture: any\n", package.name))?;
    let mut command = tool("dpkg-shlibdeps")?;
    command.arg("-O").current_dir(&source);
    for entry in package.entries(Format::Deb).filter(|entry| matches!(entry.from, Source::Program(_))) {
        command.arg(format!("-e{}", stage.join(entry.to.trim_start_matches('/')).display()));
    }
    let text = output(&mut command)?;
    let list = text.trim().strip_prefix("shlibs:Depends=").unwrap_or_default();
    let found: Vec<String> = list.split(", ").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    ensure!(found.iter().any(|part| part.starts_with("libc6")), "dpkg-shlibdeps found no C library: {text}");
    Ok(found)
}

/// Lines of at most 78 characters: the longest that Debian's tools show whole.
fn wrapped(paragraph: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 78 => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
