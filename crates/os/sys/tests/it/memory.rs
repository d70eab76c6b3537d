//! What the allocator keeps of freed memory.

use std::hint::black_box;

use havre_sys::memory::keep_little;
use havre_sys::testing::in_child;

/// Resident pages of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm can be read");
    let pages = text.split(' ').nth(1).expect("the second field is there");
    pages.parse().expect("it is a number")
}

/// Pages that stay when large buffers, made between small allocations that live on, have been freed.
fn left_over() -> usize {
    const LARGE: usize = 200 * 1024;
    // The first one freed sets glibc's bound.
    drop(black_box(vec![1_u8; LARGE * 2]));
    let before = resident();
    let mut live = Vec::new();
    let mut large = Vec::new();
    for _ in 0..100 {
        large.push(black_box(vec![1_u8; LARGE]));
        live.push(black_box(Box::new([1_u8; 100])));
    }
    drop(large);
    let after = resident();
    drop(live);
    after.saturating_sub(before)
}

/// Without the settings some 5,000 pages stay, unless the heap the child inherits happens to have room.
#[test]
#[cfg(target_env = "gnu")]
fn freed_buffers_go_back_to_the_system() {
    in_child(|| {
        keep_little().expect("the allocator takes its settings");
        let pages = left_over();
        assert!(pages < 500, "{pages} pages stay");
    });
}
