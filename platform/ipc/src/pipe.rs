//! The named pipe of Windows as plain data: which names are good, who may open it, and how it is made. Windows only translates.

use crate::caller::Sid;
use std::path::Path;

/// What every name of a local pipe begins with.
pub const PREFIX: &str = r"\\.\pipe\";
/// Longest name after the prefix, in characters; Windows takes 256 with the prefix.
const LONGEST: usize = 200;

/// The name when `path` is that of a pipe on this computer: no other computer's, no device, no file.
///
/// # Errors
/// One sentence about what is wrong.
pub fn name(path: &Path) -> Result<&str, &'static str> {
    const FORM: &str = r"the name of a pipe is \\.\pipe\NAME, with letters, digits, `_`, `.`, `-` and `\` in NAME";
    let text = path.to_str().ok_or(FORM)?;
    let (prefix, rest) = text.split_at_checked(PREFIX.len()).ok_or(FORM)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let part = |part: &str| !part.is_empty() && part.bytes().all(good) && part.bytes().any(|byte| byte != b'.');
    if prefix.eq_ignore_ascii_case(PREFIX) && rest.len() <= LONGEST && rest.split('\\').all(part) { Ok(text) } else { Err(FORM) }
}

/// What a client may do with the pipe, and asks for: `FILE_GENERIC_READ | FILE_GENERIC_WRITE` without
/// `FILE_CREATE_PIPE_INSTANCE`, which has the bit of `FILE_APPEND_DATA`: who has that one can answer in the helper's place.
pub const CLIENT_RIGHTS: u32 = 0x0012_019b;

/// The pipe's security descriptor in the security descriptor definition language.
///
/// `owner` makes the pipe and may make more instances; `group` is the local group `hamn`. Refusals stand before permissions.
/// Programs of low integrity can neither read nor write.
#[must_use]
pub fn descriptor(owner: &Sid, group: Option<&Sid>) -> String {
    let mut text = format!("O:{owner}G:{owner}D:P");
    for refused in [Sid::NETWORK, Sid::ANONYMOUS, Sid::ALL_APP_PACKAGES, Sid::ALL_RESTRICTED_APP_PACKAGES] {
        text.push_str(&format!("(D;;GA;;;{refused})"));
    }
    text.push_str(&format!("(A;;GA;;;{})", Sid::LOCAL_SYSTEM));
    if !owner.is(Sid::LOCAL_SYSTEM) {
        text.push_str(&format!("(A;;GA;;;{owner})"));
    }
    for allowed in [Sid::ADMINISTRATORS, Sid::INTERACTIVE].into_iter().chain(group.map(Sid::as_str)) {
        text.push_str(&format!("(A;;0x{CLIENT_RIGHTS:x};;;{allowed})"));
    }
    text.push_str("S:(ML;;NWNR;;;ME)");
    text
}

/// How one instance of the pipe is made: the arguments of `CreateNamedPipeW`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `dwOpenMode`
    pub open_mode: u32,
    /// `dwPipeMode`
    pub pipe_mode: u32,
    /// `nMaxInstances`
    pub most: u32,
    /// `nOutBufferSize` and `nInBufferSize`, in bytes.
    pub buffer: u32,
}

/// `PIPE_ACCESS_DUPLEX`
pub const DUPLEX: u32 = 0x0000_0003;
/// `FILE_FLAG_OVERLAPPED`
pub const OVERLAPPED: u32 = 0x4000_0000;
/// `FILE_FLAG_FIRST_PIPE_INSTANCE`: fails when the name exists, whoever has it.
pub const FIRST_INSTANCE: u32 = 0x0008_0000;
/// `PIPE_REJECT_REMOTE_CLIENTS`; type and read mode of bytes are 0.
pub const REJECT_REMOTE: u32 = 0x0000_0008;

/// Plans an instance. The first one is the claim to the name; the most that Windows counts is 254.
#[must_use]
pub const fn instance(first: bool) -> Instance {
    let claim = if first { FIRST_INSTANCE } else { 0 };
    Instance { open_mode: DUPLEX | OVERLAPPED | claim, pipe_mode: REJECT_REMOTE, most: 254, buffer: 64 * 1024 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_local_pipes_are_taken() {
        let long = format!("{PREFIX}{}", "x".repeat(LONGEST));
        for good in [r"\\.\pipe\ProtectedPrefix\Administrators\Hamn", r"\\.\PIPE\hamn-test_1.2", &long] {
            assert_eq!(name(Path::new(good)), Ok(good));
        }
        let longer = format!("{long}x");
        for bad in [
            "",
            r"\\.\pipe\",
            r"\\.\pipe",
            r"\\.\pipe\\x",
            r"\\.\pipe\x\",
            r"\\.\pipe\..\x",
            r"\\.\pipe\x/y",
            r"\\.\pipe\x y",
            r"\\.\pipe\ü",
            r"\\server\pipe\hamn",
            r"\\?\pipe\hamn",
            r"\\.\C:\hamn",
            r"C:\pipe\hamn",
            "/run/hamn/helper.sock",
            "hamn",
            &longer,
        ] {
            assert!(name(Path::new(bad)).is_err(), "{bad}");
        }
    }

    // Rights as attacks on other clients ask for them: no client makes instances, nobody comes over the network.
    #[test]
    fn the_descriptor_says_who_may() {
        let system = Sid::parse(Sid::LOCAL_SYSTEM).unwrap();
        assert_eq!(
            descriptor(&system, None),
            "O:S-1-5-18G:S-1-5-18D:P(D;;GA;;;S-1-5-2)(D;;GA;;;S-1-5-7)(D;;GA;;;S-1-15-2-1)(D;;GA;;;S-1-15-2-2)\
             (A;;GA;;;S-1-5-18)(A;;0x12019b;;;S-1-5-32-544)(A;;0x12019b;;;S-1-5-4)S:(ML;;NWNR;;;ME)"
        );
        let user = Sid::parse("S-1-5-21-1-2-3-1000").unwrap();
        let group = Sid::parse("S-1-5-21-1-2-3-1001").unwrap();
        assert_eq!(
            descriptor(&user, Some(&group)),
            "O:S-1-5-21-1-2-3-1000G:S-1-5-21-1-2-3-1000D:P\
             (D;;GA;;;S-1-5-2)(D;;GA;;;S-1-5-7)(D;;GA;;;S-1-15-2-1)(D;;GA;;;S-1-15-2-2)\
             (A;;GA;;;S-1-5-18)(A;;GA;;;S-1-5-21-1-2-3-1000)\
             (A;;0x12019b;;;S-1-5-32-544)(A;;0x12019b;;;S-1-5-4)(A;;0x12019b;;;S-1-5-21-1-2-3-1001)S:(ML;;NWNR;;;ME)"
        );
    }

    #[test]
    fn clients_read_and_write_and_look_at_the_owner_and_no_more() {
        const READ_DATA: u32 = 0x1;
        const WRITE_DATA: u32 = 0x2;
        const CREATE_PIPE_INSTANCE: u32 = 0x4;
        const READ_CONTROL: u32 = 0x0002_0000;
        const SYNCHRONIZE: u32 = 0x0010_0000;
        for needed in [READ_DATA, WRITE_DATA, READ_CONTROL, SYNCHRONIZE] {
            assert_eq!(CLIENT_RIGHTS & needed, needed);
        }
        const DELETE_WRITE_DAC_WRITE_OWNER: u32 = 0x000d_0000;
        assert_eq!(CLIENT_RIGHTS & (CREATE_PIPE_INSTANCE | DELETE_WRITE_DAC_WRITE_OWNER), 0);
    }

    #[test]
    fn every_instance_refuses_other_computers_and_only_the_first_claims_the_name() {
        let (first, next) = (instance(true), instance(false));
        assert_eq!(first, Instance { open_mode: next.open_mode | FIRST_INSTANCE, ..next });
        assert_eq!(next.open_mode & FIRST_INSTANCE, 0);
        assert_eq!((first.pipe_mode, next.pipe_mode), (REJECT_REMOTE, REJECT_REMOTE));
        let limits = crate::server::Limits::default();
        let needed = limits.connections + 2 * limits.reserved_for_root + 32;
        assert!(usize::try_from(next.most).unwrap() > needed, "the bounds of connections come first");
    }
}
