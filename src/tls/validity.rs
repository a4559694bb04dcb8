//! The validity of certificates, which rustls evaluates for a peer's only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::Decode as _;

use super::PemFile;
use crate::system::clock::since_epoch;

/// Time before the expiry from which a warning is due.
const MIN_REMAINING: Duration = Duration::from_hours(7 * 24);

/// Returns the expiry in Unix time, or `None` if only rustls can parse the certificate.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<Duration> {
    Certificate::from_der(certificate)
        .ok()
        .as_ref()
        .map(validity_end)
}

/// Returns the expiry in Unix time.
pub(crate) fn validity_end(certificate: &Certificate) -> Duration {
    certificate
        .tbs_certificate()
        .validity()
        .not_after
        .to_unix_duration()
}

/// Returns the subject, and the expiry in Unix time, or `None` if only rustls can parse the
/// certificate.
pub(crate) fn subject_and_end(certificate: &CertificateDer<'_>) -> Option<(String, Duration)> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let subject = parsed.tbs_certificate().subject().to_string();
    Some((subject, validity_end(&parsed)))
}

/// Returns `true` for X.509 versions 1 and 2.
pub(crate) fn is_outdated_version(certificate: &CertificateDer<'_>) -> bool {
    Certificate::from_der(certificate)
        .is_ok_and(|parsed| parsed.tbs_certificate().version() != Version::V3)
}

/// Returns a warning about the certificate of `file` that is not yet valid, has expired, or expires
/// first.
pub(crate) fn warning(
    file: PemFile<'_>,
    certificates: &[CertificateDer<'_>],
    now: SystemTime,
) -> Option<String> {
    let parsed: Vec<Certificate> = certificates
        .iter()
        .filter_map(|certificate| Certificate::from_der(certificate).ok())
        .collect();
    let first = parsed.iter().min_by_key(|parsed| validity_end(parsed))?;
    let now = since_epoch(now);
    let describe = |certificate: &Certificate, state: &str, at: Duration| {
        let tbs = certificate.tbs_certificate();
        let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + at);
        format!(
            "{}: {}: the certificate of \"{}\" {state} {at}",
            file.key,
            file.path.display(),
            tbs.subject()
        )
    };
    let end = validity_end(first);
    if end <= now {
        let text = describe(first, "expired at", end);
        let expired = parsed.iter().filter(|one| validity_end(one) <= now).count();
        return Some(match expired {
            1 => text,
            count => format!(
                "{text}; {count} of {} in the file have expired",
                parsed.len()
            ),
        });
    }
    let starts = |one: &Certificate| {
        one.tbs_certificate()
            .validity()
            .not_before
            .to_unix_duration()
    };
    if let Some(early) = parsed.iter().find(|one| starts(one) > now) {
        return Some(describe(early, "is not valid before", starts(early)));
    }
    (end - now < MIN_REMAINING).then(|| describe(first, "expires soon, at", end))
}
