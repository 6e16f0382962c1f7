//! An error says where, what, and what to do.
//!
//! ```text
//! error: column `prise` is unknown
//!   at query.sql:3:12
//!   help: did you mean `price`?
//! ```

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose turn it is to act. Decides the exit code of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line or a setting is wrong.
    Usage,
    /// The SQL text is wrong, or asks for what is not there yet.
    Sql,
    /// The input holds what its declaration does not allow: a bad row, a NULL event time.
    Data,
    /// The outer world failed: a missing file, a full disk, an unwritable folder.
    Io,
    /// Our own mistake.
    Internal,
}

/// Where something stands, as its owner writes it: `query.sql:3:12`, `bids.csv:42`, `orders[3]@918273`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub String);

impl Place {
    pub fn line(file: impl fmt::Display, line: u64) -> Place {
        Place(format!("{file}:{line}"))
    }

    pub fn line_column(file: impl fmt::Display, line: u64, column: u64) -> Place {
        Place(format!("{file}:{line}:{column}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    what: String,
    place: Option<Place>,
    remedy: Option<String>,
}

impl Error {
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, what: what.into(), place: None, remedy: None }))
    }

    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, what)
    }

    pub fn sql(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Sql, what)
    }

    pub fn data(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Data, what)
    }

    pub fn io(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Io, what)
    }

    pub fn internal(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, what)
    }

    /// Adds the place, unless a closer one is known already.
    pub fn at(mut self, place: Place) -> Error {
        self.0.place.get_or_insert(place);
        self
    }

    /// Adds what to do about it, unless something closer to the cause has been said already.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        if self.0.remedy.is_none() {
            self.0.remedy = Some(remedy.into());
        }
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub fn what(&self) -> &str {
        &self.0.what
    }

    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    pub fn help(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        if let Some(place) = &self.0.place {
            write!(f, "\n  at {place}")?;
        }
        if let Some(remedy) = &self.0.remedy {
            write!(f, "\n  help: {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Error {
        match e {
            arrow::error::ArrowError::IoError(what, _) => Error::io(what),
            arrow::error::ArrowError::DivideByZero => {
                Error::data("division by zero").remedy("guard the divisor, for example x / NULLIF(y, 0)")
            }
            other => Error::data(other.to_string()),
        }
    }
}

/// The closest of `known` to `wanted`, if it is close enough to be a slip of the keyboard.
pub fn did_you_mean<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    known
        .into_iter()
        .map(|k| (edit_distance(&wanted, &k.to_lowercase()), k))
        .filter(|(d, k)| *d <= (k.len().max(wanted.len()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_does_not() {
        let known = ["connector", "path", "format"];
        assert_eq!(did_you_mean("conector", known), Some("connector"));
        assert_eq!(did_you_mean("fromat", known), Some("format"));
        assert_eq!(did_you_mean("parallelism", known), None);
    }

    #[test]
    fn the_place_closest_to_the_cause_wins() {
        let e = Error::data("bad").at(Place::line("a.csv", 3)).at(Place::line("job", 1)).remedy("mend it");
        assert_eq!(e.to_string(), "bad\n  at a.csv:3\n  help: mend it");
    }
}
