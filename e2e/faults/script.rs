//! What a proxy does to which call: faults at the n-th mutating call, or bad weather over all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hyper::{Method, Uri};

use super::random::Random;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The victim is killed (SIGKILL), and the call never reaches the API server.
    KillBefore,
    /// The API server carries the call out, then the victim is killed before it hears of it.
    KillAfter,
    /// The API server carries the call out, and the connection is cut instead of the answer.
    LoseReply,
    /// The call is answered with this status, and never reaches the API server.
    Answer(u16),
    /// Nothing is ever answered, nor forwarded.
    BlackHole,
    /// The call is forwarded, and the answers of all watches stand still for this long.
    HoldWatches(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillBefore => f.write_str("kill -9 before it is forwarded"),
            Self::KillAfter => f.write_str("kill -9 before the reply"),
            Self::LoseReply => f.write_str("reply lost"),
            Self::Answer(status) => write!(f, "answered {status}"),
            Self::BlackHole => f.write_str("black hole"),
            Self::HoldWatches(time) => write!(f, "watches held for {time:?}"),
        }
    }
}

/// What a call is about, as far as counting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Reads and watches.
    Nothing,
    /// A Lease: renewed all the time, never counted.
    Lease,
    /// An Event.
    Event,
    /// Any other object that is created, changed or deleted.
    Object,
}

/// A request, in brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
    /// The field manager it names, if it does.
    pub manager: Option<String>,
    /// Whether its answer is a stream of changes.
    pub watches: bool,
    /// What it is about.
    pub about: About,
}

impl Request {
    /// What this line of a request asks for.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let query = |name: &str| {
            let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let path = uri.path();
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let about = match path {
            _ if reads => About::Nothing,
            lease if lease.contains("/leases") => About::Lease,
            event if event.contains("/events") => About::Event,
            _ => About::Object,
        };
        Self {
            method: method.clone(),
            path: path.to_owned(),
            manager: query("fieldManager"),
            watches: query("watch").is_some_and(|value| value == "true" || value == "1"),
            about,
        }
    }

    /// Whether it is one of the calls that are counted: it changes something, and that is no Lease.
    pub fn counts(&self) -> bool {
        matches!(self.about, About::Object | About::Event)
    }
}

impl fmt::Display for Request {
    /// Without the names of namespace and objects, which differ from run to run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.path.rsplit_once("/namespaces/").map_or("", |(_, rest)| rest);
        let mut parts = after.split('/').skip(1);
        write!(f, "{} {}", self.method, parts.next().unwrap_or(&self.path))?;
        match parts.nth(1) {
            Some(subresource) => write!(f, "/{subresource}"),
            None => Ok(()),
        }
    }
}

/// Bad weather: of all calls, reads, watches and Leases too, some are answered with an error and some answers are lost.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of 100 calls, those that are answered 429, 500, 503 or 504.
    pub errors: u64,
    /// Of 100 calls, those that are carried out and whose answers are lost.
    pub lost: u64,
    random: Random,
}

impl Weather {
    /// This weather, by this seed.
    pub const fn new(errors: u64, lost: u64, seed: u64) -> Self {
        Self { errors, lost, random: Random::new(seed) }
    }

    fn strike(&mut self) -> Option<Fault> {
        let drawn = self.random.below(100);
        if drawn < self.errors {
            Some(Fault::Answer(self.random.one_of(&[429, 500, 503, 504])))
        } else if drawn < self.errors + self.lost {
            Some(Fault::LoseReply)
        } else {
            None
        }
    }
}

/// What a proxy is going to do.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Mutating calls so far, Leases aside.
    counted: usize,
    /// Faults at the n-th of them, the first being 1.
    at: BTreeMap<usize, Fault>,
    weather: Option<Weather>,
}

impl Script {
    /// Only counts.
    pub fn quiet() -> Self {
        Self::default()
    }

    /// One fault, at the n-th mutating call from now, Leases aside; the first is 1.
    pub fn one(fault: Fault, number: usize) -> Self {
        Self { at: [(number, fault)].into(), ..Self::default() }
    }

    /// This weather until the next script.
    pub fn weather(weather: Weather) -> Self {
        Self { weather: Some(weather), ..Self::default() }
    }

    /// Takes a call in: its number, if it counts, and what shall happen to it.
    pub fn next(&mut self, request: &Request) -> (Option<usize>, Option<Fault>) {
        let number = request.counts().then(|| {
            self.counted += 1;
            self.counted
        });
        let planned = number.and_then(|number| self.at.remove(&number));
        (number, planned.or_else(|| self.weather.as_mut()?.strike()))
    }

    /// Mutating calls so far, Leases aside.
    pub const fn counted(&self) -> usize {
        self.counted
    }

    /// Faults that have not happened yet.
    pub fn ahead(&self) -> usize {
        self.at.len()
    }
}
