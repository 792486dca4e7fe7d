//! A thousand sessions that say drawn things in a drawn order, over TLS, while other phones enrol: nothing comes of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capf::api::{CertificateOperation, Phone};
use capf::phone::{Proof, tls_config};
use capf::wire::{Command, Frame, FrameDecoder, SessionId, Side};
use futures::StreamExt as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::product::{BY_NULL, Product, phone};

const SESSIONS: u64 = 1_000;
const BESIDE: usize = 20;
/// Longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Phones that wait for their string, and one that nothing is wanted of: the names that the hostile sessions claim.
const NAMES: [&str; 4] = ["SEP0000000A7001", "SEP0000000A7002", "SEP0000000A7003", "SEP0000000A7999"];

/// Draws the same numbers for the same seed (SplitMix64), so that a failure can be played again.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// A frame of any command with a good, another's, or no body. Nothing in it proves anything.
fn drawn_frame(draw: &mut Draw, id: SessionId) -> Vec<u8> {
    // Mostly what a phone says; now and then any number.
    let phones = [2_u8, 4, 10, 12, 14, 15, 17, 20];
    let command = match draw.below(10) {
        0 => u8::try_from(draw.below(256)).unwrap(),
        _ => phones[draw.below(phones.len())],
    };
    let version = element(7, &[u8::try_from(2 + draw.below(2)).unwrap()]);
    let name = element(13, &[NAMES[draw.below(NAMES.len())].as_bytes(), b"\0"].concat());
    let body = match draw.below(8) {
        0 => Vec::new(),
        // A string that is empty is none.
        1 => [version, name, element(11, b"\0")].concat(),
        2 => element(1, &[1]),
        3 => element(1, &[u8::try_from(draw.below(256)).unwrap()]),
        4 => element(9, &[0x30; 91]),
        5 => [element(1, &[1]), element(4, &[1, 0, 4, 0, 1, 0x30, 0])].concat(),
        // Certificates and signatures that are none.
        6 => [version, name, element(4, &[1, 0, 4, 0, 1, 0x30, 0]), element(6, &[0x30; 256])].concat(),
        _ => [version, name].concat(),
    };
    // Half of the bodies go to AUTH_RES, or most sessions would end at once.
    let command = if draw.below(3) == 0 { 2 } else { command };
    Frame::new(Command(command), id, body).unwrap().encode().to_vec()
}

async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("capf").unwrap();
    timeout(PATIENCE, TlsConnector::from(tls).connect(name, tcp)).await.unwrap().unwrap()
}

/// Plays one drawn session to its end; the commands that the endpoint sent in it.
async fn play(address: SocketAddr, tls: Arc<ClientConfig>, seed: u64) -> Vec<Command> {
    let mut draw = Draw(seed);
    let mut stream = connect(address, tls).await;
    let (mut decoder, mut input, mut heard) = (FrameDecoder::new(Side::Phone), Vec::new(), Vec::new());
    let mut left = 1 + draw.below(5);
    loop {
        let mut rest = &input[..];
        let frame = decoder.decode(&mut rest).expect("an endpoint sends frames");
        input = rest.to_vec();
        if let Some(frame) = frame {
            heard.push(frame.command());
            // Some or all of what is left at once; what comes after the end goes nowhere.
            let burst = (1 + draw.below(left.max(1))).min(left);
            for _ in 0..burst {
                let bytes = drawn_frame(&mut draw, frame.session_id());
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return heard;
                }
            }
            left -= burst;
            if left == 0 {
                // Half of them hang up, half wait for what the endpoint makes of it.
                if draw.below(2) == 0 {
                    return heard;
                }
                let _ = stream.shutdown().await;
            }
            continue;
        }
        let mut space = [0; 4096];
        match timeout(PATIENCE, stream.read(&mut space)).await.expect("the endpoint answers or ends") {
            Ok(0) | Err(_) => return heard,
            Ok(length) => input.extend_from_slice(&space[..length]),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_drawn_session_gets_a_signature_a_deletion_or_a_change_of_status_while_others_enrol() {
    let product = Product::start("hostile").await;
    let waits = "certificateOperation: InstallUpgrade, keyType: EC";
    product.apply(&format!("{}{}{}", phone(NAMES[0], waits), phone(NAMES[1], waits), phone(NAMES[2], "")));
    let beside: Vec<String> = (0..BESIDE).map(|n| format!("SEP0000000A8{n:03}")).collect();
    product.apply(&beside.iter().map(|device| phone(device, &format!("{BY_NULL}, keyType: EC"))).collect::<String>());
    for name in [&beside[..], &[NAMES[0].to_owned(), NAMES[1].to_owned()]].concat() {
        product.operation_status(&name.to_lowercase(), "Install/Upgrade pending").await;
    }
    let wait = r#"--for=jsonpath={.status.observedGeneration}=1"#;
    product.kubectl(&["wait", wait, "--timeout=60s", &format!("ph/{}", NAMES[2].to_lowercase())]);
    let before = of_the_claimed(&product).await;

    let (address, tls) = (product.address.parse().unwrap(), tls_config(&product.ctl().await).unwrap());
    let hostile = futures::stream::iter(0..SESSIONS)
        .map(|seed| {
            let tls = tls.clone();
            async move { (seed, play(address, tls, seed).await) }
        })
        .buffer_unordered(8)
        .collect::<Vec<_>>();
    let enrolling = async {
        for device in &beside {
            product.enrol_at_once(device, Proof::NullString).await;
        }
    };
    let (sessions, ()) = tokio::join!(hostile, enrolling);

    let allowed = [Command::AUTH_REQ, Command::END_SESSION];
    for (seed, heard) in &sessions {
        let odd = heard.iter().find(|command| !allowed.contains(command));
        assert_eq!(odd, None, "the session of seed {seed} was sent {heard:?}");
    }
    let ended = sessions.iter().filter(|(_, heard)| heard.contains(&Command::END_SESSION)).count();
    assert!(ended > 200, "only {ended} of {SESSIONS} sessions were answered: the draw is not hostile enough");
    assert_eq!(of_the_claimed(&product).await, before, "a phone or an operation was written");
    let logs = product.logs();
    assert!(!logs.contains("report this fault") && !logs.contains("panicked"));
    assert!(!logs.contains("comparing an authentication string"));
}

/// Versions and specs of the phones that are claimed and of their operations: no write goes unseen.
async fn of_the_claimed(product: &Product) -> Vec<(String, Option<String>)> {
    let claimed = |name: &str| NAMES.iter().any(|claimed| name.starts_with(&claimed.to_lowercase()));
    let phones = product.api::<Phone>().list(&Default::default()).await.unwrap().items;
    let operations = product.api::<CertificateOperation>().list(&Default::default()).await.unwrap().items;
    let metadata = phones.into_iter().map(|p| p.metadata).chain(operations.into_iter().map(|o| o.metadata));
    let versions = metadata.map(|m| (m.name.unwrap_or_default(), m.resource_version));
    let mut versions: Vec<_> = versions.filter(|(name, _)| claimed(name)).collect();
    versions.sort();
    assert_eq!(versions.len(), 5, "three phones and two operations");
    versions
}
