//! A matrix from where its bytes are kept.

use std::mem::MaybeUninit;
use std::sync::Mutex;

use super::layout::{Layout, PackedShape, TILE};
use super::matrix::{Header, PackedMatrix};

use crate::error::{Error, Result, check_len};
use crate::memory::{LINE, Line, huge_pages};

/// Bytes that a thread asks for at once, about: they stay in the second-level cache until they are looked at.
const STRIPE: usize = 1 << 19;

impl PackedMatrix {
    /// Changes with what [`as_bytes`](PackedMatrix::as_bytes) means: bytes of one version are no
    /// matrix of another.
    pub const LAYOUT_VERSION: u32 = 2;

    /// A matrix of the bytes that [`as_bytes`](PackedMatrix::as_bytes) gave, which `read` puts where
    /// they belong, range by range on several threads: it gets the distance from the first byte and
    /// what to fill. Every range is whole cache lines.
    ///
    /// As many bytes as [`PackedShape::bytes`] says are asked of the system first.
    ///
    /// # Errors
    /// As [`PackedMatrix::new`], what `read` fails with, and [`Error::PackedValue`] for a scale or
    /// zero that no matrix holds.
    pub fn read<E>(
        shape: PackedShape,
        threads: usize,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<PackedMatrix, E>
    where
        E: From<Error> + Send,
    {
        let layout = Layout::new(shape)?;
        let count = layout.bytes / LINE;
        // Threads fill this, so that they also share the work of the system behind the first touch.
        let mut lines: Vec<Line> = huge_pages(Vec::with_capacity(count));
        let (headers, steps) =
            lines.spare_capacity_mut()[..count].split_at_mut(layout.steps_start() / LINE);
        // Headers are checked, so their stripes are those of whole tiles.
        let tiles = (STRIPE / layout.headers.max(1)).max(1);
        let headers = headers.chunks_mut(tiles * (layout.headers / LINE).max(1));
        let headers = headers.enumerate().map(|(index, stripe)| {
            let start = index * tiles * layout.headers;
            (start, stripe, Some(index * tiles))
        });
        let steps = steps.chunks_mut(STRIPE / LINE).enumerate();
        let steps =
            steps.map(|(index, stripe)| (layout.steps_start() + index * STRIPE, stripe, None));
        let stripes = Mutex::new(headers.chain(steps));
        let work = || -> Result<(), E> {
            loop {
                let next = stripes.lock().unwrap_or_else(|p| p.into_inner()).next();
                let Some((start, stripe, tile)) = next else {
                    return Ok(());
                };
                let bytes = bytemuck::cast_slice_mut(zeroed(stripe));
                read(start, bytes)?;
                if let Some(tile) = tile {
                    check(&layout, tile, bytes)?;
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
        // SAFETY: there is capacity for `count` lines, and no error means that the stripes, which
        // cover them, have all been initialized.
        unsafe { lines.set_len(count) };
        Ok(PackedMatrix::of(layout, lines))
    }

    /// A matrix from what [`PackedMatrix::as_bytes`] gave.
    ///
    /// # Errors
    /// [`Error::Packed`] as [`PackedMatrix::new`], [`Error::Shape`] for another number of bytes,
    /// [`Error::PackedValue`] for a scale or zero that no matrix holds.
    pub fn from_bytes(shape: PackedShape, bytes: &[u8]) -> Result<PackedMatrix> {
        check_len("from_bytes", "bytes", bytes.len(), &[shape.bytes()?])?;
        PackedMatrix::read(shape, 1, |start, to| {
            to.copy_from_slice(&bytes[start..][..to.len()]);
            Ok(())
        })
    }
}

fn zeroed(lines: &mut [MaybeUninit<Line>]) -> &mut [Line] {
    for line in &mut *lines {
        line.write(Line::ZERO);
    }
    // SAFETY: all were written.
    unsafe { lines.assume_init_mut() }
}

/// Checks the scales and zeros of some tiles of outputs.
fn check(layout: &Layout, first: usize, headers: &[u8]) -> Result<()> {
    for (index, headers) in headers.chunks_exact(layout.headers.max(1)).enumerate() {
        for group in 0..layout.groups {
            let header = Header::read(layout, &headers[layout.header(group)..]);
            header.check(layout, (first + index) * TILE)?;
        }
    }
    Ok(())
}
