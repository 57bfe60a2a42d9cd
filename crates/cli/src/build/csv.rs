//! Values of flags that are lists of fields: `type=local,dest=path`. Fields with commas are quoted.

use crate::{Error, Result};

/// The fields of a value.
pub(super) fn fields(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let (mut quoted, mut begins) = (false, true);
    while let Some(c) = chars.next() {
        let last = fields.last_mut();
        match (c, last) {
            ('"', Some(field)) if quoted => match chars.next_if_eq(&'"') {
                Some(_) => field.push('"'),
                None => quoted = false,
            },
            ('"', _) if begins => quoted = true,
            (',', _) if !quoted => {
                fields.push(String::new());
                begins = true;
                continue;
            }
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
        begins = false;
    }
    if quoted { Err(Error::invalid(format!("{text:?}: a quote that does not end"))) } else { Ok(fields) }
}

/// Fields as names and values; names in small letters.
pub(super) fn pairs(text: &str, flag: &str) -> Result<Vec<(String, String)>> {
    let pair = |field: &String| {
        let pair = field.split_once('=').map(|(name, value)| (name.trim().to_lowercase(), value.to_owned()));
        pair.ok_or_else(|| Error::invalid(format!("invalid value {text:?} of --{flag}: {field:?} has no value")))
    };
    fields(text)?.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(fields(r#"a=1,"b=x,y","c=""q""",d"#).unwrap(), ["a=1", "b=x,y", "c=\"q\"", "d"]);
        assert_eq!(fields("").unwrap(), [""]);
        assert!(fields("\"a").is_err());
        assert_eq!(pairs("Type=tar", "output").unwrap(), [("type".to_owned(), "tar".to_owned())]);
        assert!(pairs("x", "output").is_err());
    }
}
