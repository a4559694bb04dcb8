//! How a token request can end: the closed set behind the metric label, the log and the advice.

use std::fmt;

use http::StatusCode;

/// How one token request ended. The names of [`Outcome::label`] are values of the metric label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A token was obtained.
    Ok,
    /// Nobody listens at the token endpoint's address.
    Refused,
    /// The endpoint's name could not be resolved.
    Dns,
    /// No TLS session could be agreed on.
    Tls,
    /// No complete answer within `token.request_timeout`.
    Timeout,
    /// No connection, for another reason.
    Connect,
    /// The egress proxy is down, or does not connect us.
    EgressProxy,
    /// 400 `invalid_client` (contract 1.3).
    InvalidClient,
    /// 401, the trust service's way to refuse an id or secret (contract 1.3).
    Unauthorized,
    /// Another 4xx.
    Http4xx,
    /// 5xx.
    Http5xx,
    /// 429.
    RateLimited,
    /// 3xx, which is never followed: the secret must not reach another host.
    Redirect,
    /// Neither 200 nor any of the above; success is exactly 200 (contract 1.1).
    UnexpectedStatus,
    /// A 200 with a page or text instead of JSON.
    NotJson,
    /// A 200 without a body.
    Empty,
    /// An answer that was cut off.
    Truncated,
    /// JSON (or HTTP) that does not have the shape of a token answer.
    Malformed,
    /// A 200 with an `error` member (contract 1.3).
    ErrorIn200,
    /// An answer larger than any token answer is.
    TooLarge,
    /// A token that no header may carry.
    BadToken,
    /// A token whose life was over before it arrived.
    Expired,
    /// The client secret could not be read, so nothing was asked.
    SecretUnreadable,
}

// `SecretUnreadable` stays the last one, so that a variant added above it cannot be forgotten in `ALL`.
const _: () = assert!(Outcome::ALL.len() == Outcome::SecretUnreadable as usize + 1);

impl Outcome {
    /// Every outcome, so that each can be a metric from the start.
    pub const ALL: [Self; 23] = [
        Self::Ok,
        Self::Refused,
        Self::Dns,
        Self::Tls,
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

    /// The value of the metric label and of the log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Dns => "dns",
            Self::Tls => "tls",
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

    /// What it means and what to look at, in one sentence for the log and the status page.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Ok => "Citrix issued a token",
            Self::Refused => {
                "nothing listens at the token endpoint: check token_url, firewalls and whether an egress proxy is needed"
            }
            Self::Dns => {
                "the token endpoint's name does not resolve: check token_url and the resolver"
            }
            Self::Tls => {
                "TLS with the token endpoint failed: if a proxy inspects traffic, put its root into upstream.ca_file"
            }
            Self::Timeout => {
                "no answer within token.request_timeout: Citrix is slow, or a firewall drops the packets"
            }
            Self::Connect => "no connection to the token endpoint: check the network",
            Self::EgressProxy => {
                "the egress proxy makes no connection to the token endpoint: check it and upstream.proxy_url"
            }
            Self::InvalidClient => {
                "Citrix answers 400 invalid_client: the id or secret is wrong, or the secret expired"
            }
            Self::Unauthorized => {
                "Citrix answers 401 to the login: the id or secret is wrong, or the client was deleted"
            }
            Self::Http4xx => {
                "Citrix refuses the login request: check token_url, token_dialect and the customer in the path"
            }
            Self::Http5xx => {
                "the token endpoint answers with a server error: look at Citrix Cloud's health page"
            }
            Self::RateLimited => {
                "Citrix limits how often one may log in: other programs share the client, or replicas restart often"
            }
            Self::Redirect => {
                "the token endpoint redirects, which is never followed: set token_url to the final address"
            }
            Self::UnexpectedStatus => {
                "the token endpoint answers neither 200 nor an error: check token_url"
            }
            Self::NotJson => {
                "the token endpoint answers with a page instead of JSON: a captive portal or proxy, or a wrong token_url"
            }
            Self::Empty => {
                "the token endpoint answers 200 without a body: tell Citrix the transaction id"
            }
            Self::Truncated => {
                "the token endpoint's answer was cut off: a proxy on the way, or Citrix closed the connection"
            }
            Self::Malformed => {
                "the token endpoint answers 200 in an unknown shape: check token_url and token_dialect"
            }
            Self::ErrorIn200 => {
                "the token endpoint answers 200 with an error inside: check the client's id, secret and rights"
            }
            Self::TooLarge => {
                "the token endpoint's answer is larger than any token answer: check token_url"
            }
            Self::BadToken => {
                "the issued token holds bytes that no header may carry: check token_url"
            }
            Self::Expired => {
                "the issued token's life was over when it arrived: check this machine's clock and the latency"
            }
            Self::SecretUnreadable => {
                "the client secret cannot be read: check that it exists and who may read it"
            }
        }
    }

    /// Whether Citrix refused the id or the secret, so that a second secret is worth a try.
    pub const fn rejects_secret(self) -> bool {
        matches!(self, Self::InvalidClient | Self::Unauthorized)
    }

    /// The outcome that a status other than 200 means by itself.
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
    fn labels_are_distinct_and_fit_a_metric() {
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
    fn advice_is_one_sentence_of_its_own() {
        for outcome in Outcome::ALL {
            assert!(
                outcome.advice().len() > 10 && !outcome.advice().contains('\n'),
                "{outcome}"
            );
        }
    }

    #[test]
    fn statuses_fall_into_their_classes() {
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
