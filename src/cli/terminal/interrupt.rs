//! Handles Ctrl-C, so that it leaves no unfinished file.
//!
//! Only SIGINT is caught, because a person who presses Ctrl-C does not want the file. After SIGTERM from a job
//! scheduler, SIGKILL or a power cut, the partial file stays for the next run, and the exit status is the signal's own.

use std::process::exit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use meddino::{Error, Result};

/// The exit code that shells report for a process that SIGINT ended.
pub const EXIT_CODE: u8 = 130;

static PRESSED: AtomicBool = AtomicBool::new(false);
/// The number of live [`Watch`]es.
static WATCHES: AtomicUsize = AtomicUsize::new(0);

/// While a `Watch` lives, the first Ctrl-C only makes [`was_pressed`] true. Without a `Watch`, and at the second
/// Ctrl-C, the process ends at once.
pub struct Watch(());

impl Watch {
    pub fn new() -> Self {
        static INSTALL: Once = Once::new();
        WATCHES.fetch_add(1, Ordering::SeqCst);
        INSTALL.call_once(|| {
            // If no handler can be installed, Ctrl-C ends the process and the partial file stays for the next run.
            let _ = ctrlc::set_handler(|| {
                if PRESSED.swap(true, Ordering::SeqCst) || WATCHES.load(Ordering::SeqCst) == 0 {
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

/// Returns whether Ctrl-C was pressed.
pub fn was_pressed() -> bool {
    PRESSED.load(Ordering::SeqCst)
}

/// Checks for Ctrl-C.
///
/// # Errors
/// [`Error::Cancelled`] if Ctrl-C was pressed.
pub fn check() -> Result<()> {
    if was_pressed() { Err(Error::Cancelled) } else { Ok(()) }
}
