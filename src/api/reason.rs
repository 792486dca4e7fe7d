//! Why an operation ended, or why a manifest is refused: machine-readable, stable, one doc comment each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why an operation ended the way it did. The first group keeps the vendor's names.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
        #[non_exhaustive]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name as it stands in status, conditions and Events.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// One sentence for people, as documented.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// The digits entered on the phone are not the operation's authentication string.
    InvalidAuthenticationString,
    /// The LSC that the phone offered is not one that may authenticate it.
    InvalidLSC,
    /// The MIC that the phone offered, or its absence, is not acceptable.
    InvalidMIC,
    /// The phone offered none of the evidence that the authentication mode asks for.
    InvalidCredentials,
    /// The phone could not be talked to until the end.
    PhoneCommunicationFailure,
    /// The phone, or CAPF itself, could not make a key within the allowed attempts.
    KeyGenerationFailed,
    /// The key was not made within the allowed minutes.
    KeyGenerationTimeout,
    /// The certificate authority could not be reached.
    CACommunicationFailure,
    /// The certificate authority refused to sign.
    CARejected,
    /// The operation was not completed by its completes-by time.
    Expired,
    /// The phone's user stopped the operation.
    UserAborted,
    /// The certificate offered belongs to another device.
    IdentityMismatch,
    /// The MIC is past its end date and the proxy's policy does not allow it.
    MICExpired,
    /// The phone answered that it did not store the certificate.
    StoreRejected,
    /// A newer request, or `NoPendingOperation`, took the place of this one.
    Superseded,
    /// Too many wrong authentication strings; a new revision and string runs again.
    LockedOut,
    /// The proxy's parameters do not permit what was asked.
    PolicyDenied,
    /// The key that the phone returned is not of the kind that was asked for, is known to be weak, or is another phone's.
    KeyRejected,
    /// The phone holds no certificate to authenticate with.
    NoCertificate,
    /// The phone answered that it holds no LSC to delete: what was wanted is so, and the operation successful.
    NothingToDelete,
    /// The phone answered that it did not delete its LSC, or would show no certificate.
    PhoneRejected,
    /// The Secret does not hold 4 to 10 digits.
    AuthenticationStringMalformed,
    /// Too many wrong strings came from the caller's part of the network; what comes from there is not checked for a while.
    TooManyWrongStrings,
    /// The string was used before; strings are for one time.
    AuthenticationStringReused,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_serialized_under_the_name_it_displays() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.to_string());
            assert!(reason.meaning().ends_with('.'), "{reason} has no meaning");
        }
    }
}
