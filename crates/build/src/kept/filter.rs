//! Filters of what is kept, in containerd's form: any of the list, each of which is conditions that all hold:
//! `field==value`, `field!=value`, `field~=pattern`, or a field alone.

use regex_lite::Regex;
use types::Kind;

use super::Usage;
use crate::error::{Error, Result};

/// Fields that can be asked for.
const FIELDS: [&str; 10] =
    ["id", "type", "description", "parent", "parents", "shared", "private", "inuse", "mutable", "immutable"];
/// Most filters, and most bytes of one.
const LIMITS: (usize, usize) = (1000, 4096);

/// What passes: anything without filters.
#[derive(Debug, Default)]
pub(crate) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug)]
struct Condition {
    field: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// A field alone: it is there, and not "false".
    There,
    Equal(String),
    Unequal(String),
    Like(Regex),
}

impl Filters {
    /// Reads filters.
    ///
    /// # Errors
    /// A field that there is not; a pattern that is none.
    pub(crate) fn read(texts: &[String]) -> Result<Self> {
        if texts.len() > LIMITS.0 || texts.iter().any(|text| text.len() > LIMITS.1) {
            return Err(Error::new(Kind::Invalid, "there are too many filters, or one is too long"));
        }
        let all = texts.iter().filter(|text| !text.trim().is_empty());
        let read = all.map(|text| parts(text).iter().map(|part| condition(part)).collect::<Result<Vec<_>>>());
        read.collect::<Result<_>>().map(Self)
    }

    /// Whether something is to be shown, or removed.
    pub(crate) fn pass(&self, usage: &Usage) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|condition| condition.holds(usage)))
    }
}

/// A list in which commas between quotes separate nothing.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for char in text.chars() {
        match char {
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            _ => {
                quoted ^= char == '"' && !escaped;
                part.push(char);
            }
        }
        escaped = char == '\\' && !escaped;
    }
    parts.push(part);
    parts
}

fn condition(text: &str) -> Result<Condition> {
    let text = text.trim();
    let invalid = |why: &str| Error::new(Kind::Invalid, format!("filter \"{text}\": {why}"));
    let split = ["==", "!=", "~="]
        .into_iter()
        .filter_map(|operator| text.find(operator).map(|place| (place, operator)))
        .min_by_key(|(place, _)| *place);
    let (field, test) = match split {
        None => (text, Test::There),
        Some((place, operator)) => {
            let value = unquoted(&text[place + operator.len()..]);
            let test = match operator {
                "==" => Test::Equal(value),
                "!=" => Test::Unequal(value),
                _ => Test::Like(Regex::new(&value).map_err(|e| invalid(&e.to_string()))?),
            };
            (&text[..place], test)
        }
    };
    if !FIELDS.contains(&field) {
        return Err(invalid(&format!("there are the fields {}", FIELDS.join(", "))));
    }
    Ok(Condition { field: field.to_owned(), test })
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    }
}

impl Condition {
    fn holds(&self, usage: &Usage) -> bool {
        let flag = |flag: bool| if flag { "true" } else { "false" };
        let found = match self.field.as_str() {
            "id" => usage.id.as_str(),
            "type" => usage.kind.as_str(),
            "description" => usage.description.as_str(),
            "parents" => return self.test.holds(&usage.parents.join(";"), false),
            "parent" => return self.parents(&usage.parents),
            "shared" => return self.test.holds(flag(usage.shared), true),
            "private" => return self.test.holds(flag(!usage.shared), true),
            "inuse" => return self.test.holds(flag(usage.in_use), true),
            "mutable" => return self.test.holds(flag(usage.mutable), true),
            _ => return self.test.holds(flag(!usage.mutable), true),
        };
        self.test.holds(found, false)
    }

    /// One of them, or for `!=` none of them.
    fn parents(&self, parents: &[String]) -> bool {
        match &self.test {
            Test::Unequal(_) => parents.iter().all(|parent| self.test.holds(parent, false)),
            test => parents.iter().any(|parent| test.holds(parent, false)),
        }
    }
}

impl Test {
    fn holds(&self, found: &str, flag: bool) -> bool {
        // Clients write flags as `inuse=1` too.
        let same = |value: &str| match value {
            "1" | "t" | "True" | "TRUE" if flag => found == "true",
            "0" | "f" | "False" | "FALSE" if flag => found == "false",
            value => found == value,
        };
        match self {
            Self::There => !found.is_empty() && (!flag || found != "false"),
            Self::Equal(value) => same(value),
            Self::Unequal(value) => !same(value),
            Self::Like(pattern) => pattern.is_match(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_list_and_all_of_one() {
        let usage = Usage {
            id: "abc".into(),
            kind: "regular".into(),
            description: "RUN a, b".into(),
            parents: vec!["p".into(), "q".into()],
            in_use: true,
            ..Usage::default()
        };
        let pass = |filters: &[&str]| {
            let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
            Filters::read(&texts).unwrap().pass(&usage)
        };
        for holds in [
            &[][..],
            &["id==abc"],
            &["id~=^a"],
            &["id==x", "type==regular"],
            &["type==regular,inuse"],
            &["inuse==true", "x".replace('x', "id==y").as_str()],
            &["inuse==1"],
            &["private"],
            &["immutable"],
            &["shared!=true"],
            &["description==\"RUN a, b\""],
            &["parent==q"],
            &["parent!=r"],
            &["parents~=p;q"],
        ] {
            assert!(pass(holds), "{holds:?}");
        }
        for fails in
            [&["id==ab"][..], &["type==regular,mutable"], &["shared"], &["parent==r"], &["id~=^b"], &["inuse==0"]]
        {
            assert!(!pass(fails), "{fails:?}");
        }
        for (invalid, words) in
            [("colour==red", "there are the fields id"), ("id~=(", "filter \"id~=(\""), ("=", "fields")]
        {
            let error = Filters::read(&[invalid.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
