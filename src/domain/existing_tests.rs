//! Which certificates let a phone in: mode × what it holds, and forgeries. Signatures are made by a phone's keys.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA512, digest};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::existing::{Measure, MicTrust, NotLetIn, Offer, Shown};
use crate::api::{AuthenticationMode, MicSummary, OfferedCertificate, PhoneCertificate, Reason};
use crate::phone::PhoneKey;
use crate::pki::possession::{signed_data, sudi_data};
use crate::pki::{
    Anchors, CertificateFacts, Curve, IssuerRequest, KeyKind, LscRequest, LscSubject, OwnIssuer, OwnKey, PastEnd,
    RsaBits, generate_issuer, hex, sha256,
};

const DEVICE: &str = "SEP001122334455";
const OTHER: &str = "SEP00AABBCCDDEE";
const SESSION: u32 = 0x0102_0304;
const LSC_FIRST: AuthenticationMode = AuthenticationMode::ByExistingCertificatePrecedenceToLSC;
const MIC_FIRST: AuthenticationMode = AuthenticationMode::ByExistingCertificatePrecedenceToMIC;

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// A certificate and its key.
#[derive(Clone)]
struct Held(Vec<u8>, PhoneKey);

impl Held {
    fn fingerprint(&self) -> String {
        hex(&sha256(&self.0))
    }

    fn shown(&self, message: &[u8]) -> Shown {
        Shown {
            certificate: self.0.clone(),
            sha1: self.1.sign_hash(digest(&SHA1_FOR_LEGACY_USE_ONLY, message).as_ref()),
            sha512: self.1.sign_hash(digest(&SHA512, message).as_ref()),
        }
    }

    /// As CERTIFICATE with its signatures.
    fn in_certificate(&self) -> Shown {
        self.shown(&signed_data(DEVICE, &self.0))
    }

    /// As SUDI_DATA.
    fn in_sudi(&self, session: u32) -> Shown {
        self.shown(&sudi_data(session, &self.0))
    }
}

/// An issuer of LSCs.
fn capf() -> OwnIssuer {
    let subject = LscSubject::default();
    let key = OwnKey::EC_P256;
    let pair = generate_issuer(&IssuerRequest { common_name: None, subject: &subject, key, years: 10, now: now() });
    let pair = pair.unwrap();
    OwnIssuer::from_pem(pair.certificate.pem(), &pair.private_key).unwrap()
}

fn lsc_of(issuer: &OwnIssuer, device_name: &str, kind: KeyKind, now: Timestamp) -> Held {
    let (key, subject) = (PhoneKey::generate(kind).unwrap(), LscSubject::default());
    let request = LscRequest { device_name, public_key: key.public(), subject: &subject, years: 1, now };
    Held(issuer.sign_lsc(&request).unwrap().der().to_vec(), key)
}

struct Manufacturer(Issuer<'static, KeyPair>, String);

impl Manufacturer {
    fn new() -> Self {
        let mut params = params("Manufacturing CA", 2040);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn mic(&self, common_name: &str, end: i32) -> Held {
        let key = KeyPair::generate().unwrap();
        let der = params(common_name, end).signed_by(&key, &self.0).unwrap().der().to_vec();
        Held(der, PhoneKey::from_pem(&key.serialize_pem().into()).unwrap())
    }
}

fn params(common_name: &str, end: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2015, 1, 1);
    params.not_after = rcgen::date_time_ymd(end, 1, 1);
    params
}

/// Everything there is, made once.
struct Bench {
    issuer: OwnIssuer,
    manufacturer: Manufacturer,
    live: Held,
    fingerprint: String,
    superseded: Held,
    mic: Held,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let (issuer, manufacturer) = (capf(), Manufacturer::new());
    let p256 = KeyKind::Ec(Curve::P256);
    let live = lsc_of(&issuer, DEVICE, KeyKind::Ec(Curve::P384), now());
    Bench {
        fingerprint: live.fingerprint(),
        live,
        superseded: lsc_of(&issuer, DEVICE, p256, now()),
        mic: manufacturer.mic(&format!("CP-8841-{DEVICE}"), 2030),
        issuer,
        manufacturer,
    }
});

fn anchors() -> MicTrust {
    MicTrust::Anchors(Arc::new(Anchors::from_pem(&BENCH.manufacturer.1).unwrap()))
}

/// What is told: the certificate used, or the reason.
fn told(measure: &Measure<'_>, offer: &Offer) -> Result<PhoneCertificate, Reason> {
    match measure.judge(offer) {
        Ok(proven) => Ok(proven.evidence.used),
        Err(NotLetIn::Refused(reason, _)) => Err(reason),
        Err(NotLetIn::Later(why)) => panic!("{why}"),
    }
}

fn with_measure<'a, T>(mode: AuthenticationMode, use_it: impl FnOnce(Measure<'a>) -> T) -> T {
    use_it(Measure {
        mode,
        device: DEVICE,
        live: vec![&BENCH.fingerprint],
        remembered: None,
        issuer: BENCH.issuer.certificate().der(),
        mic_trust: anchors(),
        past_end: PastEnd::Reject,
        now: now(),
    })
}

fn offer(lsc: Option<&Held>, mic: Option<&Held>) -> Offer {
    let certificate = lsc.or(mic).map(Held::in_certificate);
    let sudi = mic.map(|mic| mic.in_sudi(SESSION));
    Offer { name_as_sent: DEVICE.into(), session_id: SESSION, certificate, sudi }
}

fn remembered(mic: &Held) -> MicSummary {
    MicSummary { verified: true, ..MicSummary::of(&CertificateFacts::from_der(&mic.0).unwrap(), now()) }
}

#[test]
fn every_cell_of_mode_and_what_the_phone_holds_has_its_ending() {
    use PhoneCertificate::{LSC, MIC};
    use Reason::{IdentityMismatch, InvalidLSC, InvalidMIC, MICExpired, NoCertificate, Superseded};
    let Bench { issuer, manufacturer, live, superseded, mic, .. } = &*BENCH;
    let p256 = KeyKind::Ec(Curve::P256);
    let others = lsc_of(issuer, OTHER, p256, now());
    let foreign = lsc_of(&capf(), DEVICE, p256, now());
    let expired = manufacturer.mic(&format!("CP-7960G-{DEVICE}"), 2020);
    let others_mic = manufacturer.mic(&format!("CP-8841-{OTHER}"), 2030);
    let wrong_ca = Manufacturer::new().mic(&format!("CP-8841-{DEVICE}"), 2030);
    type Cell = Result<PhoneCertificate, Reason>;
    type Row<'a> = (&'a str, Option<&'a Held>, Option<&'a Held>, Cell, Cell);
    let table: [Row<'_>; 14] = [
        ("no certificate", None, None, Err(NoCertificate), Err(NoCertificate)),
        ("LSC", Some(live), None, Ok(LSC), Ok(LSC)),
        ("MIC", None, Some(mic), Ok(MIC), Ok(MIC)),
        ("both", Some(live), Some(mic), Ok(LSC), Ok(MIC)),
        ("expired MIC", None, Some(&expired), Err(MICExpired), Err(MICExpired)),
        ("LSC, expired MIC", Some(live), Some(&expired), Ok(LSC), Err(MICExpired)),
        ("foreign LSC", Some(&foreign), None, Err(InvalidLSC), Err(InvalidLSC)),
        ("foreign LSC, MIC", Some(&foreign), Some(mic), Err(InvalidLSC), Ok(MIC)),
        ("LSC of another device", Some(&others), None, Err(IdentityMismatch), Err(IdentityMismatch)),
        ("superseded LSC", Some(superseded), None, Err(Superseded), Err(Superseded)),
        ("superseded LSC, MIC", Some(superseded), Some(mic), Err(Superseded), Ok(MIC)),
        ("MIC of another device", None, Some(&others_mic), Err(IdentityMismatch), Err(IdentityMismatch)),
        ("MIC of another manufacturer", None, Some(&wrong_ca), Err(InvalidMIC), Err(InvalidMIC)),
        ("LSC, MIC of another manufacturer", Some(live), Some(&wrong_ca), Ok(LSC), Err(InvalidMIC)),
    ];
    for (what, lsc, mic, lsc_first, mic_first) in table {
        let offer = offer(lsc, mic);
        with_measure(LSC_FIRST, |measure| assert_eq!(told(&measure, &offer), lsc_first, "{what}, LSC first"));
        with_measure(MIC_FIRST, |measure| assert_eq!(told(&measure, &offer), mic_first, "{what}, MIC first"));
    }
}

#[test]
fn what_was_offered_what_was_verified_and_which_was_used_is_told() {
    let Bench { live, superseded, mic, .. } = &*BENCH;
    let proven = with_measure(MIC_FIRST, |measure| measure.judge(&offer(Some(superseded), Some(mic))).unwrap());
    assert_eq!(proven.evidence.used, PhoneCertificate::MIC);
    let told = |offered: Option<OfferedCertificate>| offered.map(|one| (one.sha256_fingerprint, one.verified)).unwrap();
    assert_eq!(told(proven.evidence.lsc), (superseded.fingerprint(), false));
    assert_eq!(told(proven.evidence.mic), (mic.fingerprint(), true));
    assert_eq!(proven.mic.unwrap(), remembered(mic));
    let proven = with_measure(LSC_FIRST, |mut measure| {
        measure.mic_trust = MicTrust::NotConfigured;
        measure.judge(&offer(Some(live), Some(mic))).unwrap()
    });
    assert_eq!(told(proven.evidence.mic), (mic.fingerprint(), false), "without roots nothing vouches for it");
    assert_eq!(proven.mic, None);
}

#[test]
fn the_lsc_that_is_on_record_but_not_answered_for_counts_beside_the_live_one() {
    let Bench { live, superseded, .. } = &*BENCH;
    let unconfirmed = superseded.fingerprint();
    with_measure(LSC_FIRST, |mut measure| {
        measure.live.push(&unconfirmed);
        for held in [live, superseded] {
            assert_eq!(told(&measure, &offer(Some(held), None)), Ok(PhoneCertificate::LSC));
        }
        measure.live.clear();
        let (verdict, offer) = (Err(Reason::InvalidLSC), offer(Some(live), None));
        assert_eq!(told(&measure, &offer), verdict, "nothing is on record, as after a restore");
    });
}

#[test]
fn a_short_or_old_lsc_authenticates_nobody() {
    let old = "2020-01-01T00:00:00Z".parse().unwrap();
    let short = lsc_of(&BENCH.issuer, DEVICE, KeyKind::Rsa(RsaBits::B512), now());
    for (held, time, why) in [
        (&short, now(), "512 bits is too short"),
        (&BENCH.live, old, "is valid from"),
        (&BENCH.live, now() + jiff::SignedDuration::from_hours(9000), "is valid from"),
    ] {
        let fingerprint = held.fingerprint();
        with_measure(LSC_FIRST, |mut measure| {
            measure.live = vec![&fingerprint];
            measure.now = time;
            let refused = measure.judge(&offer(Some(held), Some(&BENCH.mic)));
            let Err(NotLetIn::Refused(Reason::InvalidLSC, said)) = refused else { panic!("{refused:?}") };
            assert!(said.contains(why), "{said}");
        });
    }
}

#[test]
fn signatures_of_another_session_another_name_or_another_key_prove_nothing() {
    let Bench { live, superseded, mic, .. } = &*BENCH;
    let case = |mode, offer: &Offer| with_measure(mode, |measure| told(&measure, offer));
    let mut replayed = offer(None, Some(mic));
    replayed.sudi = Some(mic.in_sudi(SESSION + 1));
    assert_eq!(case(MIC_FIRST, &replayed), Err(Reason::InvalidMIC), "another session");
    // Little endian, as the captures show.
    replayed.sudi = Some(mic.in_sudi(SESSION.swap_bytes()));
    assert_eq!(case(MIC_FIRST, &replayed), Err(Reason::InvalidMIC), "the other end first");
    let mut other_case = offer(Some(live), None);
    other_case.name_as_sent = DEVICE.to_lowercase();
    assert_eq!(case(LSC_FIRST, &other_case), Err(Reason::InvalidLSC), "the name is signed as it was sent");
    let mut other_key = offer(Some(live), None);
    other_key.certificate = Some(Held(live.0.clone(), superseded.1.clone()).in_certificate());
    assert_eq!(case(LSC_FIRST, &other_key), Err(Reason::InvalidLSC), "without the key");
    let mut one_of_two = offer(Some(live), None);
    one_of_two.certificate.as_mut().unwrap().sha512 = None;
    assert_eq!(case(LSC_FIRST, &one_of_two), Err(Reason::InvalidLSC), "SHA-1 alone");
    let mut stale = offer(None, Some(mic));
    stale.sudi = None;
    assert_eq!(case(MIC_FIRST, &stale), Err(Reason::InvalidMIC), "a MIC without SUDI_DATA");
    let mut swapped = offer(None, Some(mic));
    swapped.sudi = Some(live.in_sudi(SESSION));
    assert_eq!(case(MIC_FIRST, &swapped), Err(Reason::IdentityMismatch), "an LSC in SUDI_DATA is no MIC");
}

#[test]
fn a_phone_seen_with_a_mic_must_show_it_ever_after() {
    let Bench { manufacturer, live, mic, .. } = &*BENCH;
    let known = remembered(mic);
    let newer = manufacturer.mic(&format!("CP-8841-{DEVICE}"), 2035);
    let wrong_ca = Manufacturer::new().mic(&format!("CP-8841-{DEVICE}"), 2030);
    for mode in [LSC_FIRST, MIC_FIRST] {
        with_measure(mode, |mut measure| {
            measure.remembered = Some(&known);
            assert_eq!(told(&measure, &offer(None, None)), Err(Reason::InvalidMIC), "nothing");
            assert_eq!(told(&measure, &offer(Some(live), None)), Err(Reason::InvalidMIC), "left out");
            assert!(told(&measure, &offer(Some(live), Some(mic))).is_ok());
            assert!(told(&measure, &offer(Some(live), Some(&newer))).is_ok(), "another one of the manufacturer");
            assert_eq!(told(&measure, &offer(Some(live), Some(&wrong_ca))), Err(Reason::InvalidMIC));
            let mut replayed = offer(Some(live), Some(mic));
            replayed.sudi = Some(mic.in_sudi(SESSION - 1));
            assert_eq!(told(&measure, &replayed), Err(Reason::InvalidMIC), "SIGNED_DATA alone can be replayed");
        });
    }
    with_measure(LSC_FIRST, |mut measure| {
        measure.remembered = Some(&known);
        measure.mic_trust = MicTrust::Unusable("gone".into());
        assert!(told(&measure, &offer(Some(live), Some(mic))).is_ok(), "beside an LSC the one known needs no roots");
    });
}

#[test]
fn without_roots_no_mic_is_believed_and_roots_out_of_reach_are_waited_for() {
    let mic = offer(None, Some(&BENCH.mic));
    with_measure(MIC_FIRST, |mut measure| {
        measure.mic_trust = MicTrust::NotConfigured;
        assert_eq!(told(&measure, &mic), Err(Reason::PolicyDenied));
        measure.mic_trust = MicTrust::Unreachable("no answer".into());
        assert_eq!(measure.judge(&mic), Err(NotLetIn::Later("no answer".into())));
    });
}

#[test]
fn a_name_is_read_in_one_way_only() {
    // With models that hold dashes this would be the MIC of X-SEP001 and of SEP001.
    let Bench { manufacturer, .. } = &*BENCH;
    for name in [&format!("CP-8841-X-{DEVICE}"), &format!("CP--{DEVICE}"), DEVICE, &format!("XX-8841-{DEVICE}")] {
        let mic = manufacturer.mic(name, 2030);
        let mut offer = offer(None, Some(&mic));
        offer.certificate = None;
        with_measure(MIC_FIRST, |measure| {
            assert_eq!(told(&measure, &offer), Err(Reason::IdentityMismatch), "{name}");
        });
    }
}

#[test]
fn debug_shows_nothing_of_signatures() {
    let shown = format!("{:?}", offer(Some(&BENCH.live), Some(&BENCH.mic)));
    let signature = BENCH.live.in_certificate().sha1.unwrap();
    assert!(shown.contains("octets") && !shown.contains(&format!("{}, {}", signature[4], signature[5])), "{shown}");
}
