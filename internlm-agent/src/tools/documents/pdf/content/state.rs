//! The state of a page's program: matrices, the font, and where the text stands.

use std::rc::Rc;

use crate::tools::documents::pdf::font::Font;

/// Where the last text ended.
pub(super) struct Last {
    pub(super) x: f64,
    pub(super) y: f64,
    /// The direction of its line, one long.
    pub(super) along: (f64, f64),
    pub(super) size: f64,
}

pub(super) type Matrix = [f64; 6];

pub(super) const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// First `a`, then `b`.
pub(super) fn then(a: &Matrix, b: &Matrix) -> Matrix {
    [
        a[0] * b[0] + a[1] * b[2],
        a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2],
        a[2] * b[1] + a[3] * b[3],
        a[4] * b[0] + a[5] * b[2] + b[4],
        a[4] * b[1] + a[5] * b[3] + b[5],
    ]
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) matrix: Matrix,
    pub(super) font: Option<Rc<Font>>,
    pub(super) size: f64,
    pub(super) character_spacing: f64,
    pub(super) word_spacing: f64,
    pub(super) stretch: f64,
    pub(super) leading: f64,
    pub(super) rise: f64,
}

impl State {
    pub(super) fn new(matrix: Matrix) -> Self {
        Self {
            matrix,
            font: None,
            size: 1.0,
            character_spacing: 0.0,
            word_spacing: 0.0,
            stretch: 1.0,
            leading: 0.0,
            rise: 0.0,
        }
    }
}

/// A program while it runs.
pub(super) struct Run {
    pub(super) state: State,
    pub(super) saved: Vec<State>,
    pub(super) text: Matrix,
    pub(super) line: Matrix,
}

impl Run {
    pub(super) fn advance(&mut self, by: f64) {
        self.text = then(&[1.0, 0.0, 0.0, 1.0, by, 0.0], &self.text);
    }

    pub(super) fn next_line(&mut self, x: f64, y: f64) {
        self.line = then(&[1.0, 0.0, 0.0, 1.0, x, y], &self.line);
        self.text = self.line;
    }

    /// Where the next text stands on the page.
    pub(super) fn place(&self) -> Last {
        let all = then(&self.text, &self.state.matrix);
        let length = all[0].hypot(all[1]);
        let along = match length > 0.0 {
            true => (all[0] / length, all[1] / length),
            false => (1.0, 0.0),
        };
        let rise = self.state.rise;
        Last {
            x: all[4] + rise * all[2],
            y: all[5] + rise * all[3],
            along,
            size: (self.state.size * all[2].hypot(all[3])).abs(),
        }
    }
}
