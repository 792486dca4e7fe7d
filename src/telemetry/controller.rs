//! The metrics of a controller.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::series::{Exposition, Level, Series};
use crate::api::{CertificateOperation, Reason};

/// The metrics of a controller. Those that are "by the replica's watches" are set anew at each scrape.
#[derive(Debug)]
pub struct Metrics {
    /// All of them.
    pub exposition: Exposition,
    /// Whether it is ready.
    pub ready: Series<Level>,
    /// Answered questions.
    pub questions: Series<Counter, 3>,
    /// How long answers took.
    pub question_seconds: Series<Histogram, 1>,
    /// Strings that phones sent.
    pub strings: Series<Counter, 1>,
    /// Source blocks that were penalised.
    pub penalised: Series<Counter>,
    /// Operations that came to their end.
    pub ended: Series<Counter, 3>,
    /// Phones by their operation.
    pub phones: Series<Level, 1>,
    /// Phones by their LSC.
    pub phones_lsc: Series<Level, 1>,
    /// Phones whose run was locked out.
    pub locked_out: Series<Level>,
    /// Open operations by their age.
    pub pending: Series<Level, 1>,
    /// Age of the oldest open operation.
    pub oldest_pending: Series<Level>,
    /// Open operations past their deadline.
    pub overdue: Series<Level>,
    /// Whether this replica leads.
    pub leading: Series<Level>,
    /// Changes of that.
    pub transitions: Series<Counter, 1>,
    /// The work queue.
    pub queue: Series<Level, 1>,
    /// The longest wait in it.
    pub queue_oldest: Series<Level>,
    /// Work that failed.
    pub retries: Series<Counter, 1>,
    /// Calls to the API server.
    pub calls: Series<Counter, 3>,
    /// How long they took.
    pub call_seconds: Series<Histogram, 1>,
    /// When the API server last answered.
    pub last_answer: Series<Level>,
    /// The same for those who count by a clock that nobody sets.
    answered: Mutex<Option<Instant>>,
    /// Watches that failed.
    pub watch_errors: Series<Counter, 1>,
    /// Lists.
    pub watch_lists: Series<Counter, 1>,
    /// Ends of the certificates of controllers.
    pub certificate_end: Series<Level, 1>,
    /// Ends of the certificates of proxies.
    pub proxy_certificate_end: Series<Level, 3>,
    /// Conditions of proxies.
    pub proxy_condition: Series<Level, 3>,
    /// Unknown callers of proxies.
    pub unknown_callers: Series<Level, 2>,
}

/// The metrics of this process, if it is a controller.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

fn question_seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 6.0])
}

fn call_seconds() -> Histogram {
    Histogram::new([0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.5, 10.0])
}

impl Metrics {
    fn new() -> Self {
        let mut e = Exposition::new("controller");
        let new = Self {
            ready: e.level("controller_ready", [], "1 while /readyz answers 200, else 0"),
            questions: e.counter(
                "controller_questions",
                ["question", "answer", "reason"],
                "Questions of endpoints, by open, issue or complete, by the answer (unanswered: none was to be had, and the \
                 phone comes again), and by the reason of a refusal",
            ),
            question_seconds: e.durations(
                "controller_question_seconds",
                ["question"],
                "How long an answer took",
                question_seconds,
            ),
            strings: e.counter(
                "controller_strings",
                ["result"],
                "Authentication strings that phones sent: right, wrong, or unchecked because of where they came from",
            ),
            penalised: e.counter(
                "controller_penalised_blocks",
                [],
                "Times that a source block was penalised for wrong strings: none of its strings is checked for a while",
            ),
            ended: e.counter(
                "controller_operations_ended",
                ["operation", "phase", "reason"],
                "Operations that this replica brought to their end, by what they did, Successful or Failed, and why",
            ),
            phones: e.level(
                "controller_phones",
                ["operation"],
                "Phones, by the operation that their status names: none, pending, successful or failed; by the replica's watches",
            ),
            phones_lsc: e.level(
                "controller_phones_lsc",
                ["state"],
                "Phones, by their lscState: Installed, NotInstalled or Unknown; by the replica's watches",
            ),
            locked_out: e.level(
                "controller_phones_locked_out",
                [],
                "Phones whose run ended LockedOut and that have had no other since; by the replica's watches",
            ),
            pending: e.level(
                "controller_operations_pending",
                ["age"],
                "Armed operations that wait for their phones, by the time since they were made: hour, day, week (less than \
                 that, and not less than the one before) or longer; by the replica's watches",
            ),
            oldest_pending: e.level(
                "controller_oldest_pending_seconds",
                [],
                "Age of the oldest armed operation that waits for its phone, 0 without one; by the replica's watches",
            ),
            overdue: e.level(
                "controller_operations_overdue",
                [],
                "Armed operations more than five minutes past their deadline and not ended: the loops are behind, or nobody \
                 leads; by the replica's watches",
            ),
            leading: e.level("controller_leading", [], "1 while the loops run in this replica, else 0"),
            transitions: e.counter(
                "controller_lease_transitions",
                ["to"],
                "Changes of this replica's part, to leading or to following",
            ),
            queue: e.level(
                "controller_queue",
                ["state"],
                "Phones and proxies in the work queue of the leader: due (work waits), later (for a time) or working",
            ),
            queue_oldest: e.level(
                "controller_queue_oldest_due_seconds",
                [],
                "How long the work that is due and has waited longest has waited",
            ),
            retries: e.counter(
                "controller_retries",
                ["unit"],
                "Work on a phone or a proxy that failed and is tried again",
            ),
            calls: e.counter(
                "controller_api_calls",
                ["verb", "kind", "outcome"],
                "Calls to the API server, watches aside. Conflicts, and objects that there are not or are already, are part of \
                 the work; invalid, forbidden and unavailable are not",
            ),
            call_seconds: e.durations(
                "controller_api_call_seconds",
                ["verb"],
                "How long a call to the API server took, those that got no answer included",
                call_seconds,
            ),
            last_answer: e.level(
                "controller_api_last_answer_timestamp_seconds",
                [],
                "When the API server last answered a call of this replica, whatever the answer",
            ),
            answered: Mutex::default(),
            watch_errors: e.counter(
                "controller_watch_errors",
                ["kind"],
                "Watches that failed and were begun anew; what happens meanwhile is seen late",
            ),
            watch_lists: e.counter(
                "controller_watch_lists",
                ["kind"],
                "Times that a kind was listed as a whole: at the start, and when a watch could not go on where it was",
            ),
            certificate_end: e.level(
                "controller_certificate_end_timestamp_seconds",
                ["certificate"],
                "End of the controllers' CA (ca) and of this replica's own certificate (replica)",
            ),
            proxy_certificate_end: e.level(
                "controller_proxy_certificate_end_timestamp_seconds",
                ["proxy_namespace", "proxy", "certificate"],
                "End of a proxy's issuer or service certificate, by its status",
            ),
            proxy_condition: e.level(
                "controller_proxy_condition",
                ["proxy_namespace", "proxy", "condition"],
                "1 while this condition of a proxy is True, else 0",
            ),
            unknown_callers: e.level(
                "controller_proxy_unknown_callers",
                ["proxy_namespace", "proxy"],
                "Devices in a proxy's list of unknown callers; at most 100",
            ),
            exposition: e,
        };
        new.begin_at_zero();
        new
    }

    /// What alerts ask for is there before it happens first: a rate needs a number before.
    fn begin_at_zero(&self) {
        for question in ["open", "issue", "complete"] {
            self.questions.with([question, "unanswered", ""]);
        }
        for result in ["right", "wrong", "unchecked"] {
            self.strings.with([result]);
        }
        for operation in ["InstallUpgrade", "Delete", "Troubleshoot"] {
            self.ended.with([operation, "Successful", ""]);
            self.ended.with([operation, "Failed", Reason::Expired.as_str()]);
        }
        for (state, unit) in [("due", "phone"), ("later", "proxy"), ("working", "proxy")] {
            self.queue.with([state]);
            self.retries.with([unit]);
        }
        for to in ["leading", "following"] {
            self.transitions.with([to]);
        }
        for kind in ["Phone", "CertificateOperation", "CertificateAuthorityProxy", "Deployment"] {
            self.watch_errors.with([kind]);
            self.watch_lists.with([kind]);
        }
    }

    /// Notes whether this replica leads from now on.
    pub fn leads(&self, leads: bool) {
        self.leading.value().set(f64::from(u8::from(leads)));
        self.transitions.with([if leads { "leading" } else { "following" }]).inc();
    }

    /// Notes that the API server answered just now.
    pub fn api_answered(&self) {
        self.last_answer.value().set(crate::clock::now().as_duration().as_secs_f64());
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// For how long it has not, if it ever did.
    pub fn api_silence(&self) -> Option<Duration> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    /// Counts an operation, if what was just written is its end.
    pub fn operation_written(&self, operation: &CertificateOperation) {
        let Some(status) = operation.status.as_ref().filter(|status| status.phase.is_terminal()) else { return };
        let (kind, phase) = (operation.spec.certificate_operation, status.phase);
        let reason = status.reason.map_or("", Reason::as_str);
        self.ended.with([format!("{kind:?}"), format!("{phase:?}"), reason.to_owned()]).inc();
    }
}
