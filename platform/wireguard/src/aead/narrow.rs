//! Processors without a wide cipher: packets are sealed and opened one by one.

/// The packets of a group.
pub(super) const LANES: usize = 8;

/// Nothing is evidence of instructions that are not there.
#[derive(Clone, Copy)]
pub(super) enum Wide {}

/// One packet of a group.
#[derive(Default)]
#[expect(dead_code, reason = "nothing reads a group where there is no wide cipher")]
pub(super) struct Packet<'a> {
    pub(super) counter: u64,
    pub(super) text: &'a mut [u8],
    pub(super) tag: Option<&'a mut [u8; 16]>,
}

impl Wide {
    pub(super) const fn detect() -> Option<Self> {
        None
    }

    pub(super) fn seal(self, _key: &[u32; 8], _packets: [Packet<'_>; LANES]) {
        match self {}
    }

    pub(super) fn open(self, _key: &[u32; 8], _packets: [Packet<'_>; LANES]) -> [bool; LANES] {
        match self {}
    }
}
