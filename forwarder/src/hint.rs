//! Two things that the processor can tell or be told: the time, and what will be read soon.

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
