//! Every short session there is, and what none of them may get.

use capf::wire::*;

use crate::support::*;

/// What one path through a session has seen so far.
#[derive(Clone, Copy, Default)]
struct Seen {
    opened: bool,
    key_wanted: bool,
    issue_asked: bool,
    issued: bool,
    delivered: bool,
    delete_wanted: bool,
    fetches_wanted: usize,
    recorded: bool,
    success: bool,
}

#[test]
fn no_session_of_up_to_seven_events_gets_what_it_was_not_given() {
    let mut nodes = 0;
    explore(&mut Vec::new(), &alphabet(&[]), 7, &mut nodes);
    assert!(nodes > 10_000, "{nodes} sessions seen");
}

#[test]
fn nor_does_one_of_up_to_five_events_whose_phone_presents_a_string_or_a_certificate() {
    let certificate = [element(4, &[1, 0, 4, 0, 1, 0x30, 0]), element(6, &[0x30; 64])].concat();
    for (evidence, is_so) in [
        (element(11, b"4711\0"), (|e| matches!(e, Evidence::String(_))) as fn(&Evidence) -> bool),
        (certificate, |e| matches!(e, Evidence::Certificate(_))),
    ] {
        let presented = ServerSession::start(SessionId(1)).0.on_frame(auth_res_with(3, &evidence)).1;
        let [Action::Ask(Question::Open(opening))] = &presented[..] else { panic!("{presented:?}") };
        assert!(is_so(&opening.evidence), "{opening:?}");
        let mut nodes = 0;
        explore(&mut Vec::new(), &alphabet(&evidence), 5, &mut nodes);
        assert!(nodes > 10_000, "{nodes} sessions seen");
    }
}

/// AUTH_RES with this evidence beside the name.
fn auth_res_with(version: u8, evidence: &[u8]) -> Frame {
    frame(Command::AUTH_RES, &[auth_res(version).body(), evidence].concat())
}

/// Follows every event from the end of `path`. Sessions cannot be copied, so each is played from its start.
fn explore(path: &mut Vec<Event>, alphabet: &[Event], longest: usize, nodes: &mut usize) {
    *nodes += 1;
    if !check(path) || path.len() == longest {
        return;
    }
    for event in alphabet {
        path.push(event.clone());
        explore(path, alphabet, longest, nodes);
        path.pop();
    }
}

/// Plays a session and checks all that may be known of it; whether it goes on.
fn check(path: &[Event]) -> bool {
    let (mut session, mut actions) = ServerSession::start(SessionId(1));
    let mut seen = Seen::default();
    let mut closed = false;
    for event in path {
        let waiting = session.waiting_for();
        (session, actions) = happen(session, event);
        assert!(!closed || actions.is_empty(), "something happens after the end: {path:?}");
        if let (Event::Answer(answer), Waiting::Authority(_)) = (event, waiting) {
            note(&mut seen, answer);
        }
        for action in &actions {
            assert!(allowed(&mut seen, action), "{action:?} was not earned: {path:?}");
            closed |= matches!(action, Action::Close(_));
        }
        assert_eq!(closed, session.waiting_for() == Waiting::Nothing, "{path:?}");
    }
    // A session that is over is followed one event further, to see that nothing comes of it.
    !closed || !actions.is_empty()
}

/// What an answer to an open question permits.
fn note(seen: &mut Seen, answer: &Answer) {
    match answer {
        Answer::Install { .. } => seen.key_wanted = true,
        Answer::Delete => seen.delete_wanted = true,
        Answer::Fetch { .. } => seen.fetches_wanted += 1,
        Answer::Issued { .. } => seen.issued = true,
        Answer::Recorded => seen.recorded = true,
        _ => {}
    }
}

/// Whether an action is permitted by what was answered before.
fn allowed(seen: &mut Seen, action: &Action) -> bool {
    match action {
        Action::Ask(Question::Open(_)) => !std::mem::replace(&mut seen.opened, true),
        Action::Ask(Question::Issue { .. }) => seen.key_wanted && !std::mem::replace(&mut seen.issue_asked, true),
        Action::Ask(Question::Complete(outcome)) => {
            seen.recorded = false;
            seen.success = matches!(outcome, Outcome::Stored | Outcome::Deleted | Outcome::NothingToDelete);
            match outcome {
                Outcome::Stored | Outcome::StoreRejected { .. } => seen.delivered,
                Outcome::KeyGenerationFailed { .. } | Outcome::KeyGenerationTimedOut => {
                    seen.key_wanted && !seen.issue_asked
                }
                Outcome::Deleted | Outcome::NothingToDelete | Outcome::DeleteRejected { .. } => seen.delete_wanted,
                Outcome::Fetched { .. } | Outcome::NothingFetched { .. } | Outcome::FetchRejected { .. } => {
                    seen.fetches_wanted > 0
                }
                Outcome::Aborted => seen.key_wanted || seen.delete_wanted || seen.fetches_wanted > 0,
            }
        }
        Action::Send(frame) => match frame.command() {
            Command::KEY_GENERATE_REQ => seen.key_wanted && !seen.issue_asked,
            Command::STORE_CERT_REQ => seen.issued && !std::mem::replace(&mut seen.delivered, true),
            Command::DELETE_CERT_REQ => seen.delete_wanted,
            Command::FETCH_CERT_REQ => seen.fetches_wanted > 0 && seen.fetches_wanted <= 2,
            Command::END_SESSION => frame.body()[3] != Reason::OK.0 || (seen.recorded && seen.success),
            _ => false,
        },
        Action::Close(_) => true,
    }
}

/// A frame of each command, good ones with each answer a phone may give, then all answers of the authority and the deadline.
fn alphabet(evidence: &[u8]) -> Vec<Event> {
    let number = |command, reason: u8| frame(command, &element(1, &[reason]));
    let certificate = element(4, &[1, 0, 4, 0, 1, 0x30, 0]);
    let mut frames: Vec<Frame> = (0..=24).map(|code| number(Command(code), 1)).collect();
    frames.extend([
        auth_res_with(2, evidence),
        auth_res_with(3, evidence),
        key_response(),
        number(Command::KEY_GENERATE_RES, 7),
        number(Command::STORE_CERT_RES, 7),
        number(Command::DELETE_CERT_RES, 7),
        number(Command::FETCH_CERT_RES, 7),
        frame(Command::FETCH_CERT_RES, &[element(1, &[1]), certificate].concat()),
    ]);
    let answers = [
        install(),
        Answer::Install { key: KeyRequest::Ec(Curve::P256) },
        Answer::Delete,
        fetch(CertType::LSC),
        fetch(CertType::MIC),
        Answer::NothingScheduled,
        Answer::UnknownDevice,
        Answer::Refused,
        Answer::Unavailable,
        issued(),
        Answer::Recorded,
    ];
    let frames = frames.into_iter().map(Event::Frame);
    frames.chain(answers.into_iter().map(Event::Answer)).chain([Event::Deadline]).collect()
}
