//! The `Headers` of a nested answer in a batch: an array of objects with a `Name` and a `Value` (contract §5).

/// Where in such an array we are. It takes a depth and no stack, as what lies deeper than a pair does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pairs {
    /// Brackets open inside the array.
    depth: u64,
    in_pair: bool,
    value_came: bool,
    header: Header,
}

/// Which header a pair is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Header {
    /// `Name` has not come yet.
    #[default]
    Unknown,
    /// Its value is a link.
    Location,
    /// Its value is none of ours.
    Other,
}

/// What a closing bracket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Something inside a pair.
    Inner,
    /// An element of the array, a pair as a rule.
    Element,
    /// The array.
    Array,
}

impl Pairs {
    /// Whether a string here may be the name of a field of a pair.
    pub(super) fn is_pair(&self) -> bool {
        self.in_pair && self.depth == 1
    }

    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// Takes the value of `Name`.
    pub(super) fn named(&mut self, name: &[u8]) -> Header {
        let location = name.eq_ignore_ascii_case(b"Location");
        self.header = if location {
            Header::Location
        } else {
            Header::Other
        };
        self.header
    }

    /// Whether no `Value` came before this one.
    pub(super) fn first_value(&mut self) -> bool {
        !std::mem::replace(&mut self.value_came, true)
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

    pub(super) fn close(&mut self) -> Closed {
        match self.depth {
            0 => return Closed::Array,
            depth => self.depth = depth - 1,
        }
        if self.depth == 0 {
            Closed::Element
        } else {
            Closed::Inner
        }
    }
}
