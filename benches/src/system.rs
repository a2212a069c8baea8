//! What only the operating system knows. The only unsafe code of this package: calls of libc.

#![allow(unsafe_code)]

use std::{fs, io, mem};

/// Allows this thread, and the threads that it will start, only the last `n` of the cpus that it is allowed now.
///
/// # Errors
/// What the kernel says, as when `n` is 0.
pub fn pin_to_last_cpus(n: usize) -> io::Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a cpu_set_t is an array of integers, for which all zeros is the empty set.
    let (mut allowed, mut chosen): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { mem::zeroed() };
    // SAFETY: `allowed` is a valid cpu_set_t of `size` bytes; 0 means this thread.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits in a cpu_set_t.
    let cpus =
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) });
    for cpu in cpus.collect::<Vec<_>>().into_iter().rev().take(n) {
        // SAFETY: as above.
        unsafe { libc::CPU_SET(cpu, &mut chosen) };
    }
    // SAFETY: `chosen` is a valid cpu_set_t of `size` bytes.
    if unsafe { libc::sched_setaffinity(0, size, &raw const chosen) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Cpu seconds that all other processes have used since the machine started, the host's other guests included.
pub(crate) fn seconds_of_others() -> Option<f64> {
    // SAFETY: sysconf reads a constant.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let all = fs::read_to_string("/proc/stat").ok()?;
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    Some((busy_ticks(&all)? - own_ticks(&own)?) / ticks)
}

/// user, nice, system, irq, softirq and steal of all cpus; idle and iowait stand at 3 and 4.
fn busy_ticks(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.split_whitespace().skip(1).take(8).enumerate();
    fields.filter(|(i, _)| !(3..=4).contains(i)).map(|(_, v)| v.parse::<f64>().ok()).sum()
}

/// utime and stime: fields 14 and 15, where 2 is the name, in parentheses.
fn own_ticks(stat: &str) -> Option<f64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().skip(11).take(2).map(|v| v.parse::<f64>().ok()).sum()
}

/// Makes the peak of resident memory start anew from what is in use now.
pub(crate) fn reset_peak_rss() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim returns free memory to the system, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    // Where the kernel refuses, the peak includes the set-up.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The peak of resident memory in MiB.
pub(crate) fn peak_rss_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(busy_ticks("cpu  1 2 4 100 200 8 16 32 64 0\ncpu0 1"), Some(63.0));
        let own = "7 (a b) c) R 1 1 1 0 -1 4194304 100 0 0 0 30 12 0 0 20";
        assert_eq!(own_ticks(own), Some(42.0));
    }

    #[test]
    fn a_thread_is_pinned() {
        let cpus = || std::thread::available_parallelism().unwrap().get();
        std::thread::spawn(move || {
            pin_to_last_cpus(1).unwrap();
            assert_eq!(cpus(), 1);
            assert!(pin_to_last_cpus(0).is_err());
        })
        .join()
        .unwrap();
    }
}
