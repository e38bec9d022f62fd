//! Memory of the machine, and what work takes of it.

use internlm_model::{CausalLm, Config, PagedCache};

use crate::error::{Error, Result};

/// What is assumed to be free where the system can't be asked.
const ASSUMED: usize = 2 << 30;

/// Bytes that can be taken without pushing others out: `MemAvailable` of Linux, and no more than what the
/// process's control group allows.
pub(crate) fn available() -> usize {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let machine = kib("MemAvailable:", &read("/proc/meminfo")).unwrap_or(ASSUMED);
    let [max, current, stat] =
        ["max", "current", "stat"].map(|name| read(&format!("/sys/fs/cgroup/memory.{name}")));
    machine.min(group_available(&max, &current, &stat).unwrap_or(usize::MAX))
}

/// What a control group has left; none if it has no limit. Pages of files, such as those of a mapped model, are
/// counted as used by the system, which takes them back when they are needed.
fn group_available(max: &str, current: &str, stat: &str) -> Option<usize> {
    let max: usize = max.trim().parse().ok()?;
    let current: usize = current.trim().parse().ok()?;
    let of = |name: &str| -> usize {
        let value = stat
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    };
    let files = of("active_file") + of("inactive_file");
    Some(max.saturating_sub(current.saturating_sub(files)))
}

/// As [`available`], and no more than what the process may still reserve (`RLIMIT_AS`). The memory of a cache is
/// reserved already, that of a piece of work is not.
fn to_reserve() -> usize {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}"));
    let limit = read("limits").ok().and_then(|text| address_space(&text));
    let status = read("status").ok();
    let used = status.and_then(|text| kib("VmSize:", &text));
    let reservable = limit
        .zip(used)
        .map_or(usize::MAX, |(limit, used)| limit.saturating_sub(used));
    available().min(reservable)
}

/// The soft limit in the table of `/proc/self/limits`; none if it is unlimited.
fn address_space(limits: &str) -> Option<usize> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Refuses work that would take more than there is.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn require(needed: usize) -> Result<()> {
    let available = to_reserve();
    match needed <= available {
        true => Ok(()),
        false => Err(Error::OutOfMemory { needed, available }),
    }
}

/// The machine's memory, as an engine looks at it before it writes to new blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) bytes_per_block: usize,
    /// What the largest step takes beside the cache.
    pub(crate) bytes_per_step: usize,
    pub(crate) available: fn() -> usize,
}

impl Budget {
    /// How many new blocks there is memory for.
    pub(crate) fn blocks(&self) -> usize {
        (self.available)().saturating_sub(self.bytes_per_step) / self.bytes_per_block
    }

    /// That there is none for so many.
    pub(crate) fn exceeded(&self, blocks: usize) -> Error {
        Error::OutOfMemory {
            needed: blocks * self.bytes_per_block + self.bytes_per_step,
            available: (self.available)(),
        }
    }
}

/// Bytes of a pass over `rows` tokens, of which `logits` get logits: activations, and logits with a copy.
pub(crate) fn of_pass(config: &Config, rows: usize, logits: usize) -> usize {
    let row = 8 * config.hidden_size + 3 * config.intermediate_size;
    size_of::<f32>() * (rows * row + 2 * logits * config.vocab_size)
}

/// Bytes that reading `tokens` tokens with a cache of its own takes, which grows by doubling, `rows` in a pass; 0
/// where the model's memory is not that of the machine.
pub(crate) fn of_reading(
    model: &CausalLm,
    tokens: usize,
    rows: usize,
    logits: usize,
) -> Result<usize> {
    if !model.device().is_cpu() {
        return Ok(0);
    }
    let block = PagedCache::bytes_per_block(model.config(), model.kv_dtype()?);
    let rows = tokens.min(rows);
    let cache = 2 * tokens.div_ceil(PagedCache::BLOCK_SIZE) * block;
    Ok(cache + of_pass(model.config(), rows, logits.min(rows)))
}

/// A line of a table like `/proc/meminfo`, in bytes.
fn kib(name: &str, table: &str) -> Option<usize> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24 kB\nMemAvailable:    3 kB\n";
        assert_eq!(kib("MemAvailable:", text), Some(3072));
        assert_eq!(kib("MemAvailable:", "MemAvailable: x kB"), None);
        assert!(available() > 0 && to_reserve() > 0);
    }

    #[test]
    fn groups_have_what_they_do_not_hold() {
        let stat = "anon 40\nactive_file 30\ninactive_file 20\nfile 50\n";
        assert_eq!(group_available("100\n", "90\n", stat), Some(60));
        assert_eq!(group_available("100", "90", ""), Some(10));
        assert_eq!(group_available("50", "190", stat), Some(0));
        assert_eq!(group_available("max\n", "90\n", stat), None);
    }

    #[test]
    fn limits_are_read() {
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        let line = |soft| {
            format!(
                "{head}Max address space         {soft}            unlimited            bytes\n"
            )
        };
        assert_eq!(address_space(&line("4096")), Some(4096));
        assert_eq!(address_space(&line("unlimited")), None);
        assert_eq!(address_space(head), None);
    }
}
