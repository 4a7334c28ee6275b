//! An allocator that reports a failed allocation in one line and exits with code 1. Rust's default is to abort.
//!
//! Large allocations are checked in advance (`memory`, `limits`). This allocator covers all other allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Write as _, stderr};

/// The system's allocator, except that a failed allocation ends the process with an error.
pub struct Allocator;

fn checked(at: *mut u8, size: usize) -> *mut u8 {
    if at.is_null() {
        refused(size);
    }
    at
}

/// Ends the process. Must not allocate, so the text is formatted straight to stderr, which has no buffer, and no
/// destructor runs.
fn refused(size: usize) -> ! {
    let _ = writeln!(
        stderr(),
        "error: out of memory: the system refused {} MiB more; raise the limit on memory (`ulimit -v`), or use a smaller --size or --max-memory",
        size.div_ceil(1 << 20)
    );
    #[cfg(unix)]
    signal_hook::low_level::exit(1);
    #[cfg(not(unix))]
    std::process::abort();
}

#[expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait; every call goes unchanged to the system allocator")]
// SAFETY: the system allocator allocates and frees all memory, with the caller's own layouts; `refused` does not
// return.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract, which the system allocator shares.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract, which the system allocator shares.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract, which the system allocator shares.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller upholds the contract, which the system allocator shares.
        checked(unsafe { System.realloc(at, layout, size) }, size)
    }
}
