//! Numeric CSV (RFC 4180): a matrix of f32, and datasets cut out of it.

use std::path::Path;

use gradus_tensor::Tensor;

use crate::{DataError, Dataset, Location, file};

/// How a table is written. Without a header and with commas unless told otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Whether the first line names the columns. Default `false`.
    pub has_header: bool,
    /// What separates fields. Default `,`.
    pub delimiter: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self { has_header: false, delimiter: b',' }
    }
}

impl Options {
    /// No header, commas.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with the first line naming the columns, or not.
    #[must_use]
    pub fn with_header(mut self, has_header: bool) -> Self {
        self.has_header = has_header;
        self
    }

    /// The same with another separator, such as `b'\t'` or `b';'`.
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }
}

/// A table of finite numbers.
#[derive(Clone, Debug)]
pub struct Table {
    file: String,
    header: Vec<String>,
    values: Tensor,
    lines: Vec<u64>,
}

/// Reads a table from a file, gzipped or not (judged by its first bytes).
///
/// Blanks around fields and empty lines are ignored. Every field is a finite number: a missing value, a
/// NaN or a number too large for f32 is an error.
///
/// # Errors
/// [`DataError`] when the file cannot be read, has no row, a row with more or fewer columns than the first
/// line, or a field that is not a finite number.
pub fn read(path: impl AsRef<Path>, options: &Options) -> Result<Table, DataError> {
    let path = path.as_ref();
    parse(&file::read(path)?, &file::name(path), options)
}

/// Reads a table from bytes, gzipped or not; errors call them `file`.
///
/// ```
/// use gradus_data::csv;
///
/// let text = "width,height,kind\n1.5,2,0\n0.5,4,1\n";
/// let table = csv::parse(text.as_bytes(), "t.csv", &csv::Options::new().with_header(true)).unwrap();
/// assert_eq!(table.header(), ["width", "height", "kind"]);
/// let data = table.classification(2, 2).unwrap();
/// assert_eq!(data.inputs().to_vec::<f32>(), [1.5, 2.0, 0.5, 4.0]);
/// assert_eq!(data.labels().unwrap(), [0, 1]);
///
/// let error = csv::parse(b"1,2\n3,x\n", "t.csv", &csv::Options::new()).unwrap_err();
/// assert_eq!(error.to_string(), "t.csv, line 2, column 2: expected a finite number, found \"x\"");
/// ```
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8], file: &str, options: &Options) -> Result<Table, DataError> {
    let bytes = file::unpack(bytes, file)?;
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(options.delimiter)
        .trim(::csv::Trim::All)
        // Rows of other lengths are reported by us, with their line.
        .flexible(true)
        .from_reader(bytes.as_ref());

    let (mut header, mut values, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns = None;
    let mut counter = LineCounter { bytes: &bytes, position: 0, line: 1 };
    let mut record = ::csv::ByteRecord::new();
    loop {
        let more = reader
            .read_byte_record(&mut record)
            .map_err(|e| DataError::Io { file: file.into(), source: e.into() })?;
        if !more {
            break;
        }
        let start = record.position().map_or(0, |p| p.byte() as usize);
        let line = counter.line_at(start);
        let first = columns.is_none();
        let expected = *columns.get_or_insert(record.len());
        if record.len() != expected {
            let found = record.len();
            return Err(DataError::RaggedRow { file: file.into(), line, expected, found });
        }
        if first && options.has_header {
            header = record.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
            continue;
        }
        for (i, field) in record.iter().enumerate() {
            let value = number(field).ok_or_else(|| DataError::NotANumber {
                file: file.into(),
                line,
                column: i + 1,
                found: String::from_utf8_lossy(field).chars().take(40).collect(),
            })?;
            values.push(value);
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(DataError::Empty { file: file.into() });
    }
    let values = Tensor::from_slice(&values, &[lines.len(), columns.unwrap_or(0)]);
    Ok(Table { file: file.into(), header, values, lines })
}

/// Counts lines while going through a text. The position of a record in `csv` is where the one before it
/// ended, in front of empty lines and of the second half of `\r\n`, and so is its line.
struct LineCounter<'a> {
    bytes: &'a [u8],
    position: usize,
    line: u64,
}

impl LineCounter<'_> {
    /// The line, from 1, of the first text at or after byte `start`.
    fn line_at(&mut self, start: usize) -> u64 {
        let text = |b: &u8| !matches!(b, b'\r' | b'\n');
        let end = self.bytes[start..].iter().position(text).map_or(self.bytes.len(), |n| start + n);
        for i in self.position..end {
            self.line += match self.bytes[i] {
                b'\n' => 1,
                b'\r' if self.bytes.get(i + 1) != Some(&b'\n') => 1,
                _ => 0,
            };
        }
        self.position = end;
        self.line
    }
}

fn number(field: &[u8]) -> Option<f32> {
    std::str::from_utf8(field).ok()?.parse().ok().filter(|x: &f32| x.is_finite())
}

impl Table {
    /// The names of the columns; empty without a header.
    #[must_use]
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The numbers, f32 `[rows, columns]`.
    #[must_use]
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Number of rows, without the header.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.shape()[0]
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.values.shape()[1]
    }

    /// A dataset for classification: one column (from 0) is the label, i64, all others are the inputs,
    /// f32 `[rows, columns - 1]`.
    ///
    /// # Errors
    /// [`DataError`] when there is no such column or a label is not a whole number in `0..classes`.
    pub fn classification(&self, label: usize, classes: usize) -> Result<Dataset, DataError> {
        let (inputs, column) = self.cut(label)?;
        let mut labels = Vec::with_capacity(column.len());
        for (&x, &line) in column.iter().zip(&self.lines) {
            if x < 0.0 || x.fract() != 0.0 || f64::from(x) >= classes as f64 {
                let at = Location::Line { file: self.file.clone(), line };
                return Err(DataError::Label { at, found: x.into(), classes });
            }
            labels.push(x as i64);
        }
        Dataset::new(inputs, Tensor::from_slice(&labels, &[labels.len()]))
    }

    /// A dataset for regression: one column (from 0) is the target, f32 `[rows, 1]`, all others are the
    /// inputs, f32 `[rows, columns - 1]`.
    ///
    /// # Errors
    /// [`DataError::NoSuchColumn`] when there is no such column.
    pub fn regression(&self, target: usize) -> Result<Dataset, DataError> {
        let (inputs, column) = self.cut(target)?;
        Dataset::new(inputs, Tensor::from_slice(&column, &[column.len(), 1]))
    }

    /// The table without a column, and that column.
    fn cut(&self, column: usize) -> Result<(Tensor, Vec<f32>), DataError> {
        let (rows, columns) = (self.rows(), self.columns());
        if column >= columns {
            return Err(DataError::NoSuchColumn { file: self.file.clone(), column, columns });
        }
        let (mut rest, mut cut) =
            (Vec::with_capacity(rows * (columns - 1)), Vec::with_capacity(rows));
        for row in self.values.as_slice::<f32>().chunks_exact(columns) {
            rest.extend_from_slice(&row[..column]);
            rest.extend_from_slice(&row[column + 1..]);
            cut.push(row[column]);
        }
        Ok((Tensor::from_slice(&rest, &[rows, columns - 1]), cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table, DataError> {
        parse(text.as_bytes(), "t.csv", &Options::new())
    }

    fn message<T: std::fmt::Debug>(result: Result<T, DataError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_ways_people_write_tables() {
        for text in [
            "1,2\n-3,4e1\n",
            "1,2\r\n-3,4e1",
            " 1 ,\t2\n\n\n-3,\"40\"\n\n",
            "\u{feff}1,2\n-3,+40.\n",
        ] {
            let t = table(text).unwrap();
            assert_eq!((t.rows(), t.columns()), (2, 2), "{text:?}");
            assert_eq!(t.values().to_vec::<f32>(), [1.0, 2.0, -3.0, 40.0], "{text:?}");
        }
        let t = parse(b"a;b\n1;2\n", "t", &Options::new().with_header(true).with_delimiter(b';'));
        assert_eq!(t.unwrap().header(), ["a", "b"]);
    }

    #[test]
    fn each_fault_names_its_line() {
        assert_eq!(message(table("1,2\n3,4\n5\n")), "t.csv, line 3: expected 2 columns, found 1");
        assert_eq!(message(table("1\n\n\n2,3\n")), "t.csv, line 4: expected 1 columns, found 2");
        for ragged in ["1\r\n\r\n\r\n2,3\r\n", "1\r\r\r2,3", "\u{feff}\n\n1\n2,3", "\"1\n\n\"\n2,3"]
        {
            assert!(message(table(ragged)).starts_with("t.csv, line 4:"), "{ragged:?}");
        }
        for word in ["cat", "", "nan", "inf", "1e39", "0x10", "1 2", "\u{663}"] {
            assert_eq!(
                message(table(&format!("0,0\n1,{word}\n"))),
                format!("t.csv, line 2, column 2: expected a finite number, found {word:?}")
            );
        }
        assert_eq!(message(table("")), "t.csv: expected at least one row of data");
        let header = Options::new().with_header(true);
        assert!(matches!(parse(b"a,b\n", "t", &header), Err(DataError::Empty { .. })));
        assert!(matches!(
            parse(b"a,b\n1\n", "t", &header),
            Err(DataError::RaggedRow { line: 2, expected: 2, found: 1, .. })
        ));
        match table(&"z".repeat(1000)) {
            Err(DataError::NotANumber { found, .. }) => assert_eq!(found, "z".repeat(40)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_column_becomes_the_target() {
        let t = table("5,0,6\n7,1,8\n").unwrap();
        let d = t.classification(1, 2).unwrap();
        assert_eq!(d.inputs().to_vec::<f32>(), [5.0, 6.0, 7.0, 8.0]);
        assert_eq!(d.labels().unwrap(), [0, 1]);
        let d = t.regression(2).unwrap();
        assert_eq!((d.targets().shape(), d.targets().to_vec()), (&[2, 1][..], vec![6f32, 8.0]));
        assert_eq!(
            message(t.classification(1, 1)),
            "t.csv, line 2: expected a label in 0..1, found 1"
        );
        assert_eq!(
            message(t.regression(3)),
            "t.csv: expected a column 3 (from 0), found 3 columns"
        );
        assert!(matches!(t.classification(1, 0), Err(DataError::Label { .. })));
        for bad in ["-1", "0.5", "1e30"] {
            let t = table(&format!("1,0\n1,{bad}\n")).unwrap();
            assert!(matches!(
                t.classification(1, 10),
                Err(DataError::Label { at: Location::Line { line: 2, .. }, .. })
            ));
        }
        assert_eq!(table("4\n").unwrap().classification(0, 5).unwrap().inputs().shape(), [1, 0]);
    }
}
