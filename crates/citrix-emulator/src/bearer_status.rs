//! The status of a token.

/// Status of the token in a request's `Authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BearerStatus {
    Valid,
    Missing,
    Malformed,
    Expired,
    Revoked,
    Unknown,
}

impl BearerStatus {
    /// Returns the name that `/echo` prints instead of the token.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}
