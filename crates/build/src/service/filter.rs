//! Filters of what results take up, in containerd's form: any of the list, each of which is conditions that all hold,
//! `field==value` or `field!=value` or a field alone. Matching by regular expressions is not supported.

use types::Kind;

use crate::error::{Error, Result};
use crate::solve::Usage;

/// Fields that results have.
const FIELDS: [&str; 8] = ["id", "type", "description", "shared", "private", "inuse", "mutable", "immutable"];

/// What passes: anything without filters.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug)]
struct Condition {
    field: String,
    /// None for a field alone, which has to hold.
    value: Option<(bool, String)>,
}

impl Filters {
    /// Reads filters.
    ///
    /// # Errors
    /// A field that there is not, or a way to compare that is not supported.
    pub(super) fn read(texts: &[String]) -> Result<Self> {
        let all = texts.iter().filter(|text| !text.trim().is_empty());
        let read = all.map(|text| text.split(',').map(condition).collect::<Result<Vec<_>>>());
        read.collect::<Result<_>>().map(Self)
    }

    /// Whether something is to be shown, or removed.
    pub(super) fn pass(&self, usage: &Usage) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|condition| condition.holds(usage)))
    }
}

fn condition(text: &str) -> Result<Condition> {
    let text = text.trim();
    let (field, value) = if let Some((field, value)) = text.split_once("==") {
        (field, Some((true, value)))
    } else if let Some((field, value)) = text.split_once("!=") {
        (field, Some((false, value)))
    } else if text.contains("~=") {
        return Err(Error::new(Kind::Unsupported, format!("filter \"{text}\": regular expressions are not supported")));
    } else {
        (text, None)
    };
    if !FIELDS.contains(&field) {
        return Err(Error::new(
            Kind::Invalid,
            format!("filter \"{text}\": there are the fields {}", FIELDS.join(", ")),
        ));
    }
    let value = value.map(|(equal, value)| (equal, value.trim_matches('"').to_owned()));
    Ok(Condition { field: field.to_owned(), value })
}

impl Condition {
    fn holds(&self, usage: &Usage) -> bool {
        let flag = |flag: bool| if flag { "true" } else { "false" };
        let found = match self.field.as_str() {
            "id" => usage.id.as_str(),
            "type" => usage.record.kind.as_str(),
            "description" => usage.record.name.as_str(),
            "shared" => flag(usage.shared),
            "private" => flag(!usage.shared),
            "immutable" => flag(true),
            _ => flag(false),
        };
        match &self.value {
            Some((equal, value)) => (found == value) == *equal,
            None => !found.is_empty() && found != "false",
        }
    }
}
