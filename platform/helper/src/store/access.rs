//! What owner and access list of a Windows file or directory mean: may anybody but the administrators touch it? Decided
//! without the system, from what was read of it.

use crate::store::directory::Privacy;
use std::fmt;

/// LocalSystem, who the service runs as.
pub const SYSTEM: &str = "S-1-5-18";
/// The group of administrators, which owns what an elevated installer makes.
pub const ADMINISTRATORS: &str = "S-1-5-32-544";
/// `NT SERVICE\TrustedInstaller`, the owner of Program Files.
pub const TRUSTED_INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
/// Stands for whoever makes something in the directory: it gives nothing to others.
const CREATOR_OWNER: &str = "S-1-3-0";
/// Speaks of the owner, who is judged anyhow.
const OWNER_RIGHTS: &str = "S-1-3-4";

/// The list of a directory of ours: SYSTEM and Administrators alone, inherited by what is made in it, and nothing is
/// inherited from above (SDDL, "Security Descriptor String Format" at learn.microsoft.com).
pub const CLOSED_SDDL: &str = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";
/// As [`CLOSED_SDDL`], and everybody may read.
pub const READABLE_SDDL: &str = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)";

/// Every right with which one could change a file, a directory, what is in it, or who may do so ("File Access Rights
/// Constants" and "Generic Access Rights" at learn.microsoft.com).
const CHANGES: u32 = 0x0000_0002 // FILE_WRITE_DATA, FILE_ADD_FILE
    | 0x0000_0004 // FILE_APPEND_DATA, FILE_ADD_SUBDIRECTORY
    | 0x0000_0010 // FILE_WRITE_EA
    | 0x0000_0040 // FILE_DELETE_CHILD
    | 0x0000_0100 // FILE_WRITE_ATTRIBUTES
    | 0x0001_0000 // DELETE
    | 0x0004_0000 // WRITE_DAC
    | 0x0008_0000 // WRITE_OWNER
    | 0x0200_0000 // MAXIMUM_ALLOWED
    | 0x1000_0000 // GENERIC_ALL
    | 0x4000_0000; // GENERIC_WRITE

/// One entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Gives rights.
    Allow {
        /// To whom, as text ("S-1-…").
        sid: String,
        /// Which.
        mask: u32,
        /// Only to what is made below.
        inherit_only: bool,
    },
    /// Takes rights away, which harms nothing here.
    Deny,
    /// Of a kind that is not judged, by number.
    Unknown(u8),
}

/// What was read of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose it is, as text.
    pub owner: String,
    /// The list; `None` for one that is missing, which lets everybody do everything.
    pub entries: Option<Vec<Entry>>,
}

/// Why it is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It is somebody else's.
    Owner(String),
    /// It has no access list.
    NoList,
    /// Somebody else has these rights.
    Open {
        /// Who.
        sid: String,
        /// What.
        mask: u32,
    },
    /// An entry that is not understood.
    Unknown(u8),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(sid) => write!(f, "belongs to {sid}, who is neither SYSTEM nor an administrator"),
            Self::NoList => f.write_str("has no access list: everybody can change it"),
            Self::Open { sid, mask } => write!(f, "is open to {sid} (rights {mask:#x})"),
            Self::Unknown(kind) => write!(f, "has an entry of kind {kind} in its access list, which cannot be judged"),
        }
    }
}

/// Whether nobody but SYSTEM, administrators, the system's installer and `own`, the account that this process runs as, can
/// change it, and with [`Privacy::Closed`] look at it.
///
/// # Errors
/// The first reason against it.
pub fn judge(access: &Access, privacy: Privacy, own: &str) -> Result<(), Distrust> {
    let known = |sid: &str| [SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER, own].contains(&sid);
    if !known(&access.owner) {
        return Err(Distrust::Owner(access.owner.clone()));
    }
    let matters = match privacy {
        Privacy::Closed => u32::MAX,
        Privacy::Readable => CHANGES,
    };
    for entry in access.entries.as_ref().ok_or(Distrust::NoList)? {
        match entry {
            Entry::Deny => {}
            Entry::Unknown(kind) => return Err(Distrust::Unknown(*kind)),
            Entry::Allow { sid, .. } if known(sid) || sid == OWNER_RIGHTS => {}
            Entry::Allow { sid, inherit_only: true, .. } if sid == CREATOR_OWNER => {}
            Entry::Allow { sid, mask, .. } if mask & matters != 0 => {
                return Err(Distrust::Open { sid: sid.clone(), mask: *mask });
            }
            Entry::Allow { .. } => {}
        }
    }
    Ok(())
}

/// What the administrator does about it (FS-03).
#[must_use]
pub fn way_out(distrust: &Distrust, path: &str, privacy: Privacy) -> String {
    match (distrust, privacy) {
        // Whoever made it may have left more in it than a wrong owner.
        (Distrust::Owner(_), _) => format!("move it away, and let the helper make a new one: ren \"{path}\" Hamn.untrusted"),
        (_, Privacy::Closed) => {
            format!("run: icacls \"{path}\" /inheritance:r /grant:r *{SYSTEM}:(OI)(CI)F *{ADMINISTRATORS}:(OI)(CI)F")
        }
        (Distrust::Open { sid, .. }, Privacy::Readable) => format!("run: icacls \"{path}\" /inheritance:d /remove:g *{sid}"),
        (Distrust::NoList | Distrust::Unknown(_), Privacy::Readable) => format!("run: icacls \"{path}\" /reset"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "S-1-5-32-545";
    const ME: &str = "S-1-5-21-1-2-3-1000";
    const READ: u32 = 0x0012_00a9;
    const FULL: u32 = 0x001f_01ff;

    fn allow(sid: &str, mask: u32) -> Entry {
        Entry::Allow { sid: sid.to_owned(), mask, inherit_only: false }
    }

    fn below(sid: &str, mask: u32) -> Entry {
        Entry::Allow { sid: sid.to_owned(), mask, inherit_only: true }
    }

    fn with(owner: &str, entries: Vec<Entry>) -> Access {
        Access { owner: owner.to_owned(), entries: Some(entries) }
    }

    fn ours() -> Vec<Entry> {
        vec![allow(SYSTEM, FULL), allow(ADMINISTRATORS, FULL)]
    }

    // FS-03
    #[test]
    fn what_the_installer_makes_is_trusted_and_what_users_can_touch_is_not() {
        for owner in [SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER, ME] {
            assert_eq!(judge(&with(owner, ours()), Privacy::Closed, ME), Ok(()), "{owner}");
        }
        assert_eq!(judge(&with(USERS, ours()), Privacy::Closed, ME), Err(Distrust::Owner(USERS.to_owned())));
        assert_eq!(judge(&Access { owner: SYSTEM.to_owned(), entries: None }, Privacy::Readable, ME), Err(Distrust::NoList));
        assert_eq!(judge(&with(SYSTEM, vec![]), Privacy::Closed, ME), Ok(()), "an empty list lets nobody in");
        let reading = [ours(), vec![allow(USERS, READ)]].concat();
        assert_eq!(judge(&with(SYSTEM, reading.clone()), Privacy::Readable, ME), Ok(()));
        assert_eq!(judge(&with(SYSTEM, reading), Privacy::Closed, ME), Err(Distrust::Open { sid: USERS.to_owned(), mask: READ }));
        let strange = [ours(), vec![Entry::Unknown(11)]].concat();
        assert_eq!(judge(&with(SYSTEM, strange), Privacy::Readable, ME), Err(Distrust::Unknown(11)));
        assert_eq!(judge(&with(SYSTEM, vec![Entry::Deny]), Privacy::Closed, ME), Ok(()));
    }

    #[test]
    fn each_right_to_change_counts_and_inherited_ones_do_as_well() {
        for bit in 0..32 {
            let mask = 1_u32 << bit;
            for entry in [allow(USERS, mask), below(USERS, mask)] {
                let open = judge(&with(SYSTEM, vec![entry.clone()]), Privacy::Readable, ME).is_err();
                assert_eq!(open, CHANGES & mask != 0, "{mask:#x}");
                assert!(judge(&with(SYSTEM, vec![entry]), Privacy::Closed, ME).is_err(), "{mask:#x}");
            }
        }
        // As the system itself has it on Program Files.
        let program_files = [ours(), vec![below(CREATOR_OWNER, FULL), allow(USERS, READ)]].concat();
        assert_eq!(judge(&with(TRUSTED_INSTALLER, program_files), Privacy::Readable, ME), Ok(()));
        assert!(judge(&with(SYSTEM, vec![allow(CREATOR_OWNER, FULL)]), Privacy::Readable, ME).is_err());
    }

    #[test]
    fn every_reason_has_a_way_out_that_names_the_path() {
        let reasons = [
            Distrust::Owner(USERS.to_owned()),
            Distrust::NoList,
            Distrust::Open { sid: USERS.to_owned(), mask: FULL },
            Distrust::Unknown(4),
        ];
        for reason in reasons {
            for privacy in [Privacy::Closed, Privacy::Readable] {
                let told = format!("C:\\x {reason}; {}", way_out(&reason, "C:\\x", privacy));
                assert!(told.contains("\"C:\\x\"") && (told.contains("icacls") || told.contains("ren ")), "{told}");
            }
        }
    }
}
