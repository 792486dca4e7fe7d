//! Phones in flight: they arrive one after another, stay at one step of their session or another for a while, and come again as
//! phones do. A board keeps what each met, by what was going on around it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capf::api::{Phone, PhoneSpec};
use capf::phone::{AttemptOutcome, CommunicationFailure, EnrolOutcome, SimulatedPhone, Step};
use capf::wire::ClaimedName;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::ClientConfig;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::harness::eventually;
use crate::node::Node;

/// How often a phone comes again, as the source has it, and after how long each time: real ones take 30 s.
const RETRIES: (u32, Duration) = (3, Duration::from_secs(5));
/// Between two arrivals, at least.
const PACE: Duration = Duration::from_millis(80);
/// Phones applied at one time; as many again wait for their turn to arrive.
const BATCH: usize = 48;
/// For anything that takes seconds on a quiet machine. A leader that fell silent must be replaced meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// The device of this number.
pub fn device(number: usize) -> String {
    format!("SEP{number:012X}")
}

/// At which step a phone of some number takes its time, and how long.
pub type Habit = fn(usize) -> Option<(Step, Duration)>;

/// No phone takes any.
pub fn hurry(_: usize) -> Option<(Step, Duration)> {
    None
}

/// At which step a phone of this number takes its time, and how long: most are at their key, some at their certificate, a few
/// at their proof, and the others hurry.
pub fn various(number: usize) -> Option<(Step, Duration)> {
    let some = |step, from: usize, span: usize| {
        let seconds = from + number * 7 % span;
        Some((step, Duration::from_secs(u64::try_from(seconds).unwrap())))
    };
    match number % 8 {
        0..5 => some(Step::KeyMade, 30, 31),
        // Less than the 30 s that an endpoint waits for an answer.
        5 => some(Step::Stored, 5, 16),
        6 => some(Step::Auth, 2, 9),
        _ => None,
    }
}

/// Where phones call, and whom they expect there.
#[derive(Clone)]
pub struct Line {
    pub server: SocketAddr,
    pub tls: Arc<ClientConfig>,
}

/// What phones met while something was going on.
#[derive(Debug)]
pub struct Tally {
    /// What.
    pub what: &'static str,
    began: Instant,
    ended: Option<Instant>,
    /// Sessions that were open when it began.
    pub open: usize,
    /// Phones that came for the first time.
    pub arrived: usize,
    /// Phones that had to come again.
    pub again: BTreeSet<usize>,
    /// How often they had to.
    pub retries: usize,
    /// What had happened to them: how often, and the first of the kind in full.
    pub causes: BTreeMap<&'static str, (usize, String)>,
    /// Sessions that began before and ended well after it.
    pub outlived: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, began, ended, open, arrived, again, retries, causes, outlived } = self;
        let seconds = ended.unwrap_or_else(Instant::now).duration_since(*began).as_secs();
        let again = again.len();
        write!(
            f,
            "in flight: {what}: {seconds} s, {open} open at its beginning of which {outlived} went on beyond its end, \
             {arrived} more arrived; {again} phones came again, {retries} times {causes:?}"
        )
    }
}

/// How an enrolment ended well.
pub struct Landed {
    /// Retries included.
    pub attempts: u32,
    /// The LSC that the phone holds, DER.
    pub lsc: Vec<u8>,
}

/// What all phones met.
#[derive(Default)]
pub struct Board {
    pub tallies: Vec<Tally>,
    /// Under way, and since when in its present session.
    open: BTreeMap<usize, Instant>,
    pub landed: BTreeMap<usize, Landed>,
    /// Those that did not enrol, and why.
    pub lost: Vec<String>,
}

impl Board {
    fn begin(&mut self, what: &'static str) {
        let (began, open) = (Instant::now(), self.open.len());
        if let Some(before) = self.tallies.last_mut() {
            before.ended = Some(began);
        }
        let (again, causes) = Default::default();
        let tally = Tally { what, began, ended: None, open, arrived: 0, again, retries: 0, causes, outlived: 0 };
        self.tallies.push(tally);
    }

    fn arrived(&mut self, number: usize) {
        self.open.insert(number, Instant::now());
        self.now().arrived += 1;
    }

    fn comes_again(&mut self, number: usize, failure: &CommunicationFailure) {
        self.open.insert(number, Instant::now() + RETRIES.1);
        let now = self.now();
        now.again.insert(number);
        now.retries += 1;
        now.causes.entry(failure.kind()).or_insert_with(|| (0, failure.to_string())).0 += 1;
    }

    fn ended(&mut self, number: usize, ended: &EnrolOutcome, lsc: Option<&[u8]>) {
        let began = self.open.remove(&number);
        match (&ended.last, lsc) {
            (Ok(AttemptOutcome::Installed { .. }), Some(lsc)) => {
                for tally in self.tallies.iter_mut().filter(|tally| tally.ended.is_some()) {
                    tally.outlived += usize::from(began.is_some_and(|began| began < tally.began));
                }
                self.landed.insert(number, Landed { attempts: ended.attempts, lsc: lsc.to_vec() });
            }
            _ => {
                let what = self.now().what;
                self.lost.push(format!("{}, while {what}: {ended:?}", device(number)));
            }
        }
    }

    fn now(&mut self) -> &mut Tally {
        self.tallies.last_mut().expect("something is always going on")
    }
}

struct Shared {
    board: Mutex<Board>,
    line: Line,
    at_once: usize,
    habit: Habit,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap()
    }
}

/// Phones that keep arriving until they are told to land.
pub struct Flights {
    shared: Arc<Shared>,
    arriving: watch::Sender<bool>,
    air: Option<JoinHandle<()>>,
}

impl Flights {
    /// Lets phones of this habit arrive, at most so many at once, from the network of the node. Each is applied before, with
    /// numbers that count up from `first`.
    pub fn begin(node: &Node, api: Api<Phone>, line: Line, (at_once, habit): (usize, Habit), first: usize) -> Self {
        let shared = Arc::new(Shared { board: Mutex::default(), line, at_once, habit });
        shared.board().begin("nothing went on");
        let (arriving, until) = watch::channel(true);
        let (armed, arrivals) = mpsc::channel(BATCH);
        tokio::spawn(supply(api, first, armed, until.clone()));
        let network = File::open(format!("/proc/{}/ns/net", node.init_pid())).unwrap();
        let flown = Arc::clone(&shared);
        let air = std::thread::spawn(move || {
            // A thread of its own, which nothing but phones runs on: whatever it connects to is in the node's network.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(fly(flown, arrivals, until));
        });
        Self { shared, arriving, air: Some(air) }
    }

    /// Something else goes on from now on.
    pub fn meanwhile(&self, what: &'static str) {
        self.shared.board().begin(what);
    }

    /// Waits until as many are open as may be, and so many have arrived since what goes on now began: that shows what comes
    /// after it.
    pub async fn go_on(&self, arrived: usize) {
        let wanted = self.shared.at_once;
        eventually(&format!("{wanted} are in flight"), PATIENCE, || async {
            let mut board = self.shared.board();
            let open = board.open.len();
            let arrived = board.now().arrived >= arrived;
            // Some are between two places: one has ended, the next not come yet.
            if open * 20 >= wanted * 19 && arrived { Ok(()) } else { Err(format!("{open} are: {}", board.now())) }
        })
        .await
        .unwrap();
    }

    /// Waits until so many have ended, well or not.
    pub async fn ended(&self, wanted: usize) {
        eventually(&format!("{wanted} have ended"), PATIENCE, || async {
            let board = self.shared.board();
            board.landed.len() + board.lost.len() >= wanted
        })
        .await
        .unwrap();
    }

    /// Nobody arrives any more.
    pub fn last_call(&self) {
        let _ = self.arriving.send(false);
    }

    /// Waits until all that are under way have ended, and gives what they met.
    pub async fn land(mut self) -> Board {
        self.last_call();
        let air = self.air.take().expect("it lands once");
        tokio::task::spawn_blocking(move || air.join().unwrap()).await.unwrap();
        std::mem::take(&mut *self.shared.board())
    }
}

/// Applies phones and lets each arrive once it is waited for, as long as `arriving`.
async fn supply(api: Api<Phone>, first: usize, armed: mpsc::Sender<usize>, arriving: watch::Receiver<bool>) {
    for begin in (first..).step_by(BATCH) {
        let batch = begin..begin + BATCH;
        let mut applied = JoinSet::new();
        for number in batch.clone() {
            let api = api.clone();
            applied.spawn(async move { apply(&api, number).await });
        }
        while let Some(done) = applied.join_next().await {
            done.unwrap();
        }
        wait_armed(&api, batch.clone()).await;
        for number in batch {
            // Closed when nobody arrives any more.
            if armed.send(number).await.is_err() || !*arriving.borrow() {
                return;
            }
        }
    }
}

/// Applies a phone that enrols By Null String.
async fn apply(api: &Api<Phone>, number: usize) {
    let device = device(number);
    let spec = json!({
        "deviceName": device, "proxyRef": {"name": "main"},
        "certificateOperation": "InstallUpgrade", "authenticationMode": "ByNullString", "keyType": "EC",
    });
    let spec: PhoneSpec = serde_json::from_value(spec).unwrap();
    let metadata = ObjectMeta { name: Some(device.to_lowercase()), ..ObjectMeta::default() };
    api.create(&PostParams::default(), &Phone { metadata, spec, status: None }).await.unwrap();
}

/// Waits until the phones of these numbers are waited for.
async fn wait_armed(api: &Api<Phone>, numbers: std::ops::Range<usize>) {
    let pending = ListParams::default().fields("status.operation.phase=Pending");
    let wanted: BTreeSet<String> = numbers.map(|number| device(number).to_lowercase()).collect();
    eventually("the phones are waited for", PATIENCE, || async {
        let phones = api.list_metadata(&pending).await.map_err(|error| error.to_string())?.items;
        let found = phones.iter().filter(|phone| wanted.contains(&phone.name_any())).count();
        if found == wanted.len() { Ok(()) } else { Err(format!("{found} of {} are", wanted.len())) }
    })
    .await
    .unwrap();
}

/// Lets phones arrive until there are none, and ends when the last has ended.
async fn fly(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<usize>, mut arriving: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(shared.at_once));
    let mut phones = JoinSet::new();
    let mut pace = tokio::time::interval(PACE);
    loop {
        pace.tick().await;
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let number = tokio::select! {
            biased;
            _ = arriving.wait_for(|arriving| !arriving) => break,
            number = arrivals.recv() => number,
        };
        let Some(number) = number else { break };
        let shared = Arc::clone(&shared);
        phones.spawn(async move {
            enrol(&shared, number).await;
            drop(place);
        });
        while let Some(ended) = phones.try_join_next() {
            ended.unwrap();
        }
    }
    drop(arrivals);
    while let Some(ended) = phones.join_next().await {
        ended.unwrap();
    }
}

async fn enrol(shared: &Shared, number: usize) {
    let Line { server, tls } = shared.line.clone();
    let phone = SimulatedPhone::new(server, ClaimedName::parse(&device(number)).unwrap(), tls);
    let phone = phone.retries(RETRIES.0, RETRIES.1);
    let mut phone = match (shared.habit)(number) {
        Some((step, time)) => phone.pausing(step, time),
        None => phone,
    };
    shared.board().arrived(number);
    let ended = phone.enrol_telling(|retry| shared.board().comes_again(number, retry.failure)).await;
    shared.board().ended(number, &ended, phone.lsc());
}
