//! The values of a pickle of protocol 2, which `torch.save` writes, as plain data: a call stays a call, and nothing runs.
//!
//! Every value has a number, and containers hold numbers. So whatever a file says, nothing is copied, no drop recurses,
//! and a container that holds itself is harmless here. Text is borrowed from the pickle.

use std::collections::HashMap;

use pytorch_reader::OpCode;

/// The most values that are kept, and that are remembered for later. The weights of a ViT-B take some thousands, and the
/// log of a long training some tens of thousands.
const MOST: usize = 1 << 20;

/// The most containers that are begun at one time.
const MOST_MARKS: usize = 1 << 10;

/// The number of a value.
pub(super) type Id = usize;

/// A value of Python.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Int(i64),
    Text(&'a str),
    /// A class or a function: its module and its name.
    Global(&'a str, &'a str),
    /// A list or a tuple.
    Sequence(Vec<Id>),
    /// A dictionary: keys and values.
    Dict(Vec<(Id, Id)>),
    /// What a function would return for a tuple of arguments.
    Call(Id, Id),
    /// Something outside of the pickle that goes by this name.
    Outside(Id),
    /// A value of another type, of which nothing is kept.
    Other,
}

/// A parsed pickle.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Parses a pickle.
    ///
    /// # Errors
    /// If it ends early, has more values than weights need, or an opcode that `torch.save` does not write by default.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine { rest: bytes, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        while let Step::Next = machine.step().map_err(|problem| machine.located(bytes, &problem))? {}
        let root = machine.pop()?;
        Ok(Self { values: machine.values, root })
    }

    /// Returns the value that the pickle holds.
    pub fn root(&self) -> Id {
        self.root
    }

    pub fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// Returns the items of a list or a tuple.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        if let Value::Sequence(items) = self.get(id) { Some(items) } else { None }
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    /// Returns a number that counts something.
    pub fn count(&self, id: Id) -> Option<u64> {
        if let Value::Int(value) = self.get(id) { u64::try_from(*value).ok() } else { None }
    }

    /// Returns the name of the function that `id` calls, with its module, and the arguments.
    pub fn call(&self, id: Id) -> Option<(&'a str, &'a str, &[Id])> {
        let Value::Call(function, arguments) = self.get(id) else { return None };
        let Value::Global(module, name) = self.get(*function) else { return None };
        Some((module, name, self.sequence(*arguments)?))
    }
}

/// Whether a pickle goes on.
enum Step {
    Next,
    Stop,
}

/// A pickle that is half read.
struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// The heights of the stack at which containers begin.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn located(&self, bytes: &[u8], problem: &str) -> String {
        format!("its pickle is damaged or unusual at byte {}: {problem}", bytes.len() - self.rest.len())
    }

    /// Executes one opcode.
    fn step(&mut self) -> Result<Step, String> {
        let code = self.byte()?;
        let op = OpCode::try_from(code).map_err(|code| format!("0x{code:02x} is no opcode"))?;
        match op {
            OpCode::Stop => return Ok(Step::Stop),
            OpCode::Proto => self.protocol()?,
            OpCode::Mark if self.marks.len() < MOST_MARKS => self.marks.push(self.stack.len()),
            OpCode::Mark => return Err(format!("more than {MOST_MARKS} values are in one another")),
            OpCode::None | OpCode::NewTrue | OpCode::NewFalse => self.push(Value::Other)?,
            OpCode::BinFloat => self.skip(8, Value::Other)?,
            OpCode::BinInt => self.int(4)?,
            OpCode::BinInt1 => self.int(1)?,
            OpCode::BinInt2 => self.int(2)?,
            OpCode::Long1 => self.long()?,
            OpCode::BinUnicode => self.text()?,
            OpCode::Global => self.global()?,
            OpCode::EmptyTuple | OpCode::EmptyList => self.push(Value::Sequence(Vec::new()))?,
            OpCode::EmptyDict => self.push(Value::Dict(Vec::new()))?,
            OpCode::Tuple1 => self.tuple(1)?,
            OpCode::Tuple2 => self.tuple(2)?,
            OpCode::Tuple3 => self.tuple(3)?,
            OpCode::Tuple => {
                let items = self.since_mark()?;
                self.push(Value::Sequence(items))?;
            }
            OpCode::Append => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            OpCode::Appends => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            OpCode::SetItem => {
                let items = self.last(2)?;
                self.set(&items)?;
            }
            OpCode::SetItems => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }
            OpCode::BinGet => {
                let at = self.byte()?.into();
                self.recall(at)?;
            }
            OpCode::LongBinGet => {
                let at = self.four()?;
                self.recall(at)?;
            }
            OpCode::BinPut => {
                let at = self.byte()?.into();
                self.remember(at)?;
            }
            OpCode::LongBinPut => {
                let at = self.four()?;
                self.remember(at)?;
            }
            OpCode::BinPersId => {
                let name = self.pop()?;
                self.push(Value::Outside(name))?;
            }
            OpCode::Reduce | OpCode::NewObj => self.call()?,
            // The attributes of an object. Those of a dictionary of weights are versions of layers.
            OpCode::Build => {
                self.pop()?;
            }
            op => return Err(format!("torch.save writes no {op:?} unless it is told to")),
        }
        Ok(Step::Next)
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.byte()? {
            2 => Ok(()),
            other => Err(format!("it is of protocol {other}; expected 2, which torch.save writes unless it is told otherwise")),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it ends early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn four(&mut self) -> Result<u32, String> {
        let (four, rest) = self.rest.split_first_chunk().ok_or("it ends early")?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*four))
    }

    fn skip(&mut self, count: usize, value: Value<'a>) -> Result<(), String> {
        self.take(count)?;
        self.push(value)
    }

    /// Reads an integer of `count` bytes. Only that of four bytes has a sign.
    fn int(&mut self, count: usize) -> Result<(), String> {
        let bytes = self.take(count)?;
        let value = bytes.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        self.push(Value::Int(if count == 4 { i64::from(value.cast_signed()) } else { i64::from(value) }))
    }

    /// Reads an integer that says how long it is. One beyond 64 bits is no size of anything.
    fn long(&mut self) -> Result<(), String> {
        let count = self.byte()?.into();
        let bytes = self.take(count)?;
        let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { -1 } else { 0 };
        let value = || bytes.iter().rev().fold(sign, |value, byte| value << 8 | i64::from(*byte));
        self.push(if count > 8 { Value::Other } else { Value::Int(value()) })
    }

    fn text(&mut self) -> Result<(), String> {
        let count = self.four()? as usize;
        let text = str::from_utf8(self.take(count)?).map_err(|_| "a text in it is not UTF-8")?;
        self.push(Value::Text(text))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or("it ends early")?;
        let line = self.take(end + 1)?;
        str::from_utf8(&line[..end]).map_err(|_| "a name in it is not UTF-8".into())
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Value::Global(module, name))
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let items = self.last(count)?;
        self.push(Value::Sequence(items))
    }

    /// Calls the function below the arguments that are on top. An empty `OrderedDict` is a dictionary.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let is_dict = self.values[function] == Value::Global("collections", "OrderedDict");
        let is_empty = matches!(&self.values[arguments], Value::Sequence(items) if items.is_empty());
        self.push(if is_dict && is_empty { Value::Dict(Vec::new()) } else { Value::Call(function, arguments) })
    }

    /// Appends to the list on top. An object that is not read takes them and is not read.
    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        match self.top()? {
            Value::Sequence(list) => list.extend(items),
            Value::Call(..) => {}
            _ => return Err("what it appends to is no list".into()),
        }
        Ok(())
    }

    /// Sets keys and values of the dictionary on top, as `append` does.
    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, odd) = items.as_chunks::<2>();
        if !odd.is_empty() {
            return Err("a key has no value".into());
        }
        match self.top()? {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Value::Call(..) => {}
            _ => return Err("what has keys is no dictionary".into()),
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        if self.values.len() == MOST {
            return Err(format!("it has more than {MOST} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// Takes the top of the stack, above the last mark.
    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() == floor {
            return Err("a value is missing".into());
        }
        self.stack.pop().ok_or_else(|| "a value is missing".into())
    }

    fn top(&mut self) -> Result<&mut Value<'a>, String> {
        let id = self.stack.last().ok_or("a value is missing")?;
        Ok(&mut self.values[*id])
    }

    fn last(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a container has no beginning")?;
        Ok(self.stack.split_off(mark))
    }

    fn recall(&mut self, at: u32) -> Result<(), String> {
        let id = self.memo.get(&at).ok_or_else(|| format!("it recalls value {at}, which it does not remember"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn remember(&mut self, at: u32) -> Result<(), String> {
        let id = *self.stack.last().ok_or("a value is missing")?;
        self.memo.insert(at, id);
        if self.memo.len() > MOST { Err(format!("it remembers more than {MOST} values")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> Result<String, String> {
        Pickle::parse(bytes).map(|pickle| format!("{:?}", pickle.values))
    }

    /// `{"a": [1, -2, 300], "b": OrderedDict(), "c": f(...)}`, as Python's pickle module writes it.
    #[test]
    fn values_are_read_and_calls_stay_calls() {
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM\x2c\x01eX\x01\x00\x00\x00bccollections\nOrderedDict\n)Rq\x03\
            X\x01\x00\x00\x00ccos\nsystem\nX\x04\x00\x00\x00rm /\x85Ru.";
        let pickle = Pickle::parse(bytes).unwrap();
        let Value::Dict(pairs) = pickle.get(pickle.root()) else { panic!("no dictionary") };
        let names: Vec<_> = pairs.iter().map(|(key, _)| pickle.text(*key).unwrap()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let numbers: Vec<_> = pickle.sequence(pairs[0].1).unwrap().iter().map(|id| pickle.get(*id)).collect();
        assert_eq!(numbers, [&Value::Int(1), &Value::Int(-2), &Value::Int(300)]);
        assert_eq!(*pickle.get(pairs[1].1), Value::Dict(Vec::new()));
        let (module, name, arguments) = pickle.call(pairs[2].1).unwrap();
        assert_eq!((module, name, pickle.text(arguments[0])), ("os", "system", Some("rm /")));
    }

    #[test]
    fn integers_of_any_length_have_their_sign() {
        let long = |bytes: &[u8]| {
            let all = [&[0x80, 2, 0x8a, bytes.len() as u8], bytes, b"."].concat();
            parsed(&all).unwrap()
        };
        assert_eq!(long(&[]), "[Int(0)]");
        assert_eq!(long(&[0xff]), "[Int(-1)]");
        assert_eq!(long(&[0xff, 0]), "[Int(255)]");
        assert_eq!(long(&[0, 0, 0, 0, 0, 0, 0, 0x80]), format!("[Int({})]", i64::MIN));
        assert_eq!(long(&[1; 9]), "[Other]");
    }

    /// A list that holds itself is a number in a list.
    #[test]
    fn a_value_may_hold_itself() {
        assert_eq!(parsed(b"\x80\x02]q\x00h\x00a.").unwrap(), "[Sequence([0])]");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (bytes, want) in [
            (&b"\x80\x02"[..], "at byte 2: it ends early"),
            (b"\x80\x04.", "it is of protocol 4"),
            (b"\x80\x02\xff", "0xff is no opcode"),
            (b"\x80\x022", "torch.save writes no Dup"),
            (b"\x80\x02.", "a value is missing"),
            (b"\x80\x02h\x07.", "it recalls value 7"),
            (b"\x80\x02X\xff\xff\xff\x7fa", "it ends early"),
            (b"\x80\x02K\x01K\x02a.", "what it appends to is no list"),
            (b"\x80\x02}K\x01K\x02(s.", "a value is missing"),
            (b"\x80\x02}(K\x01u.", "a key has no value"),
            (b"\x80\x02e.", "a container has no beginning"),
        ] {
            let error = parsed(bytes).unwrap_err();
            assert!(error.contains(want), "{error}, where {want} was expected");
        }
        let marks = [&b"\x80\x02"[..], &vec![b'('; MOST_MARKS + 1]].concat();
        assert!(parsed(&marks).unwrap_err().contains("are in one another"));
        let values = [&b"\x80\x02"[..], &vec![b'N'; MOST + 1]].concat();
        assert!(parsed(&values).unwrap_err().contains("more than 1048576 values"));
    }
}
