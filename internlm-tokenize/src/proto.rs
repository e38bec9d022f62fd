//! Reads the protobuf wire format, as much of it as a SentencePiece model needs.
//!
//! The reader never trusts a length: whatever a field claims must lie inside of the message that
//! holds it. Format: <https://protobuf.dev/programming-guides/encoding/>.

/// Where reading failed and what was expected.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The byte, counted from the start of the file.
    pub(crate) offset: usize,
    /// What was found and what was expected.
    pub(crate) what: String,
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
    /// Where the value begins, counted from the start of the file.
    pub(crate) offset: usize,
}

/// The fields of one message.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the message begins in the file.
    base: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a message that begins at byte `base` of the file.
    pub(crate) fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, at: 0, base }
    }

    /// The next field; `None` at the end of the message.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Broken> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.base + self.at;
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number >= 1 << 29 {
            return Err(Broken {
                offset: start,
                what: format!("field number {number}, expected 1 to 536870911"),
            });
        }
        let mut offset = self.base + self.at;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                offset = self.base + self.at;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                let mut word = [0; 4];
                word.copy_from_slice(self.take(4)?);
                Value::Fixed32(u32::from_le_bytes(word))
            }
            other => {
                return Err(Broken {
                    offset: start,
                    what: format!("wire type {other} of field {number}, expected 0, 1, 2 or 5"),
                });
            }
        };
        Ok(Some(Field {
            number,
            value,
            offset,
        }))
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(Broken {
                    offset: self.base + self.at,
                    what: "the message ends inside of a number".into(),
                });
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Broken {
            offset: self.base + start,
            what: "a number of more than 64 bits".into(),
        })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let left = self.bytes.len() - self.at;
        if len > left {
            return Err(Broken {
                offset: self.base + self.at,
                what: format!("a field of {len} bytes where {left} are left"),
            });
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }
}

impl<'a> Field<'a> {
    /// An error about this field.
    pub(crate) fn broken(&self, what: impl Into<String>) -> Broken {
        Broken {
            offset: self.offset,
            what: what.into(),
        }
    }

    /// The bytes of a string or of a message.
    pub(crate) fn bytes(&self, name: &str) -> Result<&'a [u8], Broken> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.broken(format!("`{name}` is a number, expected bytes"))),
        }
    }

    /// A string.
    pub(crate) fn string(&self, name: &str) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.bytes(name)?)
            .map_err(|_| self.broken(format!("`{name}` is not UTF-8")))
    }

    /// An integer.
    pub(crate) fn varint(&self, name: &str) -> Result<u64, Broken> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.broken(format!("`{name}` is not an integer"))),
        }
    }

    /// A boolean.
    pub(crate) fn bool(&self, name: &str) -> Result<bool, Broken> {
        Ok(self.varint(name)? != 0)
    }

    /// An f32.
    pub(crate) fn f32(&self, name: &str) -> Result<f32, Broken> {
        match self.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.broken(format!("`{name}` is not a number of 32 bits"))),
        }
    }
}
