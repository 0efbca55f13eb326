//! Who may do what: operations fall into classes, callers get classes, everything else is refused.
//!
//! | class     | who                                                            |
//! |-----------|----------------------------------------------------------------|
//! | public    | every identified local user                                    |
//! | view      | an administrator, members of the group `hamn`, the user at a local seat |
//! | control   | the same as *view*                                             |
//! | configure | an administrator (harmless settings: the same as *view*)       |
//! | administer| an administrator                                               |
//!
//! An administrator is uid 0 on Linux and macOS, and on Windows the system itself or an elevated program of an administrator.
//! Who sits at a seat is asked of logind (Linux), of the window server (macOS: the console user) or of the session (Windows:
//! an interactive one that is active). Programs in sandboxes of Windows (app containers, low integrity, restricted tokens)
//! and callers from other computers get nothing at all.
//!
//! On Linux, what only uid 0 may do is also granted to a user at a local seat when polkit says yes: an administrator's
//! password was given, or the administrator's rules say so. Polkit is asked for one call at a time and anything but its yes
//! is a no.

use crate::caller::{Caller, GroupId, Identity, Sid, UnixUser, WindowsToken};
use crate::names;
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
    /// The group `hamn`, when it exists.
    pub control_group: Option<GroupId>,
    /// The caller sits at a local seat at this moment (asked of the system for each call).
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
        Class::Public => may_look(caller),
        Class::View | Class::Control | Class::Configure => may_control(caller, access),
        Class::Administer => caller.is_administrator() || granted(caller, access, Action::Administer),
    };
    if allowed { Ok(()) } else { Err(Problem::new(ProblemCode::NotAllowed)) }
}

/// Decides whether `caller` may change these settings; the caller already has the class *configure*.
///
/// # Errors
/// `not_allowed` that names the setting which needs an administrator.
pub fn authorise_settings(caller: &Caller, keys: &[SettingKey], access: &Access) -> Result<(), Problem> {
    match keys.iter().find(|key| key.needs_admin()) {
        Some(key) if !caller.is_administrator() && !granted(caller, access, Action::Configure) => {
            Err(Problem::with_detail(ProblemCode::NotAllowed, format!("only an administrator may change `{key}`"))
                .action(names::BECOME_ADMINISTRATOR))
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

/// A user whom polkit knows, and who needs its word. A user of a foreign user namespace looks like the overflow user: nobody in
/// particular. Windows asks its own question when a program starts, so that a token has the answer in it.
const fn is_somebody(caller: &Caller) -> bool {
    match &caller.identity {
        Identity::Unix(user) => !matches!(user.uid, 0 | OVERFLOW_ID | u32::MAX),
        Identity::Windows(_) => false,
    }
}

fn may_look(caller: &Caller) -> bool {
    match &caller.identity {
        Identity::Unix(user) => user.uid != u32::MAX,
        Identity::Windows(token) => token.is_local(),
    }
}

fn may_control(caller: &Caller, access: &Access) -> bool {
    let member = match &caller.identity {
        // A user of a foreign user namespace looks like the overflow user: nobody in particular.
        Identity::Unix(user) if matches!(user.uid, OVERFLOW_ID | u32::MAX) => return false,
        Identity::Unix(user) => access.at_local_seat || is_member(user, access),
        Identity::Windows(token) => token.is_local() && (sits_here(token, access) || is_token_member(token, access)),
    };
    member || caller.is_administrator()
}

fn is_member(user: &UnixUser, access: &Access) -> bool {
    match access.control_group {
        Some(GroupId::Unix(group)) => group != OVERFLOW_ID && (user.gid == group || user.groups.contains(&group)),
        Some(GroupId::Windows(_)) | None => false,
    }
}

fn is_token_member(token: &WindowsToken, access: &Access) -> bool {
    match &access.control_group {
        Some(GroupId::Windows(group)) => token.groups.contains(group),
        Some(GroupId::Unix(_)) | None => false,
    }
}

/// The session of the services belongs to nobody who sits anywhere.
fn sits_here(token: &WindowsToken, access: &Access) -> bool {
    access.at_local_seat && token.session != 0 && token.is_in(Sid::INTERACTIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller::unix(uid, gid, 1, groups.to_vec())
    }

    fn column(operation: Operation) -> usize {
        match operation.class() {
            Class::Public => 0,
            Class::View => 1,
            Class::Control => 2,
            Class::Configure => 3,
            Class::Administer => 4,
        }
    }

    // IPC-01: every kind of caller against every operation.
    #[test]
    fn only_the_right_callers_get_each_operation() {
        const HAMN: u32 = 990;
        let group = Access { control_group: Some(HAMN.into()), ..Access::default() };
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
                let result = authorise(&who, operation.class(), access);
                assert_eq!(result.is_ok(), expected[column(operation)], "{who:?} {operation:?}");
                if let Err(problem) = result {
                    assert_eq!(problem, Problem::new(ProblemCode::NotAllowed), "the refusal must not depend on the operation");
                }
            }
        }
    }

    fn sid(text: &str) -> Sid {
        Sid::parse(text).unwrap()
    }

    /// An ordinary program of a user at the screen.
    fn program() -> WindowsToken {
        WindowsToken {
            user: sid("S-1-5-21-1-2-3-1000"),
            session: 1,
            groups: vec![sid("S-1-1-0"), sid(Sid::INTERACTIVE)],
            elevated: false,
            integrity: WindowsToken::MEDIUM,
            app_container: false,
            restricted: false,
        }
    }

    /// The same user's program after "Run as administrator".
    fn elevated() -> WindowsToken {
        let mut token = WindowsToken { elevated: true, integrity: WindowsToken::HIGH, ..program() };
        token.groups.push(sid(Sid::ADMINISTRATORS));
        token
    }

    fn with(mut token: WindowsToken, groups: &[&str]) -> WindowsToken {
        token.groups.extend(groups.iter().map(|text| sid(text)));
        token
    }

    fn without(mut token: WindowsToken, group: &str) -> WindowsToken {
        token.groups.retain(|found| !found.is(group));
        token
    }

    // IPC-01 on Windows: every kind of token against every operation.
    #[test]
    fn only_the_right_tokens_get_each_operation() {
        const HAMN: &str = "S-1-5-21-1-2-3-1001";
        let none = Access::default();
        let group = Access { control_group: Some(GroupId::Windows(sid(HAMN))), ..Access::default() };
        let seat = Access { at_local_seat: true, ..group.clone() };
        let polkit = Access { polkit: Some(Action::Administer), ..seat.clone() };
        let service = WindowsToken {
            user: sid(Sid::LOCAL_SYSTEM),
            session: 0,
            groups: vec![sid(Sid::ADMINISTRATORS)],
            elevated: true,
            integrity: 0x4000,
            ..program()
        };
        let [all, control, look, nothing] =
            [[true; 5], [true, true, true, true, false], [true, false, false, false, false], [false; 5]];
        let table = [
            ("an elevated administrator", elevated(), &none, all),
            ("the same without a screen", WindowsToken { session: 0, ..without(elevated(), Sid::INTERACTIVE) }, &none, all),
            ("the system", service.clone(), &none, all),
            ("a program at the screen", program(), &seat, control),
            ("the same when another user has the screen", program(), &group, look),
            ("the same when nobody knows", program(), &none, look),
            ("a member of the group who sits elsewhere", with(program(), &[HAMN]), &group, control),
            ("the same when there is no such group", with(program(), &[HAMN]), &none, look),
            ("no interactive token", without(program(), Sid::INTERACTIVE), &seat, look),
            ("the session of the services", WindowsToken { session: 0, ..program() }, &seat, look),
            // The two halves of a divided token, and what only looks elevated.
            ("an administrator who is not elevated", with(program(), &[Sid::ADMINISTRATORS]), &seat, control),
            ("elevated, but no administrator", without(elevated(), Sid::ADMINISTRATORS), &seat, control),
            (
                "elevated, but not of high integrity",
                WindowsToken { integrity: WindowsToken::MEDIUM, ..elevated() },
                &seat,
                control,
            ),
            ("polkit has no say here", program(), &polkit, control),
            // Sandboxes and other computers.
            ("an app container", WindowsToken { app_container: true, ..program() }, &seat, nothing),
            ("an elevated app container", WindowsToken { app_container: true, ..elevated() }, &seat, nothing),
            ("low integrity", WindowsToken { integrity: 0x1000, ..program() }, &seat, nothing),
            ("nearly medium integrity", WindowsToken { integrity: 0x1fff, ..elevated() }, &seat, nothing),
            ("a restricted token", WindowsToken { restricted: true, ..elevated() }, &seat, nothing),
            ("from another computer", with(elevated(), &[Sid::NETWORK]), &seat, nothing),
            ("the system of another computer", with(service, &[Sid::NETWORK]), &seat, nothing),
            ("a member from another computer", with(program(), &[HAMN, Sid::NETWORK]), &seat, nothing),
            ("anonymous", WindowsToken { user: sid(Sid::ANONYMOUS), ..program() }, &seat, nothing),
        ];
        for (what, token, access, expected) in table {
            let who = Caller { pid: 1, identity: Identity::Windows(token) };
            for operation in Operation::ALL {
                let result = authorise(&who, operation.class(), access);
                assert_eq!(result.is_ok(), expected[column(operation)], "{what}: {operation:?}");
                assert!(result.is_ok() || result == Err(Problem::new(ProblemCode::NotAllowed)));
                assert_eq!(question(&who, operation.class(), &SettingKey::ALL, access), None, "{what}");
            }
            for key in SettingKey::ALL {
                let may = authorise_settings(&who, &[key], access).is_ok();
                assert_eq!(may, expected == all || !key.needs_admin(), "{what}: {key}");
            }
        }
    }

    #[test]
    fn a_group_of_another_system_has_no_members() {
        let unix = Access { control_group: Some(0.into()), ..Access::default() };
        let windows = Access { control_group: Some(GroupId::Windows(sid("S-1-1-0"))), ..Access::default() };
        let token = Caller { pid: 1, identity: Identity::Windows(program()) };
        assert!(authorise(&token, Class::View, &windows).is_ok() && authorise(&token, Class::View, &unix).is_err());
        assert!(authorise(&caller(1000, 0, &[0]), Class::View, &windows).is_err());
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
        let away = Access { control_group: Some(990.into()), ..Access::default() };
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
