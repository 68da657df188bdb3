//! Rows as the driver wants them: many in one statement, numbers with a sign.

use std::fmt::Write as _;

use sqlx::any::AnyArguments;
use sqlx::{Any, Arguments as _, AssertSqlSafe, Encode, Type};

/// A query with its arguments.
pub(crate) type Query = sqlx::query::Query<'static, Any, AnyArguments>;

/// The most rows in one statement. Chunks are powers of two, so that there are few different statements and the database
/// can keep each of them prepared.
const MAX_ROWS: usize = 32;

/// A statement whose conditions depend on what is asked for. Its text is made of constants, its values are bound.
pub(crate) struct Select {
    text: String,
    arguments: AnyArguments,
}

impl Select {
    pub(crate) fn new(text: String) -> Self {
        Self { text, arguments: AnyArguments::default() }
    }

    /// Goes on with this text.
    pub(crate) fn then(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Goes on with this value.
    pub(crate) fn value<T: Encode<'static, Any> + Type<Any>>(mut self, value: T) -> Self {
        self.arguments.add(value).expect("numbers and text can always be bound");
        write!(self.text, "${}", self.arguments.len()).expect("writing to a String never fails");
        self
    }

    /// Only rows of which this column is that, where it is given.
    pub(crate) fn and_equal(self, column: &'static str, wanted: Option<&String>) -> Self {
        match wanted {
            Some(wanted) => self.then(" AND ").then(column).then(" = ").value(wanted.clone()),
            None => self,
        }
    }

    pub(crate) fn query(self) -> Query {
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments)
    }
}

/// A statement that is put together from constants of this crate; values are always bound.
pub(crate) fn query(text: String) -> Query {
    sqlx::query(AssertSqlSafe(text))
}

/// `rows` in slices for one statement each.
pub(crate) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = (1 << rows.len().checked_ilog2()?).min(MAX_ROWS);
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// `VALUES ($1, $2), ($3, $4)` for so many rows of so many columns.
pub(crate) fn values(rows: usize, columns: usize) -> String {
    let mut text = String::from("VALUES ");
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            let comma = if column == 1 { "" } else { ", " };
            write!(text, "{comma}${}", row * columns + column).expect("writing to a String never fails");
        }
        text.push(')');
    }
    text
}

/// A count as databases have it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count as it was stored.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_powers_of_two() {
        let rows: Vec<u32> = (0..75).collect();
        let sizes: Vec<usize> = chunks(&rows).map(<[u32]>::len).collect();
        assert_eq!(sizes, [32, 32, 8, 2, 1]);
        assert_eq!(chunks(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(chunks::<u32>(&[]).count(), 0);
    }

    #[test]
    fn placeholders_are_numbered_through() {
        assert_eq!(values(2, 3), "VALUES ($1, $2, $3), ($4, $5, $6)");
    }
}
