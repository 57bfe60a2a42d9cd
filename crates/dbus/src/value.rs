//! Values of D-Bus and their form on the wire (D-Bus Specification, "Marshaling (Wire Format)"), little-endian.
//!
//! Invariant: reading never looks outside the bytes it was given, whatever they say; nesting and lengths are
//! bounded as the specification bounds them.

/// Deepest nesting read; the specification allows 64 containers.
const MAX_DEPTH: usize = 32;
/// Longest array: 64 MiB.
const MAX_ARRAY: usize = 1 << 26;

/// A value of D-Bus.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a` and the signature of the elements, which is kept for the empty array.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `{kv}`, in arrays only.
    Entry(Box<(Value, Value)>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// `as`
    pub fn strings<'a>(list: impl IntoIterator<Item = &'a str>) -> Value {
        Value::Array("s".to_owned(), list.into_iter().map(|s| Value::Str(s.to_owned())).collect())
    }

    /// An entry of a dictionary `a{sv}`.
    pub fn entry(key: &str, value: Value) -> Value {
        Value::Entry(Box::new((Value::Str(key.to_owned()), Value::Variant(Box::new(value)))))
    }

    /// `ay`
    pub fn bytes(list: &[u8]) -> Value {
        Value::Array("y".to_owned(), list.iter().map(|b| Value::Byte(*b)).collect())
    }

    /// The type, as D-Bus writes it.
    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".to_owned(),
            Value::Bool(_) => "b".to_owned(),
            Value::I16(_) => "n".to_owned(),
            Value::U16(_) => "q".to_owned(),
            Value::I32(_) => "i".to_owned(),
            Value::U32(_) => "u".to_owned(),
            Value::I64(_) => "x".to_owned(),
            Value::U64(_) => "t".to_owned(),
            Value::Double(_) => "d".to_owned(),
            Value::Str(_) => "s".to_owned(),
            Value::Path(_) => "o".to_owned(),
            Value::Signature(_) => "g".to_owned(),
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(fields) => format!("({})", fields.iter().map(Value::signature).collect::<String>()),
            Value::Entry(pair) => format!("{{{}{}}}", pair.0.signature(), pair.1.signature()),
            Value::Variant(_) => "v".to_owned(),
        }
    }

    /// The text of a string or path.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Path(text) => Some(text),
            _ => None,
        }
    }

    /// Appends the value at its alignment, which counts from the beginning of `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Byte(n) => out.push(*n),
            Value::Bool(on) => put(out, 4, &u32::from(*on).to_le_bytes()),
            Value::I16(n) => put(out, 2, &n.to_le_bytes()),
            Value::U16(n) => put(out, 2, &n.to_le_bytes()),
            Value::I32(n) => put(out, 4, &n.to_le_bytes()),
            Value::U32(n) => put(out, 4, &n.to_le_bytes()),
            Value::I64(n) => put(out, 8, &n.to_le_bytes()),
            Value::U64(n) => put(out, 8, &n.to_le_bytes()),
            Value::Double(n) => put(out, 8, &n.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => {
                put(out, 4, &length(text.len()));
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => write_signature(out, text),
            Value::Array(element, list) => {
                put(out, 4, &[0; 4]);
                let size = out.len() - 4;
                pad(out, alignment(element.as_bytes().first().copied().unwrap_or(b'y')));
                let start = out.len();
                list.iter().for_each(|v| v.write(out));
                let written = length(out.len() - start);
                out[size..size + 4].copy_from_slice(&written);
            }
            Value::Struct(fields) => {
                pad(out, 8);
                fields.iter().for_each(|v| v.write(out));
            }
            Value::Entry(pair) => {
                pad(out, 8);
                pair.0.write(out);
                pair.1.write(out);
            }
            Value::Variant(inner) => {
                write_signature(out, &inner.signature());
                inner.write(out);
            }
        }
    }
}

/// Lengths are of 32 bits; nothing written here comes near.
fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

fn write_signature(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn put(out: &mut Vec<u8>, align: usize, bytes: &[u8]) {
    pad(out, align);
    out.extend_from_slice(bytes);
}

pub(crate) fn pad(out: &mut Vec<u8>, align: usize) {
    out.resize(out.len().next_multiple_of(align), 0);
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b'a' | b's' | b'o' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Values read one after the other from a message.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Alignment counts from the beginning of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Every value that `signature` names, or `None` if the bytes are not such values.
    pub(crate) fn read(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut out = Vec::new();
        while !rest.is_empty() {
            let one = first_type(rest)?;
            out.push(self.one(one, 0)?);
            rest = &rest[one.len()..];
        }
        Some(out)
    }

    fn one(&mut self, kind: &[u8], depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match *kind.first()? {
            b'y' => Value::Byte(self.take(1, 1)?[0]),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return None,
            },
            b'n' => Value::I16(i16::from_le_bytes(self.take(2, 2)?.try_into().ok()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.take(2, 2)?.try_into().ok()?)),
            b'i' | b'h' => Value::I32(i32::from_le_bytes(self.take(4, 4)?.try_into().ok()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.take(8, 8)?.try_into().ok()?)),
            b't' => Value::U64(u64::from_le_bytes(self.take(8, 8)?.try_into().ok()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.take(8, 8)?.try_into().ok()?)),
            b's' => {
                let size = self.u32()?;
                Value::Str(self.text(size as usize)?)
            }
            b'o' => {
                let size = self.u32()?;
                Value::Path(self.text(size as usize)?)
            }
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let signature = self.signature()?;
                let one = first_type(signature.as_bytes()).filter(|one| one.len() == signature.len())?;
                Value::Variant(Box::new(self.one(one, depth + 1)?))
            }
            b'a' => {
                let element = &kind[1..];
                let size = self.u32()? as usize;
                self.take(0, alignment(*element.first()?))?;
                let end = self.at.checked_add(size).filter(|end| size <= MAX_ARRAY && *end <= self.bytes.len())?;
                let mut list = Vec::new();
                while self.at < end {
                    list.push(self.one(element, depth + 1)?);
                }
                if self.at != end {
                    return None;
                }
                Value::Array(String::from_utf8(element.to_vec()).ok()?, list)
            }
            b'(' => {
                self.take(0, 8)?;
                let mut rest = &kind[1..kind.len() - 1];
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let one = first_type(rest)?;
                    fields.push(self.one(one, depth + 1)?);
                    rest = &rest[one.len()..];
                }
                Value::Struct(fields)
            }
            b'{' => {
                self.take(0, 8)?;
                let key = first_type(&kind[1..])?;
                let value = &kind[1 + key.len()..kind.len() - 1];
                Value::Entry(Box::new((self.one(key, depth + 1)?, self.one(value, depth + 1)?)))
            }
            _ => return None,
        })
    }

    fn take(&mut self, size: usize, align: usize) -> Option<&'a [u8]> {
        let start = self.at.checked_next_multiple_of(align)?;
        let end = start.checked_add(size)?;
        let bytes = self.bytes.get(start..end)?;
        self.at = end;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4, 4)?.try_into().ok()?))
    }

    fn text(&mut self, size: usize) -> Option<String> {
        let bytes = self.take(size, 1)?;
        let end = self.take(1, 1)?;
        (end == [0] && !bytes.contains(&0)).then(|| String::from_utf8(bytes.to_vec()).ok())?
    }

    fn signature(&mut self) -> Option<String> {
        let size = usize::from(self.take(1, 1)?[0]);
        self.text(size)
    }
}

/// The first complete type of a signature.
fn first_type(signature: &[u8]) -> Option<&[u8]> {
    fn size(signature: &[u8], depth: usize) -> Option<usize> {
        if depth > MAX_DEPTH {
            return None;
        }
        let closed_by = |close: u8| {
            let mut at = 1;
            while *signature.get(at)? != close {
                at += size(&signature[at..], depth + 1)?;
            }
            (at > 1).then_some(at + 1)
        };
        match *signature.first()? {
            b'a' => Some(1 + size(&signature[1..], depth + 1)?),
            b'(' => closed_by(b')'),
            b'{' => closed_by(b'}'),
            c if b"ybnqiuxtdsoghv".contains(&c) => Some(1),
            _ => None,
        }
    }
    signature.get(..size(signature, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(value: Value) {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        let read = Reader::new(&bytes).read(&value.signature()).unwrap();
        assert_eq!(read, [value]);
    }

    #[test]
    fn values_come_back() {
        round(Value::Struct(vec![
            Value::Byte(1),
            Value::U64(u64::MAX),
            Value::Bool(true),
            Value::I16(-2),
            Value::Str("grüße".into()),
            Value::Double(1.5),
        ]));
        round(Value::Array("(sv)".into(), vec![]));
        let property = |name: &str, v| Value::Struct(vec![Value::Str(name.into()), Value::Variant(Box::new(v))]);
        round(Value::Array(
            "(sv)".into(),
            vec![property("PIDs", Value::Array("u".into(), vec![Value::U32(7)])), property("A", Value::bytes(&[3, 0]))],
        ));
        let entry = Value::Entry(Box::new((Value::Str("k".into()), Value::Variant(Box::new(Value::I32(-1))))));
        round(Value::Array("{sv}".into(), vec![entry]));
    }

    #[test]
    fn the_specifications_own_example() {
        // "foo", "+" and "bar" marshaled one after the other.
        let mut bytes = Vec::new();
        for text in ["foo", "+", "bar"] {
            Value::Str(text.into()).write(&mut bytes);
        }
        assert_eq!(bytes, b"\x03\0\0\0foo\0\x01\0\0\0+\0\0\0\x03\0\0\0bar\0");
    }

    #[test]
    fn signatures() {
        assert_eq!(first_type(b"a(sv)a(sa(sv))"), Some(&b"a(sv)"[..]));
        assert_eq!(first_type(b"ss"), Some(&b"s"[..]));
        for bad in [&b""[..], b"a", b"(", b"()", b"(s", b"z", b"a{s", &[b'a'; 100]] {
            assert_eq!(first_type(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..6) {
            let signature = ["a(sv)", "uoss", "v", "a{sv}", "av", "aay"][kind];
            let _ = Reader::new(&bytes).read(signature);
        }
    }
}
