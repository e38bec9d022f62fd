//! Packing on several threads.

use std::ops::Range;
use std::sync::Mutex;

use super::{PackedBuilder, PackedWeight, check_form, rows_of};
use crate::codes::Codes;
use crate::error::{Error, Result};

/// Rows of a tile of the packed matrix, which one thread fills.
const TILE: usize = 16;
/// Tiles that are asked for at once: few enough that their codes take little memory.
const STRIPE: usize = 16;

impl PackedBuilder {
    /// Whether rows can be appended on several threads behind this many: threads fill whole tiles.
    pub fn is_aligned(rows: usize) -> bool {
        rows.is_multiple_of(TILE)
    }

    /// Appends rows on several threads, as [`push`](PackedBuilder::push) would, with the same result
    /// whatever their number. `codes` gives ranges of these rows, counted from the first of them; a
    /// thread asks for no more than 256 at a time.
    ///
    /// # Errors
    /// What `codes` fails with, the errors of [`push`](PackedBuilder::push), and [`Error::Codes`]
    /// unless the rows begin and end at a multiple of 16 (or at the end of the matrix) and `codes`
    /// gives as many as it is asked for. The matrix is incomplete then.
    pub fn push_parallel<E>(
        &mut self,
        rows: usize,
        threads: usize,
        codes: impl Fn(Range<usize>) -> Result<Codes, E> + Sync,
    ) -> Result<(), E>
    where
        E: From<Error> + Send,
    {
        let (start, (n, _)) = (self.rows, self.weight.shape());
        let end = start.saturating_add(rows);
        let is_edge = |row| row == n || Self::is_aligned(row);
        if end > n || !is_edge(start) || !is_edge(end) {
            let message = format!("{start}..{end} of {n} are no whole tiles of {TILE}");
            return Err(wrong_rows(message).into());
        }
        let PackedWeight { matrix, order } = &mut self.weight;
        let (shape, order) = (matrix.shape(), order.as_deref());
        let mut tiles: Vec<_> = matrix
            .tiles()
            .skip(start / TILE)
            .take(rows.div_ceil(TILE))
            .collect();
        let stripes = Mutex::new(tiles.chunks_mut(STRIPE).enumerate());
        let work = || -> Result<(), E> {
            loop {
                let stripe = stripes.lock().unwrap_or_else(|p| p.into_inner()).next();
                let Some((index, stripe)) = stripe else {
                    return Ok(());
                };
                let first = index * STRIPE * TILE;
                let wanted = first..rows.min(first + STRIPE * TILE);
                let codes = codes(wanted.clone())?;
                codes.check()?;
                check_form(shape, order, &codes)?;
                if codes.rows != wanted.len() {
                    let message = format!("{} came, {} were asked for", codes.rows, wanted.len());
                    return Err(wrong_rows(message).into());
                }
                for tile in stripe {
                    let begin = tile.rows().start - start - first;
                    let rows = rows_of(&codes, begin..begin + tile.rows().len());
                    tile.fill(rows).map_err(Error::from)?;
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for other in others {
                let other = other.join();
                result = result.and(other.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            result
        })?;
        self.rows = end;
        Ok(())
    }
}

fn wrong_rows(message: String) -> Error {
    Error::Codes {
        what: "rows",
        message,
    }
}
