//! `top`: the processes of a container.

use super::container_path;
use crate::{
    flags::{Arity, Command},
    format::{Value, table},
    term::output::print,
};

pub(super) static TOP: Command = Command {
    paths: &["container top", "top"],
    synopsis: "CONTAINER [ps OPTIONS]",
    about: "Show the processes of a container",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: false,
    run: |parsed, session| {
        let options = parsed.args[1..].join(" ");
        let answer: Value = session
            .client()?
            .get(container_path(parsed.first(), "/top"))
            .query_opt("ps_args", (!options.is_empty()).then_some(options.as_str()))
            .send()?
            .json()?;
        let line = |row: &Value| row.items().iter().map(Value::as_str).collect::<Vec<_>>().join("\t");
        let mut rows = vec![line(answer.get("Titles"))];
        rows.extend(answer.get("Processes").items().iter().map(line));
        print(&table::align_with(&rows, 20, 1))?;
        Ok(0)
    },
};
