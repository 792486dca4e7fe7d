//! The metrics of an endpoint.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::series::{Exposition, Level, Series};

/// The metrics of an endpoint.
#[derive(Debug)]
pub struct Metrics {
    /// All of them.
    pub exposition: Exposition,
    /// Whether it is ready.
    pub ready: Series<Level>,
    /// Sessions that ended.
    pub sessions: Series<Counter, 1>,
    /// Sessions that are open.
    pub open: Series<Level>,
    /// How long they were.
    pub session_seconds: Series<Histogram>,
    /// Connections that came to no TLS.
    pub without_tls: Series<Counter, 1>,
    /// Connections for which there was no place.
    pub no_place: Series<Counter, 1>,
    /// How long keys took.
    pub key_seconds: Series<Histogram>,
    /// Questions to controllers.
    pub questions: Series<Counter, 3>,
    /// How long their answers took.
    pub question_seconds: Series<Histogram, 1>,
    /// Ends of the certificates of the bundle.
    pub certificate_end: Series<Level, 1>,
    /// Changes of the bundle.
    pub reloads: Series<Counter, 1>,
    /// Whether what lies in the folder is what is in use.
    pub bundle_current: Series<Level>,
}

/// The metrics of this process, if it is an endpoint.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

fn session_seconds() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0])
}

fn key_seconds() -> Histogram {
    Histogram::new([0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0])
}

fn question_seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 6.0])
}

impl Metrics {
    fn new() -> Self {
        let mut e = Exposition::new("endpoint");
        let new = Self {
            ready: e.level("endpoint_ready", [], "1 while /readyz answers 200, else 0"),
            sessions: e.counter(
                "endpoint_sessions",
                ["end"],
                "Sessions that began with TLS, by how they ended, in the words of the log; cut_off: by the end of the drain, or \
                 to make room",
            ),
            open: e.level("endpoint_sessions_open", [], "Sessions that are open"),
            session_seconds: e.durations(
                "endpoint_session_seconds",
                [],
                "How long a session was, from the connection to its end",
                session_seconds,
            ),
            without_tls: e.counter(
                "endpoint_tls_failures",
                ["end"],
                "Connections that came to no TLS: handshake_failed, handshake_deadline, or hung_up before it, as load \
                 balancers do that look whether the port is open",
            ),
            no_place: e.counter(
                "endpoint_connections_closed",
                ["cause"],
                "Connections closed because as many were open as the proxy allows: full, or made_room for another",
            ),
            key_seconds: e.durations(
                "endpoint_key_seconds",
                [],
                "How long a phone took for its key, of those that made one",
                key_seconds,
            ),
            questions: e.counter(
                "endpoint_questions",
                ["question", "answer", "reason"],
                "Questions to controllers, by open, issue or complete, by the answer (unanswered: none was to be had in \
                 six seconds, and the phone comes again), and by the reason of a refusal",
            ),
            question_seconds: e.durations(
                "endpoint_question_seconds",
                ["question"],
                "How long an answer took, all tries together",
                question_seconds,
            ),
            certificate_end: e.level(
                "endpoint_certificate_end_timestamp_seconds",
                ["certificate"],
                "End of the client certificate and of the service certificate of the bundle in use",
            ),
            reloads: e.counter(
                "endpoint_bundle_reloads",
                ["outcome"],
                "Changes of the bundle: ok, or failed, after which the last good one stays in use",
            ),
            bundle_current: e.level(
                "endpoint_bundle_current",
                [],
                "1 while the bundle in use is the one that lies in the folder, 0 while that one cannot be used",
            ),
            exposition: e,
        };
        for end in ["finished", "unavailable", "deadline", "refused", "hung_up"] {
            new.sessions.with([end]);
        }
        for end in ["handshake_failed", "handshake_deadline", "hung_up"] {
            new.without_tls.with([end]);
        }
        for cause in ["full", "made_room"] {
            new.no_place.with([cause]);
        }
        for question in ["open", "issue", "complete"] {
            new.questions.with([question, "unanswered", ""]);
        }
        for outcome in ["ok", "failed"] {
            new.reloads.with([outcome]);
        }
        new
    }
}

/// A session, from its TLS to its end; one that is dropped without an end was cut off.
#[derive(Debug)]
pub struct OpenSession(Option<()>);

impl OpenSession {
    /// Counts it as open.
    #[must_use]
    pub fn begin() -> Self {
        metrics().open.value().inc();
        Self(Some(()))
    }

    /// Counts it as ended so.
    pub fn end(mut self, end: &'static str, seconds: f64) {
        self.0 = None;
        metrics().sessions.with([end]).inc();
        metrics().session_seconds.value().observe(seconds);
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        metrics().open.value().dec();
        if self.0.is_some() {
            metrics().sessions.with(["cut_off"]).inc();
        }
    }
}
