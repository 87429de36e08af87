//! The threads to which burn's own operations share work out; those of `ops` have others.

/// Makes the calling thread one of them: it then waits for no other to take work from it.
///
/// For a program's main thread, before anything computes. On a single core nothing changes: what another thread asks
/// for would wait for this one.
pub fn share_this_thread() {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    let n_cores = asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if n_cores > 1 {
        // Fails only where the threads are there already, and then they serve.
        _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
    }
}
