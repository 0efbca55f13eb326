//! The Internet checksum (RFC 1071): sums over header and payload, full and partial.

/// A one's complement sum under way, in the byte order of the machine.
///
/// Only the last slice that is added may have an odd number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// Adds the bytes. 64 KiB at a time cannot overflow, nor can millions of calls.
    pub fn over(self, bytes: &[u8]) -> Self {
        // Eight independent lanes of 32-bit words: the compiler turns them into vectors.
        let mut lanes = [0_u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let mut sum: u64 = lanes.iter().sum();
        let (words, rest) = rest.as_chunks::<2>();
        sum += words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>();
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        self.carry(sum)
    }

    /// Adds a number that stands for a big-endian field.
    pub fn add_u16(self, value: u16) -> Self {
        self.carry(u64::from(value.to_be()))
    }

    /// Takes such a number out again.
    pub fn subtract_u16(self, value: u16) -> Self {
        self.add_u16(!value)
    }

    fn carry(self, more: u64) -> Self {
        let (sum, over) = self.0.overflowing_add(more);
        Self(sum + u64::from(over))
    }

    /// The sum as 16 bits; `0xffff` over a packet with a right checksum.
    #[must_use]
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(u16::try_from(sum).unwrap_or_default())
    }

    /// The checksum to write into a header.
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.fold()
    }
}

/// The sum over the pseudo header of TCP and UDP: `addresses` are source and destination as they stand in the IP header.
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u16) -> Sum {
    Sum::default().over(addresses).add_u16(u16::from(protocol)).add_u16(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word, as the RFC tells it.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..3000), split in 0_usize..1500) {
            prop_assert_eq!(Sum::default().over(&bytes).fold(), naive(&bytes));
            let (head, tail) = bytes.split_at((split * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::default().over(head).over(tail).fold(), naive(&bytes));
        }

        #[test]
        fn what_is_taken_out_was_never_in(bytes in proptest::collection::vec(any::<u8>(), 2..100), value: u16) {
            let sum = Sum::default().over(&bytes);
            let back = sum.add_u16(value).subtract_u16(value).fold();
            // 0 and 0xffff are the same number in one's complement.
            prop_assert!(back == sum.fold() || (back == 0xffff && sum.fold() == 0));
        }
    }

    #[test]
    fn the_largest_packet_of_ones_does_not_overflow() {
        let ones = vec![0xff; 65_535];
        let mut sum = Sum(u64::MAX - 5);
        for _ in 0..300 {
            sum = sum.over(&ones);
        }
        assert_ne!(sum.fold(), 0);
    }
}
