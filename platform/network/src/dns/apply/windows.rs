//! Windows: resolvers of the tunnel interface and the rule for all names (learn.microsoft.com: `SetInterfaceDnsSettings`,
//! `GetInterfaceDnsSettings`; `[MS-GPNRPT]` for the rule; `ControlService` with `SERVICE_CONTROL_PARAMCHANGE`).
#![expect(unsafe_code, reason = "the resolver is reached by calls of iphlpapi.dll, advapi32.dll and dnsapi.dll")]

use crate::dns::plan::{DnsPlan, DnsWish};
use crate::dns::plan_windows::{
    InterfaceServers, LOCAL_RULES, Note, POLICY_RULES, RULE, RegistryValue, all_places, places, rule,
};
use crate::files::{read_bounded, write_atomically};
use crate::keeper::guarded::{Difference, Guarded};
use crate::monitor::windows::{luid_of, status};
use hamn_core::net::InterfaceName;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::null;
use std::time::Duration;
use windows_registry::{Key, LOCAL_MACHINE};
use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_NOT_FOUND};
use windows_sys::Win32::NetworkManagement::IpHelper as ip;
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::System::Services as services;
use windows_sys::core::GUID;

/// Why DNS is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A call failed.
    #[error("cannot {action}: {source}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The registry refuses.
    #[error("cannot {action} the rule for name resolution: {source}")]
    Registry {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The note of what to restore cannot be understood; it was kept under this name.
    #[error("the note of the original DNS settings cannot be read; it was kept as {}", .0.display())]
    NoteUnreadable(PathBuf),
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> DnsError {
    move |source| DnsError::Call { action, source }
}

fn refused<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> DnsError {
    move |source| DnsError::Registry { action, source: source.into() }
}

/// The computer's DNS.
pub struct Dns {
    note: PathBuf,
}

impl Dns {
    /// What holds our settings, for people.
    pub const BACKEND: &'static str = "nrpt";

    /// Notes go into this directory, which exists. Nothing is changed.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { note: state_dir.join(Note::NAME) }
    }

    /// Puts back what was there before us, also what a crashed process of ours left. `None` when there was nothing.
    ///
    /// # Errors
    /// See [`DnsError`]. The note stays, so that the next try restores.
    pub fn restore(&self) -> Result<Option<String>, DnsError> {
        let removed = remove_rules(LOCAL_MACHINE)?;
        let note = self.load()?;
        if let Some(note) = &note {
            let name = InterfaceName::try_from(note.interface.clone()).ok();
            // Settings go with their interface, and there is nothing to restore without it.
            if let Some(interface) = name.as_ref().and_then(interface_guid) {
                set_servers(interface, &note.before)?;
            }
        }
        if !removed && note.is_none() {
            return Ok(None);
        }
        tell_resolver();
        self.clear()?;
        Ok(Some("DNS settings restored".to_owned()))
    }

    fn load(&self) -> Result<Option<Note>, DnsError> {
        let bytes = match read_bounded(&self.note, Note::LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("read the note of the original DNS settings")(source)),
        };
        if let Some(note) = Note::parse(&bytes) {
            return Ok(Some(note));
        }
        let aside = self.note.with_extension("json.unreadable");
        std::fs::rename(&self.note, &aside).map_err(failed("set aside the note of the original DNS settings"))?;
        Err(DnsError::NoteUnreadable(aside))
    }

    fn clear(&self) -> Result<(), DnsError> {
        match std::fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the note")(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the plan true.
    fn set(&self, plan: &DnsPlan) -> Result<(), DnsError> {
        // Settings are those of an interface: without it there is nothing to set.
        let Some(interface) = interface_guid(&plan.interface) else { return Ok(()) };
        if holds(plan, interface)? {
            return Ok(());
        }
        if self.load()?.is_none() {
            let note = Note::new(plan.interface.to_string(), servers(interface)?);
            let bytes = note.to_bytes().map_err(|error| failed("encode the note")(error.into()))?;
            write_atomically(&self.note, &bytes, 0o600).map_err(failed("write the note of the original DNS settings"))?;
        }
        set_servers(interface, &InterfaceServers::of(plan))?;
        write_rules(LOCAL_MACHINE, plan)?;
        tell_resolver();
        Ok(())
    }
}

impl Guarded for Dns {
    type Wish = DnsWish;
    type Error = DnsError;
    const NAME: &'static str = "DNS";
    const ALL_OR_NOTHING: bool = false;

    fn every(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn put(&mut self, wish: &DnsWish) -> Result<Option<String>, DnsError> {
        match wish {
            DnsWish::Unchanged => Ok(None),
            DnsWish::Original => self.restore(),
            DnsWish::Set(plan) => self.set(plan).map(|()| None),
        }
    }

    fn difference(&mut self, wish: &DnsWish) -> Result<Option<Difference>, DnsError> {
        let what = match wish {
            DnsWish::Unchanged => return Ok(None),
            DnsWish::Original if self.load()?.is_none() => return Ok(None),
            DnsWish::Original => "the original DNS settings are not back".to_owned(),
            DnsWish::Set(plan) => match interface_guid(&plan.interface) {
                Some(interface) if !holds(plan, interface)? => format!("DNS settings changed ({})", Self::BACKEND),
                // Without its interface there is nothing to restore; the reporter tells of the loss.
                Some(_) | None => return Ok(None),
            },
        };
        Ok(Some(Difference { what, tampered: true }))
    }

    fn lacks(&mut self, wish: &DnsWish) -> Result<Option<String>, DnsError> {
        let DnsWish::Set(DnsPlan { interface, .. }) = wish else { return Ok(None) };
        Ok(interface_guid(interface).is_none().then(|| format!("there is no interface {interface}")))
    }

    fn in_words(wish: &DnsWish) -> &'static str {
        match wish {
            DnsWish::Unchanged => "not changed by this policy",
            DnsWish::Original => "the computer's own settings",
            DnsWish::Set(_) => "all names are asked of the tunnel's resolvers",
        }
    }
}

fn holds(plan: &DnsPlan, interface: GUID) -> Result<bool, DnsError> {
    Ok(servers(interface)?.is_same(&InterfaceServers::of(plan)) && has_rules(LOCAL_MACHINE, plan)?)
}

/// `ConvertInterfaceLuidToGuid`
fn interface_guid(name: &InterfaceName) -> Option<GUID> {
    let luid = NET_LUID_LH { Value: luid_of(name)? };
    let mut guid = GUID::default();
    // SAFETY: both live through the call; the GUID is set on success only.
    let code = unsafe { ip::ConvertInterfaceLuidToGuid(&raw const luid, &raw mut guid) };
    (code == 0).then_some(guid)
}

/// `SetInterfaceDnsSettings` for both families; an empty text means "those of the network".
fn set_servers(interface: GUID, servers: &InterfaceServers) -> Result<(), DnsError> {
    for (text, family) in [(&servers.v4, 0), (&servers.v6, ip::DNS_SETTING_IPV6)] {
        let mut list: Vec<u16> = text.encode_utf16().chain(std::iter::once(0)).collect();
        let settings = ip::DNS_INTERFACE_SETTINGS {
            Version: ip::DNS_INTERFACE_SETTINGS_VERSION1,
            Flags: u64::from(ip::DNS_SETTING_NAMESERVER | family),
            NameServer: list.as_mut_ptr(),
            ..Default::default()
        };
        // SAFETY: the settings and the text, which ends with a zero, live through the call.
        let code = unsafe { ip::SetInterfaceDnsSettings(interface, &raw const settings) };
        if !(text.is_empty() && has_no_family(code)) {
            status(code).map_err(failed("set the resolvers of the tunnel interface"))?;
        }
    }
    Ok(())
}

/// An interface without addresses of a family may have no settings for it.
const fn has_no_family(code: u32) -> bool {
    code == ERROR_NOT_FOUND || code == ERROR_FILE_NOT_FOUND
}

/// `GetInterfaceDnsSettings` for both families.
fn servers(interface: GUID) -> Result<InterfaceServers, DnsError> {
    let read = |family: u32| {
        let mut settings = ip::DNS_INTERFACE_SETTINGS {
            Version: ip::DNS_INTERFACE_SETTINGS_VERSION1,
            Flags: u64::from(family),
            ..Default::default()
        };
        // SAFETY: the settings live through the call, which fills them on success.
        let code = unsafe { ip::GetInterfaceDnsSettings(interface, &raw mut settings) };
        if has_no_family(code) {
            return Ok(String::new());
        }
        status(code).map_err(failed("read the resolvers of the tunnel interface"))?;
        let text = text_of(settings.NameServer);
        // SAFETY: the system allocated the texts of these settings, and they are given back once.
        unsafe { ip::FreeInterfaceDnsSettings(&raw mut settings) };
        Ok(text)
    };
    Ok(InterfaceServers { v4: read(0)?, v6: read(ip::DNS_SETTING_IPV6)? })
}

/// A text of the system that ends with a zero, at most so long as any list of resolvers.
fn text_of(pointer: *const u16) -> String {
    const LIMIT: usize = 8192;
    if pointer.is_null() {
        return String::new();
    }
    let mut units = Vec::new();
    for offset in 0..LIMIT {
        // SAFETY: every unit before the one that ended the loop was no zero, so the text reaches at least to this one.
        let place = unsafe { pointer.add(offset) };
        // SAFETY: as above.
        match unsafe { place.read() } {
            0 => break,
            unit => units.push(unit),
        }
    }
    String::from_utf16_lossy(&units)
}

/// The keys of the rules that the domain's policy made; none where it made none.
fn domain_rules(root: &Key) -> Vec<String> {
    root.open(POLICY_RULES).and_then(|key| key.keys().map(Iterator::collect)).unwrap_or_default()
}

fn write_rules(root: &Key, plan: &DnsPlan) -> Result<(), DnsError> {
    for place in places(&domain_rules(root)) {
        let key = root.create(&place).map_err(refused("create"))?;
        for (name, value) in rule(plan) {
            match value {
                RegistryValue::Number(number) => key.set_u32(name, number),
                RegistryValue::Text(text) => key.set_string(name, text),
                RegistryValue::List(list) => key.set_multi_string(name, &list.iter().map(String::as_str).collect::<Vec<_>>()),
            }
            .map_err(refused("write"))?;
        }
    }
    Ok(())
}

fn has_rules(root: &Key, plan: &DnsPlan) -> Result<bool, DnsError> {
    let is_set = |key: &Key| {
        rule(plan).into_iter().all(|(name, value)| match value {
            RegistryValue::Number(number) => key.get_u32(name).is_ok_and(|found| found == number),
            RegistryValue::Text(text) => key.get_string(name).is_ok_and(|found| found == text),
            // What is read has an empty text for each final zero.
            RegistryValue::List(list) => key.get_multi_string(name).is_ok_and(|mut found| {
                found.retain(|text| !text.is_empty());
                found == list
            }),
        })
    };
    Ok(places(&domain_rules(root)).iter().all(|place| root.open(place).is_ok_and(|key| is_set(&key))))
}

/// True when there was a rule of ours.
fn remove_rules(root: &Key) -> Result<bool, DnsError> {
    let mut removed = false;
    for (parent, place) in [POLICY_RULES, LOCAL_RULES].into_iter().zip(all_places()) {
        if root.open(&place).is_err() {
            continue;
        }
        let parent = root.options().read().write().open(parent).map_err(refused("open"))?;
        parent.remove_tree(RULE).map_err(refused("remove"))?;
        removed = true;
    }
    Ok(removed)
}

/// Has the resolver read the rules anew and forget what it remembers. Should it not listen, it notices the rules by itself,
/// and answers from outside the tunnel are forgotten when they are old; neither is a leak.
fn tell_resolver() {
    if let Err(error) = reread_rules() {
        tracing::warn!(%error, "the DNS client was not told of its new rules");
    }
    // SAFETY: no arguments.
    if unsafe { DnsFlushResolverCache() } == 0 {
        tracing::warn!("the DNS client keeps its old answers");
    }
}

#[link(name = "dnsapi", kind = "raw-dylib")]
unsafe extern "system" {
    /// What `ipconfig /flushdns` calls. True when the cache is empty. Exported by every version of dnsapi.dll, in no header.
    fn DnsFlushResolverCache() -> i32;
}

/// A handle of the service manager; closed when dropped.
struct ServiceHandle(services::SC_HANDLE);

impl ServiceHandle {
    fn new(handle: services::SC_HANDLE) -> io::Result<Self> {
        if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(Self(handle)) }
    }
}

impl Drop for ServiceHandle {
    fn drop(&mut self) {
        // SAFETY: the handle was opened by us and is closed once.
        let _ = unsafe { services::CloseServiceHandle(self.0) };
    }
}

/// Tells the DNS client service that its parameters changed.
fn reread_rules() -> io::Result<()> {
    let name: Vec<u16> = "Dnscache\0".encode_utf16().collect();
    // SAFETY: null means this computer and its active services.
    let manager = ServiceHandle::new(unsafe { services::OpenSCManagerW(null(), null(), services::SC_MANAGER_CONNECT) })?;
    // SAFETY: the manager is open and the name ends with a zero.
    let service = unsafe { services::OpenServiceW(manager.0, name.as_ptr(), services::SERVICE_PAUSE_CONTINUE) };
    let service = ServiceHandle::new(service)?;
    let mut state = services::SERVICE_STATUS::default();
    // SAFETY: the service is open and the state lives through the call.
    match unsafe { services::ControlService(service.0, services::SERVICE_CONTROL_PARAMCHANGE, &raw mut state) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::dns_plan;
    use windows_registry::CURRENT_USER;

    /// A place of our own in the registry; removed when dropped.
    struct Root(String, Key);

    impl Root {
        fn new(name: &str) -> Self {
            let path = format!(r"Software\Hamn test {name} {}", std::process::id());
            let key = CURRENT_USER.create(&path).unwrap();
            Self(path, key)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            CURRENT_USER.remove_tree(&self.0).unwrap();
        }
    }

    fn plan(resolver: &str) -> DnsPlan {
        dns_plan(&[resolver])
    }

    #[test]
    fn the_rule_is_written_read_back_and_removed_and_others_stay() {
        let root = Root::new("rules");
        let foreign = format!(r"{LOCAL_RULES}\{{11111111-2222-3333-4444-555555555555}}");
        root.1.create(&foreign).unwrap().set_u32("Version", 1).unwrap();
        assert!(!has_rules(&root.1, &plan("10.64.0.1")).unwrap());
        write_rules(&root.1, &plan("10.64.0.1")).unwrap();
        assert!(has_rules(&root.1, &plan("10.64.0.1")).unwrap());
        assert!(!has_rules(&root.1, &plan("10.64.0.9")).unwrap(), "the rule of another tunnel is not ours");
        assert!(remove_rules(&root.1).unwrap());
        assert!(!remove_rules(&root.1).unwrap(), "a second call does nothing");
        assert_eq!(root.1.open(&foreign).unwrap().get_u32("Version").unwrap(), 1);
    }

    #[test]
    fn where_the_domain_has_rules_ours_stands_beside_them() {
        let root = Root::new("domain");
        write_rules(&root.1, &plan("10.64.0.1")).unwrap();
        let foreign = format!(r"{POLICY_RULES}\{{11111111-2222-3333-4444-555555555555}}");
        root.1.create(&foreign).unwrap();
        assert!(!has_rules(&root.1, &plan("10.64.0.1")).unwrap(), "the resolver reads the domain's rules only");
        write_rules(&root.1, &plan("10.64.0.1")).unwrap();
        assert!(has_rules(&root.1, &plan("10.64.0.1")).unwrap());
        assert!(remove_rules(&root.1).unwrap());
        assert_eq!(domain_rules(&root.1).len(), 1, "theirs stays");
    }

    /// Exported by the dnsapi.dll that the program meets.
    #[test]
    fn the_cache_can_be_flushed() {
        // SAFETY: no arguments.
        let _ = unsafe { DnsFlushResolverCache() };
    }
}
