//! Ctrl-C, so that it leaves no half file.
//!
//! Only SIGINT is caught: a person has changed their mind, and the unfinished file goes. What ends a process otherwise (SIGTERM from a job scheduler,
//! SIGKILL, a power cut) leaves the partial file for the next run, and the exit status is the signal's own.

use std::process::exit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use meddino::{Error, Result};

/// As shells report a process that SIGINT ended.
pub const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
/// How many [`Watch`]es there are.
static WATCHES: AtomicUsize = AtomicUsize::new(0);

/// While it lives, the first Ctrl-C is left to [`was_asked`]. Without it, and at the second, the process ends at once.
pub struct Watch(());

impl Watch {
    pub fn new() -> Self {
        static INSTALL: Once = Once::new();
        WATCHES.fetch_add(1, Ordering::SeqCst);
        INSTALL.call_once(|| {
            // Where no handler can be had, Ctrl-C ends the process, and the partial file stays for the next run.
            let _ = ctrlc::set_handler(|| {
                if ASKED.swap(true, Ordering::SeqCst) || WATCHES.load(Ordering::SeqCst) == 0 {
                    exit(i32::from(EXIT_CODE));
                }
            });
        });
        Self(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether Ctrl-C was pressed.
pub fn was_asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// # Errors
/// [`Error::Cancelled`] if Ctrl-C was pressed.
pub fn check() -> Result<()> {
    if was_asked() { Err(Error::Cancelled) } else { Ok(()) }
}
