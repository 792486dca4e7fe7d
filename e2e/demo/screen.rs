//! Live progress: what a watch of the Phones says, as a bar on a terminal and as lines elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use capf::api::{LscState, Phase, Phone, Reason};
use console::style;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Trouble;
use crate::fleet::NAMESPACE;

/// Lines of latest events on a terminal.
const TICKER: usize = 8;
/// Time between two lines of counts where there is no terminal.
const COUNTS: Duration = Duration::from_secs(3);
/// Time between two drawings on a terminal where nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// What a watch never does.
const ENDED: &str = "the watch of the phones has ended";

/// What the API server has said of a phone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Operation Status, empty before the controller has written one.
    pub status: String,
    /// Where its operation stands; none where it has none.
    pub phase: Option<Phase>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Whether it has an LSC.
    pub lsc: LscState,
    /// Serial number of that.
    pub serial: Option<String>,
    /// Whether it was seen waiting before.
    pub was_pending: bool,
}

impl Seen {
    fn is_over(&self) -> bool {
        !self.status.is_empty() && self.phase.is_none_or(Phase::is_terminal)
    }

    /// Operation Status without the name of the operation, which is the same for all.
    fn word(&self) -> &str {
        match self.phase {
            None if self.status.is_empty() => "not looked at",
            None => "No Pending Operation",
            Some(Phase::Pending | Phase::InProgress) => "Pending",
            Some(Phase::Successful) => "Successful",
            Some(Phase::Failed) => "Failed",
        }
    }
}

impl From<&Phone> for Seen {
    fn from(phone: &Phone) -> Self {
        let status = phone.status.clone().unwrap_or_default();
        let operation = status.operation.as_ref();
        Self {
            status: status.operation_status.clone().unwrap_or_default(),
            phase: operation.map(|operation| operation.phase),
            reason: operation.and_then(|operation| operation.reason),
            lsc: status.lsc_state,
            serial: status.lsc.map(|lsc| lsc.serial_number),
            was_pending: false,
        }
    }
}

/// All phones as they were seen last, by the name of the Phone.
#[derive(Clone, Debug, Default)]
pub struct Board(pub BTreeMap<String, Seen>);

impl Board {
    /// Takes in what was said of a phone; what is new of it, in words.
    fn take(&mut self, phone: &Phone) -> Option<String> {
        let before = self.0.get(&phone.name_any()).cloned().unwrap_or_default();
        let now = Seen { was_pending: before.was_pending || before.word() == "Pending", ..Seen::from(phone) };
        let device = &phone.spec.device_name;
        let told = (now.status != before.status).then(|| match (now.word(), now.reason) {
            ("Successful", _) => {
                format!("{device} {} {}, LSC {:?}", before.word(), style("-> Successful").green(), now.lsc)
            }
            ("Failed", reason) => {
                let reason = reason.map_or("no reason", Reason::as_str);
                format!("{device} {} {}: {reason}", before.word(), style("-> Failed").red())
            }
            (word, _) => format!("{device} {word}"),
        });
        self.0.insert(phone.name_any(), now);
        told
    }

    fn over(&self) -> usize {
        self.0.values().filter(|seen| seen.is_over()).count()
    }

    /// How many stand where.
    fn counts(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = ["Pending", "Successful", "Failed"].map(|word| (word, 0)).into();
        self.0.values().for_each(|seen| *counts.entry(seen.word()).or_default() += 1);
        let words: Vec<String> = counts.into_iter().map(|(word, count)| format!("{word} {count}")).collect();
        words.join("   ")
    }

    /// The last line of the demo.
    pub fn summary(&self, verified: usize, took: Duration) -> String {
        let count = |phase| self.0.values().filter(|seen| seen.phase == phase).count();
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        let failed = self.0.values().filter(|seen| seen.phase == Some(Phase::Failed));
        failed.for_each(|seen| *reasons.entry(seen.reason.map_or("no reason", Reason::as_str)).or_default() += 1);
        let reasons: Vec<String> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!(
            "{} phones: {} Successful, {} Failed ({}), {} No Pending Operation; {verified} certificates verified by \
             openssl; {:.0} s in all",
            self.0.len(),
            count(Some(Phase::Successful)),
            count(Some(Phase::Failed)),
            reasons.join(", "),
            count(None),
            took.as_secs_f64()
        )
    }
}

/// Shows the board while it changes.
pub struct Screen {
    watch: BoxStream<'static, watcher::Result<Event<Phone>>>,
    board: Board,
    phones: usize,
    start: Instant,
    bar: Option<Bar>,
    counted: Instant,
}

struct Bar {
    bar: ProgressBar,
    latest: VecDeque<String>,
}

impl Screen {
    /// A screen for so many phones. Returns when it has been told of those that are there.
    pub async fn open(client: Client, phones: usize) -> Result<Self, Trouble> {
        let api: Api<Phone> = Api::namespaced(client, NAMESPACE);
        let mut watch = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut board = Board::default();
        loop {
            match watch.try_next().await? {
                Some(Event::InitDone) => break,
                Some(Event::InitApply(phone)) => drop(board.take(&phone)),
                Some(_) => {}
                None => return Err(ENDED.into()),
            }
        }
        let terminal = console::Term::stdout().is_term();
        let now = Instant::now();
        Ok(Self { watch, board, phones, start: now, bar: terminal.then(|| Bar::new(phones)), counted: now })
    }

    /// Follows the phones until all are done or the time is over, and returns the board.
    pub async fn follow(mut self, mut notes: UnboundedReceiver<String>, limit: Duration) -> Result<Board, Trouble> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let over = tokio::time::Instant::now() + limit;
        self.tell(Some(self.board.counts()));
        while self.board.over() < self.phones {
            tokio::select! {
                said = self.watch.try_next() => match said {
                    Ok(Some(Event::Apply(phone) | Event::InitApply(phone))) => {
                        let told = self.board.take(&phone);
                        self.tell(told);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(ENDED.into()),
                    // The stream goes on with another watch.
                    Err(error) => self.tell(Some(format!("the watch of the phones: {error}"))),
                },
                Some(note) = notes.recv() => self.tell(Some(style(note).dim().to_string())),
                _ = second.tick() => self.count(),
                () = tokio::time::sleep_until(over) => break,
            }
        }
        Ok(self.finish())
    }

    fn tell(&mut self, told: Option<String>) {
        let Some(told) = told else { return };
        let line = format!("{:5.1} s  {told}", self.start.elapsed().as_secs_f64());
        match &mut self.bar {
            Some(bar) => bar.show(&self.board, Some(line)),
            None => println!("{line}"),
        }
    }

    fn count(&mut self) {
        match &mut self.bar {
            Some(bar) => bar.show(&self.board, None),
            None if self.counted.elapsed() >= COUNTS => {
                self.counted = Instant::now();
                self.tell(Some(format!("-- {}", self.board.counts())));
            }
            None => {}
        }
    }

    fn finish(self) -> Board {
        let Self { board, bar, start, .. } = self;
        if let Some(bar) = bar {
            bar.bar.finish_and_clear();
            // The latest events stay on the screen.
            bar.latest.iter().for_each(|line| println!("{line}"));
        }
        println!("after {:.0} s: {}", start.elapsed().as_secs_f64(), board.counts());
        board
    }
}

impl Bar {
    fn new(phones: usize) -> Self {
        let bar = ProgressBar::with_draw_target(u64::try_from(phones).ok(), ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("[{bar:40.green}] {pos} of {len} phones done, {elapsed}\n{msg}");
        // The template is a constant that is right.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        // What was changed too soon after the last drawing is drawn with the next tick.
        bar.enable_steady_tick(TICK);
        Self { bar, latest: VecDeque::with_capacity(TICKER) }
    }

    fn show(&mut self, board: &Board, line: Option<String>) {
        if let Some(line) = line {
            if self.latest.len() == TICKER {
                self.latest.pop_front();
            }
            self.latest.push_back(line);
        }
        self.bar.set_position(u64::try_from(board.over()).unwrap_or(u64::MAX));
        let lines: Vec<&str> = self.latest.iter().map(String::as_str).collect();
        self.bar.set_message(format!("{}\n{}", board.counts(), lines.join("\n")));
    }
}
