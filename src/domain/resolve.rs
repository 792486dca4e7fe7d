//! The spec of a run: what a Phone says, and what its proxy's defaults say where it says nothing.

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    AuthenticationMode, CertificateAuthorityProxy, CertificateOperationKind, CertificateOperationSpec,
    DeviceSecurityMode, Phone, Reason, RequestedBy, Written,
};

/// The operation's spec: the phone's settings with the proxy's defaults filled in.
pub(super) fn resolve(
    phone: &Phone,
    written: &Written,
    proxy: &CertificateAuthorityProxy,
    now: Timestamp,
) -> Result<CertificateOperationSpec, (Reason, String)> {
    let defaults = proxy.spec.phone_defaults.clone().unwrap_or_default();
    let mode = written
        .authentication_mode
        .or(defaults.authentication_mode)
        .unwrap_or(AuthenticationMode::ByAuthenticationString);
    permitted(mode, proxy)?;
    if written.authentication_string.is_some() && mode != AuthenticationMode::ByAuthenticationString {
        let message = format!(
            "authenticationString is given, but the proxy's default authentication mode is {}: write \
             authenticationMode: ByAuthenticationString, or remove the string",
            mode.words()
        );
        return Err((Reason::PolicyDenied, message));
    }
    deletable(written.certificate_operation, phone)?;
    let makes_key = written.certificate_operation == CertificateOperationKind::InstallUpgrade;
    let key_type = written.key_type.or(defaults.key_type);
    // A size belongs to its type: a default size is not lent to a phone that chose another type.
    let key_size = written
        .key_size
        .or(defaults.key_size.filter(|_| written.key_type.is_none_or(|t| Some(t) == defaults.key_type)));
    crate::api::resolve_key(key_type, key_size).map_err(|error| (Reason::PolicyDenied, error.to_string()))?;
    Ok(CertificateOperationSpec {
        phone_ref: crate::api::ObjectReference { name: phone.metadata.name.clone().unwrap_or_default() },
        certificate_operation: written.certificate_operation,
        authentication_mode: mode,
        authentication_string: written.authentication_string.clone(),
        key_type: key_type.filter(|_| makes_key),
        key_size: key_size.filter(|_| makes_key),
        operation_completes_by: Some(written.operation_completes_by.unwrap_or_else(|| deadline(now, proxy))),
        requested_by: RequestedBy::Phone,
    })
}

/// Whether the proxy permits the authentication mode.
pub(super) fn permitted(mode: AuthenticationMode, proxy: &CertificateAuthorityProxy) -> Result<(), (Reason, String)> {
    if mode == AuthenticationMode::ByNullString && !proxy.spec.permit_null_string {
        let message = "By Null String is not permitted: choose another authenticationMode, or set permitNullString: true on the proxy";
        return Err((Reason::PolicyDenied, message.into()));
    }
    Ok(())
}

/// Whether the phone can do without its LSC, if it is to be deleted. "If the phone does not contain a MIC, set the device
/// security mode to nonsecure before you delete the LSC": in any other mode such a phone would register no more.
pub(super) fn deletable(operation: CertificateOperationKind, phone: &Phone) -> Result<(), (Reason, String)> {
    let has_mic = phone.status.as_ref().is_some_and(|s| s.mic.is_some());
    let non_secure = phone.spec.device_security_mode == Some(DeviceSecurityMode::NonSecure);
    if operation != CertificateOperationKind::Delete || has_mic || non_secure {
        return Ok(());
    }
    let message = "Delete would leave the phone without any certificate, for no MIC of it is known: set its device security \
                   mode to nonsecure first and say so by deviceSecurityMode: NonSecure, or let Troubleshoot see its MIC";
    Err((Reason::PolicyDenied, message.into()))
}

/// The deadline of a run that is started, or was applied, at `from` without one.
pub(super) fn deadline(from: Timestamp, proxy: &CertificateAuthorityProxy) -> Timestamp {
    let days = SignedDuration::from_hours(24 * i64::from(proxy.spec.operation_expires_in_days));
    let deadline = from.checked_add(days).unwrap_or(Timestamp::MAX);
    // In whole seconds, for people read it.
    Timestamp::from_second(deadline.as_second()).unwrap_or(deadline)
}
