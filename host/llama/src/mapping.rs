//! A model's file is mapped into memory, and the kernel fetches its pages as they are needed. When a page is not there any more,
//! because the file was cut short in place or its volume failed, the process gets SIGBUS at whichever weight it was reading,
//! and would die of it without a word. It dies with one.
//!
//! There is nothing to go on with: the weights that are left may be those of another file. Who replaces a model writes a new
//! file and renames it, as `outrigger pull` does; then the old one stays mapped.

use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// A signal handler may neither allocate nor format: all that it may have to say is here.
struct Mapped {
    path: CString,
    size: u64,
    was_cut: Box<[u8]>,
    is_unreadable: Box<[u8]>,
    next: *const Mapped,
}

/// The models that were loaded, the last one first. Leaked, as a handler may run at any moment; each file is there once.
static MAPPED: AtomicPtr<Mapped> = AtomicPtr::new(ptr::null_mut());

static INSTALL: Once = Once::new();

/// From now on, a page of this file that is not there ends the process with a sentence.
pub(crate) fn watch(path: CString, size: u64) {
    // Under a lock that only this takes: the handler reads a list to which nothing but a new head is ever added.
    static WATCHING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    if all().any(|mapped| mapped.path == path && mapped.size == size) {
        return;
    }
    let shown = path.to_string_lossy();
    let was_cut = format!(
        "error: the model {shown} was cut short while it was served, and cannot be used any more; put the whole file back and \
         start again. Replace a model by renaming another file to its name, never in place.\n"
    );
    let is_unreadable = format!(
        "error: a part of the model {shown} cannot be read any more: its volume failed, or one of its files was changed while it \
         was served. Check the volume and the file, and start again.\n"
    );
    let was_cut = was_cut.into_bytes().into();
    let mapped = Mapped {
        was_cut,
        is_unreadable: is_unreadable.into_bytes().into(),
        path,
        size,
        next: MAPPED.load(Ordering::Acquire),
    };
    MAPPED.store(Box::into_raw(Box::new(mapped)), Ordering::Release);

    // SAFETY: the structure is plain and zero is a valid value of it; the handler only does what handlers may do. On Linux
    // x86-64 and arm64 nothing else in this process handles SIGBUS (wasmtime's traps come as SIGSEGV, SIGILL and SIGFPE).
    INSTALL.call_once(|| unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigemptyset(&raw mut action.sa_mask);
        if libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) != 0 {
            tracing::debug!("SIGBUS is not handled: {}", std::io::Error::last_os_error());
        }
    });
}

/// The models that were loaded, the last one first.
fn all() -> impl Iterator<Item = &'static Mapped> {
    // SAFETY: null, or a `Mapped` that is never freed and never changed, and so on along the list.
    let first = unsafe { MAPPED.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |mapped| unsafe { mapped.next.as_ref() })
}

/// Only `stat`, `write` and `_exit`, which are safe in a signal handler (signal-safety(7)).
extern "C" fn on_bus_error(_signal: i32, _information: *mut libc::siginfo_t, _context: *mut c_void) {
    let is_shorter = |mapped: &&Mapped| {
        let mut status = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the path is NUL-terminated and the buffer is one `stat`, zeroed before.
        let (found, size) = unsafe {
            let found = libc::stat(mapped.path.as_ptr(), status.as_mut_ptr()) == 0;
            (found, status.assume_init().st_size)
        };
        found && u64::try_from(size).is_ok_and(|size| size < mapped.size)
    };
    let say = |words: &[u8]| {
        // SAFETY: the buffer is as long as said. What cannot be said is left unsaid.
        let _ = unsafe { libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) };
    };
    if let Some(cut) = all().find(is_shorter) {
        say(&cut.was_cut);
    } else {
        if all().nth(1).is_some() {
            say(b"error: one of the models cannot be read any more, and it is not known which:\n");
        }
        all().for_each(|mapped| say(&mapped.is_unreadable));
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) };
}
