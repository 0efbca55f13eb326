//! What is in the packages: one table for both formats.

use super::Format;

/// Where an entry's content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An empty directory.
    Directory,
    /// A compiled program, stripped.
    Program(&'static str),
    /// A file of the repository, as it is.
    File(&'static str),
    /// A text of the repository with `@VERSION@` and `@DATE@` filled in.
    Template(&'static str),
    /// A text of the repository, compressed.
    Compressed(&'static str),
    /// What `hamn completions SHELL` prints.
    Completions(&'static str),
    /// The changelog in Debian's own format, compressed.
    DebianChangelog,
    /// The licences of the libraries that are compiled into these cargo packages, compressed.
    Licences(&'static [&'static str]),
    /// The same, and of those in the window's page.
    LicencesWithPage(&'static [&'static str]),
}

/// One file or directory. Everything belongs to root.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The absolute path when installed.
    pub to: &'static str,
    /// Its content.
    pub from: Source,
    /// Its permissions.
    pub mode: u32,
    /// Only in packages of this format.
    pub only: Option<Format>,
}

/// What a package asks of others, in the words of one format. `@SAME@` is this release's full version.
#[derive(Debug)]
pub struct Relations {
    /// Must be there. Shared libraries are found by the formats' own tools and added.
    pub depends: &'static [&'static str],
    /// Should be there.
    pub recommends: &'static [&'static str],
    /// rpm: must be there before the scripts run.
    pub for_scripts: &'static [&'static str],
}

/// One package.
#[derive(Debug)]
pub struct Package {
    /// Its name in both formats.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Paragraphs, wrapped by the reader's tools.
    pub description: &'static [&'static str],
    /// Section of Debian's archive.
    pub section: &'static str,
    /// What it contains.
    pub entries: &'static [Entry],
    /// For apt.
    pub deb: Relations,
    /// For dnf and zypper.
    pub rpm: Relations,
    /// Runs code when installed and removed.
    pub has_scripts: bool,
}

impl Package {
    /// The entries in packages of this format.
    pub fn entries(&self, format: Format) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.only.is_none_or(|only| only == format))
    }
}

const fn entry(to: &'static str, from: Source, mode: u32, only: Option<Format>) -> Entry {
    Entry { to, from, mode, only }
}

const fn program(to: &'static str, name: &'static str) -> Entry {
    entry(to, Source::Program(name), 0o755, None)
}

const fn file(to: &'static str, from: &'static str) -> Entry {
    entry(to, Source::File(from), 0o644, None)
}

const fn directory(to: &'static str) -> Entry {
    entry(to, Source::Directory, 0o755, None)
}

const fn made(to: &'static str, from: Source) -> Entry {
    entry(to, from, 0o644, None)
}

const fn deb_only(to: &'static str, from: Source) -> Entry {
    entry(to, from, 0o644, Some(Format::Deb))
}

const fn rpm_only(to: &'static str, from: Source) -> Entry {
    entry(to, from, 0o644, Some(Format::Rpm))
}

/// The helper, the command line and all that an unattended computer needs.
pub static HELPER: Package = Package {
    name: "hamn",
    summary: "VPN client with a kill switch: helper and command line",
    description: &[
        "Hamn connects this computer to the WireGuard servers of a VPN provider, or to a server of one's own, and makes sure that nothing \
         leaves the computer outside the tunnel: not while connecting, not when a program crashes, not across restarts and upgrades.",
        "This package has the privileged helper with its services and the command line `hamn`. The window is in hamn-gui.",
    ],
    section: "net",
    entries: &[
        program("/usr/bin/hamn", "hamn"),
        directory("/usr/lib/hamn"),
        program("/usr/lib/hamn/hamn-helper", "hamn-helper"),
        file("/usr/lib/systemd/system/hamn-helper.service", "installers/linux/systemd/hamn-helper.service"),
        file("/usr/lib/systemd/system/hamn-lockdown.service", "installers/linux/systemd/hamn-lockdown.service"),
        file("/usr/lib/systemd/system-preset/80-hamn.preset", "installers/linux/presets/80-hamn.preset"),
        file("/usr/lib/sysctl.d/50-hamn.conf", "installers/linux/sysctl/50-hamn.conf"),
        file("/usr/lib/sysusers.d/hamn.conf", "installers/linux/sysusers/hamn.conf"),
        file("/usr/share/polkit-1/actions/org.hamn.policy", "installers/linux/polkit/org.hamn.policy"),
        directory("/etc/hamn"),
        directory("/etc/hamn/policy.d"),
        made("/usr/share/bash-completion/completions/hamn", Source::Completions("bash")),
        made("/usr/share/fish/vendor_completions.d/hamn.fish", Source::Completions("fish")),
        deb_only("/usr/share/zsh/vendor-completions/_hamn", Source::Completions("zsh")),
        rpm_only("/usr/share/zsh/site-functions/_hamn", Source::Completions("zsh")),
        directory("/usr/share/doc/hamn"),
        file("/usr/share/doc/hamn/README.md", "installers/linux/README.md"),
        file("/usr/share/doc/hamn/SECURITY.md", "platform/SECURITY.md"),
        file("/usr/share/doc/hamn/EXIT_CODES.md", "platform/cli/EXIT_CODES.md"),
        made("/usr/share/doc/hamn/changelog.gz", Source::Compressed("CHANGELOG.md")),
        deb_only("/usr/share/doc/hamn/changelog.Debian.gz", Source::DebianChangelog),
        made("/usr/share/doc/hamn/third-party-licences.gz", Source::Licences(&["hamn-helper", "hamn-cli"])),
        deb_only("/usr/share/doc/hamn/copyright", Source::File("installers/linux/copyright")),
        entry("/usr/share/licenses/hamn", Source::Directory, 0o755, Some(Format::Rpm)),
        rpm_only("/usr/share/licenses/hamn/LICENSE", Source::File("LICENSE")),
    ],
    deb: Relations {
        depends: &["nftables", "systemd | systemd-standalone-sysusers", "passwd", "init-system-helpers (>= 1.54~)"],
        recommends: &["systemd", "dbus", "polkitd | policykit-1"],
        for_scripts: &[],
    },
    rpm: Relations { depends: &["nftables", "systemd"], recommends: &["polkit"], for_scripts: &["systemd", "coreutils"] },
    has_scripts: true,
};

/// The window.
pub static WINDOW: Package = Package {
    name: "hamn-gui",
    summary: "VPN client with a kill switch: window",
    description: &[
        "The window of the VPN client Hamn: shows where this computer is on the Internet and whether it is protected, connects with one \
         click, tests the protection live.",
        "It runs with the rights of the person who uses it; all work is done by the helper in the package hamn.",
    ],
    section: "net",
    entries: &[
        program("/usr/bin/hamn-gui", "hamn-gui"),
        file("/usr/share/applications/hamn-gui.desktop", "installers/linux/desktop/hamn-gui.desktop"),
        made(
            "/usr/share/metainfo/org.hamn.client.metainfo.xml",
            Source::Template("installers/linux/desktop/org.hamn.client.metainfo.xml"),
        ),
        file("/usr/share/icons/hicolor/16x16/apps/hamn-gui.png", "installers/linux/icons/hamn-16.png"),
        file("/usr/share/icons/hicolor/24x24/apps/hamn-gui.png", "installers/linux/icons/hamn-24.png"),
        file("/usr/share/icons/hicolor/32x32/apps/hamn-gui.png", "installers/linux/icons/hamn-32.png"),
        file("/usr/share/icons/hicolor/48x48/apps/hamn-gui.png", "installers/linux/icons/hamn-48.png"),
        file("/usr/share/icons/hicolor/64x64/apps/hamn-gui.png", "installers/linux/icons/hamn-64.png"),
        file("/usr/share/icons/hicolor/128x128/apps/hamn-gui.png", "installers/linux/icons/hamn-128.png"),
        file("/usr/share/icons/hicolor/256x256/apps/hamn-gui.png", "installers/linux/icons/hamn-256.png"),
        file("/usr/share/icons/hicolor/512x512/apps/hamn-gui.png", "installers/linux/icons/hamn-512.png"),
        file("/usr/share/icons/hicolor/scalable/apps/hamn-gui.svg", "src-tauri/icons/hamn.svg"),
        directory("/usr/share/doc/hamn-gui"),
        made("/usr/share/doc/hamn-gui/changelog.gz", Source::Compressed("CHANGELOG.md")),
        deb_only("/usr/share/doc/hamn-gui/changelog.Debian.gz", Source::DebianChangelog),
        made("/usr/share/doc/hamn-gui/third-party-licences.gz", Source::LicencesWithPage(&["hamn-gui"])),
        deb_only("/usr/share/doc/hamn-gui/copyright", Source::File("installers/linux/copyright")),
        entry("/usr/share/licenses/hamn-gui", Source::Directory, 0o755, Some(Format::Rpm)),
        rpm_only("/usr/share/licenses/hamn-gui/LICENSE", Source::File("LICENSE")),
    ],
    deb: Relations {
        // The tray's library is opened at run time, so no tool can see that it is needed.
        depends: &[
            "hamn (= @SAME@)",
            "libwebkit2gtk-4.1-0",
            "libgtk-3-0 | libgtk-3-0t64",
            "libayatana-appindicator3-1 | libappindicator3-1",
        ],
        recommends: &["default-dbus-session-bus | dbus-session-bus"],
        for_scripts: &[],
    },
    rpm: Relations {
        depends: &[
            "hamn = @SAME@",
            "libwebkit2gtk-4.1.so.0()(64bit)",
            "libgtk-3.so.0()(64bit)",
            "hicolor-icon-theme",
            "(libayatana-appindicator3.so.1()(64bit) or libappindicator3.so.1()(64bit))",
        ],
        recommends: &["dbus"],
        for_scripts: &[],
    },
    has_scripts: false,
};
