//! Conditions, after the Kubernetes convention and kstatus: few types, one writer each.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which question about the object a condition answers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ConditionType {
    /// The spec is accepted and acted on. True also while a phone's user is waited for and after a failed run.
    Ready,
    /// The manifest must be changed before anything can happen; absent otherwise.
    Stalled,
    /// Outcome of the newest operation: Unknown while it runs.
    Succeeded,
    /// The published service certificate is not the one named in `ctlCertificate`: the phones' CTL needs an update.
    CTLUpdateRequired,
    /// CAPF's own key has another kind or size than the spec asks; a new `certificateRevision` makes it anew.
    KeySizeDiffers,
    /// A credential that endpoints need is close to its end and could not be renewed.
    CredentialExpiring,
    /// What `micRoots` names cannot be read or holds no roots: no MIC is believed until it is mended; absent otherwise.
    MICRootsUnusable,
    /// Authentication strings are being guessed from the source blocks that the message names; absent otherwise.
    GuessingSuspected,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One observation about the object, in the form of `metav1.Condition`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct Condition {
    /// Which question is answered.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// Machine-readable cause, in CamelCase.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The cause and, where there is one, the remedy, for people.
    #[schemars(length(max = 512))]
    pub message: String,
    /// When the status last changed.
    #[schemars(schema_with = "crate::api::fields::date_time")]
    pub last_transition_time: Timestamp,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The conditions of one object, rebuilt at each decision: what is not said again is gone.
#[derive(Clone, Debug)]
pub struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    after: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// Starts from the conditions on record, whose transition times are kept where the status is the same.
    #[must_use]
    pub fn over(before: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { before, generation, now, after: Vec::new() }
    }

    /// States one condition; `message` is cut to the schema's bound.
    #[must_use]
    pub fn say(
        mut self,
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: impl AsRef<str>,
        message: impl Into<String>,
    ) -> Self {
        let status = status.into();
        let same = self.before.iter().find(|c| c.type_ == type_ && c.status == status);
        self.after.push(Condition {
            type_,
            status,
            reason: reason.as_ref().to_owned(),
            message: bounded(message.into(), 512),
            last_transition_time: same.map_or(self.now, |c| c.last_transition_time),
            observed_generation: self.generation,
        });
        self
    }

    /// The finished list, in the order it was said.
    #[must_use]
    pub fn done(self) -> Vec<Condition> {
        self.after
    }
}

/// Cuts `text` to at most `max` characters.
pub(crate) fn bounded(text: String, max: usize) -> String {
    if text.chars().count() <= max { text } else { text.chars().take(max - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let t0 = Timestamp::from_second(1_000).unwrap();
        let t1 = Timestamp::from_second(2_000).unwrap();
        let before = Conditions::over(&[], Some(1), t0).say(ConditionType::Ready, true, "Armed", "a").done();
        let same = Conditions::over(&before, Some(2), t1).say(ConditionType::Ready, true, "Ended", "b").done();
        assert_eq!((same[0].last_transition_time, same[0].observed_generation), (t0, Some(2)));
        let changed = Conditions::over(&before, Some(2), t1).say(ConditionType::Ready, false, "Refused", "c").done();
        assert_eq!(changed[0].last_transition_time, t1);
    }

    #[test]
    fn messages_are_cut_by_characters_not_bytes() {
        assert_eq!(bounded("ä".repeat(600), 512).chars().count(), 512);
    }
}
