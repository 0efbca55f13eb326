//! What the hidden X server shows, read from its memory: the same measure for every program, without its help.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Distinct colours from which on a picture is a page with text and not a background with a spinner.
pub const PAGE_COLOURS: usize = 48;

/// The X server's frame buffer, in the format of `xwd`.
pub struct FrameBuffer {
    file: File,
    offset: u64,
    width: usize,
    height: usize,
    line: usize,
}

impl FrameBuffer {
    /// Opens the file that `Xvfb -fbdir` keeps.
    ///
    /// # Errors
    /// When it has another format.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut head = [0; 100];
        file.read_exact_at(&mut head, 0)?;
        let number = |index: usize| -> Result<usize> {
            let bytes = head.get(index * 4..index * 4 + 4).context("a short header")?;
            Ok(usize::try_from(u32::from_be_bytes(bytes.try_into()?))?)
        };
        // XWDFileHeader: header_size, pixmap_width, pixmap_height, bits_per_pixel, bytes_per_line, ncolors; a colour takes 12 bytes.
        let (size, width, height, bits, line, colours) =
            (number(0)?, number(4)?, number(5)?, number(11)?, number(12)?, number(19)?);
        ensure!(bits == 32, "{bits} bits a pixel");
        Ok(Self { file, offset: u64::try_from(size + colours * 12)?, width, height, line })
    }

    /// How many colours are on the screen now, from a sample of every third line and pixel.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn colours(&self) -> Result<usize> {
        let mut row = vec![0; self.width * 4];
        let mut found = BTreeSet::new();
        for y in (0..self.height).step_by(3) {
            self.file.read_exact_at(&mut row, self.offset + u64::try_from(y * self.line)?)?;
            found.extend(row.chunks_exact(12).filter_map(|pixel| pixel.first_chunk::<3>().copied()));
        }
        Ok(found.len())
    }
}
