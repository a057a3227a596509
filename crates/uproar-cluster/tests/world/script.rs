//! Lua, with the commands of the model.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use mlua::{Error, Function, Lua, MultiValue, Table, Value};
use uproar_cluster::{Reply, Script};

use super::commands::answers_status;
use super::data::{Data, Outcome};

/// The scripts, compiled.
pub(super) struct Scripts {
    lua: Lua,
    functions: Vec<Function>,
}

impl Scripts {
    /// All of them, on this data.
    pub(super) fn new(data: &Rc<RefCell<Data>>) -> Self {
        Self::with(data, Script::ALL.map(|script| script.source))
    }

    pub(super) fn with<'a>(data: &Rc<RefCell<Data>>, sources: impl IntoIterator<Item = &'a str>) -> Self {
        let lua = Lua::new();
        let redis = lua.create_table().unwrap();
        for (name, raises) in [("call", true), ("pcall", false)] {
            let data = Rc::clone(data);
            let command = move |lua: &Lua, arguments: MultiValue| {
                let outcome = words(&arguments).and_then(|words| {
                    let name = String::from_utf8_lossy(&words[0]).into_owned();
                    Ok((name, data.borrow_mut().run(&words, true)?))
                });
                match outcome {
                    Ok((name, reply)) => to_lua(lua, &reply, answers_status(&name)),
                    Err(error) if raises => Err(Error::RuntimeError(error)),
                    Err(error) => table_with(lua, "err", &error),
                }
            };
            redis.set(name, lua.create_function(command).unwrap()).unwrap();
        }
        for (name, field) in [("error_reply", "err"), ("status_reply", "ok")] {
            let make = move |lua: &Lua, text: String| table_with(lua, field, &text);
            redis.set(name, lua.create_function(make).unwrap()).unwrap();
        }
        lua.globals().set("redis", redis).unwrap();
        let functions = sources.into_iter().map(|source| {
            // Lua does not know the line that tells Redis how to run it.
            let body = source.split_once('\n').map_or("", |(_, body)| body);
            lua.load(body).into_function().unwrap()
        });
        let functions = functions.collect();
        Self { lua, functions }
    }

    /// Runs a script, as Redis does: admitted as a whole, or not.
    pub(super) fn run(
        &self,
        data: &RefCell<Data>,
        script: Script,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Outcome {
        let (is_full, is_primary) = (data.borrow().is_full, data.borrow().is_primary);
        let flags = script.source.lines().next().unwrap_or("");
        assert!(flags.starts_with("#!lua"), "{}", script.name);
        if !flags.contains("no-writes") && is_full {
            return Err("OOM command not allowed when used memory > 'maxmemory'.".to_owned());
        }
        if !flags.contains("no-writes") && !is_primary {
            return Err("READONLY You can't write against a read only replica.".to_owned());
        }
        let index = Script::ALL.iter().position(|it| *it == script).unwrap();
        let texts = |texts: &mut dyn Iterator<Item = &[u8]>| {
            let texts: Vec<_> = texts.map(|text| self.lua.create_string(text).unwrap()).collect();
            self.lua.create_sequence_from(texts).unwrap()
        };
        self.lua.globals().set("KEYS", texts(&mut keys.iter().map(String::as_bytes))).unwrap();
        self.lua.globals().set("ARGV", texts(&mut arguments.iter().map(Vec::as_slice))).unwrap();
        match self.functions[index].call::<Value>(()) {
            Ok(value) => from_lua(&value),
            // What a command has raised is the error; what Lua adds is where.
            Err(Error::CallbackError { cause, .. }) => match &*cause {
                Error::RuntimeError(text) => Err(text.clone()),
                other => Err(format!("ERR {other}")),
            },
            Err(other) => Err(format!("ERR {other}")),
        }
    }
}

/// What a command is given: strings and numbers.
fn words(arguments: &MultiValue) -> Result<Vec<Bytes>, String> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Integer(number) => Ok(number.to_string().into()),
        // Redis writes 17 digits, without an exponent for whole numbers.
        Value::Number(number) => Ok(number.to_string().into()),
        _ => Err("ERR Lua redis lib command arguments must be strings or integers".to_owned()),
    };
    let words: Result<Vec<Bytes>, String> = arguments.iter().map(word).collect();
    words.and_then(|words| {
        if words.is_empty() {
            return Err("ERR Please specify at least one argument for this redis lib call".to_owned());
        }
        Ok(words)
    })
}

fn table_with(lua: &Lua, field: &str, text: &str) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.set(field, text)?;
    Ok(Value::Table(table))
}

fn to_lua(lua: &Lua, reply: &Reply, is_status: bool) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Nil => Value::Boolean(false),
        Reply::Number(number) => Value::Number(*number as f64),
        Reply::Text(text) if is_status => table_with(lua, "ok", &String::from_utf8_lossy(text))?,
        Reply::Text(text) => Value::String(lua.create_string(text)?),
        Reply::List(list) => {
            let values: mlua::Result<Vec<Value>> =
                list.iter().map(|reply| to_lua(lua, reply, false)).collect();
            Value::Table(lua.create_sequence_from(values?)?)
        }
        Reply::Error(error) => table_with(lua, "err", error)?,
    })
}

fn from_lua(value: &Value) -> Outcome {
    Ok(match value {
        Value::Boolean(true) => Reply::Number(1),
        Value::Integer(number) => Reply::Number(*number),
        Value::Number(number) => Reply::Number(*number as i64),
        Value::String(text) => Reply::Text(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Table(table) => return from_table(table),
        _ => Reply::Nil,
    })
}

fn from_table(table: &Table) -> Outcome {
    if let Ok(error) = table.raw_get::<String>("err") {
        return Err(error);
    }
    if let Ok(status) = table.raw_get::<String>("ok") {
        return Ok(Reply::Text(status.into()));
    }
    let mut list = Vec::new();
    loop {
        match table.raw_get::<Value>(list.len() + 1).unwrap() {
            // A list ends with the first nil.
            Value::Nil => return Ok(Reply::List(list)),
            value => list.push(from_lua(&value).unwrap_or_else(Reply::Error)),
        }
    }
}
