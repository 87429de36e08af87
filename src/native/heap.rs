//! Memory that a step gives back and the next one asks for again.

/// Has this process keep the memory that it frees: a step of training frees and takes up hundreds of megabytes, and the
/// system's clearing of each page anew was 5 % of it. Nothing but glibc needs to be told.
///
/// For a program that trains and ends; the peak stays what it was.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator's settings are C's")]
    {
        /// A larger block is mapped alone, and returned whole: a gigabyte, or the most that older glibc takes.
        const MAPPED_ALONE: [libc::c_int; 2] = [1 << 30, 32 << 20];
        // SAFETY: they change numbers of the allocator, under its lock.
        unsafe {
            _ = MAPPED_ALONE.iter().any(|&size| libc::mallopt(libc::M_MMAP_THRESHOLD, size) == 1);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        }
    }
}
