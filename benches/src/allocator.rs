//! Settings of the C library's allocator, which it reads when the program starts.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// The variable from which the GNU C library reads its settings.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// The variable that leaves the allocator as the system has it.
const PLAIN: &str = "GRADUS_BENCH_PLAIN_MALLOC";
/// Freed memory is kept instead of returned, and lies on huge pages: a measured loop takes no page faults.
const KEEP_MEMORY: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:\
    glibc.malloc.trim_threshold=2147483647:glibc.malloc.top_pad=67108864";

/// Starts this program anew, once, with an allocator that keeps freed memory on huge pages; other libraries are
/// measured with the same settings. With `GRADUS_BENCH_PLAIN_MALLOC` set to anything but nothing, all stays as it is.
///
/// # Errors
/// When the system cannot start the program again.
pub fn restart_keeping_memory() -> io::Result<()> {
    let plain = env::var_os(PLAIN).is_some_and(|v| !v.is_empty());
    let current = env::var(TUNABLES).unwrap_or_default();
    let Some(settings) = settings(&current).filter(|_| !plain) else { return Ok(()) };
    let mut again = Command::new(env::current_exe()?);
    Err(again.args(env::args_os().skip(1)).env(TUNABLES, settings).exec())
}

/// What to add to the current settings, unless they already say something about it.
fn settings(current: &str) -> Option<String> {
    match current {
        "" => Some(KEEP_MEMORY.into()),
        set if set.contains("glibc.malloc.") => None,
        other => Some(format!("{other}:{KEEP_MEMORY}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_added_once() {
        assert_eq!(settings("").as_deref(), Some(KEEP_MEMORY));
        let both = settings("glibc.pthread.rseq=0").unwrap();
        assert_eq!(both, format!("glibc.pthread.rseq=0:{KEEP_MEMORY}"));
        assert_eq!(settings(&both), None);
        assert!(KEEP_MEMORY.split(':').all(|s| s.starts_with("glibc.malloc.")), "{KEEP_MEMORY}");
    }
}
