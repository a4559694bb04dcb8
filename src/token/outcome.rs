//! Outcomes of token requests: the closed set behind the metric label, the log field and the
//! advice.

use std::fmt;

use http::StatusCode;

use crate::tls::fault::TlsFault;

/// Outcome of one token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    Refused,
    /// DNS lookup of the endpoint failed.
    Dns,
    /// The TLS handshake failed, except for the certificate.
    Tls,
    CertificateExpired,
    CertificateNotYetValid,
    /// The certificate is for another host.
    CertificateOtherHost,
    /// No trusted root has issued the certificate.
    CertificateUntrusted,
    /// The certificate is revoked, or cannot be verified for another reason.
    CertificateInvalid,
    /// No complete response within `token.request_timeout`.
    Timeout,
    /// No connection, for another reason.
    Connect,
    /// The egress proxy is unreachable or rejected CONNECT.
    EgressProxy,
    /// 400 `invalid_client` (contract §1.3).
    InvalidClient,
    /// 401, with which the trust service rejects an id or secret (contract §1.3).
    Unauthorized,
    /// Another 4xx.
    Http4xx,
    /// 5xx.
    Http5xx,
    /// 429.
    RateLimited,
    /// 3xx, never followed because the secret must not reach another host.
    Redirect,
    /// Any other status; only 200 is success (contract §1.1).
    UnexpectedStatus,
    /// 200 with a page or text instead of JSON.
    NotJson,
    /// 200 without a body.
    Empty,
    Truncated,
    /// HTTP or JSON that is not a token response.
    Malformed,
    /// 200 with an `error` field (contract §1.3).
    ErrorIn200,
    /// Response larger than any token response.
    TooLarge,
    /// Token that is invalid in a header value.
    BadToken,
    /// Token that had expired on arrival.
    Expired,
    /// The client secret could not be read; no request was sent.
    SecretUnreadable,
}

// `SecretUnreadable` stays the last variant, so that `ALL` cannot miss one.
const _: () = assert!(Outcome::ALL.len() == Outcome::SecretUnreadable as usize + 1);

impl Outcome {
    /// All outcomes, in the order of the variants.
    pub const ALL: [Self; 28] = [
        Self::Ok,
        Self::Refused,
        Self::Dns,
        Self::Tls,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificateOtherHost,
        Self::CertificateUntrusted,
        Self::CertificateInvalid,
        Self::Timeout,
        Self::Connect,
        Self::EgressProxy,
        Self::InvalidClient,
        Self::Unauthorized,
        Self::Http4xx,
        Self::Http5xx,
        Self::RateLimited,
        Self::Redirect,
        Self::UnexpectedStatus,
        Self::NotJson,
        Self::Empty,
        Self::Truncated,
        Self::Malformed,
        Self::ErrorIn200,
        Self::TooLarge,
        Self::BadToken,
        Self::Expired,
        Self::SecretUnreadable,
    ];

    /// Returns the value of the metric label and log field `outcome`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateOtherHost => "certificate_other_host",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::CertificateInvalid => "certificate_invalid",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::EgressProxy => "egress_proxy",
            Self::InvalidClient => "invalid_client",
            Self::Unauthorized => "unauthorized",
            Self::Http4xx => "http_4xx",
            Self::Http5xx => "http_5xx",
            Self::RateLimited => "rate_limited",
            Self::Redirect => "redirect",
            Self::UnexpectedStatus => "unexpected_status",
            Self::NotJson => "not_json",
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::ErrorIn200 => "error_in_200",
            Self::TooLarge => "too_large",
            Self::BadToken => "bad_token",
            Self::Expired => "expired",
            Self::SecretUnreadable => "secret_unreadable",
        }
    }

    /// Returns the cause and the action to take, for the log and the status page.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Ok => "token issued",
            Self::Refused => {
                "the token endpoint refuses connections; check token_url, firewalls and whether an egress proxy is needed"
            }
            Self::Dns => {
                "the token endpoint's host name does not resolve; check token_url and the resolver"
            }
            Self::Tls
            | Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::CertificateOtherHost
            | Self::CertificateUntrusted
            | Self::CertificateInvalid => self.tls_advice(),
            Self::Timeout => {
                "no response within token.request_timeout; Citrix is slow, or a firewall drops packets"
            }
            Self::Connect => "no connection to the token endpoint; check the network",
            Self::EgressProxy => {
                "the egress proxy does not connect to the token endpoint; check it and upstream.proxy_url"
            }
            Self::InvalidClient => {
                "Citrix returned 400 invalid_client; the id or secret is wrong, or the secret expired"
            }
            Self::Unauthorized => {
                "Citrix returned 401; the id or secret is wrong, or the client was deleted"
            }
            Self::Http4xx => {
                "Citrix rejected the login request; check token_url, token_dialect and the customer in the path"
            }
            Self::Http5xx => {
                "the token endpoint returned a server error; check the status page of Citrix Cloud"
            }
            Self::RateLimited => {
                "Citrix rate-limits logins; other programs share the client, or replicas restart often"
            }
            Self::Redirect => {
                "the token endpoint redirects, which is never followed; set token_url to the final address"
            }
            Self::UnexpectedStatus => {
                "the token endpoint returned an unexpected status; check token_url"
            }
            Self::NotJson => {
                "the token endpoint returned a page instead of JSON; check for a captive portal or proxy, and token_url"
            }
            Self::Empty => {
                "the token endpoint returned 200 without a body; report the transaction id to Citrix"
            }
            Self::Truncated => {
                "the token endpoint's response is truncated; a proxy on the path or Citrix closed the connection"
            }
            Self::Malformed => {
                "the token endpoint returned an unknown format; check token_url and token_dialect"
            }
            Self::ErrorIn200 => {
                "the token endpoint returned 200 with an error; check the client's id, secret and rights"
            }
            Self::TooLarge => {
                "the token endpoint's response is too large for a token; check token_url"
            }
            Self::BadToken => {
                "the issued token contains bytes that are invalid in a header; check token_url"
            }
            Self::Expired => {
                "the issued token had expired on arrival; check this machine's clock and the latency"
            }
            Self::SecretUnreadable => {
                "the client secret cannot be read; check that it exists and its permissions"
            }
        }
    }

    /// Returns the advice for a failed TLS handshake.
    const fn tls_advice(self) -> &'static str {
        match self {
            Self::Tls => {
                "the TLS handshake with the token endpoint failed; look for a proxy or firewall that blocks TLS 1.2 and 1.3"
            }
            Self::CertificateExpired => {
                "the token endpoint's certificate has expired; check this machine's clock, and an inspecting proxy's certificate"
            }
            Self::CertificateNotYetValid => {
                "the token endpoint's certificate is not yet valid; check this machine's clock, which may be behind"
            }
            Self::CertificateOtherHost => {
                "the token endpoint's certificate is for another host; check token_url, the resolver, and proxies on the path"
            }
            Self::CertificateUntrusted => {
                "the issuer of the token endpoint's certificate is not trusted; if a proxy inspects TLS, add its root certificate to upstream.ca_file"
            }
            _ => {
                "the token endpoint's certificate is invalid; it must be replaced on the server or an inspecting proxy"
            }
        }
    }

    /// Returns `true` if Citrix rejected the id or secret, so that another secret may succeed.
    pub const fn rejects_secret(self) -> bool {
        matches!(self, Self::InvalidClient | Self::Unauthorized)
    }

    /// Returns `true` if another login will most likely fail alike: Citrix responded without a
    /// token, or no secret could be read. Failures of the network or the service are none.
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::InvalidClient
                | Self::Unauthorized
                | Self::Http4xx
                | Self::Redirect
                | Self::UnexpectedStatus
                | Self::Malformed
                | Self::ErrorIn200
                | Self::TooLarge
                | Self::BadToken
                | Self::Expired
                | Self::SecretUnreadable
        )
    }

    /// Returns the outcome for a failed TLS handshake.
    pub(crate) const fn of_tls(fault: TlsFault) -> Self {
        match fault {
            TlsFault::Expired => Self::CertificateExpired,
            TlsFault::NotYetValid => Self::CertificateNotYetValid,
            TlsFault::OtherHost => Self::CertificateOtherHost,
            TlsFault::UnknownIssuer => Self::CertificateUntrusted,
            TlsFault::InvalidCertificate => Self::CertificateInvalid,
            TlsFault::ClientCertificate
            | TlsFault::Incompatible
            | TlsFault::NotTls
            | TlsFault::Broken => Self::Tls,
        }
    }

    /// Returns the outcome for a status other than 200.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            _ if status.is_redirection() => Self::Redirect,
            _ if status.is_client_error() => Self::Http4xx,
            _ if status.is_server_error() => Self::Http5xx,
            _ => Self::UnexpectedStatus,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_snake_case() {
        let mut labels: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Outcome::ALL.len());
        for label in labels {
            assert!(
                label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
        }
    }

    #[test]
    fn advice_is_one_line() {
        for outcome in Outcome::ALL {
            assert!(
                outcome.advice().len() > 10 && !outcome.advice().contains('\n'),
                "{outcome}"
            );
        }
    }

    #[test]
    fn only_an_untrusted_issuer_is_a_matter_of_ca_file() {
        for fault in TlsFault::ALL {
            let outcome = Outcome::of_tls(fault);
            assert_eq!(
                outcome.advice().contains("upstream.ca_file"),
                outcome == Outcome::CertificateUntrusted,
                "{outcome}"
            );
            assert_eq!(outcome != Outcome::Tls, fault.is_about_certificate());
        }
    }

    #[test]
    fn each_status_has_its_outcome() {
        let check = |status: u16, expected| {
            assert_eq!(
                Outcome::of_status(StatusCode::from_u16(status).unwrap()),
                expected,
                "{status}"
            );
        };
        check(204, Outcome::UnexpectedStatus);
        check(302, Outcome::Redirect);
        check(307, Outcome::Redirect);
        check(400, Outcome::Http4xx);
        check(401, Outcome::Unauthorized);
        check(403, Outcome::Http4xx);
        check(429, Outcome::RateLimited);
        check(500, Outcome::Http5xx);
        check(503, Outcome::Http5xx);
    }
}
