//! Functions of templates: Go's own and those Docker's client adds.

use std::cmp::Ordering;

use super::{Error, Value, eval::is_true};

const KNOWN: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print", "println", "printf",
    "html", "js", "urlquery", "json", "jsonstr", "split", "join", "title", "lower", "upper", "pad", "truncate",
];

/// Longest text made by padding, in characters.
const MAX_WIDTH: i64 = 10_000;

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Functions that change how a value is shown; a heading passes through them unchanged.
pub(super) fn keeps_heading(name: &str) -> bool {
    matches!(name, "json" | "jsonstr" | "split" | "join" | "title" | "lower" | "upper" | "truncate" | "slice")
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, Error> {
    let fail = |text: String| Error(format!("template: :1: error calling {name}: {text}"));
    let wrong = || Error(format!("template: :1: wrong number of args for {name}: got {}", args.len()));
    let text = |value: &Value| value.to_string();
    Ok(match (name, args) {
        ("json" | "jsonstr", [value]) => Value::Text(value.to_json()),
        ("print", args) => {
            // Go's Print puts a space between operands of which neither is text.
            let mut out = String::new();
            for (at, arg) in args.iter().enumerate() {
                if at > 0 && !matches!(arg, Value::Text(_)) && !matches!(args[at - 1], Value::Text(_)) {
                    out.push(' ');
                }
                out.push_str(&text(arg));
            }
            Value::Text(out)
        }
        ("println", args) => Value::Text(args.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [Value::Text(format), rest @ ..]) => Value::Text(printf(format, rest)),
        ("not", [value]) => Value::Bool(!is_true(value)),
        ("and", [.., last]) => args.iter().find(|value| !is_true(value)).unwrap_or(last).clone(),
        ("or", [.., last]) => args.iter().find(|value| is_true(value)).unwrap_or(last).clone(),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            Value::Bool(rest.iter().any(|value| compare(first, value) == Some(Ordering::Equal)))
        }
        ("ne", [a, b]) => Value::Bool(compare(a, b) != Some(Ordering::Equal)),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = compare(a, b).ok_or_else(|| fail("incompatible types for comparison".into()))?;
            Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        ("index", [value, keys @ ..]) => {
            keys.iter().try_fold(value.clone(), |value, key| index(&value, key).map_err(fail))?
        }
        ("len", [value]) => Value::Int(match value {
            Value::Text(text) => text.len() as i64,
            Value::List(items) => items.len() as i64,
            Value::Map(entries) => entries.len() as i64,
            other => return Err(fail(format!("len of type {}", type_name(other)))),
        }),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds).map_err(fail)?,
        ("split", [value, separator]) => {
            let (value, separator) = (text(value), text(separator));
            Value::List(value.split(&separator).map(Value::text_of).collect())
        }
        ("join", [Value::List(items), separator]) => {
            Value::Text(items.iter().map(text).collect::<Vec<_>>().join(&text(separator)))
        }
        ("join", [Value::Null, _]) => Value::Text(String::new()),
        ("join", [value, _]) => Value::Text(text(value)),
        ("lower", [value]) => Value::Text(text(value).to_lowercase()),
        ("upper", [value]) => Value::Text(text(value).to_uppercase()),
        ("title", [value]) => {
            let mut start = true;
            let value = text(value);
            let titled = value.chars().flat_map(|c| {
                let upper = start;
                start = !c.is_alphanumeric();
                if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
            });
            Value::Text(titled.collect())
        }
        ("pad", [value, before, after]) => {
            let spaces = |n: &Value| " ".repeat(usize::try_from(n.as_int().clamp(0, MAX_WIDTH)).unwrap_or(0));
            match text(value) {
                empty if empty.is_empty() => Value::Text(empty),
                value => Value::Text(format!("{}{value}{}", spaces(before), spaces(after))),
            }
        }
        ("truncate", [value, length]) => {
            let length = usize::try_from(length.as_int().max(0)).unwrap_or(0);
            Value::Text(text(value).chars().take(length).collect())
        }
        ("html", args) => {
            let joined: String = args.iter().map(text).collect();
            Value::Text(
                joined
                    .replace('&', "&amp;")
                    .replace('<', "&lt;")
                    .replace('>', "&gt;")
                    .replace('"', "&#34;")
                    .replace('\'', "&#39;"),
            )
        }
        ("urlquery", args) => {
            let mut query = client::Query::default();
            query.push("", &args.iter().map(text).collect::<String>());
            Value::Text(query.as_str().trim_start_matches("?=").replace("%20", "+"))
        }
        ("js", _) => return Err(fail("not supported here".into())),
        _ => return Err(wrong()),
    })
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Map(_), Value::Text(key)) => Ok(value.get(key).clone()),
        (Value::List(items), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| items.get(at))
            .cloned()
            .ok_or_else(|| format!("index out of range: {at}")),
        (Value::Text(text), Value::Int(at)) => {
            let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            byte.map(|byte| Value::Int(i64::from(*byte))).ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::Null, _) => Err("index of untyped nil".into()),
        (value, key) => Err(format!("can't index item of type {} with {}", type_name(value), type_name(key))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", type_name(other))),
    };
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(value) => usize::try_from(value.as_int())
            .ok()
            .filter(|at| *at <= length)
            .ok_or_else(|| format!("index out of range: {value}")),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::Text(text) => Value::Text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        Value::List(items) => Value::List(items[from..to].to_vec()),
        _ => Value::Null,
    })
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        _ => None,
    }
}

/// Go's `Sprintf` for the verbs templates use: `%s %v %d %q %t %f %x %%` with flags, width and precision.
fn printf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut letters = format.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zero, mut plus) = (false, false, false);
        while let Some(flag) = letters.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
            match flag {
                '-' => left = true,
                '0' => zero = true,
                '+' => plus = true,
                _ => {}
            }
        }
        let digits = |letters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number = 0usize;
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                number = (number * 10 + digit.to_digit(10).unwrap_or(0) as usize).min(MAX_WIDTH as usize);
            }
            number
        };
        let width = digits(&mut letters);
        let precision = letters.next_if_eq(&'.').map(|_| digits(&mut letters));
        let Some(verb) = letters.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let body = match (verb, arg) {
            ('s' | 'v', value) => match precision {
                Some(length) => value.to_string().chars().take(length).collect(),
                None => value.to_string(),
            },
            ('d', Value::Int(number)) if plus => format!("{number:+}"),
            ('d', Value::Int(number)) => number.to_string(),
            ('d', Value::Float(number)) if number.fract() == 0.0 => format!("{number:.0}"),
            ('t', Value::Bool(flag)) => flag.to_string(),
            ('q', value) => Value::Text(value.to_string()).to_json(),
            ('f', Value::Float(number)) => format!("{number:.*}", precision.unwrap_or(6)),
            ('f', Value::Int(number)) => format!("{:.*}", precision.unwrap_or(6), *number as f64),
            ('x', Value::Int(number)) => format!("{number:x}"),
            ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            (verb, value) => format!("%!{verb}({}={value})", type_name(value)),
        };
        let missing = width.saturating_sub(body.chars().count());
        if left {
            out.push_str(&body);
            out.extend(std::iter::repeat_n(' ', missing));
        } else {
            out.extend(std::iter::repeat_n(if zero && verb != 's' { '0' } else { ' ' }, missing));
            out.push_str(&body);
        }
    }
    out
}
