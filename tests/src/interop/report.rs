//! Cells as a table.

use core::fmt;

use super::Kind;
use super::limits::limit;
use super::scenario::{Cell, Operation, Outcome, operations};

/// The cells of one swarm, as a table of pairs and operations.
#[derive(Debug)]
pub struct Report<'a> {
    cells: &'a [Cell],
}

impl<'a> Report<'a> {
    /// A report on the cells of one swarm.
    #[must_use]
    pub const fn new(cells: &'a [Cell]) -> Self {
        Self { cells }
    }

    /// The cells that went otherwise than [`limit`] says: failures, and surprising successes.
    pub fn surprises(&self) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(|cell| (cell.outcome == Outcome::Works) == limit(cell).is_some())
    }

    fn cell(&self, writer: Kind, reader: Kind, operation: Operation) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| (cell.writer, cell.reader, cell.operation) == (writer, reader, operation))
    }

    fn pairs(&self) -> Vec<(Kind, Kind)> {
        let mut pairs: Vec<_> = self.cells.iter().map(|cell| (cell.writer, cell.reader)).collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.cells.first() else { return f.write_str("no cells\n") };
        write!(f, "{:<14} {:<14}", "writer", "reader")?;
        for operation in operations(first.swarm) {
            write!(f, " {:>9}", operation.name())?;
        }
        writeln!(f)?;
        for (writer, reader) in self.pairs() {
            write!(f, "{writer:<14} {reader:<14}")?;
            for operation in operations(first.swarm) {
                let word = match self.cell(writer, reader, operation).map(|cell| &cell.outcome) {
                    Some(Outcome::Works) => "yes",
                    Some(Outcome::Unsupported(_)) => "-",
                    Some(Outcome::Failed(_)) => "no",
                    None => "",
                };
                write!(f, " {word:>9}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
