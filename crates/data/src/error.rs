//! What can be wrong with data.

use std::{fmt, io};

use gradus_tensor::DType;

/// Why data could not be read or used.
///
/// `file` is the path, or the name that the caller gave to the bytes.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataError {
    /// The file could not be opened or read.
    Io {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory holds none of the names under which the file is known.
    Missing {
        /// The directory.
        directory: String,
        /// The names looked for.
        names: Vec<String>,
    },
    /// A gzip stream is damaged or cut off.
    Gzip {
        /// The file.
        file: String,
        /// Bytes that could be unpacked before.
        offset: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// The file starts with other bytes than its format does.
    BadMagic {
        /// The file.
        file: String,
        /// How the format starts.
        expected: &'static str,
        /// How the file starts.
        found: [u8; 4],
    },
    /// The file ends too early.
    Truncated {
        /// The file.
        file: String,
        /// Bytes it should have, unpacked.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The file goes on where it should end.
    TrailingBytes {
        /// The file.
        file: String,
        /// Bytes it should have, unpacked.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A header declares, or a gzip stream unpacks to, more than can be taken.
    TooLarge {
        /// The file.
        file: String,
        /// The most bytes that are taken.
        limit: u64,
    },
    /// The file is well-formed but does not hold what was asked for.
    WrongContent {
        /// The file.
        file: String,
        /// What was asked for.
        expected: &'static str,
        /// Type of the elements found.
        dtype: DType,
        /// Shape found.
        shape: Vec<usize>,
    },
    /// There is no row.
    Empty {
        /// The file.
        file: String,
    },
    /// A row has more or fewer columns than the first one.
    RaggedRow {
        /// The file.
        file: String,
        /// Line, counted from 1.
        line: u64,
        /// Columns of the first row.
        expected: usize,
        /// Columns of this row.
        found: usize,
    },
    /// A field is not a finite number.
    NotANumber {
        /// The file.
        file: String,
        /// Line, counted from 1.
        line: u64,
        /// Column, counted from 1.
        column: usize,
        /// The start of the field.
        found: String,
    },
    /// The table has no such column.
    NoSuchColumn {
        /// The file.
        file: String,
        /// The column asked for, counted from 0.
        column: usize,
        /// Columns of the table.
        columns: usize,
    },
    /// A label is not one of the classes `0..classes`.
    Label {
        /// Where it stands.
        at: Location,
        /// The label.
        found: f64,
        /// Number of classes.
        classes: usize,
    },
    /// Class labels are one i64 for each item; the targets are something else.
    NotLabels {
        /// Type of the targets.
        dtype: DType,
        /// Shape of the targets.
        shape: Vec<usize>,
    },
    /// Two things that belong together item by item differ in their number of items.
    LengthMismatch {
        /// The two things.
        names: [String; 2],
        /// Their numbers of items.
        lengths: [usize; 2],
    },
    /// Fractions of a split are finite, not negative and add up to 1.
    Fractions {
        /// What was given.
        fractions: Vec<f64>,
    },
    /// A batch holds at least one item.
    ZeroBatchSize,
    /// A feature cannot be standardized: its mean is not finite or its deviation is not positive and finite.
    Statistics {
        /// The feature, counted from 0.
        feature: usize,
        /// Its mean.
        mean: f32,
        /// Its standard deviation.
        std: f32,
    },
}

/// Where in the data something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// In a dataset in memory.
    Item {
        /// Number of the item, counted from 0.
        index: usize,
    },
    /// In a binary file.
    Offset {
        /// The file.
        file: String,
        /// Byte, counted from 0, in the unpacked file.
        offset: u64,
    },
    /// In a text file.
    Line {
        /// The file.
        file: String,
        /// Line, counted from 1.
        line: u64,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item { index } => write!(f, "item {index}"),
            Self::Offset { file, offset } => write!(f, "{file}, byte {offset}"),
            Self::Line { file, line } => write!(f, "{file}, line {line}"),
        }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, source } => write!(f, "{file}: {source}"),
            Self::Missing { directory, names } => {
                write!(f, "{directory}: found no file named {}", names.join(" or "))
            }
            Self::Gzip { file, offset, source } => {
                write!(f, "{file}: the gzip stream breaks after {offset} unpacked bytes: {source}")
            }
            Self::BadMagic { file, expected, found } => {
                write!(f, "{file}: expected {expected} at byte 0, found {found:02x?}")
            }
            Self::Truncated { file, expected, found } => {
                write!(f, "{file}: truncated: expected {expected} bytes, found {found}")
            }
            Self::TrailingBytes { file, expected, found } => {
                write!(f, "{file}: expected the end at byte {expected}, found {found} bytes")
            }
            Self::TooLarge { file, limit } => write!(f, "{file}: more than {limit} bytes of data"),
            Self::WrongContent { file, expected, dtype, shape } => {
                write!(f, "{file}: expected {expected}, found {dtype} of shape {shape:?}")
            }
            Self::Empty { file } => write!(f, "{file}: expected at least one row of data"),
            Self::RaggedRow { file, line, expected, found } => {
                write!(f, "{file}, line {line}: expected {expected} columns, found {found}")
            }
            Self::NotANumber { file, line, column, found } => {
                write!(
                    f,
                    "{file}, line {line}, column {column}: expected a finite number, found {found:?}"
                )
            }
            Self::NoSuchColumn { file, column, columns } => {
                write!(f, "{file}: expected a column {column} (from 0), found {columns} columns")
            }
            Self::Label { at, found, classes } => {
                write!(f, "{at}: expected a label in 0..{classes}, found {found}")
            }
            Self::NotLabels { dtype, shape } => {
                write!(f, "expected one i64 label for each item, found {dtype} of shape {shape:?}")
            }
            Self::LengthMismatch { names: [a, b], lengths: [n, m] } => {
                write!(f, "expected as many items in {b} as in {a}, found {m} and {n}")
            }
            Self::Fractions { fractions } => {
                write!(f, "expected fractions that add up to 1, none negative, found {fractions:?}")
            }
            Self::ZeroBatchSize => f.write_str("expected a batch size of at least 1, found 0"),
            Self::Statistics { feature, mean, std } => write!(
                f,
                "feature {feature}: expected a finite mean and a positive deviation, found {mean} and {std}"
            ),
        }
    }
}

impl core::error::Error for DataError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Gzip { source, .. } => Some(source),
            _ => None,
        }
    }
}
