//! The ways in which bytes are compressed.

/// How bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    /// RFC 1952, one or several members.
    Gzip,
    /// RFC 1950.
    Zlib,
}

impl Packing {
    /// Returns the name for errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
        }
    }

    /// Returns the beginning of an error about damaged data.
    pub fn damaged(self) -> String {
        format!("its {} data are damaged", self.name())
    }
}
