//! Logs: our own lines at the level that was asked for, other people's code at errors only; and one phone's lines at its
//! own level.
//!
//! What a library would say at trace level may hold a Secret's content (an HTTP body, say), so no option and no
//! environment variable lets it speak. kube's client says nothing at all: an answer that it does not understand it
//! logs as a whole, at any level.
//!
//! A span may be raised to a level ([`raise`]): lines within it are written up to that level, whatever the process was
//! started with. While no span is raised that costs nothing: the level that `tracing` compares with before anything else
//! is the process's own. While one is, that level is the highest raised one, and lines between the two look for a raised
//! span around them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::LogLevel;

/// Form of the lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of every subcommand.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LogArgs {
    /// Lines up to this level: error, warn, info, debug or trace. Secrets are in none of them. Default: info for
    /// `controller` and `endpoint`, warn for the rest
    #[arg(long, global = true, env = "CAPF_LOG_LEVEL")]
    pub log_level: Option<Level>,
    /// Form of the lines
    #[arg(long, global = true, env = "CAPF_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
}

/// Starts logging to standard error, at `default` where no level was asked for. A second call changes nothing.
pub fn init(args: LogArgs, default: Level) {
    let level = LevelFilter::from_level(args.log_level.unwrap_or(default));
    // A second call finds a subscriber in place and leaves it.
    let _ = subscriber(args.log_format, level, io::stderr).try_init();
}

/// Writes lines of this form, up to this level where no span is raised.
fn subscriber<W>(format: Format, level: LevelFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Text => lines.with_ansi(false).boxed(),
        Format::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(Ours { level }))
}

/// Raised spans, by their level.
static RAISED: [AtomicUsize; LogLevel::ALL.len()] = [const { AtomicUsize::new(0) }; LogLevel::ALL.len()];

/// The highest level that a span is raised to.
fn highest_raised() -> LevelFilter {
    let raised = LogLevel::ALL.into_iter().rev().find(|level| RAISED[*level as usize].load(Ordering::Relaxed) > 0);
    raised.map_or(LevelFilter::OFF, filter)
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// What a raised span carries, and gives back when it closes.
struct Raised(LogLevel);

impl Raised {
    fn to(level: LogLevel) -> Self {
        RAISED[level as usize].fetch_add(1, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
        Self(level)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        RAISED[self.0 as usize].fetch_sub(1, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Has what happens in this span, from now until it closes, written up to this level. It only ever adds lines.
pub fn raise(span: &Span, level: LogLevel) {
    span.with_subscriber(|(id, subscriber)| {
        let registry = subscriber.downcast_ref::<Registry>();
        if let Some(span) = registry.and_then(|registry| registry.span(id)) {
            // Made before, and what it had given back after, the span's own lock is held.
            let raised = Raised::to(level);
            let before = span.extensions_mut().replace(raised);
            drop(before);
        }
    });
}

/// Our own lines, up to a level or to that of a raised span around them; other people's errors, kube's client aside.
struct Ours {
    level: LevelFilter,
}

impl Ours {
    fn always(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let level = if is_ours(target) {
            self.level
        } else if target.starts_with("kube_client") {
            LevelFilter::OFF
        } else {
            LevelFilter::ERROR
        };
        *metadata.level() <= level
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("capf").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl<S> Filter<S> for Ours
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        if self.always(metadata) {
            return true;
        }
        if !is_ours(metadata.target()) || *metadata.level() > highest_raised() {
            return false;
        }
        let around = context.lookup_current();
        around.into_iter().flat_map(|span| span.scope()).any(|span| {
            let extensions = span.extensions();
            extensions.get::<Raised>().is_some_and(|raised| *metadata.level() <= filter(raised.0))
        })
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.always(metadata) {
            Interest::always()
        } else if is_ours(metadata.target()) {
            // Asked each time, but only while the hint below lets it come to that.
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.max(LevelFilter::ERROR).max(highest_raised()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// What is logged in `this` by a process at level info.
    fn logged(format: Format, this: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(format, LevelFilter::INFO, move || writer.clone()), this);
        lines.text()
    }

    #[test]
    fn lines_within_a_raised_span_are_written_and_those_beside_it_are_not() {
        let text = logged(Format::Text, || {
            let (raised, beside) = (tracing::error_span!("raised"), tracing::error_span!("beside"));
            raise(&raised, LogLevel::Debug);
            raised.in_scope(|| {
                tracing::debug!("first");
                tracing::info_span!("deeper").in_scope(|| tracing::debug!("second"));
                tracing::trace!("beyond its level");
                tracing::debug!(target: "hyper", "of a library");
            });
            beside.in_scope(|| tracing::debug!("of another"));
            tracing::debug!("of nobody");
            drop(raised);
            tracing::debug!("after it");
            tracing::info!("as ever");
        });
        for there in ["first", "second", "as ever"] {
            assert!(text.contains(there), "{text}");
        }
        for absent in ["beyond", "library", "another", "nobody", "after it"] {
            assert!(!text.contains(absent), "{absent} is in\n{text}");
        }
    }

    #[test]
    fn a_span_can_be_raised_again_and_gives_back_what_it_had() {
        logged(Format::Text, || {
            let span = tracing::error_span!("raised");
            raise(&span, LogLevel::Error);
            raise(&span, LogLevel::Warn);
            let of = |level: LogLevel| RAISED[level as usize].load(Ordering::Relaxed);
            // No other test raises to these.
            assert_eq!((of(LogLevel::Error), of(LogLevel::Warn)), (0, 1));
            drop(span);
            assert_eq!((of(LogLevel::Error), of(LogLevel::Warn)), (0, 0));
        });
    }

    #[test]
    fn a_line_of_json_holds_its_span() {
        let text = logged(Format::Json, || {
            let span = tracing::error_span!("session", id = "0000002a", device = tracing::field::Empty);
            span.record("device", "SEP001");
            span.in_scope(|| tracing::info!(end = "finished", seconds = 0.5, "it is on record"));
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["message"], "it is on record");
        assert_eq!(line["fields"]["end"], "finished");
        assert_eq!((&line["span"]["id"], &line["span"]["device"]), (&"0000002a".into(), &"SEP001".into()));
    }

    #[test]
    fn the_client_of_the_api_server_says_nothing_and_other_libraries_say_what_went_wrong() {
        let text = logged(Format::Text, || {
            tracing::error!(target: "kube_client::client", "an answer");
            tracing::error!(target: "hyper", "a fault");
            tracing::warn!(target: "hyper", "a warning");
            tracing::info!(target: "capfish", "of a stranger");
        });
        assert!(text.contains("a fault") && text.lines().count() == 1, "{text}");
    }
}
