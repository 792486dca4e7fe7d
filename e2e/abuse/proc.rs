//! What the kernel counts of a process (proc(5)).

use std::fs;
use std::time::Duration;

/// Ticks of a second in `/proc/PID/stat`: 100 for programs on every Linux, whatever the kernel counts in.
const TICKS: u64 = 100;

/// Memory of a process that is in RAM, in KiB. What the kernel holds for its sockets is not in it.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Time a process has had on the cores so far, its children's aside.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, which may hold spaces, is the second field; of those after it utime is the 12th, stime the 13th.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Open files of a process.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
