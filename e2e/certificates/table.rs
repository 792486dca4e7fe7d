//! Operation × authentication mode × what the phone holds: every cell has its ending, and these tables state it.
//!
//! The mode decides whether the phone is let in, the operation what comes of it: who proves itself by a string or by the null
//! string deletes and shows whatever it holds, whoever made that.

use std::sync::Arc;

use capf::api::{ConditionType, LscState, Phase, Phone, Reason, TraceVerdict};
use capf::phone::{AttemptOutcome, Proof, SimulatedPhone};
use capf::pki::CertificateFacts;
use futures::stream::{self, StreamExt as _};

use crate::harness::eventually;
use crate::product::{PATIENCE, Product, digits, phone};
use crate::support::{LSC_FIRST, MIC_FIRST, Manufacturer, arm_to, in_state, lsc, refused, with_manufacturer};

/// The columns of the tables: by a string, by the null string, by a certificate with precedence to the LSC and to the MIC.
const MODES: [&str; 4] = ["ByAuthenticationString", "ByNullString", LSC_FIRST, MIC_FIRST];

/// The phone has a new LSC. Where a certificate let it in, the ending says which.
const INSTALL: &str = "
no certificate        | installed | installed | refused: NoCertificate    | refused: NoCertificate
LSC                   | installed | installed | installed by LSC          | installed by LSC
MIC                   | installed | installed | installed by MIC          | installed by MIC
both                  | installed | installed | installed by LSC          | installed by MIC
expired MIC           | installed | installed | refused: MICExpired       | refused: MICExpired
LSC and expired MIC   | installed | installed | installed by LSC          | refused: MICExpired
foreign LSC           | installed | installed | refused: InvalidLSC       | refused: InvalidLSC
LSC of another device | installed | installed | refused: IdentityMismatch | refused: IdentityMismatch
superseded LSC        | installed | installed | refused: Superseded       | refused: Superseded
512-bit LSC           | installed | installed | refused: InvalidLSC       | refused: InvalidLSC
";

/// The phone holds no LSC any more, or there was `nothing` to delete.
const DELETE: &str = "
no certificate        | nothing | nothing | refused: NoCertificate    | refused: NoCertificate
LSC                   | deleted | deleted | deleted by LSC            | deleted by LSC
MIC                   | nothing | nothing | nothing by MIC            | nothing by MIC
both                  | deleted | deleted | deleted by LSC            | deleted by MIC
expired MIC           | nothing | nothing | refused: MICExpired       | refused: MICExpired
LSC and expired MIC   | deleted | deleted | deleted by LSC            | refused: MICExpired
foreign LSC           | deleted | deleted | refused: InvalidLSC       | refused: InvalidLSC
LSC of another device | deleted | deleted | refused: IdentityMismatch | refused: IdentityMismatch
superseded LSC        | deleted | deleted | refused: Superseded       | refused: Superseded
512-bit LSC           | deleted | deleted | refused: InvalidLSC       | refused: InvalidLSC
";

/// What the LSC and the MIC that the phone shows are, beside the record. A MIC is `New` that no record tells of.
const TROUBLESHOOT: &str = "
no certificate        | Missing, Missing | Missing, Missing | refused: NoCertificate    | refused: NoCertificate
LSC                   | Same, Missing    | Same, Missing    | Same, Missing by LSC      | Same, Missing by LSC
MIC                   | Missing, New     | Missing, New     | Missing, New by MIC       | Missing, New by MIC
both                  | Same, New        | Same, New        | Same, New by LSC          | Same, New by MIC
expired MIC           | Missing, Expired | Missing, Expired | refused: MICExpired       | refused: MICExpired
LSC and expired MIC   | Same, Expired    | Same, Expired    | Same, Expired by LSC      | refused: MICExpired
foreign LSC           | Other, Missing   | Other, Missing   | refused: InvalidLSC       | refused: InvalidLSC
LSC of another device | Other, Missing   | Other, Missing   | refused: IdentityMismatch | refused: IdentityMismatch
superseded LSC        | Stale, Missing   | Stale, Missing   | refused: Superseded       | refused: Superseded
512-bit LSC           | Same, Missing    | Same, Missing    | refused: InvalidLSC       | refused: InvalidLSC
";

/// Cells that run beside each other.
const AT_ONCE: usize = 8;
const REVISION: u32 = 9;

/// One cell: a phone of its own, what it holds, what is asked of it and how it proves itself, and how that ends.
#[derive(Clone, Copy, Debug)]
struct Cell {
    number: usize,
    operation: &'static str,
    mode: &'static str,
    state: &'static str,
    ending: &'static str,
}

/// Every cell of the three tables.
fn cells() -> Vec<Cell> {
    let tables = [("InstallUpgrade", INSTALL), ("Delete", DELETE), ("Troubleshoot", TROUBLESHOOT)];
    let rows = tables.into_iter().flat_map(|(operation, table)| table.trim().lines().map(move |row| (operation, row)));
    let cells = rows.flat_map(|(operation, row)| {
        let (state, endings) = row.split_once('|').unwrap();
        let columns = MODES.into_iter().zip(endings.split('|'));
        columns.map(move |(mode, ending)| (operation, mode, state.trim(), ending.trim()))
    });
    let numbered = cells.enumerate();
    numbered.map(|(number, (operation, mode, state, ending))| Cell { number, operation, mode, state, ending }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn every_operation_by_every_mode_on_a_phone_in_every_state_ends_as_the_table_says() {
    let cells = cells();
    assert_eq!(cells.len(), 3 * MODES.len() * 10);
    let (product, manufacturer) = with_manufacturer("table").await;
    let (product, manufacturer) = (Arc::new(product), Arc::new(manufacturer));
    let runs = cells.into_iter().map(|cell| {
        let (product, manufacturer) = (product.clone(), manufacturer.clone());
        async move { (cell, tokio::spawn(async move { cell.run(&product, &manufacturer).await }).await) }
    });
    let ended: Vec<_> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let wrong: Vec<_> = ended.into_iter().filter_map(|(cell, ended)| ended.err().map(|_| cell)).collect();
    assert!(wrong.is_empty(), "{} cells end otherwise: {wrong:#?}", wrong.len());
}

impl Cell {
    fn device(&self) -> String {
        format!("SEP0000001{:05}", self.number)
    }

    /// "Install/Upgrade", as Operation Status says it.
    fn words(&self) -> &'static str {
        if self.operation == "InstallUpgrade" { "Install/Upgrade" } else { self.operation }
    }

    async fn run(self, product: &Product, manufacturer: &Manufacturer) {
        let (device, what) = (self.device(), format!("{} {}, {}", self.operation, self.mode, self.state));
        let name = device.to_lowercase();
        let mut simulated = in_state(product, manufacturer, &device, self.state).await;
        let settings = format!("{}, keyType: EC, deviceSecurityMode: NonSecure", self.operation);
        arm_to(product, &device, &settings, self.mode, REVISION).await;
        let before = product.phone(&name).await;
        simulated = simulated.proof(self.proof(product, &before).await);
        if let Some(reason) = self.ending.strip_prefix("refused: ") {
            refused(product, &device, &mut simulated, reason, &what).await;
            self.still_waits(product, &before, &what).await;
        } else {
            let held = simulated.lsc().map(<[u8]>::to_vec);
            let outcome = simulated.attempt().await.unwrap();
            let after = product.operation_status(&name, &format!("{} successful", self.words())).await;
            let ending = self.ended(product, &outcome, &what).await;
            assert_eq!(ending, self.ending, "{what}");
            self.phone_status(&before, &after, &simulated, held.as_deref(), &what);
        }
        println!("cell {}: {what}: {}", self.number, self.ending);
    }

    /// How the phone proves itself, with the string that was made for it.
    async fn proof(&self, product: &Product, phone: &Phone) -> Proof {
        match self.mode {
            "ByAuthenticationString" => {
                let operation = phone.status.as_ref().unwrap().operation.as_ref().unwrap();
                let secret = operation.authentication_string_secret.as_deref().unwrap();
                digits(&product.string(secret).await.unwrap())
            }
            "ByNullString" => Proof::NullString,
            _ => Proof::ExistingCertificate,
        }
    }

    /// A refusal ends nothing and spends nothing; that it writes nothing is told by the versions, in [`refused`].
    async fn still_waits(&self, product: &Product, before: &Phone, what: &str) {
        let name = self.device().to_lowercase();
        let (status, operation) = (product.phone(&name).await.status.unwrap(), product.armed(&name).await);
        assert_eq!(status.operation_status, Some(format!("{} pending", self.words())), "{what}");
        assert_eq!((operation.phase(), operation.status_or_default().attempts), (Phase::Pending, None), "{what}");
        let before = before.status.as_ref().unwrap();
        assert_eq!((status.lsc_state, &status.lsc), (before.lsc_state, &before.lsc), "{what}");
        assert_eq!(status.lsc.is_some(), self.on_record(), "{what}: what CAPF installed stays on record");
    }

    /// Whether CAPF has installed an LSC on this phone.
    fn on_record(&self) -> bool {
        ["LSC", "both", "LSC and expired MIC", "superseded LSC", "512-bit LSC"].contains(&self.state)
    }

    /// The ending in the words of the tables, from what is on record of the operation, which must be what the phone tells.
    async fn ended(&self, product: &Product, outcome: &AttemptOutcome, what: &str) -> String {
        let status = product.armed(&self.device().to_lowercase()).await.status.unwrap();
        assert_eq!(status.phase, Phase::Successful, "{what}");
        assert_eq!(status.operation_status, Some(format!("{} successful", self.words())), "{what}");
        assert_eq!(status.attempts, None, "{what}");
        let by_certificate = [LSC_FIRST, MIC_FIRST].contains(&self.mode);
        assert_eq!(status.evidence.is_some(), by_certificate, "{what}: evidence is of certificates");
        assert_eq!(status.certificate.is_some(), self.operation == "InstallUpgrade", "{what}");
        let done = match (outcome, status.reason) {
            (AttemptOutcome::Installed { certificate_der }, None) => {
                let facts = CertificateFacts::from_der(certificate_der).unwrap();
                assert_eq!(status.certificate.unwrap().summary.sha256_fingerprint, facts.sha256, "{what}");
                "installed".to_owned()
            }
            (AttemptOutcome::Deleted { had_one: true }, None) => "deleted".to_owned(),
            (AttemptOutcome::Deleted { had_one: false }, Some(Reason::NothingToDelete)) => "nothing".to_owned(),
            (AttemptOutcome::Fetched { shown, missing }, None) => {
                let traces = status.traces;
                assert_eq!((traces.len(), shown.len() + missing.len()), (2, 2), "{what}");
                let holds_none = traces.iter().filter(|trace| trace.verdict == Some(TraceVerdict::Missing)).count();
                assert_eq!(holds_none, missing.len(), "{what}");
                let verdict = |at: usize| traces[at].verdict.map_or("New".to_owned(), |verdict| format!("{verdict:?}"));
                format!("{}, {}", verdict(0), verdict(1))
            }
            (other, reason) => panic!("{what}: {}, {reason:?}", other.kind()),
        };
        match status.authenticated_by.as_deref() {
            Some(mode) if mode == self.mode && !by_certificate => done,
            used => format!("{done} by {}", used.unwrap()),
        }
    }

    /// What the phone's status tells of its LSC when it is over, and what the phone holds then.
    fn phone_status(&self, before: &Phone, after: &Phone, simulated: &SimulatedPhone, held: Option<&[u8]>, what: &str) {
        let (before, after) = (before.status.as_ref().unwrap(), after.status.as_ref().unwrap());
        let live = after.lsc.as_ref().map(|lsc| lsc.sha256_fingerprint.clone());
        let holds = simulated.lsc().map(|der| CertificateFacts::from_der(der).unwrap().sha256);
        match self.operation {
            "InstallUpgrade" => {
                assert!(simulated.lsc() != held, "{what}: it holds a new one");
                assert_eq!((after.lsc_state, live), (LscState::Installed, holds), "{what}");
            }
            "Delete" => {
                assert_eq!((after.lsc_state, live, holds), (LscState::NotInstalled, None, None), "{what}");
            }
            _ => {
                assert!(simulated.lsc() == held, "{what}: showing changes nothing");
                let state = match self.state {
                    // What it showed is not its own: that tells nothing of an LSC of this phone.
                    "LSC of another device" => LscState::Unknown,
                    _ if held.is_none() => LscState::NotInstalled,
                    _ => LscState::Installed,
                };
                let on_record = before.lsc.as_ref().map(|lsc| lsc.sha256_fingerprint.clone());
                assert_eq!((after.lsc_state, &live), (state, &on_record), "{what}: the record stays");
                assert_eq!(live.is_some(), self.on_record(), "{what}");
                let shows_mic = self.state == "both" || self.state.ends_with("MIC");
                assert_eq!(after.mic.is_some(), shows_mic, "{what}: a MIC that was shown is remembered");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deletion_that_would_leave_a_secure_phone_with_nothing_is_refused_with_advice_in_every_mode() {
    let (product, manufacturer) = with_manufacturer("advised").await;
    for (row, state) in ["no certificate", "LSC"].into_iter().enumerate() {
        for (column, mode) in MODES.into_iter().enumerate() {
            let (device, what) = (format!("SEP00000020{row:02}{column:02}"), format!("{state}, {mode}"));
            let name = device.to_lowercase();
            let mut simulated = in_state(&product, &manufacturer, &device, state).await;
            let settings = format!("certificateOperation: Delete, authenticationMode: {mode}");
            product.apply(&phone(&device, &format!("{settings}, keyType: EC, deviceSecurityMode: Encrypted")));
            let stalled = eventually("the deletion is refused", PATIENCE, || async {
                let conditions = product.phone(&name).await.status.unwrap_or_default().conditions;
                conditions.into_iter().find(|condition| condition.type_ == ConditionType::Stalled)
            })
            .await
            .unwrap();
            assert_eq!(stalled.reason, "PolicyDenied", "{what}");
            assert!(stalled.message.contains("deviceSecurityMode: NonSecure"), "{what}: {}", stalled.message);
            let before = product.phone(&name).await;
            // Whatever it proves itself by: nothing waits for it.
            let held = simulated.lsc().map(|_| lsc(&simulated).0);
            for proof in [digits("4711471147"), Proof::NullString, Proof::ExistingCertificate] {
                simulated = simulated.proof(proof);
                let outcome = simulated.attempt().await.unwrap();
                assert_eq!(outcome, AttemptOutcome::NothingScheduled, "{what}");
            }
            let after = product.phone(&name).await;
            assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "{what}: nothing is written");
            assert_eq!(after.status.unwrap().lsc.is_some(), held.is_some(), "{what}: the record stays");
            let made = product.operations().await.into_iter().filter(|operation| operation.spec.phone_ref.name == name);
            assert_eq!(made.count(), usize::from(held.is_some()), "{what}: no deletion is made");
            println!("Delete {what}, no MIC known, Encrypted: Stalled with PolicyDenied, nothing scheduled");
        }
    }
}
