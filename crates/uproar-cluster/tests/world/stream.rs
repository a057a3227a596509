//! Streams.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use uproar_cluster::Reply;

type Id = (u64, u64);

/// A stream. It remembers its last id when the entry is trimmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    entries: BTreeMap<Id, Vec<Bytes>>,
    last: Id,
}

impl Stream {
    pub(super) fn add(&mut self, id: &str, fields: &[Bytes]) -> Result<(), String> {
        let id = parse(id, 0)?;
        if id <= self.last {
            return Err(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item".to_owned()
            );
        }
        self.last = id;
        self.entries.insert(id, fields.to_vec());
        Ok(())
    }

    pub(super) fn trim_before(&mut self, id: &str) -> Result<usize, String> {
        let kept = self.entries.split_off(&parse(id, 0)?);
        Ok(std::mem::replace(&mut self.entries, kept).len())
    }

    pub(super) fn behind(&self, id: &str, count: usize) -> Result<Vec<Reply>, String> {
        let range = (Bound::Excluded(parse(id, 0)?), Bound::Unbounded);
        Ok(self.entries.range(range).take(count).map(entry).collect())
    }

    pub(super) fn range(&self, from: &str, to: &str) -> Result<Vec<Reply>, String> {
        let from = match from.strip_prefix('(') {
            Some(id) => Bound::Excluded(parse(id, 0)?),
            None => Bound::Included(parse(from, 0)?),
        };
        let to = parse(to, u64::MAX)?;
        Ok(self.entries.range((from, Bound::Unbounded)).take_while(|(id, _)| **id <= to).map(entry).collect())
    }

    pub(super) fn last(&self) -> u64 {
        self.last.0
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// `-` and `+` are the ends; an id without its second number has this one.
fn parse(text: &str, second: u64) -> Result<Id, String> {
    let invalid = || "ERR Invalid stream ID specified as stream command argument".to_owned();
    let number = |text: &str| text.parse::<u64>().map_err(|_| invalid());
    match text {
        "-" => Ok((0, 0)),
        "+" => Ok((u64::MAX, u64::MAX)),
        _ => match text.split_once('-') {
            Some((first, second)) => Ok((number(first)?, number(second)?)),
            None => Ok((number(text)?, second)),
        },
    }
}

fn entry((id, fields): (&Id, &Vec<Bytes>)) -> Reply {
    let fields = fields.iter().cloned().map(Reply::Text).collect();
    Reply::List(vec![Reply::Text(format!("{}-{}", id.0, id.1).into()), Reply::List(fields)])
}
