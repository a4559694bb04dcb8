//! PEM files of the configuration, and what else is put in their place.

use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The OID of PKCS #7 signed data, in DER.
const PKCS7_OID: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02,
];

/// A PEM file and the configuration key that names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PemFile<'a> {
    pub(crate) key: &'static str,
    pub(crate) path: &'a Path,
}

impl<'a> PemFile<'a> {
    pub(crate) const fn new(key: &'static str, path: &'a Path) -> Self {
        Self { key, path }
    }

    /// Returns an error about this file. `problem` is one clause and, after a semicolon, the action
    /// to take.
    pub(crate) fn problem(self, problem: impl Into<String>) -> TlsError {
        TlsError::File {
            key: self.key,
            path: self.path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Parses the certificates in the content of the file. There is at least one.
    pub(crate) fn certificates(
        self,
        content: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(self.problem(self.no_certificate(content))),
            Err(error) => Err(self.problem(damaged(content, &error))),
        }
    }

    /// Parses the first private key in the content of the file.
    pub(crate) fn private_key(self, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        let kind = Content::of(content);
        if let Content::Pem(labels) = &kind
            && is_encrypted(labels, content)
        {
            return Err(self.problem(self.hint(
                "the key is encrypted, and the gateway has no passphrase; decrypt it:",
                "openssl pkey -in FILE -out FILE.plain",
            )));
        }
        PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
            PemError::NoItemsFound => self.problem(self.no_key(&kind)),
            error => self.problem(damaged(content, &error)),
        })
    }

    /// Appends a command, with the path in place of `FILE`.
    pub(crate) fn hint(self, text: &str, command: &str) -> String {
        let path = self.path.display().to_string();
        format!("{text} {}", command.replace("FILE", &path))
    }

    fn no_certificate(self, content: &[u8]) -> String {
        match Content::of(content) {
            Content::Pkcs12 => self.hint(
                "PKCS #12 (PFX) instead of PEM; extract the certificates:",
                "openssl pkcs12 -in FILE -nokeys -out FILE.pem",
            ),
            Content::DerCertificate => self.hint(
                "DER instead of PEM; convert it:",
                "openssl x509 -inform der -in FILE -out FILE.pem",
            ),
            Content::DerPkcs7 => self.hint(
                "PKCS #7 in DER instead of PEM; extract the certificates:",
                "openssl pkcs7 -inform der -in FILE -print_certs -out FILE.pem",
            ),
            Content::DerKey | Content::DerEncryptedKey => {
                "a private key in DER instead of a certificate in PEM".to_owned()
            }
            Content::Pem(labels) => self.no_certificate_in(&labels),
            other => self.other(&other),
        }
    }

    fn no_certificate_in(self, labels: &[&str]) -> String {
        let has = |part: &str| labels.iter().any(|label| label.contains(part));
        if has("PRIVATE KEY") {
            return "contains a private key and no certificate; are certificate and key swapped?"
                .to_owned();
        }
        if has("CERTIFICATE REQUEST") {
            return "contains a certificate request; the authority issues a certificate for it"
                .to_owned();
        }
        if has("PKCS7") || has("CMS") {
            return self.hint(
                "PKCS #7 instead of certificates; extract them:",
                "openssl pkcs7 -in FILE -print_certs -out FILE.pem",
            );
        }
        if has("TRUSTED CERTIFICATE") {
            return self.hint(
                "contains OpenSSL's TRUSTED CERTIFICATE; convert it:",
                "openssl x509 -in FILE -out FILE.pem",
            );
        }
        "contains no certificate; expected PEM blocks that begin with BEGIN CERTIFICATE".to_owned()
    }

    fn no_key(self, content: &Content<'_>) -> String {
        match content {
            Content::Pkcs12 => self.hint(
                "PKCS #12 (PFX) instead of PEM; extract the key:",
                "openssl pkcs12 -in FILE -nocerts -nodes -out FILE.pem",
            ),
            Content::DerKey => self.hint(
                "DER instead of PEM; convert it:",
                "openssl pkey -inform der -in FILE -out FILE.pem",
            ),
            Content::DerEncryptedKey => self.hint(
                "an encrypted key in DER; decrypt and convert it:",
                "openssl pkey -inform der -in FILE -out FILE.pem",
            ),
            Content::DerCertificate | Content::DerPkcs7 => {
                "a certificate in DER instead of a private key in PEM".to_owned()
            }
            Content::Pem(labels) if labels.iter().any(|label| label.contains("OPENSSH")) => self
                .hint(
                    "a key in OpenSSH's format; convert it:",
                    "ssh-keygen -p -N \"\" -m PEM -f FILE",
                ),
            Content::Pem(labels) if labels.contains(&"CERTIFICATE") => {
                "contains a certificate and no private key; are certificate and key swapped?"
                    .to_owned()
            }
            Content::Pem(_) => {
                "contains no private key; expected a PEM block that begins with BEGIN PRIVATE KEY"
                    .to_owned()
            }
            other => self.other(other),
        }
    }

    /// Describes content that is wrong for certificates and keys alike.
    fn other(self, content: &Content<'_>) -> String {
        match content {
            Content::Empty => "the file is empty".to_owned(),
            Content::Utf16 => {
                "UTF-16 instead of ASCII; in PowerShell, write it with Out-File -Encoding ascii"
                    .to_owned()
            }
            Content::JavaKeyStore => self.hint(
                "a Java key store instead of PEM; convert it, then use openssl pkcs12:",
                "keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype pkcs12",
            ),
            _ => "contains no PEM block; expected lines that begin with -----BEGIN".to_owned(),
        }
    }
}

/// The kind of a file's content.
#[derive(Debug, PartialEq, Eq)]
enum Content<'a> {
    Empty,
    Utf16,
    JavaKeyStore,
    Pkcs12,
    DerPkcs7,
    DerKey,
    DerEncryptedKey,
    DerCertificate,
    /// The labels of its blocks; none if it has no block.
    Pem(Vec<&'a str>),
    Other,
}

impl<'a> Content<'a> {
    fn of(content: &'a [u8]) -> Self {
        match content {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Self::Utf16,
            [0xfe, 0xed, 0xfe, 0xed, ..] => return Self::JavaKeyStore,
            [0x30, ..] if let Some(kind) = Self::of_der(content) => return kind,
            _ => {}
        }
        if content.iter().all(u8::is_ascii_whitespace) {
            return Self::Empty;
        }
        let labels: Vec<&str> = content
            .split(|byte| *byte == b'\n')
            .filter_map(|line| str::from_utf8(line).ok())
            .filter_map(|line| {
                let (label, _) = line.split_once("-----BEGIN ")?.1.split_once("-----")?;
                Some(label)
            })
            .collect();
        if labels.is_empty() {
            Self::Other
        } else {
            Self::Pem(labels)
        }
    }

    /// Distinguishes DER by the first element of the outer sequence.
    fn of_der(content: &[u8]) -> Option<Self> {
        let length = *content.get(1)?;
        let header = if length < 0x80 {
            2
        } else {
            2 + usize::from(length & 0x7f)
        };
        let inner = content.get(header..)?;
        match inner {
            [0x02, 0x01, 0x03, ..] => Some(Self::Pkcs12),
            [0x02, 0x01, 0x00 | 0x01, ..] => Some(Self::DerKey),
            [0x30, _, 0x06, ..] => Some(Self::DerEncryptedKey),
            [0x30, ..] => Some(Self::DerCertificate),
            _ if inner.starts_with(PKCS7_OID) => Some(Self::DerPkcs7),
            _ => None,
        }
    }
}

/// Returns `true` if the first private key has a passphrase, in PKCS #8 or in OpenSSL's own format.
fn is_encrypted(labels: &[&str], content: &[u8]) -> bool {
    let first = labels.iter().find(|label| label.contains("PRIVATE KEY"));
    match first {
        Some(&"ENCRYPTED PRIVATE KEY") => true,
        Some(_) => content
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED")),
        None => false,
    }
}

fn damaged(content: &[u8], error: &PemError) -> String {
    if Content::of(content) == Content::Utf16 {
        return "UTF-16 instead of ASCII; in PowerShell, write it with Out-File -Encoding ascii"
            .to_owned();
    }
    match error {
        PemError::MissingSectionEnd { end_marker } => format!(
            "the PEM block is truncated; END {} is missing",
            String::from_utf8_lossy(end_marker).trim()
        ),
        PemError::IllegalSectionStart { .. } => {
            "a line that begins a PEM block is damaged".to_owned()
        }
        error => format!("the PEM block is damaged: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: TlsError) -> String {
        let TlsError::File { key, problem, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(key, "listen.tls.key");
        problem
    }

    fn file() -> PemFile<'static> {
        PemFile::new("listen.tls.key", Path::new("/etc/x"))
    }

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/tls/", $name)).as_slice()
        };
    }

    #[test]
    fn content_that_is_no_certificate_is_named_with_the_command_that_helps() {
        let utf16 = [b"\xff\xfe".as_slice(), b"-\0-\0"].concat();
        for (content, expected) in [
            (b"".as_slice(), "the file is empty"),
            (b" \r\n", "the file is empty"),
            (b"nonsense", "no PEM block"),
            (&utf16, "Out-File -Encoding ascii"),
            (b"\xfe\xed\xfe\xed", "keytool -importkeystore"),
            (
                fixture!("store.p12"),
                "openssl pkcs12 -in /etc/x -nokeys -out /etc/x.pem",
            ),
            (fixture!("certificate.der"), "openssl x509 -inform der"),
            (fixture!("key.der"), "a private key in DER"),
            (fixture!("v1.key"), "swapped?"),
            (
                fixture!("chain.p7b"),
                "openssl pkcs7 -in /etc/x -print_certs",
            ),
            (
                b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                "certificate request",
            ),
            (
                b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n",
                "openssl x509 -in /etc/x",
            ),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n",
                "END CERTIFICATE is missing",
            ),
            (
                b"-----BEGIN CERTIFICATE-----\n***\n-----END CERTIFICATE-----\n",
                "damaged",
            ),
        ] {
            let found = problem(file().certificates(content).unwrap_err());
            assert!(found.contains(expected), "{expected}: {found}");
        }
        assert_eq!(file().certificates(fixture!("v1.crt")).unwrap().len(), 1);
    }

    #[test]
    fn content_that_is_no_key_is_named_with_the_command_that_helps() {
        for (content, expected) in [
            (b"".as_slice(), "the file is empty"),
            (fixture!("v1.crt"), "swapped?"),
            (
                fixture!("encrypted.key"),
                "openssl pkey -in /etc/x -out /etc/x.plain",
            ),
            (fixture!("encrypted-ec.key"), "the key is encrypted"),
            (fixture!("encrypted.der"), "an encrypted key in DER"),
            (fixture!("key.der"), "openssl pkey -inform der -in /etc/x"),
            (
                fixture!("store.p12"),
                "openssl pkcs12 -in /etc/x -nocerts -nodes",
            ),
            (fixture!("openssh.key"), "ssh-keygen"),
            (
                b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                "contains no private key",
            ),
        ] {
            let found = problem(file().private_key(content).unwrap_err());
            assert!(found.contains(expected), "{expected}: {found}");
        }
        let both = [fixture!("v1.crt"), fixture!("v1.key")].concat();
        assert!(file().private_key(&both).is_ok(), "key after a certificate");
    }
}
