//! The anchor in macOS's packet filter, through `/dev/pf` (`pf(4)`; the calls are those of xnu's `net/pfvar.h`).
//!
//! No program is run and no text is parsed: rules are written and read back as the kernel's structures. An anchor does
//! nothing unless the main ruleset leads into it, so that reference is kept as the first of its rules, where no other rule
//! can decide before ours. The filter itself is switched on with a token, which keeps it on for us whoever else lets go.

#![expect(unsafe_code, reason = "ioctl is a foreign function")]

use crate::files;
use crate::firewall::compile::pf::PfRule;
use crate::firewall::compile::pf_states::{self, KILL, RECORD, end_all};
use crate::firewall::compile::pf_wire::{Change, Request, TRANSACTION, Transaction};
use calls::{Flags, List, PoolAddress, StateKill, Status, Token, TransactionList};
use nix::errno::Errno;
use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const DEVICE: &str = "/dev/pf";
const TOKEN_FILE: &str = "pf-token";
/// `sizeof(struct pfioc_token)`, which is packed; the value comes first.
const TOKEN_RECORD: usize = 84;
/// `PFI_IFLAG_SKIP`: the filter is not asked on such an interface.
const SKIP: c_int = 0x0100;
const LOOPBACK: &str = "lo0";
/// More rules than this in one ruleset are not read.
const RULES_LIMIT: u32 = 10_000;
/// More states than this are not looked at one by one: all are ended.
const STATES_LIMIT: usize = 20_000;
/// States and tokens that may be added between asking for the size and reading.
const SLACK: usize = 64;
/// A ruleset that another program changes while it is read is read anew so often.
const ATTEMPTS: usize = 5;

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum PfError {
    /// The device.
    #[error("cannot open {DEVICE}: {0}")]
    Device(#[source] io::Error),
    /// The kernel refused.
    #[error("the packet filter refuses to {action}: {source}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// Other programs change the rules faster than they can be read.
    #[error("the rules change while they are read")]
    Restless,
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {0}")]
    Interfaces(#[source] Errno),
    /// The note of the token.
    #[error("cannot remove the note of the packet filter's token: {0}")]
    Note(#[source] io::Error),
}

const fn refused(action: &'static str) -> impl Fn(Errno) -> PfError {
    move |source| PfError::Refused { action, source }
}

/// The packet filter.
#[derive(Debug)]
pub struct Pf {
    device: File,
    token: PathBuf,
}

impl Pf {
    /// Opens it; the note of our token is kept in this directory, which exists. Nothing is changed.
    ///
    /// # Errors
    /// No device, or not root.
    pub fn open(state_dir: &Path) -> Result<Self, PfError> {
        let device =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(DEVICE).map_err(PfError::Device)?;
        Ok(Self { device, token: state_dir.join(TOKEN_FILE) })
    }

    /// Puts the rules in force. The anchor changes in one step (G4), from which on no state of an earlier rule passes what
    /// the new ones refuse (G5).
    ///
    /// # Errors
    /// What was in force before is not opened by a failure.
    pub fn enforce(&self, rules: &[PfRule]) -> Result<(), PfError> {
        self.load(rules)?;
        self.lead_to_anchor()?;
        self.switch_on()?;
        self.skip_nothing()?;
        self.end_states(rules)
    }

    /// In what the kernel differs, in words; `None` when the rules are in force.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn difference(&self, rules: &[PfRule]) -> Result<Option<String>, PfError> {
        if !self.is_on()? {
            return Ok(Some("the packet filter was switched off".to_owned()));
        }
        if !self.read(&Request::main())?.first().is_some_and(Request::is_reference) {
            return Ok(Some("the main ruleset does not lead to our rules first".to_owned()));
        }
        let held = self.read(&Request::anchor())?;
        if held.len() != rules.len() {
            return Ok(Some(format!("{} rules instead of {}", held.len(), rules.len())));
        }
        let differs = |(held, rule): &(&Request, &PfRule)| !held.leads_nowhere() || !held.same_rule(&Request::rule(rule));
        let changed = held.iter().zip(rules).find(differs);
        Ok(changed.map(|(_, rule)| format!("another rule instead of \"{rule}\"")))
    }

    /// True when anything of ours is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_present(&self) -> Result<bool, PfError> {
        let leads = self.read(&Request::main())?.iter().any(Request::is_reference);
        Ok(leads || self.token.exists() || !self.read(&Request::anchor())?.is_empty())
    }

    /// Removes the reference, the rules and the token. The filter goes off if nobody else keeps it on.
    ///
    /// # Errors
    /// The kernel refuses; what could be removed is.
    pub fn remove(&self) -> Result<(), PfError> {
        let reference = self.remove_references(0);
        let rules = self.load(&[]);
        let token = self.let_go();
        reference.and(rules).and(token)
    }

    /// Takes a flag away that another program set, by which the filter is not asked on an interface (`set skip on en0`).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn skip_nothing(&self) -> Result<(), PfError> {
        let interfaces = nix::net::if_::if_nameindex().map_err(PfError::Interfaces)?;
        let names = interfaces.iter().map(|interface| interface.name().to_bytes());
        for name in names.filter(|name| *name != LOOPBACK.as_bytes()) {
            let mut flags = Flags::of(name, SKIP);
            // SAFETY: the structure has the size and layout that the call expects and is ours while it runs.
            unsafe { calls::clear_interface_flag(self.device.as_raw_fd(), &raw mut flags) }.map_err(refused("filter a link"))?;
        }
        Ok(())
    }

    /// One transaction: all rules or none.
    fn load(&self, rules: &[PfRule]) -> Result<(), PfError> {
        let mut transaction = Transaction::new();
        self.transact(calls::begin, &mut transaction, "begin")?;
        let added = rules.iter().try_for_each(|rule| {
            let request = Request::rule(rule).ticket(transaction.ticket()).pool_ticket(self.pool_ticket()?);
            self.ask(calls::add_rule, request, "take a rule").map(drop)
        });
        match added {
            Ok(()) => self.transact(calls::commit, &mut transaction, "commit"),
            Err(error) => {
                if let Err(error) = self.transact(calls::roll_back, &mut transaction, "roll back") {
                    tracing::warn!(%error, "a transaction of the packet filter stays open until the next one");
                }
                Err(error)
            }
        }
    }

    fn transact(
        &self,
        call: calls::Call<TransactionList>,
        element: &mut Transaction,
        action: &'static str,
    ) -> Result<(), PfError> {
        let element_size = c_int::try_from(TRANSACTION).unwrap_or(c_int::MAX);
        let mut list = TransactionList { size: 1, element_size, elements: element };
        // SAFETY: the list says one element, which lives and is ours while the call runs, and how large it is.
        unsafe { call(self.device.as_raw_fd(), &raw mut list) }.map(drop).map_err(refused(action))
    }

    /// The first rule of the main ruleset shall be the one that leads to ours. A reference in a later place is removed only
    /// after the first is there.
    fn lead_to_anchor(&self) -> Result<(), PfError> {
        if !self.read(&Request::main())?.first().is_some_and(Request::is_reference) {
            let ticket = self.main_ticket()?;
            let request = Request::reference().ticket(ticket).pool_ticket(self.pool_ticket()?).change(Change::AddHead);
            self.ask(calls::change_rule, request, "refer to our rules")?;
        }
        self.remove_references(1)
    }

    /// Removes references to our anchor, but not the first `keep` rules.
    fn remove_references(&self, keep: usize) -> Result<(), PfError> {
        // From the end, so that the numbers of the others stay.
        let rules = self.read(&Request::main())?;
        let ours: Vec<usize> =
            rules.iter().enumerate().skip(keep).filter(|(_, rule)| rule.is_reference()).map(|(n, _)| n).collect();
        for number in ours.into_iter().rev() {
            let ticket = self.main_ticket()?;
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            // Asked again by number: another program may have changed the ruleset meanwhile.
            let held = self.ask(calls::get_rule, Request::main().ticket(ticket).number(number), "show a rule")?;
            if held.is_reference() {
                let request = Request::reference().ticket(ticket).number(number).change(Change::Remove);
                self.ask(calls::change_rule, request, "remove the reference to our rules")?;
            }
        }
        Ok(())
    }

    fn main_ticket(&self) -> Result<u32, PfError> {
        let request = Request::main().change(Change::GetTicket);
        self.ask(calls::change_rule, request, "give a ticket").map(|answer| answer.given_ticket())
    }

    /// Needed anew for every rule, although our rules have no address pool.
    fn pool_ticket(&self) -> Result<u32, PfError> {
        let mut pool = PoolAddress::new();
        // SAFETY: the structure has the size and layout that the call expects and is ours while it runs.
        unsafe { calls::begin_addresses(self.device.as_raw_fd(), &raw mut pool) }.map_err(refused("begin a pool"))?;
        Ok(pool.ticket())
    }

    /// All rules of one ruleset. One that does not exist has none.
    fn read(&self, ruleset: &Request) -> Result<Vec<Request>, PfError> {
        for _ in 0..ATTEMPTS {
            let count = match self.ask(calls::get_rules, ruleset.clone(), "list rules") {
                Ok(answer) => answer,
                Err(PfError::Refused { source: Errno::EINVAL, .. }) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let rules: Result<Vec<Request>, PfError> = (0..count.count().min(RULES_LIMIT))
                .map(|number| {
                    self.ask(calls::get_rule, ruleset.clone().ticket(count.given_ticket()).number(number), "show a rule")
                })
                .collect();
            match rules {
                // The ticket is no longer that of the ruleset.
                Err(PfError::Refused { source: Errno::EBUSY, .. }) => {}
                other => return other,
            }
        }
        Err(PfError::Restless)
    }

    fn ask(&self, call: calls::Call<Request>, mut request: Request, action: &'static str) -> Result<Request, PfError> {
        // SAFETY: the structure has the size and layout that the call expects and is ours while it runs.
        unsafe { call(self.device.as_raw_fd(), &raw mut request) }.map_err(refused(action))?;
        Ok(request)
    }

    fn is_on(&self) -> Result<bool, PfError> {
        let mut status = Status::new();
        // SAFETY: the structure has the size and layout that the call expects and is ours while it runs.
        unsafe { calls::get_status(self.device.as_raw_fd(), &raw mut status) }.map_err(refused("tell its state"))?;
        Ok(status.is_running())
    }

    /// Switches the filter on and holds a token, unless both are so. A token of an earlier process of ours counts.
    fn switch_on(&self) -> Result<(), PfError> {
        if self.is_on()? && self.noted_token().is_some_and(|token| self.tokens().contains(&token)) {
            return Ok(());
        }
        let mut token = 0_u64;
        // SAFETY: the kernel writes eight bytes there.
        unsafe { calls::start_with_token(self.device.as_raw_fd(), &raw mut token) }.map_err(refused("start"))?;
        if let Err(error) = files::write_atomically(&self.token, &token.to_ne_bytes(), 0o600) {
            // The filter then stays on until the next boot: closed rather than open.
            tracing::warn!(%error, "the packet filter's token cannot be noted");
        }
        Ok(())
    }

    fn noted_token(&self) -> Option<u64> {
        let bytes = files::read_bounded(&self.token, 8).ok()?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    }

    /// The tokens that the kernel knows; none of those of an earlier boot, nor any after somebody switched the filter off.
    fn tokens(&self) -> Vec<u64> {
        let records = match self.list(calls::get_starters, TOKEN_RECORD) {
            Ok(records) => records,
            // There are none.
            Err(Errno::ENOENT) => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the packet filter's tokens cannot be listed");
                return Vec::new();
            }
        };
        let value = |record: &[u8]| record.get(..8)?.try_into().ok().map(u64::from_ne_bytes);
        records.chunks_exact(TOKEN_RECORD).filter_map(value).collect()
    }

    fn let_go(&self) -> Result<(), PfError> {
        let Some(token) = self.noted_token() else { return self.forget_token() };
        if self.tokens().contains(&token) {
            let mut token = Token { value: token, references: 0 };
            // SAFETY: the structure has the size and layout that the call expects and is ours while it runs.
            unsafe { calls::stop_with_token(self.device.as_raw_fd(), &raw mut token) }.map_err(refused("let go"))?;
        }
        self.forget_token()
    }

    fn forget_token(&self) -> Result<(), PfError> {
        match std::fs::remove_file(&self.token) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PfError::Note(error)),
            _ => Ok(()),
        }
    }

    /// Ends the states that may not outlive the change; all of them when they cannot be told apart.
    fn end_states(&self, rules: &[PfRule]) -> Result<(), PfError> {
        let records = self.list(calls::get_states, RECORD).map_err(refused("list states"))?;
        let states = pf_states::read(&records);
        // The reference to our rules is the first of the main ruleset.
        let (stay, end): (Vec<_>, Vec<_>) = states.iter().partition(|state| state.may_stay(rules, 0));
        let all_read = states.len() == records.len() / RECORD && states.len() < STATES_LIMIT;
        if stay.is_empty() || !all_read {
            return self.end(calls::clear_states, end_all());
        }
        end.into_iter().try_for_each(|state| self.end(calls::kill_states, state.end()))
    }

    fn end(&self, call: calls::Call<StateKill>, request: [u8; KILL]) -> Result<(), PfError> {
        let mut request = StateKill { bytes: request };
        // SAFETY: the structure has the size and layout that the call expects and is ours while it runs.
        unsafe { call(self.device.as_raw_fd(), &raw mut request) }.map(drop).map_err(refused("end a state"))
    }

    /// Records of a list: first asked for its size, then read into a buffer with some room to grow.
    fn list(&self, call: calls::Call<List>, record: usize) -> Result<Vec<u8>, Errno> {
        let mut list = List { length: 0, buffer: std::ptr::null_mut() };
        // SAFETY: a length of zero asks for the size; no buffer is touched.
        unsafe { call(self.device.as_raw_fd(), &raw mut list) }?;
        let size = usize::try_from(list.length).unwrap_or(0).min(STATES_LIMIT * record) + SLACK * record;
        let mut buffer = vec![0_u8; size];
        let mut list = List { length: c_int::try_from(size).unwrap_or(c_int::MAX), buffer: buffer.as_mut_ptr() };
        // SAFETY: the list says the length of the buffer, which lives and is ours while the call runs.
        unsafe { call(self.device.as_raw_fd(), &raw mut list) }?;
        buffer.truncate(usize::try_from(list.length).unwrap_or(0));
        Ok(buffer)
    }
}

/// The `ioctl` numbers of `net/pfvar.h` and the structures that are not built elsewhere.
mod calls {
    use crate::firewall::compile::pf_states::KILL;
    use crate::firewall::compile::pf_wire::{Request, Transaction};
    use std::ffi::c_int;

    /// One call with the structure that it reads and writes.
    pub(super) type Call<T> = unsafe fn(c_int, *mut T) -> nix::Result<c_int>;

    nix::ioctl_readwrite!(add_rule, b'D', 4, Request);
    nix::ioctl_readwrite!(get_starters, b'D', 5, List);
    nix::ioctl_readwrite!(get_rules, b'D', 6, Request);
    nix::ioctl_readwrite!(get_rule, b'D', 7, Request);
    nix::ioctl_read!(start_with_token, b'D', 8, u64);
    nix::ioctl_readwrite!(stop_with_token, b'D', 9, Token);
    nix::ioctl_readwrite!(clear_states, b'D', 18, StateKill);
    nix::ioctl_readwrite!(get_status, b'D', 21, Status);
    nix::ioctl_readwrite!(get_states, b'D', 25, List);
    nix::ioctl_readwrite!(change_rule, b'D', 26, Request);
    nix::ioctl_readwrite!(kill_states, b'D', 41, StateKill);
    nix::ioctl_readwrite!(begin_addresses, b'D', 51, PoolAddress);
    nix::ioctl_readwrite!(begin, b'D', 81, TransactionList);
    nix::ioctl_readwrite!(commit, b'D', 82, TransactionList);
    nix::ioctl_readwrite!(roll_back, b'D', 83, TransactionList);
    nix::ioctl_readwrite!(clear_interface_flag, b'D', 90, Flags);

    /// `struct pfioc_trans`
    #[repr(C)]
    pub(super) struct TransactionList {
        pub(super) size: c_int,
        pub(super) element_size: c_int,
        pub(super) elements: *mut Transaction,
    }

    /// `struct pfioc_states` and `struct pfioc_tokens`
    #[repr(C)]
    pub(super) struct List {
        pub(super) length: c_int,
        pub(super) buffer: *mut u8,
    }

    /// `struct pfioc_remove_token`
    #[repr(C)]
    pub(super) struct Token {
        pub(super) value: u64,
        pub(super) references: u64,
    }

    /// `struct pfioc_state_kill`
    #[repr(C, align(8))]
    pub(super) struct StateKill {
        pub(super) bytes: [u8; KILL],
    }

    /// `struct pf_status`
    #[repr(C, align(8))]
    pub(super) struct Status {
        bytes: [u8; 440],
    }

    impl Status {
        pub(super) const fn new() -> Self {
            Self { bytes: [0; 440] }
        }

        pub(super) fn is_running(&self) -> bool {
            self.bytes.get(376..380).is_some_and(|running| running.iter().any(|byte| *byte != 0))
        }
    }

    /// `struct pfioc_pooladdr`
    #[repr(C, align(8))]
    pub(super) struct PoolAddress {
        bytes: [u8; 1136],
    }

    impl PoolAddress {
        pub(super) const fn new() -> Self {
            Self { bytes: [0; 1136] }
        }

        pub(super) fn ticket(&self) -> u32 {
            let field = self.bytes.get(4..8).and_then(|field| field.try_into().ok());
            field.map_or(0, u32::from_ne_bytes)
        }
    }

    /// `struct pfioc_iface`
    #[repr(C)]
    pub(super) struct Flags {
        name: [u8; 16],
        buffer: *mut u8,
        element_size: c_int,
        size: c_int,
        zeroed: c_int,
        flags: c_int,
    }

    impl Flags {
        pub(super) fn of(interface: &[u8], flags: c_int) -> Self {
            let mut name = [0; 16];
            for (byte, given) in name.iter_mut().take(15).zip(interface) {
                *byte = *given;
            }
            Self { name, buffer: std::ptr::null_mut(), element_size: 0, size: 0, zeroed: 0, flags }
        }
    }
}
