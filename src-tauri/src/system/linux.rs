//! Linux: GTK's WebKit and the desktop's signals.

pub use super::unix::{end_on_signals, print};

use nix::unistd::{AccessFlags, access};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use tauri::{Builder, Wry};

/// Where the kernel shows graphics cards (kernel.org: "DRM Internals", render nodes).
const CARDS: &str = "/dev/dri";

/// Whether WebKit would draw with a graphics card. Without one it imitates OpenGL on the processor, and a new list of servers takes
/// four times as long as without OpenGL, in 90 MiB more.
#[must_use]
pub fn has_gpu() -> bool {
    renders(Path::new(CARDS))
}

/// Whether this user may draw on one of the cards in a directory. They are not opened: that wakes those that sleep.
fn renders(cards: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(cards) else { return false };
    entries.flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with("renderD")
            && access(&entry.path(), AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    })
}

/// Draws without the graphics card: some drivers show an empty window otherwise. The library reads its variable before the first
/// line of ours could set it safely, so the program starts itself again with the variable set.
///
/// # Errors
/// The program cannot be started again.
pub fn without_gpu() -> io::Result<()> {
    const VARIABLE: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    // Returns only when it fails.
    Err(again.args(std::env::args_os().skip(1)).env(VARIABLE, "1").exec())
}

/// Links arrive as arguments here, and only our own strict parser looks at them.
#[must_use]
pub const fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    builder
}

#[cfg(test)]
mod tests {
    use super::renders;
    use std::fs::{File, create_dir};

    #[test]
    fn only_a_node_that_renders_is_a_graphics_card() {
        let directory = tempfile::tempdir().expect("a directory");
        let cards = directory.path().join("dri");
        assert!(!renders(&cards));
        create_dir(&cards).expect("a directory");
        assert!(!renders(&cards));
        // A card that only shows pictures: a server's, or that of a virtual machine.
        File::create(cards.join("card0")).expect("a file");
        assert!(!renders(&cards));
        File::create(cards.join("renderD128")).expect("a file");
        assert!(renders(&cards));
    }
}
