//! An allocator that counts: how often memory was asked for on this thread, and how much is in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts and passes on to the system's allocator. To be installed with `#[global_allocator]` by a test binary.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static IN_USE: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory; 0 when the allocator is not installed.
pub fn count() -> u64 {
    COUNT.get()
}

/// Bytes that this thread has asked for and not given back. Tests that hand memory to other threads must not use it.
pub fn bytes_in_use() -> i64 {
    IN_USE.get()
}

fn note(requests: u64, bytes: i64) {
    // While a thread ends its counters are gone already.
    let _ = COUNT.try_with(|count| count.set(count.get() + requests));
    let _ = IN_USE.try_with(|in_use| in_use.set(in_use.get() + bytes));
}

#[allow(unsafe_code, reason = "every allocator is; this one only counts and calls the system's")]
// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
