//! Keeps freed memory in the process.
//!
//! Training frees and allocates the same large tensors every step. glibc gives blocks above a
//! threshold back to the system at once and page-faults them in again. How much raising the
//! thresholds gains depends on kernel and model: docs/training-speed.md.

/// Tells the C library's allocator to keep what is freed. Does nothing where there is no glibc.
pub fn keep_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const KEEP: libc::c_int = 1 << 30;
        // SAFETY: mallopt only sets numbers of the allocator and may be called at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEEP);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP);
        }
    }
}
