//! The bill of materials of a flat package: what the system compares and removes. Apple publishes no description; this is the form that
//! `lsbom` and the crate `apple-bom` read: numbered blocks, found through an index, and five variables that name blocks. A list of paths is a
//! tree of one leaf, whose entries point to a path's name (with its parent's number) and to its record.

use super::tree::Node;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// Blocks begin behind the header and its padding.
const HEADER_BYTES: usize = 512;
/// A list's block has this size, however few entries are in it.
const LEAF_BYTES: usize = 4096;
/// Entries that fit into one.
const MOST: usize = (LEAF_BYTES - 12) / 8;

/// The blocks so far; a block's number is its place.
struct Blocks(Vec<Vec<u8>>);

impl Blocks {
    fn add(&mut self, block: Vec<u8>) -> Result<u32> {
        let number = u32::try_from(self.0.len())?;
        self.0.push(block);
        Ok(number)
    }

    fn put(&mut self, number: u32, block: Vec<u8>) -> Result<()> {
        *self.0.get_mut(usize::try_from(number)?).context("a block was not reserved")? = block;
        Ok(())
    }
}

/// The bill for nodes in the order of [`super::tree::tree`].
pub fn bill(nodes: &[Node], epoch: u64) -> Result<Vec<u8>> {
    ensure!(nodes.len() <= MOST, "more than {MOST} files: the bill of materials would need more than one leaf");
    let count = u32::try_from(nodes.len())?;
    let total = nodes.iter().map(|node| node.content.len()).sum::<usize>();
    // Block 0 is never used.
    let mut blocks = Blocks(vec![Vec::new()]);
    let information = blocks.add(numbers(&[1, count + 1, 1, 0, 0, u32::try_from(total)?, 0]))?;
    let paths = blocks.add(Vec::new())?;
    let leaf = blocks.add(Vec::new())?;
    blocks.put(paths, tree_head(leaf, LEAF_BYTES, count)?)?;
    let links = empty_tree(&mut blocks, LEAF_BYTES)?;
    let versions = blocks.add(Vec::new())?;
    let version_tree = empty_tree(&mut blocks, 128)?;
    blocks.put(versions, [numbers(&[1, version_tree, 0]), vec![0]].concat())?;
    let sizes = empty_tree(&mut blocks, LEAF_BYTES)?;
    let entries = paths_of(&mut blocks, nodes, epoch)?;
    blocks.put(leaf, leaf_block(&entries, LEAF_BYTES)?)?;
    let variables = [("BomInfo", information), ("Paths", paths), ("HLIndex", links), ("VIndex", versions), ("Size64", sizes)];
    file(&blocks, &variables)
}

/// Adds name, number and record of each path; returns the leaf's entries.
fn paths_of(blocks: &mut Blocks, nodes: &[Node], epoch: u64) -> Result<Vec<(u32, u32)>> {
    let mut numbers_of: BTreeMap<&str, u32> = BTreeMap::new();
    let mut entries = Vec::new();
    for (node, number) in nodes.iter().zip(1_u32..) {
        let parent = match node.parent() {
            None => 0,
            Some(parent) => *numbers_of.get(parent).with_context(|| format!("{} comes before its directory", node.path))?,
        };
        numbers_of.insert(&node.path, number);
        let name = if node.path.is_empty() { "." } else { node.name() };
        let record = blocks.add(record(node, epoch)?)?;
        let file = blocks.add([numbers(&[parent]), name.as_bytes().to_vec(), vec![0]].concat())?;
        entries.push((blocks.add(numbers(&[number, record]))?, file));
    }
    Ok(entries)
}

fn record(node: &Node, epoch: u64) -> Result<Vec<u8>> {
    let directory = node.is_directory();
    let mut bytes = vec![if directory { 2 } else { 1 }, 1, 0, 15];
    bytes.extend(u16::try_from(node.mode)?.to_be_bytes());
    bytes.extend(numbers(&[0, node.group, u32::try_from(epoch)?, u32::try_from(node.content.len())?]));
    bytes.push(1);
    bytes.extend(numbers(&[if directory { 0 } else { checksum(&node.content) }, 0]));
    if !directory {
        bytes.extend(numbers(&[0]));
    }
    Ok(bytes)
}

fn empty_tree(blocks: &mut Blocks, size: usize) -> Result<u32> {
    let head = blocks.add(Vec::new())?;
    let leaf = blocks.add(leaf_block(&[], size)?)?;
    blocks.put(head, tree_head(leaf, size, 0)?)?;
    Ok(head)
}

fn tree_head(leaf: u32, size: usize, count: u32) -> Result<Vec<u8>> {
    Ok([b"tree".to_vec(), numbers(&[1, leaf, u32::try_from(size)?, count]), vec![0]].concat())
}

fn leaf_block(entries: &[(u32, u32)], size: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0, 1];
    bytes.extend(u16::try_from(entries.len())?.to_be_bytes());
    bytes.extend(numbers(&[0, 0]));
    for (number, file) in entries {
        bytes.extend(numbers(&[*number, *file]));
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Header, blocks, variables, index.
fn file(blocks: &Blocks, variables: &[(&str, u32)]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut index = numbers(&[u32::try_from(blocks.0.len())?]);
    for block in &blocks.0 {
        let place = if block.is_empty() { 0 } else { u32::try_from(HEADER_BYTES + body.len())? };
        index.extend(numbers(&[place, u32::try_from(block.len())?]));
        body.extend_from_slice(block);
    }
    // The list of free places: two, both empty.
    index.extend(numbers(&[2, 0, 0, 0, 0]));
    let mut named = numbers(&[u32::try_from(variables.len())?]);
    for (name, block) in variables {
        named.extend(numbers(&[*block]));
        named.push(u8::try_from(name.len())?);
        named.extend_from_slice(name.as_bytes());
    }
    let (names_at, used) = (HEADER_BYTES + body.len(), u32::try_from(blocks.0.len())? - 1);
    let index_at = names_at + named.len();
    let header =
        [1, used, u32::try_from(index_at)?, u32::try_from(index.len())?, u32::try_from(names_at)?, u32::try_from(named.len())?];
    let mut bytes = [b"BOMStore".to_vec(), numbers(&header)].concat();
    bytes.resize(HEADER_BYTES, 0);
    Ok([bytes, body, named, index].concat())
}

fn numbers(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// The checksum of POSIX `cksum`.
fn checksum(content: &[u8]) -> u32 {
    let step = |sum: u32, byte: u8| {
        (0..8).fold(sum ^ (u32::from(byte) << 24), |sum, _| if sum >> 31 == 1 { (sum << 1) ^ 0x04c1_1db7 } else { sum << 1 })
    };
    let mut sum = content.iter().fold(0, |sum, byte| step(sum, *byte));
    let mut rest = content.len();
    while rest > 0 {
        sum = step(sum, rest.to_le_bytes().first().copied().unwrap_or_default());
        rest >>= 8;
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn the_checksum_is_that_of_cksum() {
        // What `printf 123456789 | cksum` and `cksum </dev/null` print.
        assert_eq!((checksum(b"123456789"), checksum(b"")), (930_766_865, 4_294_967_295));
    }
}
