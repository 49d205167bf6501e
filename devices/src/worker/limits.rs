//! Limits that a worker sets on itself before it loads a model it does not trust.

/// Caps the memory that this process may allocate (private writable mappings, `RLIMIT_DATA`), writes no core file when it
/// dies, and ends when its parent does. What the system lacks is left out.
pub(super) fn set(memory_bytes: Option<u64>) {
    #[cfg(target_os = "linux")]
    linux(memory_bytes);
    #[cfg(not(target_os = "linux"))]
    let _ = memory_bytes;
}

#[cfg(target_os = "linux")]
fn linux(memory_bytes: Option<u64>) {
    let set = |resource, bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: bytes as libc::rlim_t };
        // Safety: the pointer is to a limit on this stack.
        unsafe { libc::setrlimit(resource, &limit) };
    };
    set(libc::RLIMIT_CORE, 0);
    if let Some(bytes) = memory_bytes {
        // Not the address space: GPU drivers map far more of that than they use.
        set(libc::RLIMIT_DATA, bytes);
    }
    // Safety: no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}
