//! Windows: filters in the Base Filtering Engine (learn.microsoft.com, "Windows Filtering Platform", functions `Fwpm*0`).
//!
//! Everything is under one provider with fixed keys, so that a process that starts anew finds what a crashed one left. A
//! change is one transaction: connections are judged by the old filters or by the new ones, never by neither (G4). The
//! session is not a dynamic one: filters outlive the process (G6), persistent ones the engine and the computer's restart,
//! and boot-time ones hold before the engine runs (G7).
#![expect(unsafe_code, reason = "the engine is reached by calls of fwpuclnt.dll")]

mod memory;
mod subscription;

use crate::firewall::compile::wfp::{Filter, Layer, PROVIDER, Sublayer};
use crate::firewall::compile::wfp_objects::{Bindings, Found, Object, Step, bind, interfaces_of, steps};
use crate::keeper::guarded::{Difference, Guarded};
use crate::monitor::bell::Bell;
use crate::monitor::windows::luid_of;
use memory::{Engine, FilterMemory, filter_of, guid, status, utf16};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;
use subscription::Subscription;
use windows_sys::Win32::Foundation::{FWP_E_FILTER_NOT_FOUND, FWP_E_PROVIDER_NOT_FOUND, FWP_E_SUBLAYER_NOT_FOUND, HANDLE};
use windows_sys::Win32::NetworkManagement::WindowsFilteringPlatform as fwp;

/// The engine refused something.
#[derive(Debug, thiserror::Error)]
pub enum WfpError {
    /// A call failed.
    #[error("{call} failed: {}", explain(*code))]
    Call {
        /// Which.
        call: &'static str,
        /// What it returned: a Win32 error or an `HRESULT` of the platform.
        code: u32,
    },
    /// The engine holds more filters of ours than any policy has.
    #[error("the engine lists filters without end")]
    TooMany,
}

/// The codes that people meet, in words.
fn explain(code: u32) -> String {
    match code {
        5 => "access is denied; the helper must run as LocalSystem or an elevated administrator (5)".to_owned(),
        1717 | 1753 => format!("the Base Filtering Engine does not run ({code})"),
        1764 => "this system has no Base Filtering Engine (1764)".to_owned(),
        0x8032_0012 => "another program holds the engine's transaction (0x80320012)".to_owned(),
        code if code >= 0x8000_0000 => format!("{code:#010x}"),
        code => std::io::Error::from_raw_os_error(i32::try_from(code).unwrap_or(i32::MAX)).to_string(),
    }
}

/// Waiting for another program's transaction; it answers fast or is stuck.
const TRANSACTION_WAIT_MS: u32 = 5000;
/// How many filters are read at once, and at most.
const PAGE: u32 = 256;
const LIMIT: usize = 16_384;

/// The filters of one policy in the engine.
pub struct Firewall {
    program: PathBuf,
    bell: Arc<Bell>,
    session: Option<Session>,
    /// What was stored last.
    stored: Vec<Object>,
}

/// An open engine, and the subscription that rings when filters of ours go away.
struct Session {
    // Dropped before the engine is closed.
    subscription: Option<Subscription>,
    engine: Engine,
}

impl Firewall {
    /// For the helper's own program. Nothing is opened or changed; the bell is rung when another program deletes a filter.
    #[must_use]
    pub fn new(program: &Path, bell: Arc<Bell>) -> Self {
        Self { program: program.to_owned(), bell, session: None, stored: Vec::new() }
    }

    fn session(&mut self) -> Result<&Session, WfpError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let session = Session::open(&self.bell)?;
                session.watch(&self.stored);
                session
            }
        };
        Ok(self.session.insert(session))
    }

    /// Any error closes the session: the engine may have been restarted, and the next call starts anew.
    fn with_session<T>(&mut self, work: impl FnOnce(&Session) -> Result<T, WfpError>) -> Result<T, WfpError> {
        let result = work(self.session()?);
        if result.is_err() {
            self.session = None;
        }
        result
    }

    fn read(&mut self) -> Result<Found, WfpError> {
        self.with_session(|session| session.engine.read())
    }

    fn transact(&mut self, found: &Found, wanted: &[Object]) -> Result<(), WfpError> {
        let steps = steps(found, wanted);
        self.with_session(|session| {
            session.engine.transact(&steps)?;
            session.watch(wanted);
            Ok(())
        })
    }

    fn bound(&self, filters: &[Filter]) -> Result<Vec<Object>, WfpError> {
        let interfaces = interfaces_of(filters).into_iter().filter_map(|name| luid_of(&name).map(|luid| (name, luid))).collect();
        let bindings = Bindings { interfaces, application: memory::application_id(&self.program)? };
        Ok(bind(filters, &bindings))
    }
}

impl Guarded for Firewall {
    /// Not yet bound to interfaces.
    type Wish = Option<Arc<Vec<Filter>>>;
    type Error = WfpError;
    const NAME: &'static str = "firewall";
    const ALL_OR_NOTHING: bool = true;

    fn every(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn put(&mut self, wish: &Self::Wish) -> Result<Option<String>, WfpError> {
        // The engine first: without one there is nothing to bind for.
        let found = self.read()?;
        let wanted = match wish {
            Some(filters) => self.bound(filters)?,
            None if found.is_empty() => return Ok(None),
            None => Vec::new(),
        };
        self.transact(&found, &wanted)?;
        self.stored = wanted;
        Ok(wish.is_none().then(|| "filters removed".to_owned()))
    }

    fn difference(&mut self, wish: &Self::Wish) -> Result<Option<Difference>, WfpError> {
        let found = self.read()?;
        let Some(filters) = wish else {
            let left = || Difference { what: "filters of ours are there".to_owned(), tampered: true };
            return Ok((!found.is_empty()).then(left));
        };
        let wanted = self.bound(filters)?;
        // A tunnel interface that came or went changes what is wanted; nobody tampered then.
        let tampered = found.difference(&self.stored);
        let differs = |what| Difference { tampered: tampered.is_some(), what: tampered.unwrap_or(what) };
        Ok(found.difference(&wanted).map(differs))
    }

    fn in_words(wish: &Self::Wish) -> &'static str {
        if wish.is_some() { "the filters are those of the policy" } else { "no filter of ours" }
    }
}

impl Session {
    fn open(bell: &Arc<Bell>) -> Result<Self, WfpError> {
        let engine = Engine::open(TRANSACTION_WAIT_MS)?;
        let subscription = match Subscription::start(engine.handle(), Arc::clone(bell)) {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                // The look every few seconds restores as well, only later.
                tracing::warn!(%error, "deleted filters are noticed late");
                None
            }
        };
        Ok(Self { subscription, engine })
    }

    /// Only the deletion of these rings from now on.
    fn watch(&self, objects: &[Object]) {
        if let Some(subscription) = &self.subscription {
            subscription.watch(objects.iter().map(|object| object.key).collect());
        }
    }
}

impl Engine {
    /// Everything under our provider.
    fn read(&self) -> Result<Found, WfpError> {
        let mut found = Found { provider: self.has_provider()?, ..Found::default() };
        for sublayer in Sublayer::ALL {
            if let Some(weight) = self.sublayer_weight(sublayer)? {
                found.sublayers.insert(sublayer, weight);
            }
        }
        for layer in Layer::ALL {
            self.filters_at(layer, &mut found)?;
        }
        Ok(found)
    }

    /// `FwpmProviderGetByKey0`
    fn has_provider(&self) -> Result<bool, WfpError> {
        let key = guid(PROVIDER);
        let mut provider: *mut fwp::FWPM_PROVIDER0 = null_mut();
        // SAFETY: the handle is open, the key lives through the call, and the engine sets the pointer on success only.
        let code = unsafe { fwp::FwpmProviderGetByKey0(self.handle(), &raw const key, &raw mut provider) };
        let _memory = memory::Owned::new(provider);
        memory::found(code, FWP_E_PROVIDER_NOT_FOUND, "FwpmProviderGetByKey0")
    }

    /// `FwpmSubLayerGetByKey0`
    fn sublayer_weight(&self, sublayer: Sublayer) -> Result<Option<u16>, WfpError> {
        let key = guid(sublayer.key());
        let mut answer: *mut fwp::FWPM_SUBLAYER0 = null_mut();
        // SAFETY: the handle is open, the key lives through the call, and the engine sets the pointer on success only.
        let code = unsafe { fwp::FwpmSubLayerGetByKey0(self.handle(), &raw const key, &raw mut answer) };
        let memory = memory::Owned::new(answer);
        let there = memory::found(code, FWP_E_SUBLAYER_NOT_FOUND, "FwpmSubLayerGetByKey0")?;
        Ok(memory.get().filter(|_| there).map(|sublayer| sublayer.weight))
    }

    /// `FwpmFilterEnum0`: ours at one layer, the boot-time and the disabled ones included.
    fn filters_at(&self, layer: Layer, found: &mut Found) -> Result<(), WfpError> {
        let mut provider = guid(PROVIDER);
        let template = fwp::FWPM_FILTER_ENUM_TEMPLATE0 {
            providerKey: &raw mut provider,
            layerKey: memory::layer_key(layer),
            enumType: fwp::FWP_FILTER_ENUM_OVERLAPPING,
            flags: fwp::FWP_FILTER_ENUM_FLAG_INCLUDE_BOOTTIME | fwp::FWP_FILTER_ENUM_FLAG_INCLUDE_DISABLED,
            actionMask: u32::MAX,
            ..Default::default()
        };
        let mut handle: HANDLE = null_mut();
        // SAFETY: the template and what it points to live through the call.
        let code = unsafe { fwp::FwpmFilterCreateEnumHandle0(self.handle(), &raw const template, &raw mut handle) };
        status(code, "FwpmFilterCreateEnumHandle0")?;
        let result = self.pages(handle, found);
        // SAFETY: the handle was made by this session and is destroyed once.
        let _ = unsafe { fwp::FwpmFilterDestroyEnumHandle0(self.handle(), handle) };
        result
    }

    fn pages(&self, handle: HANDLE, found: &mut Found) -> Result<(), WfpError> {
        loop {
            let mut entries: *mut *mut fwp::FWPM_FILTER0 = null_mut();
            let mut count = 0;
            // SAFETY: the handle is one of this session; the engine sets both values on success only.
            let code = unsafe { fwp::FwpmFilterEnum0(self.handle(), handle, PAGE, &raw mut entries, &raw mut count) };
            status(code, "FwpmFilterEnum0")?;
            let page = memory::Page::new(entries, count);
            for filter in page.filters() {
                let key = memory::number(&filter.filterKey);
                found.filters.insert(key, filter_of(filter));
            }
            if count < PAGE {
                return Ok(());
            }
            if found.filters.len() > LIMIT {
                return Err(WfpError::TooMany);
            }
        }
    }

    /// `FwpmTransactionBegin0` to `FwpmTransactionCommit0`: all steps or none.
    fn transact(&self, steps: &[Step<'_>]) -> Result<(), WfpError> {
        if steps.is_empty() {
            return Ok(());
        }
        // SAFETY: the handle is open.
        status(unsafe { fwp::FwpmTransactionBegin0(self.handle(), 0) }, "FwpmTransactionBegin0")?;
        for step in steps {
            if let Err(error) = self.perform(step) {
                // SAFETY: a transaction is open. Should this fail, the engine aborts it when the session is closed.
                let _ = unsafe { fwp::FwpmTransactionAbort0(self.handle()) };
                return Err(error);
            }
        }
        // SAFETY: a transaction is open.
        status(unsafe { fwp::FwpmTransactionCommit0(self.handle()) }, "FwpmTransactionCommit0")
    }

    fn perform(&self, step: &Step<'_>) -> Result<(), WfpError> {
        match step {
            Step::DeleteFilter(key) => {
                let key = guid(*key);
                // SAFETY: the handle is open and the key lives through the call.
                let code = unsafe { fwp::FwpmFilterDeleteByKey0(self.handle(), &raw const key) };
                memory::found(code, FWP_E_FILTER_NOT_FOUND, "FwpmFilterDeleteByKey0").map(drop)
            }
            Step::DeleteSublayer(sublayer) => {
                let key = guid(sublayer.key());
                // SAFETY: the handle is open and the key lives through the call.
                let code = unsafe { fwp::FwpmSubLayerDeleteByKey0(self.handle(), &raw const key) };
                memory::found(code, FWP_E_SUBLAYER_NOT_FOUND, "FwpmSubLayerDeleteByKey0").map(drop)
            }
            Step::DeleteProvider => {
                let key = guid(PROVIDER);
                // SAFETY: the handle is open and the key lives through the call.
                let code = unsafe { fwp::FwpmProviderDeleteByKey0(self.handle(), &raw const key) };
                memory::found(code, FWP_E_PROVIDER_NOT_FOUND, "FwpmProviderDeleteByKey0").map(drop)
            }
            Step::AddProvider => self.add_provider(),
            Step::AddSublayer(sublayer) => self.add_sublayer(*sublayer),
            Step::AddFilter(object) => self.add_filter(object),
        }
    }

    /// `FwpmProviderAdd0`. Without a service name: the engine would set aside the filters of a provider whose service an
    /// administrator disabled, and that must not open the network (G6).
    fn add_provider(&self) -> Result<(), WfpError> {
        let mut name = utf16("Hamn");
        let mut description = utf16("Filters of the Hamn VPN client");
        let provider = fwp::FWPM_PROVIDER0 {
            providerKey: guid(PROVIDER),
            displayData: fwp::FWPM_DISPLAY_DATA0 { name: name.as_mut_ptr(), description: description.as_mut_ptr() },
            flags: fwp::FWPM_PROVIDER_FLAG_PERSISTENT,
            ..Default::default()
        };
        // SAFETY: the provider and what it points to live through the call; the default security descriptor is asked for.
        status(unsafe { fwp::FwpmProviderAdd0(self.handle(), &raw const provider, null_mut()) }, "FwpmProviderAdd0")
    }

    /// `FwpmSubLayerAdd0`
    fn add_sublayer(&self, sublayer: Sublayer) -> Result<(), WfpError> {
        let mut provider = guid(PROVIDER);
        let mut name = utf16(match sublayer {
            Sublayer::Dns => "Hamn: DNS",
            Sublayer::Base => "Hamn",
        });
        let object = fwp::FWPM_SUBLAYER0 {
            subLayerKey: guid(sublayer.key()),
            displayData: fwp::FWPM_DISPLAY_DATA0 { name: name.as_mut_ptr(), description: null_mut() },
            flags: fwp::FWPM_SUBLAYER_FLAG_PERSISTENT,
            providerKey: &raw mut provider,
            weight: sublayer.weight(),
            ..Default::default()
        };
        // SAFETY: the sublayer and what it points to live through the call; the default security descriptor is asked for.
        status(unsafe { fwp::FwpmSubLayerAdd0(self.handle(), &raw const object, null_mut()) }, "FwpmSubLayerAdd0")
    }

    /// `FwpmFilterAdd0`
    fn add_filter(&self, object: &Object) -> Result<(), WfpError> {
        let mut memory = FilterMemory::new(object);
        let filter = memory.filter();
        // SAFETY: the filter points into `memory`, which lives through the call; no id is asked for.
        let code = unsafe { fwp::FwpmFilterAdd0(self.handle(), &raw const filter, null_mut(), null_mut()) };
        status(code, "FwpmFilterAdd0")
    }
}
