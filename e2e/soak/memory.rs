//! What the product's processes keep in memory, and whether it grows.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::faults::keeper::Keeper;
use crate::faults::site::Site;

/// A life shorter than this says nothing about growth.
const SHORTEST: Duration = Duration::from_secs(60);

/// Samples of each life of each process: minutes since the start, and resident KiB.
#[derive(Debug, Default)]
pub struct Memory {
    lives: BTreeMap<(String, u32), Vec<(f64, f64)>>,
    last: Vec<(String, f64)>,
}

impl Memory {
    /// Looks at every process that runs.
    pub fn measure(&mut self, site: &Site, start: Instant) {
        let minute = start.elapsed().as_secs_f64() / 60.0;
        self.last.clear();
        for keeper in site.controllers.iter().chain([&site.endpoint]) {
            let name = short(keeper);
            if let Some(kib) = resident(keeper.pid()) {
                self.lives.entry((name.clone(), keeper.pid())).or_default().push((minute, kib));
                self.last.push((name, kib));
            }
        }
    }

    /// What was seen last.
    pub fn last(&self) -> String {
        let seen: Vec<String> = self.last.iter().map(|(name, kib)| format!("{name} {kib:.0} KiB")).collect();
        seen.join(", ")
    }

    /// Prints the slope of each life that was long enough, and of its second half: the first fills caches.
    pub fn slopes(&self) {
        for ((name, pid), samples) in &self.lives {
            let (Some((first, _)), Some((last, kib))) = (samples.first(), samples.last()) else { continue };
            if (last - first) * 60.0 >= SHORTEST.as_secs_f64() {
                let (whole, half) = (slope(samples), slope(&samples[samples.len() / 2..]));
                let minutes = last - first;
                println!(
                    "slope: {name} ({pid}) {whole:+.1} KiB/min over {minutes:.1} min, {half:+.1} KiB/min over the second half, \
                     at last {kib:.0} KiB"
                );
            }
        }
    }
}

/// Least squares: how much the second of each pair grows with the first.
fn slope(samples: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "samples are far fewer than 2^52")]
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let covariance: f64 = samples.iter().map(|pair| (pair.0 - x) * (pair.1 - y)).sum();
    let variance: f64 = samples.iter().map(|pair| (pair.0 - x).powi(2)).sum();
    covariance / variance
}

/// Resident memory in KiB (proc(5)); none when the process is gone.
fn resident(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The part of a process's name that differs: `controller-0-0`, `endpoint`.
fn short(keeper: &Keeper) -> String {
    keeper.name().split('-').skip(2).collect::<Vec<_>>().join("-")
}
