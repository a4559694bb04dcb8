//! The `Headers` of a batch response's item: an array of objects with `Name` and `Value`
//! (contract §5).

/// The position in such an array. A depth replaces a stack, since nothing below a pair matters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeaderPairs {
    /// Open brackets inside the array.
    depth: u64,
    in_pair: bool,
    has_value: bool,
    header: PairHeader,
}

/// The header field of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PairHeader {
    /// `Name` has not arrived.
    #[default]
    Unknown,
    /// The value is a link.
    Location,
    Other,
}

/// The structure that a closing bracket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedBracket {
    /// Something inside a pair.
    Inner,
    /// An element of the array, usually a pair.
    Element,
    Array,
}

impl HeaderPairs {
    /// Returns `true` if a string may be a member name of a pair.
    pub(super) fn is_pair(&self) -> bool {
        self.in_pair && self.depth == 1
    }

    pub(super) fn header(&self) -> PairHeader {
        self.header
    }

    /// Sets and returns the header field for the value of `Name`.
    pub(super) fn set_header(&mut self, name: &[u8]) -> PairHeader {
        self.header = if name.eq_ignore_ascii_case(b"Location") {
            PairHeader::Location
        } else {
            PairHeader::Other
        };
        self.header
    }

    /// Returns `true` on the first call for a pair.
    pub(super) fn is_first_value(&mut self) -> bool {
        !std::mem::replace(&mut self.has_value, true)
    }

    pub(super) fn open(&mut self, bracket: u8) {
        if self.depth == 0 {
            *self = Self {
                in_pair: bracket == b'{',
                ..Self::default()
            };
        }
        self.depth = self.depth.saturating_add(1);
    }

    pub(super) fn close(&mut self) -> ClosedBracket {
        match self.depth {
            0 => return ClosedBracket::Array,
            depth => self.depth = depth - 1,
        }
        if self.depth == 0 {
            ClosedBracket::Element
        } else {
            ClosedBracket::Inner
        }
    }
}
