//! The memory limit of the process's control groups, beyond which the kernel kills it.

use std::fs;
use std::path::Path;

/// Memory that a limit must leave besides connections, and for each of them (docs/sizing.md).
const BASE: u64 = 192 << 20;
const PER_CONNECTION: u64 = 48 << 10;

/// Logs a warning if so many connections of callers may need more memory than is permitted.
pub fn warn_if_too_low(max_connections: usize) {
    let Some(limit) = limit() else { return };
    let needed = needed(max_connections);
    if limit < needed {
        tracing::warn!(
            limit,
            needed,
            max_connections,
            advice = "raise the memory limit, or lower limits.max_connections (docs/sizing.md)",
            "memory limit is too low for limits.max_connections; clients can cause the process to be killed"
        );
    }
}

fn needed(max_connections: usize) -> u64 {
    let connections = u64::try_from(max_connections).unwrap_or(u64::MAX);
    connections
        .saturating_mul(PER_CONNECTION)
        .saturating_add(BASE)
}

/// Returns the limit in bytes, of cgroups of version 1 or 2, or `None` without one.
fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// Returns the lowest limit of the groups of a process, as `/proc/PID/cgroup` lists them, and of
/// those above them.
fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let group = root.join(group.trim_start_matches('/'));
        // In a container the path may be that of the host, and the root the container's own group.
        let groups = group
            .ancestors()
            .take_while(|group| group.starts_with(&root));
        groups
            .filter_map(|group| {
                fs::read_to_string(group.join(file))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            })
            .min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn hierarchy(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn lowest_limit_above_the_process_applies() {
        let root = hierarchy(&[
            ("a/memory.max", "300000000\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/c/memory.max", "400000000\n"),
            ("other/memory.max", "1\n"),
        ]);
        assert_eq!(limit_of("0::/a/b/c\n", root.path()), Some(300_000_000));
        assert_eq!(limit_of("0::/\n", root.path()), None);
    }

    #[test]
    fn limit_of_version_1_applies() {
        let root = hierarchy(&[("memory/a/memory.limit_in_bytes", "268435456\n")]);
        let groups = "9:cpu,cpuacct:/x\n8:memory:/a\n0::/x\n";
        assert_eq!(limit_of(groups, root.path()), Some(256 << 20));
        assert_eq!(limit_of("9:cpu:/a\n", root.path()), None);
    }

    #[test]
    fn limit_of_a_container_is_that_of_its_root() {
        let root = hierarchy(&[("memory.max", "268435456\n")]);
        let groups = "0::/kubepods/pod1/container2\n";
        assert_eq!(limit_of(groups, root.path()), Some(256 << 20));
    }

    #[test]
    fn thousand_connections_need_less_than_256_mebibytes() {
        assert!(needed(1000) < 256 << 20);
        assert_eq!(needed(10_000) >> 20, 660);
    }
}
