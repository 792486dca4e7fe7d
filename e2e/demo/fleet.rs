//! Who the forty phones are, what is written for them, and how each is to end.

use capf::api::Reason;
use jiff::Timestamp;

/// The namespace of `examples/`, which all phones are in.
pub const NAMESPACE: &str = "voice";

/// How a phone behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Story {
    /// By Null String.
    Null,
    /// The same, and the line is cut when it has stored its certificate and not yet said so. It tries again.
    NullDropping,
    /// Its user types the string that an administrator has given.
    Given(&'static str),
    /// Its user types the string that CAPF has made.
    Generated,
    /// Its user types a wrong string three times.
    WrongThrice,
    /// It is off.
    NeverCalls,
    /// Nothing is wanted of it.
    NothingWanted,
    /// It has called before the fleet, by hand.
    HasCalled,
}

/// How a phone is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an LSC.
    Successful,
    /// Without one.
    Failed(Reason),
    /// As it began.
    NothingPending,
}

/// A phone of the fleet.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its device name.
    pub device: String,
    /// What it does.
    pub story: Story,
    /// Whether an EC key is asked for; RSA-2048 otherwise.
    elliptic: bool,
}

impl Member {
    /// Name of its Phone.
    pub fn name(&self) -> String {
        self.device.to_lowercase()
    }

    /// How it is to end.
    pub fn ending(&self) -> Ending {
        match self.story {
            Story::WrongThrice => Ending::Failed(Reason::LockedOut),
            Story::NeverCalls => Ending::Failed(Reason::Expired),
            Story::NothingWanted => Ending::NothingPending,
            Story::Null | Story::NullDropping | Story::Given(_) | Story::Generated | Story::HasCalled => {
                Ending::Successful
            }
        }
    }

    /// What a person would write for it; nothing for what `examples/` holds already.
    fn manifest(&self, completes_by: Timestamp) -> String {
        let mut secret = String::new();
        let mut more = String::new();
        let mode = match self.story {
            Story::Null | Story::NullDropping | Story::NeverCalls => "ByNullString",
            _ => "ByAuthenticationString",
        };
        if let Story::Given(_) | Story::WrongThrice = self.story {
            let digits = if let Story::Given(digits) = self.story { digits } else { "2718281828" };
            let name = format!("{}-string", self.name());
            secret = format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\n\
                 type: capf.dev/authentication-string\nstringData:\n  authenticationString: \"{digits}\"\n"
            );
            more += &format!("  authenticationString:\n    secretRef: {{ name: {name} }}\n");
        }
        if self.story == Story::NeverCalls {
            more += &format!("  operationCompletesBy: \"{completes_by:.0}\"\n");
        }
        if self.elliptic {
            more += "  keyType: EC\n  keySize: 256\n";
        }
        format!(
            "{secret}---\napiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata:\n  name: {}\n  namespace: {NAMESPACE}\n\
             spec:\n  deviceName: {}\n  proxyRef: {{ name: main }}\n  certificateOperation: InstallUpgrade\n  \
             authenticationMode: {mode}\n{more}",
            self.name(),
            self.device
        )
    }
}

/// Forty phones: five of `examples/` and the rest.
pub struct Fleet {
    /// All of them, in the order in which they call.
    pub members: Vec<Member>,
    completes_by: Timestamp,
}

/// The phones that `examples/` holds.
const EXAMPLES: [(&str, Story); 5] = [
    ("SEP00A1B2C30102", Story::HasCalled),
    ("CSFLOBBY01", Story::NothingWanted),
    ("SEP00A1B2C30001", Story::Null),
    ("SEP00A1B2C30002", Story::Null),
    ("SEP00A1B2C30101", Story::Generated),
];

/// The strings of phones whose string is given.
const GIVEN: [&str; 6] = ["314159", "1618", "57721566", "41421356", "1732050807", "2236"];

impl Fleet {
    /// The fleet; the phone that never calls has until `completes_by`.
    pub fn new(completes_by: Timestamp) -> Self {
        let examples =
            EXAMPLES.map(|(device, story)| Member { device: device.to_owned(), story, elliptic: false }).into_iter();
        let stories = (0..35).map(|number| match number {
            1 => Story::WrongThrice,
            3 => Story::NullDropping,
            5 => Story::NeverCalls,
            _ if number % 6 == 2 => Story::Given(GIVEN[number / 6]),
            _ if number % 4 == 0 => Story::Generated,
            _ => Story::Null,
        });
        let rest = stories.enumerate().map(|(number, story)| Member {
            device: format!("SEP00A1B2C3{:04X}", 0x1001 + number),
            story,
            elliptic: number % 3 == 0,
        });
        Self { members: examples.chain(rest).collect(), completes_by }
    }

    /// The manifests of those that `examples/` does not hold.
    pub fn manifest(&self) -> String {
        self.members[EXAMPLES.len()..].iter().map(|member| member.manifest(self.completes_by)).collect()
    }

    /// How many of which kind are in the manifest.
    pub fn described(&self) -> String {
        let rest = &self.members[EXAMPLES.len()..];
        let count = |of: fn(&Story) -> bool| rest.iter().filter(|member| of(&member.story)).count();
        format!(
            "{} by null string, {} by a string CAPF makes, {} by a given string, one whose user types wrong strings, \
             one that never calls",
            count(|story| matches!(story, Story::Null | Story::NullDropping)),
            count(|story| *story == Story::Generated),
            count(|story| matches!(story, Story::Given(_))),
        )
    }
}
