//! Who may do what: operations fall into classes, callers get classes, everything else is refused.
//!
//! | class     | who                                                            |
//! |-----------|----------------------------------------------------------------|
//! | public    | every identified local user                                    |
//! | view      | uid 0, members of the group `hamn`, the user at a local seat   |
//! | control   | the same as *view*                                             |
//! | configure | uid 0 (harmless settings: the same as *view*)                  |
//! | administer| uid 0                                                          |

use crate::call::Caller;
use crate::problem::{Problem, ProblemCode};
use crate::wire::SettingKey;

/// What an operation can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Says no more than "protected, yes or no".
    Public,
    /// Reads.
    View,
    /// Connects and disconnects, logs in and out.
    Control,
    /// Changes settings; each setting says whether it needs uid 0.
    Configure,
    /// Changes what may leave the computer.
    Administer,
}

/// Everything that the local API can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Protected or not, for everybody.
    Public,
    /// Versions.
    Version,
    /// The OpenAPI document.
    OpenApi,
    /// The whole status.
    Status,
    /// The event stream.
    Events,
    /// Connect.
    Connect,
    /// Disconnect.
    Disconnect,
    /// Reconnect.
    Reconnect,
    /// List places.
    Servers,
    /// Log in.
    Login,
    /// Log out.
    Logout,
    /// Who is logged in.
    Account,
    /// List devices.
    Devices,
    /// Remove a device.
    RemoveDevice,
    /// List profiles.
    Profiles,
    /// Import a profile: it decides where all traffic goes, for every user.
    ImportProfile,
    /// Remove a profile.
    RemoveProfile,
    /// Read settings.
    Settings,
    /// Change settings.
    ChangeSettings,
    /// Reset settings.
    ResetSettings,
    /// The rules in force.
    Policy,
    /// The live self-test.
    Verify,
    /// Open the network even in lockdown.
    RestoreNetwork,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 23] = [
        Self::Public,
        Self::Version,
        Self::OpenApi,
        Self::Status,
        Self::Events,
        Self::Connect,
        Self::Disconnect,
        Self::Reconnect,
        Self::Servers,
        Self::Login,
        Self::Logout,
        Self::Account,
        Self::Devices,
        Self::RemoveDevice,
        Self::Profiles,
        Self::ImportProfile,
        Self::RemoveProfile,
        Self::Settings,
        Self::ChangeSettings,
        Self::ResetSettings,
        Self::Policy,
        Self::Verify,
        Self::RestoreNetwork,
    ];

    /// The class that a caller must have.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Public | Self::Version | Self::OpenApi => Class::Public,
            Self::Status
            | Self::Events
            | Self::Servers
            | Self::Account
            | Self::Devices
            | Self::Profiles
            | Self::Settings
            | Self::Policy => Class::View,
            Self::Connect
            | Self::Disconnect
            | Self::Reconnect
            | Self::Login
            | Self::Logout
            | Self::RemoveDevice
            | Self::Verify => Class::Control,
            Self::ChangeSettings | Self::ResetSettings => Class::Configure,
            Self::ImportProfile | Self::RemoveProfile | Self::RestoreNetwork => Class::Administer,
        }
    }
}

/// The facts that a decision needs beside the caller.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Access {
    /// Group id of `hamn`, when the group exists.
    pub control_group: Option<u32>,
    /// The caller sits at a local seat at this moment (asked of logind for each call).
    pub at_local_seat: bool,
}

/// What Linux shows for a user that has no number in our user namespace (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW_ID: u32 = 65534;

/// Decides whether `caller` may do an operation of `class`. Deny is the default.
///
/// # Errors
/// `not_allowed`, the same for every operation and every reason.
pub fn authorise(caller: &Caller, class: Class, access: &Access) -> Result<(), Problem> {
    let allowed = match class {
        Class::Public => caller.uid != u32::MAX,
        Class::View | Class::Control | Class::Configure => may_control(caller, access),
        Class::Administer => caller.uid == 0,
    };
    if allowed { Ok(()) } else { Err(Problem::new(ProblemCode::NotAllowed)) }
}

/// Decides whether `caller` may change these settings; the caller already has the class *configure*.
///
/// # Errors
/// `not_allowed` that names the setting which needs uid 0.
pub fn authorise_settings(caller: &Caller, keys: &[SettingKey]) -> Result<(), Problem> {
    match keys.iter().find(|key| key.needs_admin()) {
        Some(key) if caller.uid != 0 => {
            Err(Problem::with_detail(ProblemCode::NotAllowed, format!("only root may change `{key}`"))
                .action("Run the command as root, for example with `sudo`."))
        }
        Some(_) | None => Ok(()),
    }
}

fn may_control(caller: &Caller, access: &Access) -> bool {
    if caller.uid == 0 {
        return true;
    }
    // A user of a foreign user namespace looks like the overflow user: nobody in particular.
    if caller.uid == OVERFLOW_ID || caller.uid == u32::MAX {
        return false;
    }
    let in_group =
        access.control_group.is_some_and(|group| group != OVERFLOW_ID && (caller.gid == group || caller.groups.contains(&group)));
    in_group || access.at_local_seat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller { uid, gid, pid: 1, groups: groups.to_vec() }
    }

    // IPC-01: every kind of caller against every operation.
    #[test]
    fn only_the_right_callers_get_each_operation() {
        const HAMN: u32 = 990;
        let group = Access { control_group: Some(HAMN), at_local_seat: false };
        let seat = Access { control_group: Some(HAMN), at_local_seat: true };
        let none = Access { control_group: None, at_local_seat: false };
        // Who, access facts, [public, view, control, configure, administer].
        let table = [
            (caller(0, 0, &[]), &none, [true, true, true, true, true]),
            (caller(1000, HAMN, &[]), &group, [true, true, true, true, false]),
            (caller(1000, 1000, &[4, HAMN]), &group, [true, true, true, true, false]),
            (caller(1000, 1000, &[]), &seat, [true, true, true, true, false]),
            (caller(1000, 1000, &[4]), &group, [true, false, false, false, false]),
            (caller(1000, HAMN, &[HAMN]), &none, [true, false, false, false, false]),
            (caller(1000, 0, &[0]), &group, [true, false, false, false, false]),
            (caller(OVERFLOW_ID, HAMN, &[HAMN]), &seat, [true, false, false, false, false]),
            (caller(u32::MAX, HAMN, &[HAMN]), &seat, [false, false, false, false, false]),
        ];
        for (who, access, expected) in table {
            for operation in Operation::ALL {
                let column = match operation.class() {
                    Class::Public => 0,
                    Class::View => 1,
                    Class::Control => 2,
                    Class::Configure => 3,
                    Class::Administer => 4,
                };
                let result = authorise(&who, operation.class(), access);
                assert_eq!(result.is_ok(), expected[column], "{who:?} {operation:?}");
                if let Err(problem) = result {
                    assert_eq!(problem, Problem::new(ProblemCode::NotAllowed), "the refusal must not depend on the operation");
                }
            }
        }
    }

    #[test]
    fn what_everybody_may_ask_is_exactly_this() {
        let public: Vec<_> = Operation::ALL.into_iter().filter(|operation| operation.class() == Class::Public).collect();
        assert_eq!(public, [Operation::Public, Operation::Version, Operation::OpenApi]);
    }

    #[test]
    fn one_protected_setting_in_a_patch_refuses_the_whole_patch() {
        let user = caller(1000, 990, &[]);
        assert!(authorise_settings(&user, &[SettingKey::Ipv6, SettingKey::Destination, SettingKey::Mtu]).is_ok());
        for key in SettingKey::ALL {
            assert_eq!(authorise_settings(&user, &[SettingKey::Ipv6, key]).is_ok(), !key.needs_admin(), "{key}");
            assert!(authorise_settings(&caller(0, 0, &[]), &[key]).is_ok());
        }
    }
}
