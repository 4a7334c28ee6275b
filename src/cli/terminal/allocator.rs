//! Memory that the system refuses: one line that says so, and the exit code of an error, where Rust's own answer is an abort.
//!
//! What is known to need much is asked about beforehand (`memory`, `limits`). This is for the rest: any of thousands of places may be the one that is refused.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Write as _, stderr};

/// The system's allocator, whose refusal ends the process with an error.
pub struct Allocator;

fn checked(at: *mut u8, size: usize) -> *mut u8 {
    if at.is_null() {
        refused(size);
    }
    at
}

/// Ends the process. Nothing here may take memory: the text is put together on its way to stderr, and no destructor runs.
fn refused(size: usize) -> ! {
    let _ = writeln!(
        stderr(),
        "error: out of memory: the system refused {} MiB more; raise the limit on memory (`ulimit -v`), or take a smaller --size or --max-memory",
        size.div_ceil(1 << 20)
    );
    #[cfg(unix)]
    signal_hook::low_level::exit(1);
    #[cfg(not(unix))]
    std::process::abort();
}

#[expect(unsafe_code, reason = "an allocator is an unsafe trait; every call goes to the system's as it came")]
// SAFETY: all memory is the system's, asked for and given back with the caller's own layouts; a refusal does not return.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the system's.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the system's.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract is the system's.
        checked(unsafe { System.realloc(at, layout, size) }, size)
    }
}
