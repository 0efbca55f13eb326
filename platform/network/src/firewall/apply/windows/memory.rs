//! Between plain values and the structures of fwpuclnt.dll: what the engine is given, and what it hands out and wants back.

use super::WfpError;
use crate::firewall::compile::wfp::{Layer, Lifetime, PROVIDER, Sublayer, Verdict};
use crate::firewall::compile::wfp_objects::{Comparison, Field, Object, Test, Value};
use std::path::Path;
use std::ptr::{NonNull, null, null_mut};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::NetworkManagement::WindowsFilteringPlatform as fwp;
use windows_sys::Win32::System::Rpc::RPC_C_AUTHN_WINNT;
use windows_sys::core::{GUID, HRESULT};

/// More conditions than any filter of ours has, and bytes than any of them.
const CONDITIONS_LIMIT: usize = 64;
const BLOB_LIMIT: usize = 64 << 10;

/// A session with the engine; closed when dropped.
pub struct Engine(HANDLE);

// SAFETY: the handle stands for an RPC binding, which the documentation ties to no thread.
unsafe impl Send for Engine {}

impl Engine {
    /// `FwpmEngineOpen0`, on this computer, with a session that is not dynamic.
    pub fn open(transaction_wait_ms: u32) -> Result<Self, WfpError> {
        let mut name = utf16("Hamn");
        let session = fwp::FWPM_SESSION0 {
            displayData: fwp::FWPM_DISPLAY_DATA0 { name: name.as_mut_ptr(), description: null_mut() },
            txnWaitTimeoutInMSec: transaction_wait_ms,
            ..Default::default()
        };
        let mut handle: HANDLE = null_mut();
        // SAFETY: the session and its name live through the call; the handle is set on success only.
        let code = unsafe { fwp::FwpmEngineOpen0(null(), RPC_C_AUTHN_WINNT, null(), &raw const session, &raw mut handle) };
        status(code, "FwpmEngineOpen0")?;
        Ok(Self(handle))
    }

    /// For calls; valid as long as the value lives.
    pub const fn handle(&self) -> HANDLE {
        self.0
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: the handle was opened by `open` and is closed once. An open transaction is aborted by this.
        let _ = unsafe { fwp::FwpmEngineClose0(self.0) };
    }
}

/// A result code as a `Result`.
pub const fn status(code: u32, call: &'static str) -> Result<(), WfpError> {
    if code == 0 { Ok(()) } else { Err(WfpError::Call { call, code }) }
}

/// True for success, false for "there is no such object".
pub fn found(code: u32, absent: HRESULT, call: &'static str) -> Result<bool, WfpError> {
    if code == absent.cast_unsigned() { Ok(false) } else { status(code, call).map(|()| true) }
}

/// A key as the engine takes it.
pub const fn guid(number: u128) -> GUID {
    GUID::from_u128(number)
}

/// A key as a number.
pub fn number(guid: &GUID) -> u128 {
    let head = (u128::from(guid.data1) << 96) | (u128::from(guid.data2) << 80) | (u128::from(guid.data3) << 64);
    head | u128::from(u64::from_be_bytes(guid.data4))
}

/// Text with a final zero.
pub fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().chain(std::iter::once(0)).collect()
}

/// `FWPM_LAYER_*`
pub const fn layer_key(layer: Layer) -> GUID {
    match layer {
        Layer::ConnectV4 => fwp::FWPM_LAYER_ALE_AUTH_CONNECT_V4,
        Layer::ConnectV6 => fwp::FWPM_LAYER_ALE_AUTH_CONNECT_V6,
        Layer::AcceptV4 => fwp::FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
        Layer::AcceptV6 => fwp::FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
        Layer::ArriveV4 => fwp::FWPM_LAYER_INBOUND_TRANSPORT_V4,
        Layer::ArriveV6 => fwp::FWPM_LAYER_INBOUND_TRANSPORT_V6,
        Layer::ErrorV4 => fwp::FWPM_LAYER_INBOUND_ICMP_ERROR_V4,
        Layer::ErrorV6 => fwp::FWPM_LAYER_INBOUND_ICMP_ERROR_V6,
        Layer::ForwardV4 => fwp::FWPM_LAYER_IPFORWARD_V4,
        Layer::ForwardV6 => fwp::FWPM_LAYER_IPFORWARD_V6,
    }
}

/// `FWPM_CONDITION_*`
const fn field_key(field: Field) -> GUID {
    match field {
        Field::LocalInterface => fwp::FWPM_CONDITION_IP_LOCAL_INTERFACE,
        Field::Flags => fwp::FWPM_CONDITION_FLAGS,
        Field::LocalAddress => fwp::FWPM_CONDITION_IP_LOCAL_ADDRESS,
        Field::RemoteAddress => fwp::FWPM_CONDITION_IP_REMOTE_ADDRESS,
        Field::Protocol => fwp::FWPM_CONDITION_IP_PROTOCOL,
        Field::LocalPort => fwp::FWPM_CONDITION_IP_LOCAL_PORT,
        Field::RemotePort => fwp::FWPM_CONDITION_IP_REMOTE_PORT,
        Field::Application => fwp::FWPM_CONDITION_ALE_APP_ID,
        Field::User => fwp::FWPM_CONDITION_ALE_USER_ID,
        Field::EmbeddedProtocol => fwp::FWPM_CONDITION_EMBEDDED_PROTOCOL,
        Field::EmbeddedRemoteAddress => fwp::FWPM_CONDITION_EMBEDDED_REMOTE_ADDRESS,
        Field::EmbeddedRemotePort => fwp::FWPM_CONDITION_EMBEDDED_REMOTE_PORT,
    }
}

const fn match_type(test: Test) -> fwp::FWP_MATCH_TYPE {
    match test {
        Test::Equal => fwp::FWP_MATCH_EQUAL,
        Test::NotEqual => fwp::FWP_MATCH_NOT_EQUAL,
        Test::AllSet => fwp::FWP_MATCH_FLAGS_ALL_SET,
        Test::NoneSet => fwp::FWP_MATCH_FLAGS_NONE_SET,
    }
}

/// A block that no filter of another sublayer may turn into a permit; a permit that others may still turn into a block.
const fn flags(lifetime: Lifetime, verdict: Verdict) -> fwp::FWPM_FILTER_FLAGS {
    let lives = match lifetime {
        Lifetime::Persistent => fwp::FWPM_FILTER_FLAG_PERSISTENT,
        Lifetime::BootTime => fwp::FWPM_FILTER_FLAG_BOOTTIME,
    };
    match verdict {
        Verdict::Block => lives | fwp::FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT,
        Verdict::Permit => lives,
    }
}

const fn action(verdict: Verdict) -> fwp::FWP_ACTION_TYPE {
    match verdict {
        Verdict::Permit => fwp::FWP_ACTION_PERMIT,
        Verdict::Block => fwp::FWP_ACTION_BLOCK,
    }
}

/// The application id of a program (`FwpmGetAppIdFromFileName0`).
pub fn application_id(program: &Path) -> Result<Vec<u8>, WfpError> {
    use std::os::windows::ffi::OsStrExt;
    let path: Vec<u16> = program.as_os_str().encode_wide().chain(std::iter::once(0)).collect();
    let mut blob: *mut fwp::FWP_BYTE_BLOB = null_mut();
    // SAFETY: the path ends with a zero; the blob is set on success only.
    let code = unsafe { fwp::FwpmGetAppIdFromFileName0(path.as_ptr(), &raw mut blob) };
    let memory = Owned::new(blob);
    status(code, "FwpmGetAppIdFromFileName0")?;
    let bytes = memory.get().and_then(bytes_of).filter(|bytes| !bytes.is_empty());
    // An empty id would match nothing; it is better to say so.
    bytes.ok_or(WfpError::Call { call: "FwpmGetAppIdFromFileName0", code: 13 })
}

/// Memory that the engine allocated; given back when dropped (`FwpmFreeMemory0`).
pub struct Owned<T>(Option<NonNull<T>>);

impl<T> Owned<T> {
    /// What a call returned; may be null.
    pub const fn new(pointer: *mut T) -> Self {
        Self(NonNull::new(pointer))
    }

    /// The value, unless the call returned none.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: the engine returned it as one initialised value, which lives until it is given back.
        self.0.map(|pointer| unsafe { pointer.as_ref() })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(pointer) = self.0 {
            let mut pointer = pointer.as_ptr().cast();
            // SAFETY: the engine allocated it and it is given back once.
            unsafe { fwp::FwpmFreeMemory0(&raw mut pointer) };
        }
    }
}

/// One answer of `FwpmFilterEnum0`.
pub struct Page {
    entries: Owned<*mut fwp::FWPM_FILTER0>,
    count: usize,
}

impl Page {
    /// What a call returned.
    pub fn new(entries: *mut *mut fwp::FWPM_FILTER0, count: u32) -> Self {
        Self { entries: Owned::new(entries), count: usize::try_from(count).unwrap_or(0) }
    }

    /// The filters in it.
    pub fn filters(&self) -> impl Iterator<Item = &fwp::FWPM_FILTER0> {
        let pointers: &[*mut fwp::FWPM_FILTER0] = match self.entries.0 {
            // SAFETY: the engine returned an array of this many pointers, which lives until it is given back.
            Some(first) => unsafe { std::slice::from_raw_parts(first.as_ptr(), self.count) },
            None => &[],
        };
        // SAFETY: every pointer of the array is null or leads to one initialised filter in the same memory.
        pointers.iter().filter_map(|pointer| unsafe { pointer.as_ref() })
    }
}

/// What a condition points to.
enum Held {
    Nothing,
    U64(u64),
    V4(fwp::FWP_V4_ADDR_AND_MASK),
    V6(fwp::FWP_V6_ADDR_AND_MASK),
    Blob(Vec<u8>, fwp::FWP_BYTE_BLOB),
}

/// Everything that one `FWPM_FILTER0` points to.
pub struct FilterMemory<'a> {
    object: &'a Object,
    name: Vec<u16>,
    provider: GUID,
    weight: u64,
    held: Vec<Held>,
    conditions: Vec<fwp::FWPM_FILTER_CONDITION0>,
}

impl<'a> FilterMemory<'a> {
    /// For this filter.
    pub fn new(object: &'a Object) -> Self {
        let held = object.conditions.iter().map(|condition| hold(&condition.value)).collect();
        let (name, conditions) = (utf16(&object.name), Vec::new());
        Self { object, name, provider: guid(PROVIDER), weight: object.weight, held, conditions }
    }

    /// The structure; valid until this value moves, is used again or dropped.
    pub fn filter(&mut self) -> fwp::FWPM_FILTER0 {
        let pairs = self.object.conditions.iter().zip(&mut self.held);
        self.conditions = pairs.map(|(condition, held)| stored(condition, held)).collect();
        let Object { key, layer, sublayer, verdict, lifetime, .. } = *self.object;
        fwp::FWPM_FILTER0 {
            filterKey: guid(key),
            displayData: fwp::FWPM_DISPLAY_DATA0 { name: self.name.as_mut_ptr(), description: null_mut() },
            flags: flags(lifetime, verdict),
            providerKey: &raw mut self.provider,
            layerKey: layer_key(layer),
            subLayerKey: guid(sublayer.key()),
            weight: fwp::FWP_VALUE0 { r#type: fwp::FWP_UINT64, Anonymous: fwp::FWP_VALUE0_0 { uint64: &raw mut self.weight } },
            numFilterConditions: u32::try_from(self.conditions.len()).unwrap_or(0),
            filterCondition: self.conditions.as_mut_ptr(),
            action: fwp::FWPM_ACTION0 { r#type: action(verdict), ..Default::default() },
            ..Default::default()
        }
    }
}

fn hold(value: &Value) -> Held {
    match value {
        Value::U8(_) | Value::U16(_) | Value::U32(_) => Held::Nothing,
        Value::U64(number) => Held::U64(*number),
        Value::V4(addr, mask) => Held::V4(fwp::FWP_V4_ADDR_AND_MASK { addr: *addr, mask: *mask }),
        Value::V6(addr, length) => Held::V6(fwp::FWP_V6_ADDR_AND_MASK { addr: *addr, prefixLength: *length }),
        Value::Blob(bytes) | Value::SecurityDescriptor(bytes) => Held::Blob(bytes.clone(), fwp::FWP_BYTE_BLOB::default()),
    }
}

fn stored(condition: &Comparison, held: &mut Held) -> fwp::FWPM_FILTER_CONDITION0 {
    use fwp::FWP_CONDITION_VALUE0_0 as Union;
    let (kind, value) = match (&condition.value, held) {
        (Value::U8(uint8), _) => (fwp::FWP_UINT8, Union { uint8: *uint8 }),
        (Value::U16(uint16), _) => (fwp::FWP_UINT16, Union { uint16: *uint16 }),
        (Value::U32(uint32), _) => (fwp::FWP_UINT32, Union { uint32: *uint32 }),
        (_, Held::U64(number)) => (fwp::FWP_UINT64, Union { uint64: &raw mut *number }),
        (_, Held::V4(prefix)) => (fwp::FWP_V4_ADDR_MASK, Union { v4AddrMask: &raw mut *prefix }),
        (_, Held::V6(prefix)) => (fwp::FWP_V6_ADDR_MASK, Union { v6AddrMask: &raw mut *prefix }),
        (value, Held::Blob(bytes, blob)) => {
            *blob = fwp::FWP_BYTE_BLOB { size: u32::try_from(bytes.len()).unwrap_or(0), data: bytes.as_mut_ptr() };
            if matches!(value, Value::SecurityDescriptor(_)) {
                (fwp::FWP_SECURITY_DESCRIPTOR_TYPE, Union { sd: &raw mut *blob })
            } else {
                (fwp::FWP_BYTE_BLOB_TYPE, Union { byteBlob: &raw mut *blob })
            }
        }
        (_, Held::Nothing) => (fwp::FWP_EMPTY, Union { uint64: null_mut() }),
    };
    fwp::FWPM_FILTER_CONDITION0 {
        fieldKey: field_key(condition.field),
        matchType: match_type(condition.test),
        conditionValue: fwp::FWP_CONDITION_VALUE0 { r#type: kind, Anonymous: value },
    }
}

/// A filter as it was read; `None` when it is not one that we could have stored.
pub fn filter_of(filter: &fwp::FWPM_FILTER0) -> Option<Object> {
    let layer = Layer::ALL.into_iter().find(|layer| number(&layer_key(*layer)) == number(&filter.layerKey))?;
    let sublayer = Sublayer::ALL.into_iter().find(|sublayer| sublayer.key() == number(&filter.subLayerKey))?;
    let verdict = [Verdict::Permit, Verdict::Block].into_iter().find(|verdict| action(*verdict) == filter.action.r#type)?;
    // The engine notes whether it indexes a filter; a filter that is disabled is none of ours.
    let noted = filter.flags & !fwp::FWPM_FILTER_FLAG_INDEXED;
    let lifetime = [Lifetime::Persistent, Lifetime::BootTime].into_iter().find(|lives| flags(*lives, verdict) == noted)?;
    let count = usize::try_from(filter.numFilterConditions).ok().filter(|count| *count <= CONDITIONS_LIMIT)?;
    let entries: &[fwp::FWPM_FILTER_CONDITION0] = match NonNull::new(filter.filterCondition) {
        // SAFETY: the engine returned an array of this many conditions with the filter.
        Some(first) => unsafe { std::slice::from_raw_parts(first.as_ptr(), count) },
        None => &[],
    };
    let mut conditions: Vec<Comparison> = entries.iter().map(comparison_of).collect::<Option<_>>()?;
    conditions.sort();
    let weight = weight_of(&filter.weight)?;
    Some(Object { key: number(&filter.filterKey), layer, sublayer, weight, verdict, lifetime, conditions, name: String::new() })
}

fn weight_of(weight: &fwp::FWP_VALUE0) -> Option<u64> {
    if weight.r#type != fwp::FWP_UINT64 {
        return None;
    }
    // SAFETY: the type says which member is set.
    let pointer = unsafe { weight.Anonymous.uint64 };
    // SAFETY: it is null or leads to a number in the engine's answer.
    unsafe { pointer.as_ref() }.copied()
}

fn comparison_of(condition: &fwp::FWPM_FILTER_CONDITION0) -> Option<Comparison> {
    let field = Field::ALL.into_iter().find(|field| number(&field_key(*field)) == number(&condition.fieldKey))?;
    let tests = [Test::Equal, Test::NotEqual, Test::AllSet, Test::NoneSet];
    let test = tests.into_iter().find(|test| match_type(*test) == condition.matchType)?;
    Some(Comparison { field, test, value: value_of(field, &condition.conditionValue)? })
}

fn value_of(field: Field, value: &fwp::FWP_CONDITION_VALUE0) -> Option<Value> {
    let union = &value.Anonymous;
    let is_address = matches!(field, Field::LocalAddress | Field::RemoteAddress | Field::EmbeddedRemoteAddress);
    match value.r#type {
        // SAFETY: the type says which member is set; all of these are numbers.
        fwp::FWP_UINT8 => Some(Value::U8(unsafe { union.uint8 })),
        // SAFETY: as above.
        fwp::FWP_UINT16 => Some(Value::U16(unsafe { union.uint16 })),
        fwp::FWP_UINT32 => {
            // SAFETY: as above.
            let number = unsafe { union.uint32 };
            Some(if is_address { Value::V4(number, u32::MAX) } else { Value::U32(number) })
        }
        fwp::FWP_UINT64 => {
            // SAFETY: the type says which member is set.
            let pointer = unsafe { union.uint64 };
            // SAFETY: it is null or leads to a number in the engine's answer.
            unsafe { pointer.as_ref() }.copied().map(Value::U64)
        }
        fwp::FWP_V4_ADDR_MASK => {
            // SAFETY: the type says which member is set.
            let pointer = unsafe { union.v4AddrMask };
            // SAFETY: it is null or leads to a prefix in the engine's answer.
            unsafe { pointer.as_ref() }.map(|prefix| Value::V4(prefix.addr, prefix.mask))
        }
        fwp::FWP_V6_ADDR_MASK => {
            // SAFETY: the type says which member is set.
            let pointer = unsafe { union.v6AddrMask };
            // SAFETY: it is null or leads to a prefix in the engine's answer.
            unsafe { pointer.as_ref() }.map(|prefix| Value::V6(prefix.addr, prefix.prefixLength))
        }
        fwp::FWP_BYTE_BLOB_TYPE => {
            // SAFETY: the type says which member is set.
            let pointer = unsafe { union.byteBlob };
            // SAFETY: it is null or leads to a blob in the engine's answer.
            unsafe { pointer.as_ref() }.and_then(bytes_of).map(Value::Blob)
        }
        fwp::FWP_SECURITY_DESCRIPTOR_TYPE => {
            // SAFETY: the type says which member is set.
            let pointer = unsafe { union.sd };
            // SAFETY: it is null or leads to a blob in the engine's answer.
            unsafe { pointer.as_ref() }.and_then(bytes_of).map(Value::SecurityDescriptor)
        }
        _ => None,
    }
}

fn bytes_of(blob: &fwp::FWP_BYTE_BLOB) -> Option<Vec<u8>> {
    let length = usize::try_from(blob.size).ok().filter(|length| *length <= BLOB_LIMIT)?;
    let first = NonNull::new(blob.data)?;
    // SAFETY: the blob says how many bytes it has, and they live as long as it does.
    Some(unsafe { std::slice::from_raw_parts(first.as_ptr(), length) }.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Ruleset;
    use crate::firewall::compile::wfp;
    use crate::firewall::compile::wfp_objects::{Bindings, bind};
    use hamn_core::net::{Endpoint, InterfaceName};
    use hamn_core::policy::{Enforced, TunnelAccess, TunnelTraffic};

    /// What is handed to the engine reads back as what was meant, with every kind of condition, without an engine.
    #[test]
    fn every_filter_survives_the_structures_of_the_engine() {
        let tunnel = TunnelAccess {
            interface: InterfaceName::tunnel(),
            addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
            traffic: TunnelTraffic::Everything { carries: vec!["0.0.0.0/0".parse().unwrap()] },
            resolvers: vec!["10.64.0.1".parse().unwrap()],
            lan_resolvers: Vec::new(),
        };
        let endpoints = ["192.0.2.1:51820", "[2001:db8::1]:51820"].map(|text| Endpoint::udp(text.parse().unwrap()));
        let lan = vec!["192.168.1.0/24".parse().unwrap()];
        let policy = Enforced { endpoints: endpoints.to_vec(), tunnel: Some(tunnel), lan, api: Vec::new() };
        let interfaces = [(InterfaceName::tunnel(), 0x0006_0008_0000_0000)].into();
        let bindings = Bindings {
            interfaces,
            application: utf16(r"\device\x\hamn-helper.exe").iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        };
        let objects = bind(&wfp::compile(&Ruleset::enforce(&policy)), &bindings);
        assert!(objects.len() > 50, "{}", objects.len());
        for object in objects {
            let mut memory = FilterMemory::new(&object);
            let read = filter_of(&memory.filter()).unwrap();
            assert_eq!(read, Object { name: String::new(), ..object.clone() });
            assert_eq!(read.content_key(), object.key);
        }
    }

    #[test]
    fn keys_survive_the_guid() {
        assert_eq!(number(&guid(PROVIDER)), PROVIDER);
    }
}
