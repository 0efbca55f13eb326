//! Who may do what: operations fall into classes, callers get classes, everything else is refused.
//!
//! | class     | who                                                            |
//! |-----------|----------------------------------------------------------------|
//! | public    | every identified local user                                    |
//! | view      | uid 0, members of the group `hamn`, the user at a local seat   |
//! | control   | the same as *view*                                             |
//! | configure | uid 0 (harmless settings: the same as *view*)                  |
//! | administer| uid 0                                                          |
//!
//! What only uid 0 may do is also granted to a user at a local seat when polkit says yes: an administrator's password was
//! given, or the administrator's rules say so. Polkit is asked for one call at a time and anything but its yes is a no.

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
    /// The newest lines of the log.
    Log,
    /// How far a connection comes.
    Diagnose,
    /// A report for support.
    Report,
    /// Replace this computer's key.
    RotateKey,
    /// Open the network even in lockdown.
    RestoreNetwork,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 27] = [
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
        Self::Log,
        Self::Diagnose,
        Self::Report,
        Self::RotateKey,
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
            | Self::Policy
            | Self::Log
            | Self::Report => Class::View,
            Self::Connect
            | Self::Disconnect
            | Self::Reconnect
            | Self::Login
            | Self::Logout
            | Self::RemoveDevice
            | Self::Verify
            | Self::Diagnose
            | Self::RotateKey => Class::Control,
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
    /// What polkit has just allowed this caller for this call.
    pub polkit: Option<Action>,
}

/// What polkit is asked; the texts that people see are in `org.hamn.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Change settings that need uid 0.
    Configure,
    /// Everything of the class *administer*.
    Administer,
}

impl Action {
    /// Both actions.
    pub const ALL: [Self; 2] = [Self::Configure, Self::Administer];

    /// The id in `org.hamn.policy`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Configure => "org.hamn.configure",
            Self::Administer => "org.hamn.administer",
        }
    }
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
        Class::Administer => caller.uid == 0 || granted(caller, access, Action::Administer),
    };
    if allowed { Ok(()) } else { Err(Problem::new(ProblemCode::NotAllowed)) }
}

/// Decides whether `caller` may change these settings; the caller already has the class *configure*.
///
/// # Errors
/// `not_allowed` that names the setting which needs uid 0.
pub fn authorise_settings(caller: &Caller, keys: &[SettingKey], access: &Access) -> Result<(), Problem> {
    match keys.iter().find(|key| key.needs_admin()) {
        Some(key) if caller.uid != 0 && !granted(caller, access, Action::Configure) => {
            Err(Problem::with_detail(ProblemCode::NotAllowed, format!("only an administrator may change `{key}`"))
                .action("Run the command as root, for example with `sudo`."))
        }
        Some(_) | None => Ok(()),
    }
}

/// What polkit may be asked so that `caller` may do what it lacks the right for: something only for users at a local seat.
#[must_use]
pub fn question(caller: &Caller, class: Class, keys: &[SettingKey], access: &Access) -> Option<Action> {
    let action = match class {
        Class::Administer => Action::Administer,
        Class::Configure if keys.iter().any(|key| key.needs_admin()) => Action::Configure,
        Class::Public | Class::View | Class::Control | Class::Configure => return None,
    };
    (is_somebody(caller) && access.at_local_seat).then_some(action)
}

/// The yes of polkit counts for nobody whom polkit is not asked about.
fn granted(caller: &Caller, access: &Access, action: Action) -> bool {
    is_somebody(caller) && access.at_local_seat && access.polkit == Some(action)
}

/// A user of a foreign user namespace looks like the overflow user: nobody in particular. Root needs no word of polkit's.
const fn is_somebody(caller: &Caller) -> bool {
    !matches!(caller.uid, 0 | OVERFLOW_ID | u32::MAX)
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
        let group = Access { control_group: Some(HAMN), ..Access::default() };
        let seat = Access { at_local_seat: true, ..group.clone() };
        let none = Access::default();
        let configure = Access { polkit: Some(Action::Configure), ..seat.clone() };
        let administer = Access { polkit: Some(Action::Administer), ..seat.clone() };
        let elsewhere = Access { polkit: Some(Action::Administer), ..group.clone() };
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
            (caller(1000, 1000, &[]), &configure, [true, true, true, true, false]),
            (caller(1000, 1000, &[]), &administer, [true, true, true, true, true]),
            // Polkit's yes alone is worth nothing.
            (caller(1000, HAMN, &[]), &elsewhere, [true, true, true, true, false]),
            (caller(1000, 1000, &[]), &elsewhere, [true, false, false, false, false]),
            (caller(OVERFLOW_ID, HAMN, &[HAMN]), &administer, [true, false, false, false, false]),
            (caller(u32::MAX, HAMN, &[HAMN]), &administer, [false, false, false, false, false]),
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
        let seat = Access { at_local_seat: true, ..Access::default() };
        let configure = Access { polkit: Some(Action::Configure), ..seat.clone() };
        let administer = Access { polkit: Some(Action::Administer), ..seat.clone() };
        let elsewhere = Access { polkit: Some(Action::Configure), ..Access::default() };
        assert!(authorise_settings(&user, &[SettingKey::Ipv6, SettingKey::Destination, SettingKey::Mtu], &seat).is_ok());
        for key in SettingKey::ALL {
            let keys = [SettingKey::Ipv6, key];
            for access in [&seat, &administer, &elsewhere] {
                assert_eq!(authorise_settings(&user, &keys, access).is_ok(), !key.needs_admin(), "{key} {access:?}");
            }
            assert!(authorise_settings(&user, &keys, &configure).is_ok());
            assert!(authorise_settings(&caller(0, 0, &[]), &[key], &seat).is_ok());
        }
    }

    #[test]
    fn polkit_is_asked_only_about_users_at_a_seat_and_only_when_it_can_help() {
        let seat = Access { at_local_seat: true, ..Access::default() };
        let away = Access { control_group: Some(990), ..Access::default() };
        let user = caller(1000, 990, &[]);
        let asked = |class, keys: &[SettingKey]| question(&user, class, keys, &seat);
        for class in [Class::Public, Class::View, Class::Control] {
            assert_eq!(asked(class, &SettingKey::ALL), None);
        }
        assert_eq!(asked(Class::Configure, &[]), None);
        assert_eq!(asked(Class::Administer, &[]), Some(Action::Administer));
        for key in SettingKey::ALL {
            assert_eq!(asked(Class::Configure, &[key]), key.needs_admin().then_some(Action::Configure), "{key}");
        }
        for (who, access) in [(0, &seat), (OVERFLOW_ID, &seat), (u32::MAX, &seat), (1000, &away)] {
            for class in [Class::Configure, Class::Administer] {
                assert_eq!(question(&caller(who, 990, &[]), class, &SettingKey::ALL, access), None, "{who}");
            }
        }
    }
}
