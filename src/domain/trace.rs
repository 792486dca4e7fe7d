//! Troubleshoot: what a phone showed, judged by what it is and compared with what is on record, and the trace of it that
//! people read. Nothing is verified here: a trace says what the phone showed.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::api::{
    CertificateAuthorityProxy, CertificateOperation, CertificateTrace, MicSummary, PhoneCertificate, PhoneStatus,
    TraceVerdict, TracedCertificate, bounded,
};
use crate::pki::CertificateFacts;

/// Longest PEM text that is kept, in characters: a certificate of 1.7 KiB.
const MAX_PEM: usize = 2304;
/// The same of both certificates together, so that an operation stays below 8 KiB.
const MAX_PEMS: usize = 3328;

/// What a phone answered to FETCH_CERT_REQ.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// This, which is called a certificate (DER).
    Certificate(&'a [u8]),
    /// That it holds none.
    Nothing,
    /// That it will not, with this REASON.
    Rejected(u8),
}

/// What there is to compare with.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Device name of the phone.
    pub device: &'a str,
    /// What is known of the phone.
    pub known: Option<&'a PhoneStatus>,
    /// Its operations, the one that is under way included.
    pub operations: &'a [std::sync::Arc<CertificateOperation>],
    /// Its proxy.
    pub proxy: &'a CertificateAuthorityProxy,
    /// What was traced before in this operation: a certificate is kept once.
    pub traced: &'a [CertificateTrace],
}

/// The trace of one answer, and the MIC if that is what came.
#[must_use]
pub fn trace(
    asked: PhoneCertificate,
    shown: Shown<'_>,
    record: &Record<'_>,
    now: Timestamp,
) -> (CertificateTrace, Option<MicSummary>) {
    let mut trace = CertificateTrace { asked, kind: None, verdict: None, note: None, certificate: None, seen_at: now };
    let der = match shown {
        Shown::Certificate(der) => der,
        Shown::Nothing => {
            trace.verdict = Some(TraceVerdict::Missing);
            return (trace, None);
        }
        Shown::Rejected(reason) => {
            trace.note = Some(format!("the phone would not show it and gave reason {reason}"));
            return (trace, None);
        }
    };
    let facts = match CertificateFacts::from_der(der) {
        Ok(facts) => facts,
        Err(why) => {
            trace.verdict = Some(TraceVerdict::Other);
            trace.note = Some(bounded(format!("{} octets came: {why}", der.len()), 96));
            return (trace, None);
        }
    };
    let kind = kind_of(&facts, record);
    let compared = kind.map_or(Some(TraceVerdict::Other), |kind| compare(kind, &facts, record));
    let expired = facts.not_after < now;
    trace.kind = kind;
    trace.verdict = if expired { Some(TraceVerdict::Expired) } else { compared };
    trace.note = note(asked, kind, compared.filter(|_| expired), &facts);
    let earlier: Vec<_> =
        record.traced.iter().filter(|t| t.asked != asked).filter_map(|t| t.certificate.as_ref()).collect();
    let space = MAX_PEMS - earlier.iter().filter_map(|c| c.pem.as_ref()).map(String::len).sum::<usize>().min(MAX_PEMS);
    let shown_before = earlier.iter().any(|c| c.sha256_fingerprint == facts.sha256);
    let pem = crate::pki::certificate::to_pem(der).ok();
    trace.certificate = Some(TracedCertificate {
        subject: bounded(facts.subject.clone(), 128),
        issuer: bounded(facts.issuer.clone(), 128),
        serial_number: bounded(facts.serial.clone(), 48),
        not_before: facts.not_before,
        not_after: facts.not_after,
        key: facts.key_kind.map(String::from),
        sha256_fingerprint: facts.sha256.clone(),
        pem: pem.filter(|pem| pem.len() <= MAX_PEM.min(space) && !shown_before),
    });
    let mic = (kind == Some(PhoneCertificate::MIC)).then(|| MicSummary::of(&facts, now));
    (trace, mic)
}

/// What a certificate is, by itself: the device's name alone is an LSC's, behind the model's a MIC's.
fn kind_of(facts: &CertificateFacts, record: &Record<'_>) -> Option<PhoneCertificate> {
    let name = facts.subject_common_name.as_deref()?;
    let device = record.device;
    let model = name.len().checked_sub(device.len()).and_then(|at| name.split_at_checked(at));
    let model = model.filter(|(_, end)| end.eq_ignore_ascii_case(device)).map(|(model, _)| model)?;
    match model {
        "" => Some(PhoneCertificate::LSC),
        model if model.ends_with('-') && !issued_here(facts, record) => Some(PhoneCertificate::MIC),
        _ => None,
    }
}

fn compare(kind: PhoneCertificate, facts: &CertificateFacts, record: &Record<'_>) -> Option<TraceVerdict> {
    match kind {
        PhoneCertificate::LSC => Some(match record.known.and_then(|s| s.lsc.as_ref()) {
            Some(live) if live.sha256_fingerprint == facts.sha256 => TraceVerdict::Same,
            _ if issued_here(facts, record) => TraceVerdict::Stale,
            _ => TraceVerdict::Other,
        }),
        PhoneCertificate::MIC => {
            let seen = record.known.and_then(|s| s.mic.as_ref())?;
            let same = seen.sha256_fingerprint == facts.sha256;
            Some(if same { TraceVerdict::Same } else { TraceVerdict::Other })
        }
    }
}

/// Whether the record knows the certificate as one of CAPF's, or it names the proxy's issuer as its own.
fn issued_here(facts: &CertificateFacts, record: &Record<'_>) -> bool {
    let on_record = record.operations.iter().filter_map(|o| o.status.as_ref()).any(|status| {
        let issued = status.certificate.as_ref().is_some_and(|c| c.summary.sha256_fingerprint == facts.sha256);
        issued || status.superseded_serial_numbers.contains(&facts.serial)
    });
    let live = record.known.and_then(|s| s.lsc.as_ref());
    let names_issuer = record.proxy.status.as_ref().and_then(|s| s.issuer_certificate.as_ref()).is_some_and(|issuer| {
        let common_name = format!("CN={}", issuer.common_name);
        facts.issuer.split([',', '+']).any(|part| part.trim() == common_name)
    });
    on_record || names_issuer || live.is_some_and(|live| live.issuer == facts.issuer)
}

fn note(
    asked: PhoneCertificate,
    kind: Option<PhoneCertificate>,
    beside_expired: Option<TraceVerdict>,
    facts: &CertificateFacts,
) -> Option<String> {
    let other_than_asked = match kind {
        Some(kind) if kind != asked => Some(format!("the phone was asked for its {asked} and showed its {kind}")),
        Some(_) => None,
        None => {
            let name = facts.subject_common_name.as_deref().unwrap_or("no common name");
            Some(format!("neither an LSC nor a MIC of this device: {name}"))
        }
    };
    let besides = beside_expired.map(|verdict| format!("but for its dates: {verdict:?}"));
    let parts: Vec<_> = [other_than_asked, besides].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| bounded(parts.join("; "), 96))
}

/// Whether the phone answered at all: with a certificate, with something else, or that it holds none.
#[must_use]
pub fn is_answered(trace: &CertificateTrace) -> bool {
    trace.verdict.is_some() || trace.certificate.is_some()
}

/// Whether the phone holds an LSC, by what it showed when it was asked for it; none when that does not tell.
#[must_use]
pub fn shows_lsc(traces: &[CertificateTrace]) -> Option<bool> {
    let asked = traces.iter().find(|t| t.asked == PhoneCertificate::LSC)?;
    match (asked.kind, asked.verdict) {
        (Some(PhoneCertificate::LSC), _) => Some(true),
        (_, Some(TraceVerdict::Missing)) => Some(false),
        _ => None,
    }
}

/// The traces of an operation as people read them, one block for each certificate.
#[must_use]
pub fn render(operation: &CertificateOperation) -> String {
    let status = operation.status_or_default();
    let name = operation.metadata.name.as_deref().unwrap_or_default();
    let phone = &operation.spec.phone_ref.name;
    let mut text = format!("Phone {phone}, operation {name}: {:?}", status.phase);
    if let Some(reason) = status.reason {
        let _ = write!(text, ", {reason}");
    }
    text.push('\n');
    if status.traces.is_empty() {
        text.push_str("\nThe phone has shown nothing yet.\n");
    }
    for trace in &status.traces {
        text.push('\n');
        render_one(trace, &mut text);
    }
    text
}

fn render_one(trace: &CertificateTrace, text: &mut String) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<18}{value}");
    };
    line("Asked for", &trace.asked.to_string());
    line("Verdict", trace.verdict.map_or("none: nothing on record to compare with", verdict_words));
    if let Some(note) = &trace.note {
        line("Note", note);
    }
    line("Seen", &trace.seen_at.to_string());
    let Some(certificate) = &trace.certificate else { return };
    line("Kind", &trace.kind.map_or_else(|| "unknown".to_owned(), |kind| kind.to_string()));
    line("Subject", &certificate.subject);
    line("Issuer", &certificate.issuer);
    line("Serial number", &certificate.serial_number);
    line("Not before", &certificate.not_before.to_string());
    line("Not after", &certificate.not_after.to_string());
    line("Key", certificate.key.as_deref().unwrap_or("of a kind that CAPF does not know"));
    line("SHA-256", &certificate.sha256_fingerprint);
    if let Some(pem) = &certificate.pem {
        text.push_str(pem);
    }
}

fn verdict_words(verdict: TraceVerdict) -> &'static str {
    match verdict {
        TraceVerdict::Same => "Same: it is the one on record",
        TraceVerdict::Other => "Other: not the one on record, and not issued by CAPF",
        TraceVerdict::Stale => "Stale: issued by CAPF, and not the live one",
        TraceVerdict::Missing => "Missing: the phone holds none",
        TraceVerdict::Expired => "Expired: past its end",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::domain::testing::{at, issued, operation, phone, proxy};

    /// A certificate of this common name by an issuer of that one, which ends at `end`.
    fn certificate(name: &str, issuer: &str, end: i64) -> Vec<u8> {
        let named = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let mut of_issuer = named(issuer);
        of_issuer.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = Issuer::new(of_issuer, KeyPair::generate().unwrap());
        let mut params = named(name);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1)
            .saturating_add(std::time::Duration::from_secs(end as u64).try_into().unwrap());
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
    }

    struct Situation {
        known: PhoneStatus,
        operations: Vec<Arc<CertificateOperation>>,
        proxy: CertificateAuthorityProxy,
        traced: Vec<CertificateTrace>,
    }

    impl Situation {
        fn new() -> Self {
            let mut proxy = proxy();
            proxy.status = serde_json::from_value(json!({"issuerCertificate": {
                "commonName": "CAPF-00c0ffee", "sha256Fingerprint": "aa", "notAfter": "2050-01-01T00:00:00Z"
            }}))
            .unwrap();
            let known = phone(json!({})).status.unwrap_or_default();
            Self { known, operations: Vec::new(), proxy, traced: Vec::new() }
        }

        fn trace(&self, asked: PhoneCertificate, shown: Shown<'_>) -> (CertificateTrace, Option<MicSummary>) {
            let record = Record {
                device: "SEP001",
                known: Some(&self.known),
                operations: &self.operations,
                proxy: &self.proxy,
                traced: &self.traced,
            };
            trace(asked, shown, &record, at(50))
        }

        /// Takes this for the live LSC.
        fn with_live(mut self, der: &[u8]) -> Self {
            let facts = CertificateFacts::from_der(der).unwrap();
            let mut live = issued("", at(1)).summary;
            live.sha256_fingerprint = facts.sha256;
            self.known.lsc = Some(live);
            self
        }
    }

    const LSC: PhoneCertificate = PhoneCertificate::LSC;
    const MIC: PhoneCertificate = PhoneCertificate::MIC;

    #[test]
    fn an_lsc_is_the_live_one_or_one_of_ours_or_a_strangers() {
        let ours = certificate("SEP001", "CAPF-00c0ffee", 100);
        let strange = certificate("SEP001", "Somebody", 100);
        let cases = [
            (Situation::new().with_live(&ours), &ours, TraceVerdict::Same),
            (Situation::new(), &ours, TraceVerdict::Stale),
            (Situation::new().with_live(&strange), &ours, TraceVerdict::Stale),
            (Situation::new().with_live(&ours), &strange, TraceVerdict::Other),
        ];
        for (situation, der, verdict) in cases {
            let (found, mic) = situation.trace(LSC, Shown::Certificate(der));
            assert_eq!((found.kind, found.verdict, mic), (Some(LSC), Some(verdict), None));
            assert_eq!(found.certificate.unwrap().subject, "CN=SEP001");
        }
    }

    #[test]
    fn one_that_an_operation_issued_is_ours_whatever_it_names_as_its_issuer() {
        let der = certificate("SEP001", "Before certificateRevision", 100);
        let facts = CertificateFacts::from_der(&der).unwrap();
        let mut replaced = operation("sep001-1", at(100));
        replaced.status = serde_json::from_value(json!({"supersededSerialNumbers": [facts.serial]})).unwrap();
        let mut situation = Situation::new();
        assert_eq!(situation.trace(LSC, Shown::Certificate(&der)).0.verdict, Some(TraceVerdict::Other));
        situation.operations.push(Arc::new(replaced));
        assert_eq!(situation.trace(LSC, Shown::Certificate(&der)).0.verdict, Some(TraceVerdict::Stale));
    }

    #[test]
    fn past_its_end_it_is_expired_and_the_note_says_what_it_is_besides() {
        let der = certificate("SEP001", "CAPF-00c0ffee", 20);
        let (found, _) = Situation::new().with_live(&der).trace(LSC, Shown::Certificate(&der));
        assert_eq!(found.verdict, Some(TraceVerdict::Expired));
        assert_eq!(found.note.as_deref(), Some("but for its dates: Same"));
    }

    #[test]
    fn a_mic_names_the_model_before_the_device_and_is_compared_with_the_one_seen_before() {
        let der = certificate("CP-8841-SEP001", "Cisco Manufacturing CA", 100);
        let mut situation = Situation::new();
        let (first, mic) = situation.trace(MIC, Shown::Certificate(&der));
        assert_eq!((first.kind, first.verdict, first.note), (Some(MIC), None, None));
        situation.known.mic = mic;
        assert_eq!(situation.trace(MIC, Shown::Certificate(&der)).0.verdict, Some(TraceVerdict::Same));
        let another = certificate("CP-8841-SEP001", "Cisco Manufacturing CA", 100);
        assert_eq!(situation.trace(MIC, Shown::Certificate(&another)).0.verdict, Some(TraceVerdict::Other));
    }

    #[test]
    fn what_came_is_judged_by_what_it_is_and_not_by_what_was_asked() {
        let lsc = certificate("SEP001", "CAPF-00c0ffee", 100);
        let mut situation = Situation::new();
        let (first, _) = situation.trace(LSC, Shown::Certificate(&lsc));
        assert!(first.certificate.as_ref().unwrap().pem.is_some());
        situation.traced.push(first);
        let (second, mic) = situation.trace(MIC, Shown::Certificate(&lsc));
        assert_eq!((second.kind, mic), (Some(LSC), None));
        assert_eq!(second.note.as_deref(), Some("the phone was asked for its MIC and showed its LSC"));
        assert_eq!(second.certificate.unwrap().pem, None, "kept once");
        for stranger in ["SEP002", "CP-8841-SEP002", "XSEP001", "-", ""] {
            let der = certificate(stranger, "Somebody", 100);
            let (found, mic) = situation.trace(MIC, Shown::Certificate(&der));
            assert_eq!((found.kind, found.verdict, mic), (None, Some(TraceVerdict::Other), None), "{stranger}");
        }
        let posing = certificate("CP-8841-SEP001", "CAPF-00c0ffee", 100);
        assert_eq!(situation.trace(MIC, Shown::Certificate(&posing)).0.kind, None, "CAPF makes no MICs");
    }

    #[test]
    fn nothing_a_refusal_and_rubbish_are_told_apart() {
        let situation = Situation::new();
        let (missing, _) = situation.trace(LSC, Shown::Nothing);
        assert_eq!((missing.verdict, is_answered(&missing)), (Some(TraceVerdict::Missing), true));
        let (rejected, _) = situation.trace(LSC, Shown::Rejected(9));
        assert!(rejected.note.as_ref().unwrap().contains("reason 9") && !is_answered(&rejected));
        let (rubbish, mic) = situation.trace(MIC, Shown::Certificate(&[0x30; 8_000]));
        assert_eq!((rubbish.verdict, mic), (Some(TraceVerdict::Other), None));
        assert!(rubbish.note.unwrap().contains("8000 octets came"));
        assert_eq!(shows_lsc(&[missing]), Some(false));
        assert_eq!(shows_lsc(&[rejected]), None);
    }

    #[test]
    fn a_trace_reads_as_a_block_for_each_certificate() {
        let lsc = certificate("SEP001", "CAPF-00c0ffee", 100);
        let situation = Situation::new().with_live(&lsc);
        let traces = [situation.trace(LSC, Shown::Certificate(&lsc)).0, situation.trace(MIC, Shown::Nothing).0];
        let mut traced = operation("sep001-1", at(100));
        traced.status = Some(crate::api::CertificateOperationStatus { traces: traces.into(), ..Default::default() });
        let text = render(&traced);
        let blocks: Vec<_> = text.split("\n\n").collect();
        assert_eq!(blocks.len(), 3, "{text}");
        assert!(blocks[0].starts_with("Phone sep001, operation sep001-1: Pending"), "{text}");
        for line in
            ["Asked for         LSC", "Subject           CN=SEP001", "Key               EC-P256", "BEGIN CERTIFICATE"]
        {
            assert!(blocks[1].contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(
            blocks[2],
            "Asked for         MIC\nVerdict           Missing: the phone holds none\nSeen              1970-01-01T00:00:50Z\n"
        );
    }
}
