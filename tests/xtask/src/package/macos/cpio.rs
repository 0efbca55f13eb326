//! The archives inside a flat package: cpio in its old portable form. Written here so that nothing of the building machine is in them.
//! Form: POSIX.1-1988 "cpio interchange format", as in cpio(5).

use super::tree::Node;
use anyhow::{Result, ensure};

/// An archive of the nodes, whose time is `epoch`.
pub fn archive(nodes: &[Node], epoch: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (node, number) in nodes.iter().zip(1_u32..) {
        let path = if node.path.is_empty() { ".".to_owned() } else { format!("./{}", node.path) };
        entry(&mut bytes, &path, number, node.mode, node.group, epoch, &node.content)?;
    }
    entry(&mut bytes, "TRAILER!!!", 0, 0, 0, 0, &[])?;
    Ok(bytes)
}

fn entry(to: &mut Vec<u8>, path: &str, number: u32, mode: u32, group: u32, time: u64, content: &[u8]) -> Result<()> {
    let (links, name_size) = (1, path.len() + 1);
    let header = format!(
        "070707{:06o}{number:06o}{mode:06o}{:06o}{group:06o}{links:06o}{:06o}{time:011o}{name_size:06o}{:011o}",
        0,
        0,
        0,
        content.len()
    );
    ensure!(header.len() == 76, "{path} does not fit into the archive");
    to.extend_from_slice(header.as_bytes());
    to.extend_from_slice(path.as_bytes());
    to.push(0);
    to.extend_from_slice(content);
    Ok(())
}
