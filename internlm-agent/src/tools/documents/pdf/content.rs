//! What a page shows (ISO 32000-1, sections 8.4, 9.2 to 9.4): texts with their places, from which lines and spaces
//! follow. The order is that of the page's program.

mod state;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::font::Font;
use super::lexer::{Dict, Lexer, Object};
use super::{Page, Pdf};
use crate::tool::{ToolContext, ToolError};
use state::{IDENTITY, Last, Matrix, Run, State, then};

/// Most forms within forms.
const FORMS: usize = 8;

/// What a form costs of a file's work, besides its bytes.
const FORM_WORK: usize = 1_000;

/// Most states that are saved.
const STATES: usize = 256;

/// Most values before an operator, those in arrays included.
const OPERANDS: usize = 200_000;

/// The text of pages as it grows.
pub(in crate::tools::documents) struct PageText<'a> {
    pdf: &'a Pdf<'a>,
    context: &'a ToolContext,
    max_text: usize,
    pub(in crate::tools::documents) text: String,
    /// Codes that nothing says the text of.
    pub(in crate::tools::documents) unknown: usize,
    fonts: BTreeMap<u32, Rc<Font>>,
    last: Option<Last>,
    operators: u32,
}

impl<'a> PageText<'a> {
    pub(in crate::tools::documents) fn new(
        pdf: &'a Pdf<'a>,
        max_text: usize,
        context: &'a ToolContext,
    ) -> Self {
        Self {
            pdf,
            context,
            max_text,
            text: String::new(),
            unknown: 0,
            fonts: BTreeMap::new(),
            last: None,
            operators: 0,
        }
    }

    /// Whether the text is as long as allowed.
    pub(in crate::tools::documents) fn is_full(&self) -> bool {
        self.text.len() > self.max_text
    }

    /// Adds the text of a page.
    pub(in crate::tools::documents) fn add(&mut self, page: &Page) -> Result<(), ToolError> {
        self.last = None;
        let mut program = Vec::new();
        let parts = match self.pdf.resolve(&page.contents)? {
            Object::Array(parts) => parts,
            other => vec![other],
        };
        for part in &parts {
            if let Object::Stream(dict, start) = self.pdf.resolve(part)? {
                // Parts may be cut anywhere between words.
                program.extend(self.pdf.decoded(&dict, start)?.unwrap_or_default());
                program.push(b'\n');
            }
        }
        let resources = match self.pdf.resolve(&page.resources)? {
            Object::Dict(dict) => dict,
            _ => Dict::new(),
        };
        self.run(&program, &resources, IDENTITY, 0)
    }

    fn run(
        &mut self,
        program: &[u8],
        resources: &Dict,
        matrix: Matrix,
        depth: usize,
    ) -> Result<(), ToolError> {
        let mut run = Run {
            state: State::new(matrix),
            saved: Vec::new(),
            text: IDENTITY,
            line: IDENTITY,
        };
        let mut lexer = Lexer::new(program, 0);
        let mut operands: Vec<Object> = Vec::new();
        let mut values = 0;
        while let Some(object) = lexer.object() {
            let Object::Operator(operator) = object else {
                values += lexer.values();
                if values < OPERANDS {
                    operands.push(object);
                }
                continue;
            };
            self.operators = self.operators.wrapping_add(1);
            if self.operators.is_multiple_of(4096) {
                self.context.check()?;
            }
            if self.is_full() {
                return Ok(());
            }
            match operator.as_str() {
                "ID" => lexer.skip_inline_image(),
                "Do" if depth < FORMS => {
                    self.form(&operands, resources, &run.state.matrix, depth)?
                }
                "Tf" => {
                    if let [Object::Name(name), Object::Number(size)] = operands.as_slice() {
                        run.state.font = self.font(resources, name)?;
                        run.state.size = *size;
                    }
                }
                other => self.operator(other, &operands, &mut run),
            }
            operands.clear();
            values = 0;
        }
        Ok(())
    }

    fn operator(&mut self, operator: &str, operands: &[Object], run: &mut Run) {
        let number = |at: usize| operands.get(at).and_then(Object::number).unwrap_or(0.0);
        let matrix = || {
            [
                number(0),
                number(1),
                number(2),
                number(3),
                number(4),
                number(5),
            ]
        };
        let state = &mut run.state;
        match operator {
            "q" if run.saved.len() < STATES => run.saved.push(state.clone()),
            "Q" => {
                if let Some(saved) = run.saved.pop() {
                    run.state = saved;
                }
            }
            "cm" => state.matrix = then(&matrix(), &state.matrix),
            "BT" => (run.text, run.line) = (IDENTITY, IDENTITY),
            "Tc" => state.character_spacing = number(0),
            "Tw" => state.word_spacing = number(0),
            "Tz" => state.stretch = number(0) / 100.0,
            "TL" => state.leading = number(0),
            "Ts" => state.rise = number(0),
            "Td" => run.next_line(number(0), number(1)),
            "TD" => {
                state.leading = -number(1);
                run.next_line(number(0), number(1));
            }
            "Tm" => (run.text, run.line) = (matrix(), matrix()),
            "T*" => run.next_line(0.0, -run.state.leading),
            "Tj" => self.show(operands.first(), run),
            "'" => {
                run.next_line(0.0, -run.state.leading);
                self.show(operands.first(), run);
            }
            "\"" => {
                state.word_spacing = number(0);
                state.character_spacing = number(1);
                run.next_line(0.0, -run.state.leading);
                self.show(operands.get(2), run);
            }
            "TJ" => {
                if let Some(Object::Array(parts)) = operands.first() {
                    for part in parts {
                        match part {
                            Object::Number(back) => {
                                run.advance(-back / 1000.0 * run.state.size * run.state.stretch);
                            }
                            part => self.show(Some(part), run),
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Runs a form, which is a program of its own.
    fn form(
        &mut self,
        operands: &[Object],
        resources: &Dict,
        matrix: &Matrix,
        depth: usize,
    ) -> Result<(), ToolError> {
        let Some(name) = operands.first().and_then(Object::name) else {
            return Ok(());
        };
        let Object::Dict(forms) = self.pdf.value(resources, "XObject")? else {
            return Ok(());
        };
        let Object::Stream(dict, start) = self.pdf.value(&forms, name)? else {
            return Ok(());
        };
        if self.pdf.value(&dict, "Subtype")?.name() != Some("Form") {
            return Ok(());
        }
        let mut own = IDENTITY;
        if let Object::Array(numbers) = self.pdf.value(&dict, "Matrix")? {
            for (value, number) in own.iter_mut().zip(&numbers) {
                *value = number.number().unwrap_or(*value);
            }
        }
        let inner = match self.pdf.value(&dict, "Resources")? {
            Object::Dict(inner) => inner,
            _ => resources.clone(),
        };
        // However short it is: forms of forms grow in number with every level.
        self.pdf.spend(FORM_WORK)?;
        let Some(program) = self.pdf.decoded(&dict, start)? else {
            return Ok(());
        };
        self.run(&program, &inner, then(&own, matrix), depth + 1)
    }

    fn font(&mut self, resources: &Dict, name: &str) -> Result<Option<Rc<Font>>, ToolError> {
        let Object::Dict(fonts) = self.pdf.value(resources, "Font")? else {
            return Ok(None);
        };
        let Some(object) = fonts.get(name) else {
            return Ok(None);
        };
        let number = match object {
            Object::Reference(number) => Some(*number),
            _ => None,
        };
        if let Some(known) = number.and_then(|number| self.fonts.get(&number)) {
            return Ok(Some(Rc::clone(known)));
        }
        let Object::Dict(dict) = self.pdf.resolve(object)? else {
            return Ok(None);
        };
        let font = Rc::new(Font::load(self.pdf, &dict)?);
        if let Some(number) = number {
            self.fonts.insert(number, Rc::clone(&font));
        }
        Ok(Some(font))
    }

    fn show(&mut self, text: Option<&Object>, run: &mut Run) {
        let (Some(Object::Text(bytes)), Some(font)) = (text, run.state.font.clone()) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        let begin = run.place();
        self.gap(&begin);
        let (mut out, mut unknown) = (String::new(), 0);
        // A map may make much of little.
        let max = self.max_text;
        font.glyphs(bytes, &mut |glyph| {
            match glyph.text {
                // What has no place in a text would be noise in it.
                _ if out.len() > max => {}
                Some(text) => out.extend(text.chars().filter(|c| !c.is_control())),
                None => {
                    unknown += 1;
                    out.push('\u{fffd}');
                }
            }
            let state = &run.state;
            let mut width = glyph.width / 1000.0 * state.size + state.character_spacing;
            if glyph.is_space {
                width += state.word_spacing;
            }
            run.advance(width * run.state.stretch);
        });
        self.unknown += unknown;
        self.text.push_str(&out);
        self.last = Some(run.place());
    }

    /// Writes what lies between the last text and the next one: nothing, a space, a line or a paragraph.
    fn gap(&mut self, next: &Last) {
        let Some(last) = &self.last else {
            return;
        };
        let (dx, dy) = (next.x - last.x, next.y - last.y);
        let along = dx * last.along.0 + dy * last.along.1;
        let across = (dx * last.along.1 - dy * last.along.0).abs();
        let same = next.along.0 * last.along.0 + next.along.1 * last.along.1 > 0.9;
        let size = next.size.max(last.size);
        let gap = if !same || across > 0.9 * (next.size + last.size) {
            "\n\n"
        } else if across > 0.5 * size || along < -1.5 * size {
            "\n"
        } else if along > 0.15 * size {
            " "
        } else {
            ""
        };
        match gap {
            " " if self.text.ends_with(char::is_whitespace) => {}
            gap => self.text.push_str(gap),
        }
    }
}
