//! Measures the memory that a reader takes: the system's allocator with a count for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts the bytes that each thread holds.
pub struct Counted;

thread_local! {
    /// Bytes that this thread holds.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most bytes that this thread held or requested since [`peak_of`] began.
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// The most bytes that this thread may hold.
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Counts a change of `change` bytes. Returns false if it exceeds the limit.
fn note(change: isize) -> bool {
    let held = HELD.get().saturating_add(change);
    PEAK.set(PEAK.get().max(held));
    if change > 0 && held > LIMIT.get() {
        return false;
    }
    HELD.set(held);
    true
}

fn refused() -> *mut u8 {
    std::ptr::null_mut()
}

#[expect(unsafe_code, reason = "an allocator is an unsafe trait; every call goes to the system's as it came")]
// SAFETY: memory comes from the system's allocator with the caller's layout, or the request is refused with null, as
// the trait allows.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !note(layout.size() as isize) {
            return refused();
        }
        // SAFETY: the caller keeps the contract, which is the same as the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !note(layout.size() as isize) {
            return refused();
        }
        // SAFETY: the caller keeps the contract, which is the same as the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract, which is the same as the system allocator's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !note(size as isize - layout.size() as isize) {
            return refused();
        }
        // SAFETY: the caller keeps the contract, which is the same as the system allocator's.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `work`. Returns its result and the most bytes that its thread held at once for it. Requests beyond `limit` are
/// refused, but counted.
///
/// Without [`Counted`] as the program's allocator the peak is 0.
pub fn peak_of<T>(limit: usize, work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    LIMIT.set(before.saturating_add_unsigned(limit));
    let result = work();
    LIMIT.set(isize::MAX);
    (result, PEAK.get().saturating_sub(before) as usize)
}
