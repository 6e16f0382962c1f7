//! Clocks and peak memory of this process.

use std::time::Instant;

/// CPU time of the whole process so far, all threads, in seconds.
pub fn cpu_seconds() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec through a pointer that is valid for it, and keeps nothing.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    if answer == 0 { t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9 } else { f64::NAN }
}

/// Wall-clock and CPU seconds that `f` takes.
pub fn timed<T>(f: impl FnOnce() -> T) -> (T, f64, f64) {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let result = f();
    (result, wall.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

/// Forgets the peak so far: the next [`peak_mb`] tells of what happens from here on. Linux only; elsewhere nothing.
pub fn reset_peak() {
    // Where the kernel does not allow it the peak stays that of the whole run: a figure too high, never too low.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak resident memory since [`reset_peak`], in MB (10^6 bytes); NaN where the system does not say.
pub fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().trim_end_matches("kB").trim().parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib * 1024.0 / 1e6)
}

/// The middle value; of an even number of values the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
