//! What the processor and the kernel can tell or be told: the time, what will be read soon, and which memory is large.

use rustix::mm::{Advice, madvise};

/// The time-stamp counter: cycles of a constant rate since the machine started. About 20 cycles; not ordered against
/// the instructions around it, which does not matter for the duration of a burst.
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and Linux leaves it open to programs.
    let cycles = unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    let cycles = 0;
    cycles
}

/// Asks for the cache line that `value` begins in, into all levels of the cache.
#[inline(always)]
pub fn prefetch<T>(value: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(value.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// The size of a large page on x86-64.
const LARGE_PAGE: usize = 2 << 20;

/// Room for so many items in memory that the kernel may map by large pages, where they are enough. A table that is looked up
/// at random costs a walk through the page table for each look-up else, which is more than the look-up itself.
pub fn large_room<T>(count: usize) -> Vec<T> {
    let mut room: Vec<T> = Vec::with_capacity(count);
    let bytes = room.capacity().saturating_mul(size_of::<T>());
    if bytes >= LARGE_PAGE {
        let start = room.as_mut_ptr().cast::<u8>();
        // Whole pages inside the allocation: what it shares with others at its ends stays as it is.
        let skipped = start.align_offset(LARGE_PAGE).min(bytes);
        let len = (bytes - skipped) / LARGE_PAGE * LARGE_PAGE;
        if len > 0 {
            // SAFETY: the range lies within the allocation that `room` owns, and this advice changes no content; a kernel
            // that does not take it leaves ordinary pages.
            let _ = unsafe { madvise(start.wrapping_add(skipped).cast(), len, Advice::LinuxHugepage) };
        }
    }
    room
}

/// The same items in [such room](large_room), of their exact size. For the control thread: it copies.
pub fn in_large_pages<T>(items: Vec<T>) -> Vec<T> {
    let mut moved = large_room(items.len());
    moved.extend(items);
    moved
}

#[cfg(test)]
mod large_pages {
    use super::*;

    #[test]
    fn items_stay_as_they_are() {
        for count in [0u64, 1, 1_000, 700_000] {
            let items: Vec<u64> = (0..count).collect();
            assert!(in_large_pages(items.clone()) == items, "{count}");
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn tsc_goes_forward() {
        let first = tsc();
        let mut later = tsc();
        for _ in 0..1_000 {
            later = later.max(tsc());
        }
        assert!(later > first);
    }

    #[test]
    fn prefetch_takes_any_address() {
        prefetch(&0u8);
        prefetch(std::ptr::null::<u8>());
    }
}
