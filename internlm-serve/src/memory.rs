//! Memory of the machine.

/// What is assumed to be free where the system can't be asked.
const ASSUMED: usize = 2 << 30;

/// Bytes that can be taken without pushing others out: `MemAvailable` of Linux, and no more than what the
/// process's control group allows.
pub(crate) fn available() -> usize {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let group = |file: &str| -> Option<usize> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse().ok()
    };
    let machine = mem_available(&meminfo).unwrap_or(ASSUMED);
    match (group("memory.max"), group("memory.current")) {
        (Some(limit), Some(used)) => machine.min(limit.saturating_sub(used)),
        _ => machine,
    }
}

fn mem_available(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24 kB\nMemAvailable:    3 kB\n";
        assert_eq!(mem_available(text), Some(3072));
        assert_eq!(mem_available("MemAvailable: x kB"), None);
        assert!(available() > 0);
    }
}
