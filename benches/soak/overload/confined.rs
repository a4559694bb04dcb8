//! A gateway that gets a part of the machine only, and the processor time that it uses.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::Fallible;
use crate::gateway::{Gateway, binary};

/// Period of the quota: short, so that latencies show little of it.
const PERIOD_MICROSECONDS: u64 = 20_000;

/// Returns the command of a gateway on the last processor, if there are several and `taskset`.
pub(super) fn on_one_processor() -> (Command, &'static str) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
    if processors < 2 || !has_taskset {
        return (Command::new(binary()), "not confined");
    }
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &(processors - 1).to_string()]);
    command.arg(binary());
    (command, "on one processor of its own")
}

/// A group of processes with a part of one processor; removed when dropped.
pub(super) struct Quota(PathBuf);

impl Quota {
    /// Limits a gateway to this part of a processor, in percent.
    ///
    /// # Errors
    /// Fails where this process may not create a cgroup, of version 1 or 2.
    pub(super) fn of(gateway: &Gateway, percent: u64) -> Fallible<Self> {
        let pid = gateway.pid().as_raw_nonzero();
        let quota = PERIOD_MICROSECONDS * percent / 100;
        let (root, limits) = if fs::exists("/sys/fs/cgroup/cgroup.controllers")? {
            let limit = format!("{quota} {PERIOD_MICROSECONDS}");
            ("/sys/fs/cgroup", vec![("cpu.max", limit)])
        } else {
            let limits = vec![
                ("cpu.cfs_period_us", PERIOD_MICROSECONDS.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ];
            ("/sys/fs/cgroup/cpu", limits)
        };
        let group = Self(PathBuf::from(root).join(format!("gateway-overload-{pid}")));
        fs::create_dir(&group.0)?;
        for (file, limit) in limits {
            fs::write(group.0.join(file), limit)?;
        }
        fs::write(group.0.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Left behind, and harmless, if the gateway has not ended yet.
        fs::remove_dir(&self.0).ok();
    }
}

/// Returns the processor time that a gateway has used.
pub(super) fn processor_time(gateway: &Gateway) -> Fallible<Duration> {
    let pid = gateway.pid().as_raw_nonzero();
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let time = text.split(' ').next().unwrap_or_default();
        nanoseconds += time.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
