//! The part of Go's `text/template` that `--format` is used with: fields, variables, pipelines, `if`, `range`, `with`,
//! comparison, and the functions Docker's client adds (`json`, `join`, `upper`, …).
//!
//! Templates are written by the user, documents come from the daemon; both are bounded: nesting while parsing, and
//! nothing here loops except over a document's elements.

mod eval;
mod functions;
mod lexer;
mod parser;

use super::Value;

/// Why a template cannot be read or run; worded as Go does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(pub(crate) String);

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        parser::parse(text).map(|nodes| Self { nodes })
    }

    /// Runs it over a document.
    pub(crate) fn run(&self, data: &Value) -> Result<String, Error> {
        eval::run(&self.nodes, data, false)
    }

    /// Runs it over headings: functions that would change a value leave it alone.
    pub(crate) fn heading(&self, data: &Value) -> Result<String, Error> {
        eval::run(&self.nodes, data, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"Id":"abc","Name":"/web","Size":1024,"Ok":true,"None":null,"Empty":[],
        "State":{"Status":"running","Pid":7},"Tags":["a:1","b:2"],
        "Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"90/udp":null},
        "Labels":{"a":"x","b.c":"y"}}"#;

    fn run(text: &str) -> Result<String, Error> {
        Template::parse(text)?.run(&serde_json::from_str(DATA).unwrap())
    }

    #[test]
    fn what_scripts_use() {
        for (text, want) in [
            ("{{.Id}} {{.ID}}", "abc abc"),
            ("{{.State.Status}}", "running"),
            ("{{json .State}}", r#"{"Status":"running","Pid":7}"#),
            ("{{.State | json}}", r#"{"Status":"running","Pid":7}"#),
            ("{{.Tags}}", "[a:1 b:2]"),
            ("{{index .Tags 1}}", "b:2"),
            ("{{index .Labels \"b.c\"}}", "y"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=x;b.c=y;"),
            ("{{range $i, $t := .Tags}}{{$i}}{{$t}} {{end}}", "0a:1 1b:2 "),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            (
                "{{range $p, $conf := .Ports}}{{$p}} -> {{if $conf}}{{(index $conf 0).HostPort}}{{end}} {{end}}",
                "80/tcp -> 8080 90/udp ->  ",
            ),
            ("{{if .Ok}}yes{{else}}no{{end}}", "yes"),
            ("{{if not .Ok}}a{{else if eq .Size 1024}}b{{else}}c{{end}}", "b"),
            ("{{if .State.Health}}h{{else}}-{{end}}", "-"),
            ("{{with .State}}{{.Pid}}/{{$.Id}}{{end}}", "7/abc"),
            ("{{join .Tags \",\"}}", "a:1,b:2"),
            ("{{upper .Id}}{{lower \"ABC\"}}{{title \"abc\"}}", "ABCabcAbc"),
            ("{{len .Tags}} {{len .Id}}", "2 3"),
            ("{{slice .Id 1 3}}", "bc"),
            ("{{truncate .Name 2}}|{{pad .Id 1 2}}|", "/w| abc  |"),
            ("{{println .Id}}x", "abc\nx"),
            (
                "{{printf \"%s-%d-%5.1f-%q-%v-%-4s|\" .Id .Size 2.5 .Id .Tags .Id}}",
                "abc-1024-  2.5-\"abc\"-[a:1 b:2]-abc |",
            ),
            ("{{split \"a,b\" \",\"}}", "[a b]"),
            ("{{eq .Id \"x\" \"abc\"}} {{ne .Size 1}} {{lt 1 2}} {{ge 1 2}}", "true true true false"),
            ("{{and .Ok .Id}} {{or .Empty \"d\"}}", "abc d"),
            ("a {{- /* c */ -}} b", "ab"),
            ("{{$x := .Id}}{{$x}}{{$x = \"n\"}}{{$x}}", "abcn"),
            ("{{`raw`}}{{\"q\\n\"}}{{true}}{{nil}}", "rawq\ntrue<nil>"),
            ("{{range .Tags}}{{if eq . \"b:2\"}}{{break}}{{end}}{{.}}{{end}}", "a:1"),
            ("{{.None}}", "<no value>"),
            ("{{\"{{\"}}", "{{"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, want) in [
            ("{{.Foo}}", "map has no entry for key \"Foo\""),
            ("{{.State.Health.Status}}", "map has no entry for key \"Health\""),
            ("{{foo}}", "function \"foo\" not defined"),
            ("{{.Id", "unclosed action"),
            ("{{if .Ok}}", "unexpected EOF"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{index .Tags 5}}", "index out of range: 5"),
            ("{{template \"x\"}}", "not supported"),
            ("{{$nope}}", "undefined variable \"$nope\""),
            ("{{.Id.Name}}", "can't evaluate field Name"),
            ("{{len .Size}}", "len of type"),
            ("{{\"open}}", "unterminated quoted string"),
        ] {
            let error = run(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        let deep = "{{if .Ok}}".repeat(10_000);
        assert!(run(&deep).unwrap_err().to_string().contains("nested"));
        let parens = format!("{{{{{}}}}}", "(".repeat(10_000));
        assert!(run(&parens).is_err());
    }
}
