//! The pickles of `torch.save`, as data: a dictionary from names to tensors.
//!
//! Nothing is called and no object is made. The few globals that a dictionary of tensors needs are
//! known by name, any other is refused. Candle has such a reader too, but it panics on tuples that
//! are too short, copies what the memo holds, so that a small file can ask for any amount of
//! memory, and recurses as deep as the file says. Here values are small numbers into tables, so
//! memory is bounded by the length of the pickle; a test compares the two on good files.
//!
//! Opcodes: `pickletools.py` of CPython. Calls: `torch/_utils.py` of pytorch/pytorch.

/// A tensor of the dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    /// `FloatStorage`, `BFloat16Storage`, ...
    pub(super) storage_type: String,
    /// Which member of the archive.
    pub(super) key: String,
    /// Elements in the storage.
    pub(super) storage_len: u64,
    /// First element.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Most values on the stack or in the tables.
const MAX_VALUES: usize = 1 << 22;

/// A value. Tables are in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Mark,
    /// None, booleans, floats and whatever else does not matter.
    Opaque,
    Int(i64),
    /// A range of the input.
    Text(usize, usize),
    Global(Global),
    Tuple(usize),
    Dict(usize),
    List,
    Storage(usize),
    Tensor(usize),
}

/// The globals that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    RebuildFromType,
    /// `torch.Tensor` and `torch.nn.parameter.Parameter`, an argument of `RebuildFromType`.
    TensorType,
    /// A range of the input: the class's name.
    Storage(usize, usize),
}

struct Storage {
    /// The class's name, in the input.
    class: (usize, usize),
    key: String,
    len: u64,
}

struct Tensor {
    storage: usize,
    offset: u64,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: std::collections::HashMap<u32, Value>,
    tuples: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<Tensor>,
    values: usize,
}

/// What is wrong with a pickle, and where.
type Step<T> = Result<T, String>;

/// Reads a pickle; an error says what was found and where.
pub(super) fn tensors(input: &[u8]) -> Result<Vec<Record>, String> {
    let mut machine = Machine {
        input,
        at: 0,
        stack: Vec::new(),
        memo: std::collections::HashMap::new(),
        tuples: Vec::new(),
        dicts: Vec::new(),
        storages: Vec::new(),
        tensors: Vec::new(),
        values: 0,
    };
    let root = machine
        .run()
        .map_err(|what| format!("pickle, byte {}: {what}", machine.at))?;
    machine.records(root)
}

impl Machine<'_> {
    /// Runs to the stop opcode; the value on top is the result.
    fn run(&mut self) -> Step<Value> {
        loop {
            let op = self.take(1)?[0];
            match op {
                0x80 => _ = self.take(1)?, // PROTO
                b'.' => return self.pop(),
                b'(' => self.push(Value::Mark)?,
                b'N' | 0x88 | 0x89 => self.push(Value::Opaque)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Opaque)?;
                }
                b'K' => self.int::<1>()?,
                b'M' => self.int::<2>()?,
                b'J' => {
                    let bytes = self.array::<4>()?;
                    self.push(Value::Int(i32::from_le_bytes(bytes).into()))?;
                }
                0x8a => self.long()?,
                b'X' => {
                    let len = u32::from_le_bytes(self.array()?) as usize;
                    let start = self.at;
                    self.take(len)?;
                    self.push(Value::Text(start, self.at))?;
                }
                b'c' => self.global()?,
                b'q' => self.put_memo::<1>()?,
                b'r' => self.put_memo::<4>()?,
                b'h' => self.get_memo::<1>()?,
                b'j' => self.get_memo::<4>()?,
                b'}' => self.push_dict(Vec::new())?,
                b']' => self.push(Value::List)?,
                b')' => self.push_tuple(Vec::new())?,
                b't' => {
                    let values = self.pop_to_mark()?;
                    self.push_tuple(values)?;
                }
                0x85..=0x87 => {
                    let count = usize::from(op - 0x84);
                    let start = self
                        .stack
                        .len()
                        .checked_sub(count)
                        .ok_or("the stack is empty")?;
                    let values = self.stack.split_off(start);
                    self.push_tuple(values)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let values = self.pop_to_mark()?;
                    self.set_items(&values)?;
                }
                b'd' => {
                    let values = self.pop_to_mark()?;
                    self.push_dict(Vec::new())?;
                    self.set_items(&values)?;
                }
                // Lists do not hold weights.
                b'a' => _ = self.pop()?,
                b'e' => _ = self.pop_to_mark()?,
                b'Q' => self.persistent_id()?,
                b'R' => self.reduce()?,
                // State of a dictionary, such as its _metadata.
                b'b' => {
                    self.pop()?;
                    match self.stack.last() {
                        Some(Value::Dict(_)) => {}
                        _ => {
                            return Err(
                                "sets the state of something other than a dictionary".into()
                            );
                        }
                    }
                }
                other => {
                    return Err(format!(
                        "opcode {other:#04x} is not one of a dictionary of tensors"
                    ));
                }
            }
        }
    }

    fn take(&mut self, len: usize) -> Step<&[u8]> {
        let end = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.input.len());
        let end = end.ok_or_else(|| format!("ends, expected {len} bytes"))?;
        let bytes = &self.input[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A little-endian number of up to 4 bytes without sign.
    fn unsigned<const N: usize>(&mut self) -> Step<u32> {
        let bytes = self.array::<N>()?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    /// Counts what the tables hold, to bound it.
    fn count(&mut self, values: usize) -> Step<()> {
        self.values += values;
        if self.values > MAX_VALUES || self.stack.len() > MAX_VALUES {
            return Err(format!("holds more than {MAX_VALUES} values"));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Step<()> {
        self.stack.push(value);
        self.count(0)
    }

    fn push_tuple(&mut self, values: Vec<Value>) -> Step<()> {
        self.count(1 + values.len())?;
        self.tuples.push(values);
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    fn push_dict(&mut self, items: Vec<(Value, Value)>) -> Step<()> {
        self.count(1)?;
        self.dicts.push(items);
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn pop(&mut self) -> Step<Value> {
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self
            .stack
            .iter()
            .rposition(|v| *v == Value::Mark)
            .ok_or("there is no mark")?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn int<const N: usize>(&mut self) -> Step<()> {
        let value = self.unsigned::<N>()?;
        self.push(Value::Int(value.into()))
    }

    fn long(&mut self) -> Step<()> {
        let len = usize::from(self.take(1)?[0]);
        let bytes = self.take(len)?;
        if len > 8 {
            return Err(format!("an integer of {len} bytes, expected at most 8"));
        }
        let sign = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if sign { 0xff } else { 0 }; 8];
        wide[..len].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn put_memo<const N: usize>(&mut self) -> Step<()> {
        let key = self.unsigned::<N>()?;
        let value = *self.stack.last().ok_or("the stack is empty")?;
        self.count(1)?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn get_memo<const N: usize>(&mut self) -> Step<()> {
        let key = self.unsigned::<N>()?;
        let value = *self
            .memo
            .get(&key)
            .ok_or_else(|| format!("the memo has no {key}"))?;
        self.push(value)
    }

    fn line(&mut self) -> Step<(usize, usize)> {
        let start = self.at;
        let rest = &self.input[start..];
        let end = rest
            .iter()
            .take(256)
            .position(|&b| b == b'\n')
            .ok_or("a name has no end")?;
        self.at += end + 1;
        Ok((start, start + end))
    }

    fn global(&mut self) -> Step<()> {
        let (module, class) = (self.line()?, self.line()?);
        let global = match (
            &self.input[module.0..module.1],
            &self.input[class.0..class.1],
        ) {
            (b"collections", b"OrderedDict") => Global::OrderedDict,
            (b"torch._utils", b"_rebuild_tensor_v2") => Global::RebuildTensor,
            (b"torch._utils", b"_rebuild_parameter") => Global::RebuildParameter,
            (b"torch._tensor", b"_rebuild_from_type_v2") => Global::RebuildFromType,
            (b"torch", b"Tensor") | (b"torch.nn.parameter", b"Parameter") => Global::TensorType,
            (b"torch", name) if name.ends_with(b"Storage") => Global::Storage(class.0, class.1),
            (module, class) => {
                let (module, class) = (
                    String::from_utf8_lossy(module),
                    String::from_utf8_lossy(class),
                );
                return Err(format!(
                    "refers to `{module}.{class}`, expected tensors only"
                ));
            }
        };
        self.push(Value::Global(global))
    }

    fn set_items(&mut self, values: &[Value]) -> Step<()> {
        self.count(values.len())?;
        let Some(Value::Dict(dict)) = self.stack.last() else {
            return Err("sets an item of something other than a dictionary".into());
        };
        let (pairs, []) = values.as_chunks::<2>() else {
            return Err("a key without a value".into());
        };
        self.dicts[*dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn tuple(&self, value: Value) -> Step<&[Value]> {
        match value {
            Value::Tuple(tuple) => Ok(&self.tuples[tuple]),
            _ => Err("expected a tuple".into()),
        }
    }

    fn text(&self, (start, end): (usize, usize)) -> Step<String> {
        let text = std::str::from_utf8(&self.input[start..end]);
        Ok(text.map_err(|_| "a text is not UTF-8")?.to_owned())
    }

    /// `("storage", class, key, device, elements)`.
    fn persistent_id(&mut self) -> Step<()> {
        let id = self.pop()?;
        let storage = match *self.tuple(id)? {
            [
                Value::Text(a, b),
                Value::Global(Global::Storage(c, d)),
                Value::Text(e, f),
                _,
                Value::Int(len),
            ] if &self.input[a..b] == b"storage" && len >= 0 => Storage {
                class: (c, d),
                key: self.text((e, f))?,
                len: len as u64,
            },
            _ => return Err("a persistent id is not a storage".into()),
        };
        self.count(1)?;
        self.storages.push(storage);
        self.push(Value::Storage(self.storages.len() - 1))
    }

    fn reduce(&mut self) -> Step<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Value::Global(callable) = callable else {
            return Err("calls something other than a known function".into());
        };
        match (callable, self.tuple(arguments)?) {
            (Global::OrderedDict, _) => self.push_dict(Vec::new()),
            (Global::RebuildTensor, _) => self.rebuild(arguments),
            (Global::RebuildFromType, &[Value::Global(Global::RebuildTensor), _, inner, ..]) => {
                self.rebuild(inner)
            }
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), ..]) => self.push(tensor),
            _ => Err("calls a function with arguments of other kinds".into()),
        }
    }

    /// `(storage, offset, shape, strides, ...)`.
    fn rebuild(&mut self, arguments: Value) -> Step<()> {
        let &[
            Value::Storage(storage),
            Value::Int(offset),
            shape,
            strides,
            ..,
        ] = self.tuple(arguments)?
        else {
            return Err("a tensor is not (storage, offset, shape, strides)".into());
        };
        let tensor = Tensor {
            storage,
            offset: offset.try_into().map_err(|_| "an offset is negative")?,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        };
        self.count(1 + tensor.shape.len() + tensor.strides.len())?;
        self.tensors.push(tensor);
        self.push(Value::Tensor(self.tensors.len() - 1))
    }

    fn sizes(&self, value: Value) -> Step<Vec<usize>> {
        let sizes = self.tuple(value)?.iter().map(|value| match *value {
            Value::Int(size) => usize::try_from(size).map_err(|_| "a size is negative".to_owned()),
            _ => Err("a size is not an integer".to_owned()),
        });
        sizes.collect()
    }

    /// The tensors of the result: of the dictionary itself, or of its `state_dict`.
    fn records(&self, root: Value) -> Step<Vec<Record>> {
        let Value::Dict(root) = root else {
            return Err("pickle: is not a dictionary".into());
        };
        let is_state = |key: Value| match key {
            Value::Text(start, end) => &self.input[start..end] == b"state_dict",
            _ => false,
        };
        let inner = self.dicts[root]
            .iter()
            .find_map(|&(key, value)| match value {
                Value::Dict(inner) if is_state(key) => Some(inner),
                _ => None,
            });
        let mut records = Vec::new();
        for &(key, value) in &self.dicts[inner.unwrap_or(root)] {
            if let (Value::Text(start, end), Value::Tensor(tensor)) = (key, value) {
                let tensor = &self.tensors[tensor];
                let storage = &self.storages[tensor.storage];
                records.push(Record {
                    name: self.text((start, end))?,
                    storage_type: self.text(storage.class)?,
                    key: storage.key.clone(),
                    storage_len: storage.len,
                    offset: tensor.offset,
                    shape: tensor.shape.clone(),
                    strides: tensor.strides.clone(),
                });
            }
        }
        Ok(records)
    }
}
