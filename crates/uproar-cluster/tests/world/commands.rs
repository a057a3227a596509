//! Commands.

use bytes::Bytes;
use uproar_cluster::Reply;

use super::data::{Data, Outcome, Value};

/// Those that write. A replica, and a Redis that is full, refuse them.
const WRITES: [&str; 15] = [
    "DEL", "FLUSHALL", "HDEL", "HINCRBY", "HSET", "HSETNX", "LPOP", "LSET", "LTRIM", "RENAME", "RPUSH",
    "SET", "UNLINK", "XADD", "XTRIM",
];

/// Those that a full Redis takes, because they need no memory.
const FREEING: [&str; 7] = ["DEL", "FLUSHALL", "HDEL", "LPOP", "LTRIM", "UNLINK", "XTRIM"];

/// Those that answer `+OK`, which a script sees as a table.
const STATUS: [&str; 5] = ["FLUSHALL", "LSET", "LTRIM", "RENAME", "SET"];

pub(super) fn answers_status(name: &str) -> bool {
    STATUS.contains(&name.to_ascii_uppercase().as_str())
}

fn text(bytes: &Bytes) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "ERR syntax error".to_owned())
}

fn number(bytes: &Bytes) -> Result<i64, String> {
    text(bytes)?.parse().map_err(|_| "ERR value is not an integer or out of range".to_owned())
}

fn count(count: usize) -> Outcome {
    Ok(Reply::Number(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn or_nil(value: Option<&Bytes>) -> Reply {
    value.cloned().map_or(Reply::Nil, Reply::Text)
}

fn ok() -> Outcome {
    Ok(Reply::Text("OK".into()))
}

/// The places from `from` to `to`, of which negative ones count from the end.
fn places(length: usize, from: i64, to: i64) -> std::ops::Range<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |place: i64| if place < 0 { (length + place).max(0) } else { place };
    let (from, to) = (place(from), if to < 0 { length + to } else { to }.min(length - 1));
    if from > to { 0..0 } else { usize::try_from(from).unwrap_or(0)..usize::try_from(to + 1).unwrap_or(0) }
}

impl Data {
    /// Runs a command. A script has been admitted as a whole, so it may write to a Redis that is full.
    pub(super) fn run(&mut self, words: &[Bytes], is_in_script: bool) -> Outcome {
        let [name, arguments @ ..] = words else { return Err("ERR no command".to_owned()) };
        let name = text(name)?.to_ascii_uppercase();
        let writes = WRITES.contains(&name.as_str());
        if writes && !self.is_primary {
            return Err("READONLY You can't write against a read only replica.".to_owned());
        }
        if writes && self.is_full && !is_in_script && !FREEING.contains(&name.as_str()) {
            return Err("OOM command not allowed when used memory > 'maxmemory'.".to_owned());
        }
        if writes {
            self.offset += 1;
        }
        match name.as_str() {
            "TIME" => {
                let (seconds, micros) = (self.clock_ms / 1_000, self.clock_ms % 1_000 * 1_000);
                Ok(Reply::List([seconds, micros].map(|it| Reply::Text(it.to_string().into())).into()))
            }
            "INFO" => {
                let role = if self.is_primary { "master" } else { "slave" };
                Ok(Reply::Text(
                    format!("# Replication\r\nrole:{role}\r\nmaster_replid:{}\r\n", self.replication_id)
                        .into(),
                ))
            }
            "FLUSHALL" => {
                self.keys.clear();
                ok()
            }
            "DEL" | "UNLINK" => {
                count(arguments.iter().filter(|key| self.keys.remove(*key).is_some()).count())
            }
            _ => match (name.as_bytes()[0], arguments) {
                (b'H', [key, rest @ ..]) => self.run_hash(&name, key, rest),
                (b'X', _) => self.run_stream(&name, arguments),
                (_, [key, rest @ ..]) => self.run_list(&name, key, rest),
                _ => Err(format!("ERR unknown command or wrong number of arguments for '{name}'")),
            },
        }
    }

    fn run_hash(&mut self, name: &str, key: &Bytes, rest: &[Bytes]) -> Outcome {
        match (name, rest) {
            ("HGET", [field]) => Ok(or_nil(self.hash(key)?.and_then(|hash| hash.get(field)))),
            ("HMGET", fields) if !fields.is_empty() => {
                let hash = self.hash(key)?;
                let values = fields.iter().map(|field| or_nil(hash.and_then(|hash| hash.get(field))));
                Ok(Reply::List(values.collect()))
            }
            ("HLEN", []) => count(self.hash(key)?.map_or(0, |hash| hash.len())),
            ("HGETALL" | "HVALS" | "HKEYS", []) => {
                let mut values = Vec::new();
                for (field, value) in self.hash(key)?.into_iter().flatten() {
                    if name != "HVALS" {
                        values.push(Reply::Text(field.clone()));
                    }
                    if name != "HKEYS" {
                        values.push(Reply::Text(value.clone()));
                    }
                }
                Ok(Reply::List(values))
            }
            ("HSCAN", [cursor, ..]) => self.scan(key, cursor),
            ("HSET", pairs) if !pairs.is_empty() && pairs.len() % 2 == 0 => {
                let hash = self.hash_mut(key)?;
                let new = pairs
                    .as_chunks()
                    .0
                    .iter()
                    .filter(|[field, value]| hash.insert(field.clone(), value.clone()).is_none());
                count(new.count())
            }
            ("HSETNX", [field, value]) => {
                let hash = self.hash_mut(key)?;
                let is_new = !hash.contains_key(field);
                hash.entry(field.clone()).or_insert_with(|| value.clone());
                count(is_new.into())
            }
            ("HINCRBY", [field, more]) => {
                let more = number(more)?;
                let hash = self.hash_mut(key)?;
                let sum = hash.get(field).map_or(Ok(0), number)? + more;
                hash.insert(field.clone(), sum.to_string().into());
                Ok(Reply::Number(sum))
            }
            ("HDEL", fields) if !fields.is_empty() => {
                if self.hash(key)?.is_none() {
                    return count(0);
                }
                let hash = self.hash_mut(key)?;
                let removed = fields.iter().filter(|field| hash.remove(*field).is_some()).count();
                self.remove_if_empty(key);
                count(removed)
            }
            _ => Err(format!("ERR unknown command or wrong number of arguments for '{name}'")),
        }
    }

    /// Redis goes through a hash by the hashes of its fields. So does this, and what is there all the time comes once.
    fn scan(&self, key: &Bytes, cursor: &Bytes) -> Outcome {
        let cursor: u64 = text(cursor)?.parse().map_err(|_| "ERR invalid cursor".to_owned())?;
        let place = |field: &Bytes| {
            field.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            }) >> 16
                | 1
        };
        let hash = self.hash(key)?;
        let mut pairs: Vec<(u64, &Bytes, &Bytes)> =
            hash.into_iter().flatten().map(|(field, value)| (place(field), field, value)).collect();
        pairs.sort_unstable();
        pairs.retain(|(place, ..)| *place >= cursor);
        let max = self.scan_max.unwrap_or(usize::MAX);
        let next = pairs.get(max).map_or(0, |(place, ..)| *place);
        // Fields at one place come together.
        let now = pairs.iter().filter(|(place, ..)| next == 0 || *place < next);
        let values = now.flat_map(|(_, field, value)| [field, value]);
        let values = values.map(|value| Reply::Text((*value).clone())).collect();
        Ok(Reply::List(vec![Reply::Text(next.to_string().into()), Reply::List(values)]))
    }

    fn run_list(&mut self, name: &str, key: &Bytes, rest: &[Bytes]) -> Outcome {
        match (name, rest) {
            ("SET", [value, ..]) => {
                self.keys.insert(key.clone(), Value::Text(value.clone()));
                ok()
            }
            ("RENAME", [to]) => match self.keys.remove(key) {
                Some(value) => {
                    self.keys.insert(to.clone(), value);
                    ok()
                }
                None => Err("ERR no such key".to_owned()),
            },
            ("LLEN", []) => count(self.list(key)?.map_or(0, |list| list.len())),
            ("LINDEX", [index]) => {
                let index = number(index)?;
                let Some(list) = self.list(key)? else { return Ok(Reply::Nil) };
                let place = places(list.len(), index, index);
                let is_there = index >= -i64::try_from(list.len()).unwrap_or(0);
                Ok(or_nil(if is_there { list.range(place).next() } else { None }))
            }
            ("LRANGE", [from, to]) => {
                let (from, to) = (number(from)?, number(to)?);
                let Some(list) = self.list(key)? else { return Ok(Reply::List(Vec::new())) };
                Ok(Reply::List(list.range(places(list.len(), from, to)).cloned().map(Reply::Text).collect()))
            }
            ("RPUSH", values) if !values.is_empty() => {
                let list = self.list_mut(key)?;
                list.extend(values.iter().cloned());
                count(list.len())
            }
            ("LPOP", []) => {
                if self.list(key)?.is_none() {
                    return Ok(Reply::Nil);
                }
                let first = self.list_mut(key)?.pop_front();
                self.remove_if_empty(key);
                Ok(or_nil(first.as_ref()))
            }
            ("LSET", [index, value]) => {
                let index = number(index)?;
                let Some(length) = self.list(key)?.map(|list| list.len()) else {
                    return Err("ERR no such key".to_owned());
                };
                let place = places(length, index, index).next();
                let list = self.list_mut(key)?;
                match place.and_then(|place| list.get_mut(place)) {
                    Some(old) => *old = value.clone(),
                    None => return Err("ERR index out of range".to_owned()),
                }
                ok()
            }
            ("LTRIM", [from, to]) => {
                let (from, to) = (number(from)?, number(to)?);
                if let Some(length) = self.list(key)?.map(|list| list.len()) {
                    let kept = places(length, from, to);
                    let list = self.list_mut(key)?;
                    list.truncate(kept.end);
                    list.drain(..kept.start);
                    self.remove_if_empty(key);
                }
                ok()
            }
            _ => Err(format!("ERR unknown command or wrong number of arguments for '{name}'")),
        }
    }

    fn run_stream(&mut self, name: &str, arguments: &[Bytes]) -> Outcome {
        match (name, arguments) {
            ("XADD", [key, id, fields @ ..]) if !fields.is_empty() && fields.len() % 2 == 0 => {
                self.stream_mut(key)?.add(text(id)?, fields)?;
                Ok(Reply::Text(id.clone()))
            }
            ("XTRIM", [key, mode, approximately, id, ..]) if mode == "MINID" && approximately == "~" => {
                if self.stream(key)?.is_none() {
                    return count(0);
                }
                count(self.stream_mut(key)?.trim_before(text(id)?)?)
            }
            ("XRANGE", [key, from, to]) => {
                let Some(stream) = self.stream(key)? else { return Ok(Reply::List(Vec::new())) };
                Ok(Reply::List(stream.range(text(from)?, text(to)?)?))
            }
            ("XLEN", [key]) => count(self.stream(key)?.map_or(0, |stream| stream.len())),
            ("XREAD", [word, max, streams, key, id]) if word == "COUNT" && streams == "STREAMS" => {
                let max = usize::try_from(number(max)?).unwrap_or(0);
                let entries = match self.stream(key)? {
                    Some(stream) => stream.behind(text(id)?, max)?,
                    None => Vec::new(),
                };
                if entries.is_empty() {
                    return Ok(Reply::Nil);
                }
                let stream = Reply::List(vec![Reply::Text(key.clone()), Reply::List(entries)]);
                Ok(Reply::List(vec![stream]))
            }
            _ => Err(format!("ERR unknown command or wrong number of arguments for '{name}'")),
        }
    }
}
