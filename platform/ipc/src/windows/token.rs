//! Access tokens: who runs this process, and who opened the other end of a pipe.
#![expect(unsafe_code, reason = "the Windows API")]

use super::security::grow;
use crate::caller::{Sid, WindowsToken};
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::thread;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Security::{
    GetTokenInformation, IsTokenRestricted, RevertToSelf, TOKEN_INFORMATION_CLASS, TOKEN_QUERY, TokenElevation, TokenGroups,
    TokenIntegrityLevel, TokenIsAppContainer, TokenSessionId, TokenUser,
};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken};

/// `SE_GROUP_ENABLED` and `SE_GROUP_USE_FOR_DENY_ONLY` (`TOKEN_GROUPS`, learn.microsoft.com, winnt.h).
const ENABLED: u32 = 0x4;
const FOR_REFUSALS_ONLY: u32 = 0x10;

/// An access token that may be read.
#[derive(Debug)]
pub(crate) struct Token(OwnedHandle);

impl Token {
    /// That of this process.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn own() -> io::Result<Self> {
        // SAFETY: the call takes nothing; its answer is a number that needs no closing.
        let process = unsafe { GetCurrentProcess() };
        let mut token: HANDLE = std::ptr::null_mut();
        // SAFETY: `token` takes one handle.
        let done = unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) };
        Self::made(done, token)
    }

    /// That of whoever opened the other end of `pipe`, as it was at that moment: the helper has read nothing yet, so that a client
    /// which lets the last writer count (dynamic tracking, what `CreateFile` does without `SECURITY_SQOS_PRESENT`) is not known
    /// (`ERROR_CANNOT_IMPERSONATE`) and gets refused. Nobody can borrow the rights of a process by making it write.
    ///
    /// The thread that wears the client's identity is made for this call and ends with it: should it be unable to take it off,
    /// no other work is ever done under it, and the connection is refused.
    ///
    /// # Errors
    /// The client is anonymous or not known; the thread's own identity did not come back.
    pub(crate) fn of_client(pipe: BorrowedHandle<'_>) -> io::Result<Self> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("identify".to_owned()).spawn_scoped(scope, || impersonate(pipe))?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a client could not be identified")))
        })
    }

    fn made(done: i32, token: HANDLE) -> io::Result<Self> {
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made for us just now, and nobody else knows it.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(token) }))
    }

    /// The user.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn user(&self) -> io::Result<Sid> {
        self.read(TokenUser)?.sid(0).ok_or_else(unreadable)
    }

    /// All that decisions are made of. What cannot be read makes the caller unknown.
    ///
    /// # Errors
    /// The system does not tell everything.
    pub(crate) fn facts(&self) -> io::Result<WindowsToken> {
        let label = self.read(TokenIntegrityLevel)?.sid(0).ok_or_else(unreadable)?;
        let integrity = label.as_str().rsplit('-').next().and_then(|level| level.parse().ok());
        // SAFETY: the token is open and may be read.
        let restricted = unsafe { IsTokenRestricted(self.0.as_raw_handle()) } != 0;
        Ok(WindowsToken {
            user: self.user()?,
            session: self.read(TokenSessionId)?.number(0).ok_or_else(unreadable)?,
            groups: self.read(TokenGroups)?.groups().ok_or_else(unreadable)?,
            elevated: self.read(TokenElevation)?.number(0).ok_or_else(unreadable)? != 0,
            integrity: integrity.ok_or_else(unreadable)?,
            app_container: self.read(TokenIsAppContainer)?.number(0).ok_or_else(unreadable)? != 0,
            restricted,
        })
    }

    /// `GetTokenInformation` (learn.microsoft.com, securitybaseapi.h).
    fn read(&self, class: TOKEN_INFORMATION_CLASS) -> io::Result<Answer> {
        // Words, so that the structures in it lie as they must.
        let mut words: Vec<usize> = vec![0; 16];
        loop {
            let size = u32::try_from(size_of_val(words.as_slice())).map_err(io::Error::other)?;
            let mut needed = 0;
            // SAFETY: `words` has room for `size` bytes and `needed` takes one number.
            let done =
                unsafe { GetTokenInformation(self.0.as_raw_handle(), class, words.as_mut_ptr().cast(), size, &raw mut needed) };
            if done != 0 {
                break;
            }
            grow(&mut words, needed)?;
        }
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(Answer { base: words.as_ptr().addr(), bytes })
    }
}

fn impersonate(pipe: BorrowedHandle<'_>) -> io::Result<Token> {
    // SAFETY: the pipe's handle is open through the call. `ImpersonateNamedPipeClient`, learn.microsoft.com, namedpipeapi.h.
    if unsafe { ImpersonateNamedPipeClient(pipe.as_raw_handle()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let token = thread_token();
    // SAFETY: the call takes nothing and concerns this thread alone.
    if unsafe { RevertToSelf() } == 0 {
        return Err(io::Error::last_os_error());
    }
    token
}

/// The client's token on this thread; opened in the process's own name, for the client's may open nothing.
fn thread_token() -> io::Result<Token> {
    // SAFETY: the call takes nothing; its answer is a number that needs no closing.
    let this = unsafe { GetCurrentThread() };
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: `token` takes one handle.
    let done = unsafe { OpenThreadToken(this, TOKEN_QUERY, 1, &raw mut token) };
    Token::made(done, token)
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a token says what is not understood")
}

/// What a token said: structures whose pointers lead into the same memory, which began at `base` when it was filled.
struct Answer {
    base: usize,
    bytes: Vec<u8>,
}

impl Answer {
    const WORD: usize = size_of::<usize>();
    /// `SID_AND_ATTRIBUTES`: a pointer and a number, filled up to words.
    const ENTRY: usize = 2 * Self::WORD;

    fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.bytes.get(at..)?.first_chunk::<4>()?))
    }

    /// The identifier that the pointer at `at` leads to.
    fn sid(&self, at: usize) -> Option<Sid> {
        let pointer = usize::from_ne_bytes(*self.bytes.get(at..)?.first_chunk::<{ size_of::<usize>() }>()?);
        Sid::from_bytes(self.bytes.get(pointer.checked_sub(self.base)?..)?)
    }

    /// The groups that count (`TOKEN_GROUPS`): one that cannot be read makes all unknown, for it may be one of refusals.
    fn groups(&self) -> Option<Vec<Sid>> {
        let count = usize::try_from(self.number(0)?).ok()?;
        let mut groups = Vec::new();
        for at in (Self::WORD..self.bytes.len()).step_by(Self::ENTRY).take(count) {
            let attributes = self.number(at + Self::WORD)?;
            if attributes & (ENABLED | FOR_REFUSALS_ONLY) == ENABLED {
                groups.push(self.sid(at)?);
            }
        }
        Some(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let facts = Token::own().unwrap().facts().unwrap();
        println!("{facts:?}");
        assert_eq!(facts.user, Token::own().unwrap().user().unwrap());
        assert!(!facts.groups.is_empty() && facts.is_local());
        assert!(facts.groups.iter().any(|group| group.is("S-1-1-0")), "everybody is in Everyone: {facts:?}");
    }

    #[test]
    fn groups_for_refusals_do_not_count_and_broken_answers_are_no_answers() {
        let sid = [1_u8, 1, 0, 0, 0, 0, 0, 5, 4, 0, 0, 0, 0, 0, 0, 0];
        let base = 0x1000_usize;
        let entry = |attributes: u32, at: usize| {
            let mut entry = (base + at).to_ne_bytes().to_vec();
            entry.extend_from_slice(&attributes.to_ne_bytes());
            entry.resize(Answer::ENTRY, 0);
            entry
        };
        let place = Answer::WORD + 3 * Answer::ENTRY;
        let answer = |place: usize| {
            let mut bytes = 3_u32.to_ne_bytes().to_vec();
            bytes.resize(Answer::WORD, 0);
            for attributes in [7, FOR_REFUSALS_ONLY, ENABLED | FOR_REFUSALS_ONLY] {
                bytes.extend(entry(attributes, place));
            }
            bytes.extend_from_slice(&sid);
            Answer { base, bytes }.groups()
        };
        assert_eq!(answer(place), Some(vec![Sid::parse(Sid::INTERACTIVE).unwrap()]));
        assert_eq!(answer(place + 100), None);
        assert_eq!(Answer { base, bytes: Vec::new() }.groups(), None);
        assert_eq!(Answer { base: usize::MAX, bytes: vec![0; 32] }.sid(0), None);
    }
}
