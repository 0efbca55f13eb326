//! Who calls: what the operating system says about the process at the other end, in the same words on every system.

use std::fmt;
use std::sync::Arc;

/// Security identifier of Windows in its text form, `S-1-…` (MS-DTYP 2.4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(Arc<str>);

impl Sid {
    /// The operating system itself.
    pub const LOCAL_SYSTEM: &str = "S-1-5-18";
    /// The local group of administrators.
    pub const ADMINISTRATORS: &str = "S-1-5-32-544";
    /// Everybody who logged on at the computer, or into it by a remote desktop.
    pub const INTERACTIVE: &str = "S-1-5-4";
    /// Everybody who came over the network.
    pub const NETWORK: &str = "S-1-5-2";
    /// Nobody known.
    pub const ANONYMOUS: &str = "S-1-5-7";
    /// Packaged programs in their containers.
    pub const ALL_APP_PACKAGES: &str = "S-1-15-2-1";
    /// Packaged programs in the narrower kind of container.
    pub const ALL_RESTRICTED_APP_PACKAGES: &str = "S-1-15-2-2";

    /// Most sub-authorities that an identifier has (`SID_MAX_SUB_AUTHORITIES`).
    const MOST_PARTS: usize = 15;

    /// Reads the text form with a decimal authority; nothing else, so that the text can stand in a security descriptor.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("S-1-")?.split('-');
        let number = |part: &str| (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
        let authority = parts.next()?;
        number(authority)?;
        authority.parse::<u32>().ok()?;
        let rest: Vec<&str> = parts.collect();
        let good = |part: &&str| number(part).is_some() && part.parse::<u32>().is_ok();
        ((1..=Self::MOST_PARTS).contains(&rest.len()) && rest.iter().all(good)).then(|| Self(text.into()))
    }

    /// Reads the binary form (MS-DTYP 2.4.2.2): revision, count, six bytes of authority, then the sub-authorities.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[revision, count, a, b, c, d, e, f], rest) = bytes.split_first_chunk::<8>()?;
        let count = usize::from(count);
        if revision != 1 || count == 0 || count > Self::MOST_PARTS || rest.len() < count * 4 || (a, b) != (0, 0) {
            return None;
        }
        let mut text = format!("S-1-{}", u32::from_be_bytes([c, d, e, f]));
        for part in rest.as_chunks::<4>().0.iter().take(count) {
            text.push_str(&format!("-{}", u32::from_le_bytes(*part)));
        }
        Some(Self(text.into()))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same identifier as this well-known one.
    #[must_use]
    pub fn is(&self, known: &str) -> bool {
        self.as_str() == known
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user of the computer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserId {
    /// User number of Linux and macOS.
    Unix(u32),
    /// Security identifier of Windows.
    Windows(Sid),
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(uid) => write!(f, "{uid}"),
            Self::Windows(sid) => write!(f, "{sid}"),
        }
    }
}

/// A group of users of the computer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupId {
    /// Group number of Linux and macOS.
    Unix(u32),
    /// Security identifier of Windows.
    Windows(Sid),
}

impl From<u32> for GroupId {
    fn from(gid: u32) -> Self {
        Self::Unix(gid)
    }
}

/// Linux: `SO_PEERCRED` and `SO_PEERGROUPS`; macOS: `getpeereid` and the user's groups. All at the time of the `connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What the access token of the process that opened the pipe says. All at the time of the opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowsToken {
    /// User (`TokenUser`).
    pub user: Sid,
    /// Session (`TokenSessionId`); 0 is that of the services.
    pub session: u32,
    /// Groups that count: enabled, and not for refusals only (`TokenGroups`).
    pub groups: Vec<Sid>,
    /// The administrator's half of a divided token, or an undivided one (`TokenElevation`).
    pub elevated: bool,
    /// Integrity level (`TokenIntegrityLevel`), see `WindowsToken::MEDIUM`.
    pub integrity: u32,
    /// A packaged program in its container (`TokenIsAppContainer`).
    pub app_container: bool,
    /// A token with restricting identifiers, as sandboxes use (`IsTokenRestricted`).
    pub restricted: bool,
}

impl WindowsToken {
    /// Integrity level of ordinary programs (`SECURITY_MANDATORY_MEDIUM_RID`).
    pub const MEDIUM: u32 = 0x2000;
    /// Integrity level of elevated programs (`SECURITY_MANDATORY_HIGH_RID`).
    pub const HIGH: u32 = 0x3000;

    /// Belongs to this well-known group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|found| found.is(group))
    }

    /// A program of a local user as the user started it: in no sandbox, not over the network, not anonymous.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let sandboxed = self.app_container || self.restricted || self.integrity < Self::MEDIUM;
        let nobody = |sid: &str| self.user.is(sid) || self.is_in(sid);
        !sandboxed && !nobody(Sid::NETWORK) && !nobody(Sid::ANONYMOUS)
    }
}

/// What a system knows of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Linux and macOS.
    Unix(UnixUser),
    /// Windows.
    Windows(WindowsToken),
}

/// Who calls, as the operating system says when the connection begins: never by what the caller sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Process id, for the log only: never a basis of a decision. 0: not known.
    pub pid: u32,
    /// Everything that decisions are made of.
    pub identity: Identity,
}

impl Caller {
    /// A caller on Linux or macOS.
    #[must_use]
    pub const fn unix(uid: u32, gid: u32, pid: u32, groups: Vec<u32>) -> Self {
        Self { pid, identity: Identity::Unix(UnixUser { uid, gid, groups }) }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> UserId {
        match &self.identity {
            Identity::Unix(user) => UserId::Unix(user.uid),
            Identity::Windows(token) => UserId::Windows(token.user.clone()),
        }
    }

    /// Linux and macOS: uid 0. Windows: the system itself, or an elevated program of an administrator; being a member of the
    /// administrators is not enough (UAC).
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        match &self.identity {
            Identity::Unix(user) => user.uid == 0,
            Identity::Windows(token) => {
                let elevated = token.elevated && token.integrity >= WindowsToken::HIGH && token.is_in(Sid::ADMINISTRATORS);
                token.is_local() && (token.user.is(Sid::LOCAL_SYSTEM) || elevated)
            }
        }
    }

    /// Whose share of the server's bounds this caller takes.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { user: self.user(), administrator: self.is_administrator() }
    }
}

/// The unit in which bounds are counted. On Windows an administrator's elevated programs do not share with the others of the
/// same user, which could otherwise keep them out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// The user.
    pub user: UserId,
    /// See `Caller::is_administrator`: not bounded by user.
    pub administrator: bool,
}

impl Share {
    /// The share of a user of Linux or macOS.
    #[must_use]
    pub const fn unix(uid: u32) -> Self {
        Self { user: UserId::Unix(uid), administrator: uid == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_from_text_and_bytes_alike() {
        let system = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
        assert_eq!(Sid::from_bytes(&system), Sid::parse(Sid::LOCAL_SYSTEM));
        let administrators = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
        assert_eq!(Sid::from_bytes(&administrators), Sid::parse(Sid::ADMINISTRATORS));
        let long = Sid::from_bytes(&[1, 2, 0, 0, 0, 0, 0, 16, 0, 0x20, 0, 0, 255, 255, 255, 255]).unwrap();
        assert_eq!(long.as_str(), "S-1-16-8192-4294967295");
        for end in 0..system.len() {
            assert_eq!(Sid::from_bytes(&system[..end]), None, "{end} bytes");
        }
        assert_eq!(Sid::from_bytes(&[2, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]), None, "an unknown revision");
        assert_eq!(Sid::from_bytes(&[1, 0, 0, 0, 0, 0, 0, 5]), None, "no sub-authority");
        assert_eq!(Sid::from_bytes(&[[1, 16, 0, 0, 0, 0, 0, 5].as_slice(), &[0; 64]].concat()), None, "too many");
        for text in [
            "",
            "S-1-5",
            "S-1-5-",
            "S-1--5-18",
            "s-1-5-18",
            "S-1-5-18)",
            "S-1-5-18 ",
            "S-1-5-4294967296",
            "S-2-5-18",
            "S-1-+5-18",
        ] {
            assert_eq!(Sid::parse(text), None, "{text}");
        }
    }
}
