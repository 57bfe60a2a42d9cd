//! Lists of objects in the forms `--format` knows: a table of default columns, a table of a template, JSON lines, or a
//! template per row.
//!
//! A row is a flat document whose keys are the placeholders Docker documents for the command (`.Names`, `.Size`, …);
//! JSON output prints exactly these, sorted, as Docker's does.

use super::{Value, table, template};
use crate::{Error, Result};

/// A column: placeholder and heading.
pub(crate) type Column = (&'static str, &'static str);

/// How to show a list.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// Every placeholder with its heading.
    pub(crate) headings: &'a [Column],
    /// Placeholders of the default table, in order.
    pub(crate) columns: &'a [&'a str],
    /// What `--format` says; empty for the default.
    pub(crate) format: &'a str,
    /// Placeholder printed alone with `--quiet`.
    pub(crate) quiet: Option<&'a str>,
}

impl Listing<'_> {
    /// Renders rows.
    pub(crate) fn render(&self, rows: &[Value]) -> Result<String> {
        if let Some(only) = self.quiet
            && (self.format.is_empty() || self.format == "table")
        {
            return Ok(rows.iter().map(|row| format!("{}\n", row.get(only))).collect());
        }
        match self.format {
            "" | "table" => {
                let heading: Vec<&str> = self.columns.iter().map(|name| self.heading(name)).collect();
                let mut lines = vec![heading.join("\t")];
                for row in rows {
                    let cells: Vec<String> = self.columns.iter().map(|name| cell(row.get(name))).collect();
                    lines.push(cells.join("\t"));
                }
                Ok(table::align(&lines))
            }
            "json" | "{{json .}}" => Ok(rows.iter().map(|row| html_safe(&sorted(row).to_json()) + "\n").collect()),
            format => match format.strip_prefix("table ") {
                Some(text) => {
                    let parsed = compile(&unescape(text.trim()))?;
                    let heads = self
                        .headings
                        .iter()
                        .map(|(name, heading)| ((*name).to_owned(), Value::text_of(*heading)))
                        .collect();
                    let mut lines = vec![parsed.heading(&Value::Map(heads)).map_err(|error| self.explain(error))?];
                    for row in rows {
                        lines.push(parsed.run(row).map_err(|error| self.explain(error))?);
                    }
                    Ok(table::align(&lines))
                }
                None => {
                    let parsed = compile(&unescape(format))?;
                    let mut out = String::new();
                    for row in rows {
                        out.push_str(&parsed.run(row).map_err(|error| self.explain(error))?);
                        out.push('\n');
                    }
                    Ok(out)
                }
            },
        }
    }

    fn heading<'b>(&'b self, name: &'b str) -> &'b str {
        self.headings.iter().find(|(key, _)| *key == name).map_or(name, |(_, heading)| heading)
    }

    fn explain(&self, error: template::Error) -> Error {
        let names: Vec<String> = self.headings.iter().map(|(name, _)| format!(".{name}")).collect();
        Error::new(format!("failed to execute template: {error}"))
            .hint(format!("Placeholders of this command: {}", names.join(" ")))
    }
}

/// Parses a template, with the message Docker's client has.
pub(crate) fn compile(text: &str) -> Result<template::Template> {
    template::Template::parse(text).map_err(|error| Error::new(format!("failed to parse template: {error}")))
}

/// `\t` and `\n` written out in a shell argument.
pub(crate) fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn cell(value: &Value) -> String {
    // A line end or tab in a name must not break the table.
    value.to_string().replace(['\t', '\n', '\r'], " ")
}

/// Rows as JSON have `<`, `>` and `&` escaped, unlike the `json` function of templates; scripts compare either.
fn html_safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn sorted(row: &Value) -> Value {
    let mut entries = row.entries().to_vec();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Map(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Value> {
        vec![
            serde_json::from_str(r#"{"Names":"web","ID":"abc","Image":"busybox"}"#).unwrap(),
            serde_json::from_str(r#"{"Names":"db\nx","ID":"def","Image":"debian"}"#).unwrap(),
        ]
    }
    fn show(format: &str, quiet: Option<&str>) -> Result<String> {
        let headings = [("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Image", "IMAGE")];
        Listing { headings: &headings, columns: &["ID", "Names"], format, quiet }.render(&rows())
    }

    #[test]
    fn every_form() {
        assert_eq!(show("", None).unwrap(), "CONTAINER ID   NAMES\nabc            web\ndef            db x\n");
        assert_eq!(show("", Some("ID")).unwrap(), "abc\ndef\n");
        assert_eq!(show("{{.Names}}:{{.Image}}", None).unwrap(), "web:busybox\ndb\nx:debian\n");
        assert_eq!(show(r"table {{.Names}}\t{{.ID}}", None).unwrap().lines().next().unwrap(), "NAMES     CONTAINER ID");
        assert_eq!(
            show("json", None).unwrap().lines().next().unwrap(),
            r#"{"ID":"abc","Image":"busybox","Names":"web"}"#
        );
        let error = show("{{.Foo}}", None).unwrap_err().to_string();
        assert!(error.contains("<.Foo>") && error.contains(".Names"), "{error}");
    }
}
