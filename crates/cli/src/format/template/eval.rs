//! Runs a parsed template. A missing key is an error when printed or looked into, and false when tested: documents
//! leave out what is empty, and `{{if .State.Health}}` must still work.

use std::borrow::Cow;

use super::{
    Error, Value, functions,
    parser::{Node, Operand, Pipeline},
};

/// A value, or the key that was not there.
type Found<'a> = Result<Cow<'a, Value>, Missing>;

#[derive(Clone, Debug)]
enum Missing {
    Key { chain: String, key: String },
    Error(Error),
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Key { chain, key } => {
                Self(format!("template: :1:2: executing \"\" at <{chain}>: map has no entry for key {key:?}"))
            }
            Missing::Error(error) => error,
        }
    }
}

impl From<Error> for Missing {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

struct Run<'a> {
    root: &'a Value,
    /// Innermost last.
    variables: Vec<(&'a str, Cow<'a, Value>)>,
    out: String,
    heading: bool,
}

/// What a list of nodes asks of the loop around it.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn run(nodes: &[Node], data: &Value, heading: bool) -> Result<String, Error> {
    let mut run = Run { root: data, variables: Vec::new(), out: String::new(), heading };
    run.nodes(nodes, data)?;
    Ok(run.out)
}

impl<'a> Run<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Result<Flow, Error> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Value) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?.into_owned();
                if pipeline.variables.is_empty() {
                    match value {
                        Value::Null => self.out.push_str("<no value>"),
                        value => self.out.push_str(&value.to_string()),
                    }
                } else {
                    self.assign(pipeline, value);
                }
            }
            Node::If { test, then, other } | Node::With { value: test, then, other } => {
                let value = match self.pipeline(test, dot) {
                    Ok(value) => value.into_owned(),
                    Err(Missing::Key { .. }) => Value::Null,
                    Err(error) => return Err(error.into()),
                };
                let scope = self.variables.len();
                let truth = is_true(&value);
                let inner = if matches!(node, Node::With { .. }) && truth { value.clone() } else { dot.clone() };
                if !test.variables.is_empty() {
                    self.assign(test, value);
                }
                let flow = self.nodes(if truth { then } else { other }, &inner);
                if test.declares {
                    self.variables.truncate(scope);
                }
                return flow;
            }
            Node::Range { value, body, other } => return self.range(value, body, other, dot),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        pipeline: &'a Pipeline,
        body: &'a [Node],
        other: &'a [Node],
        dot: &Value,
    ) -> Result<Flow, Error> {
        let value = match self.pipeline(pipeline, dot) {
            Ok(value) => value.into_owned(),
            Err(Missing::Key { .. }) => Value::Null,
            Err(error) => return Err(error.into()),
        };
        let items: Vec<(Value, Value)> = match value {
            Value::Null => Vec::new(),
            Value::List(items) => {
                items.into_iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item)).collect()
            }
            Value::Map(mut entries) => {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries.into_iter().map(|(key, value)| (Value::Text(key), value)).collect()
            }
            other => return Err(Error(format!("template: :1: range can't iterate over {other}"))),
        };
        if items.is_empty() {
            return self.nodes(other, dot);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            match pipeline.variables.as_slice() {
                [one] => self.variables.push((one, Cow::Owned(item.clone()))),
                [first, second] => {
                    self.variables.push((first, Cow::Owned(key)));
                    self.variables.push((second, Cow::Owned(item.clone())));
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn assign(&mut self, pipeline: &'a Pipeline, value: Value) {
        let Some(name) = pipeline.variables.first() else { return };
        if !pipeline.declares
            && let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| known == name)
        {
            slot.1 = Cow::Owned(value);
            return;
        }
        self.variables.push((name, Cow::Owned(value)));
    }

    fn pipeline<'d>(&self, pipeline: &'a Pipeline, dot: &'d Value) -> Found<'d>
    where
        'a: 'd,
    {
        let mut piped: Option<Value> = None;
        let last = pipeline.commands.len().saturating_sub(1);
        for (at, command) in pipeline.commands.iter().enumerate() {
            let value = self.command(command, piped.take(), dot)?;
            if at == last {
                return Ok(value);
            }
            piped = Some(value.into_owned());
        }
        Err(Error("template: :1: missing value for command".into()).into())
    }

    fn command<'d>(&self, command: &'a [Operand], piped: Option<Value>, dot: &'d Value) -> Found<'d>
    where
        'a: 'd,
    {
        let Some((head, rest)) = command.split_first() else {
            return Err(Error("template: :1: missing value for command".into()).into());
        };
        let Operand::Function(name) = head else {
            if !rest.is_empty() || piped.is_some() {
                return Err(Error("template: :1: can't give argument to non-function".into()).into());
            }
            return self.operand(head, dot);
        };
        // These two stop at the first value that decides.
        if matches!(name.as_str(), "and" | "or") {
            let mut value = Value::Null;
            for operand in rest {
                value = self.tested(operand, dot)?;
                if is_true(&value) == (name == "or") {
                    return Ok(Cow::Owned(value));
                }
            }
            return Ok(Cow::Owned(piped.unwrap_or(value)));
        }
        if name == "not" && piped.is_none() && rest.len() == 1 {
            return Ok(Cow::Owned(Value::Bool(!is_true(&self.tested(&rest[0], dot)?))));
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(operand, dot)?.into_owned());
        }
        args.extend(piped);
        if self.heading && functions::keeps_heading(name) && args.iter().any(|arg| matches!(arg, Value::Text(_))) {
            let kept = args.into_iter().find(|arg| matches!(arg, Value::Text(_)));
            return Ok(Cow::Owned(kept.unwrap_or_default()));
        }
        Ok(Cow::Owned(functions::call(name, &args)?))
    }

    /// A value that is only tested: what is missing counts as null.
    fn tested(&self, operand: &'a Operand, dot: &Value) -> Result<Value, Missing> {
        match self.operand(operand, dot) {
            Ok(value) => Ok(value.into_owned()),
            Err(Missing::Key { .. }) => Ok(Value::Null),
            Err(error) => Err(error),
        }
    }

    fn operand<'d>(&self, operand: &'a Operand, dot: &'d Value) -> Found<'d>
    where
        'a: 'd,
    {
        match operand {
            Operand::Constant(value) => Ok(Cow::Borrowed(value)),
            Operand::Field(fields) => walk(Cow::Borrowed(dot), fields, ""),
            Operand::Variable(name, fields) => {
                if name.is_empty() {
                    return walk(Cow::Borrowed(self.root), fields, "$").map(|value| Cow::Owned(value.into_owned()));
                }
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| Error(format!("template: :1: undefined variable \"${name}\"")))?;
                walk(Cow::Owned(value.as_ref().clone()), fields, "")
            }
            Operand::Function(name) => Ok(Cow::Owned(functions::call(name, &[])?)),
            Operand::Nested(pipeline, fields) => walk(self.pipeline(pipeline, dot)?, fields, ""),
        }
    }
}

fn walk<'d>(mut value: Cow<'d, Value>, fields: &[String], prefix: &str) -> Found<'d> {
    let mut chain = prefix.to_owned();
    for field in fields {
        chain.push('.');
        chain.push_str(field);
        let next = match &value {
            Cow::Borrowed(inner) => inner.find(field).map(Cow::Borrowed),
            Cow::Owned(inner) => inner.find(field).cloned().map(Cow::Owned),
        };
        value = match (next, value.as_ref()) {
            (Some(next), _) => next,
            (None, Value::Map(_) | Value::Null) => return Err(Missing::Key { chain, key: field.clone() }),
            (None, other) => {
                let kind = functions::type_name(other);
                return Err(Error(format!(
                    "template: :1:2: executing \"\" at <{chain}>: can't evaluate field {field} in type {kind}"
                ))
                .into());
            }
        };
    }
    Ok(value)
}

pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
    }
}
