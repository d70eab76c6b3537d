//! The allocator's settings. It decides nothing about memory that is in use, only how much of what was freed
//! stays with the process.

use std::io;

/// Buffers from this size on are mapped, and unmapped when they are freed. glibc's own bound grows with what is
/// freed, so that one large buffer makes all later ones stay in the heap between small allocations that live long.
const MAPPED_FROM: i32 = 128 * 1024;
/// Free memory at the end of a heap that is kept for the next allocation.
const KEPT: i32 = 128 * 1024;
/// Heaps. glibc makes up to eight per processor, and what threads that have ended freed stays in theirs.
const HEAPS: i32 = 2;

/// Makes the allocator give freed memory back: for a service that works seldom and lives long. To be called before
/// there are threads. Does nothing where the C library is not glibc.
///
/// <https://man7.org/linux/man-pages/man3/mallopt.3.html>
pub fn keep_little() -> io::Result<()> {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, HEAPS),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ] {
        // SAFETY: the call takes two numbers and no pointers.
        let accepted = unsafe { libc::mallopt(parameter, value) };
        if accepted == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
    }
    Ok(())
}
