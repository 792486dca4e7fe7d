//! What goes wrong in a minute of a soak.

use std::fmt;
use std::time::Duration;

use crate::faults::random::Random;
use crate::faults::script::{Script, Weather};
use crate::faults::site::Site;
use crate::harness::{HarnessError, Process};

/// Who something happens to.
#[derive(Clone, Copy, Debug)]
enum Who {
    Controller(usize),
    Endpoint,
    /// A part of the control plane by its name for the supervisor.
    Plane(&'static str),
}

/// What happens, and for how long.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// SIGKILL; what was killed comes back, a part of the control plane after some seconds.
    Killed(Kill),
    /// SIGSTOP, and SIGCONT after this time.
    Stopped(Stop),
    /// Errors and lost replies for this time.
    Storm(Duration, u64),
    /// One controller's API server says nothing, to anybody who asks now, not even later.
    BlackHole(usize, Duration),
    /// One controller's API server holds its breath.
    Held(usize, Duration),
}

/// Who is killed, and how long a part of the control plane stays away.
#[derive(Clone, Copy, Debug)]
pub struct Kill(Who, Duration);
/// Who stands still, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Stop(Who, Duration);

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Mishap {
    /// One of them.
    pub fn draw(random: &mut Random) -> Self {
        let lasts = Duration::from_secs(3 + random.below(12));
        let controller = usize::try_from(random.below(2)).unwrap_or_default();
        let product = [Who::Controller(controller), Who::Endpoint];
        let plane = [Who::Plane("apiserver"), Who::Plane("etcd")];
        match random.below(7) {
            0 | 1 => Self::Killed(Kill(random.one_of(&product), lasts)),
            2 => Self::Killed(Kill(random.one_of(&plane), lasts)),
            3 => Self::Stopped(Stop(random.one_of(&[product, plane].concat()), lasts)),
            4 => Self::Storm(lasts, random.next()),
            5 => Self::BlackHole(controller, lasts),
            _ => Self::Held(controller, lasts),
        }
    }

    /// Lets it happen, and returns when it is over.
    pub async fn happen(self, site: &Site) {
        match self {
            Self::Killed(Kill(Who::Plane(part), lasts)) => {
                plane(site, &format!("kill {part}"));
                tokio::time::sleep(lasts).await;
                plane(site, &format!("restart {part}"));
            }
            Self::Killed(Kill(who, _)) => act(site, who, Process::kill),
            Self::Stopped(Stop(Who::Plane(part), lasts)) => {
                plane(site, &format!("stop {part}"));
                tokio::time::sleep(lasts).await;
                plane(site, &format!("cont {part}"));
            }
            Self::Stopped(Stop(who, lasts)) => {
                act(site, who, Process::stop);
                tokio::time::sleep(lasts).await;
                act(site, who, Process::cont);
            }
            Self::Storm(lasts, seed) => {
                let mut random = Random::new(seed);
                for proxy in &site.proxies {
                    proxy.play(Script::weather(Weather::new(20, 10, random.next())));
                }
                tokio::time::sleep(lasts).await;
                site.proxies.iter().for_each(|proxy| proxy.play(Script::quiet()));
            }
            Self::BlackHole(replica, lasts) => {
                site.proxies[replica].black_hole(true);
                tokio::time::sleep(lasts).await;
                site.proxies[replica].black_hole(false);
            }
            Self::Held(replica, lasts) => {
                site.proxies[replica].hold(true);
                tokio::time::sleep(lasts).await;
                site.proxies[replica].hold(false);
            }
        }
    }
}

fn plane(site: &Site, command: &str) {
    tokio::task::block_in_place(|| site.product.plane.control(command)).unwrap();
}

fn act(site: &Site, who: Who, what: fn(&mut Process) -> Result<(), HarnessError>) {
    let keeper = match who {
        Who::Controller(replica) => &site.controllers[replica],
        _ => &site.endpoint,
    };
    tokio::task::block_in_place(|| keeper.with(what)).unwrap();
}
