//! Indentation of JSON text without decoding it: `inspect` shows what the daemon sent, spacing apart.

/// Indents JSON by four spaces, each line but the first preceded by `prefix`. The text must be valid JSON.
pub(crate) fn indent(text: &str, prefix: &str) -> String {
    indent_by(text, prefix, "    ")
}

/// The text without what is between its parts. It must be valid JSON.
pub(crate) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if quoted || !c.is_ascii_whitespace() {
            out.push(c);
        }
        (quoted, escaped) = match c {
            '"' if !escaped => (!quoted, false),
            '\\' => (quoted, quoted && !escaped),
            _ => (quoted, false),
        };
    }
    out
}

/// As [`indent`], by `unit`.
pub(crate) fn indent_by(text: &str, prefix: &str, unit: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    let mut letters = text.trim().chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(prefix);
        out.extend(std::iter::repeat_n(unit, depth));
    };
    while let Some(c) = letters.next() {
        match c {
            '"' => {
                out.push('"');
                while let Some(c) = letters.next() {
                    out.push(c);
                    if c == '\\' {
                        out.extend(letters.next());
                    } else if c == '"' {
                        break;
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while letters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = letters.next_if(|next| matches!((c, next), ('{', '}') | ('[', ']'))) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{compact, indent};

    #[test]
    fn structure_is_indented_and_strings_are_left_alone() {
        let text = r#"{"a":[1,{"b":"x, {\"y\": [1]}"}],"c":{},"d":[ ]}"#;
        let want = "{\n    \"a\": [\n        1,\n        {\n            \"b\": \"x, {\\\"y\\\": [1]}\"\n        }\n    ],\n    \"c\": {},\n    \"d\": []\n}";
        assert_eq!(indent(text, ""), want);
        assert_eq!(compact(want), text.replace("[ ]", "[]"));
        assert_eq!(compact("{ \"a b\\\\\" : 1 }"), "{\"a b\\\\\":1}");
    }
}
