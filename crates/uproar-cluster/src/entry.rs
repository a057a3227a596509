//! An entry of the log: a batch with what was decided about it.

use bytes::Bytes;

use crate::format::is_readable;
use crate::{Answer, BadReply, Batch, FORMAT, LiveNode, Proposal, Reply, Tag};

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place: 1, 2, 3 … without gaps.
    pub number: u64,
    /// The batch that it is.
    pub tag: Tag,
    /// The batch of the entry before it; `None` in the first.
    pub previous: Option<Tag>,
    /// When it was appended, in Unix milliseconds by the clock of Redis. It is never earlier than the entry before.
    pub time_ms: u64,
    /// The bytes of all entries up to this one.
    pub total_bytes: u64,
    /// The version of what its node has written.
    pub format: u16,
    /// The proposals.
    pub batch: Batch,
    /// One for each proposal.
    pub answers: Vec<Answer>,
}

/// Why something is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// The id of a stream's entry is not a number and `-0`.
    #[error("its id is not a number and -0")]
    Id,
    /// A field is missing or cannot be read.
    #[error("its field {0} is missing or cannot be read")]
    Field(&'static str),
    /// It is written in a format that this version does not know.
    #[error("its format is {0}, and this version reads {FORMAT} and the one before")]
    Format(u16),
    /// It is not even shaped like one.
    #[error(transparent)]
    Reply(#[from] BadReply),
}

impl Entry {
    /// Reads an entry of the stream, as `XREAD` and `XRANGE` answer it: its id, and a list of its fields and values.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(reply: &Reply) -> Result<Self, BadEntry> {
        const NAMES: [&str; 8] =
            ["prev", "tag", "time", "total", "format", "proposals", "payloads", "answers"];
        let [id, fields] = reply.list()? else { return Err(BadReply.into()) };
        let mut values: [Option<&Bytes>; NAMES.len()] = [None; NAMES.len()];
        for [name, value] in fields.list()?.as_chunks().0 {
            if let Reply::Text(value) = value
                && let Some(index) = NAMES.iter().position(|it| name.text() == Ok(it))
            {
                values[index] = Some(value);
            }
        }
        let raw = |index: usize| values[index].ok_or(BadEntry::Field(NAMES[index]));
        let text = |index: usize| std::str::from_utf8(raw(index)?).map_err(|_| BadEntry::Field(NAMES[index]));
        let number = |index: usize| text(index)?.parse::<u64>().map_err(|_| BadEntry::Field(NAMES[index]));

        let place =
            id.text()?.strip_suffix("-0").and_then(|number| number.parse().ok()).ok_or(BadEntry::Id)?;
        let format = text(4)?.parse().map_err(|_| BadEntry::Field("format"))?;
        if !is_readable(format) {
            return Err(BadEntry::Format(format));
        }
        let tag = |index: usize| text(index)?.parse::<Tag>().map_err(|_| BadEntry::Field(NAMES[index]));
        let previous = if text(0)?.is_empty() { None } else { Some(tag(0)?) };
        let batch = Batch::decode(raw(5)?, raw(6)?.clone()).ok_or(BadEntry::Field("proposals"))?;
        let answers: Result<Vec<Answer>, _> = text(7)?.split(',').map(str::parse).collect();
        let answers = answers.ok().filter(|answers| answers.len() == batch.proposals().len());
        Ok(Self {
            number: place,
            tag: tag(1)?,
            previous,
            time_ms: number(2)?,
            total_bytes: number(3)?,
            format,
            batch,
            answers: answers.ok_or(BadEntry::Field("answers"))?,
        })
    }

    /// The answers as the log has them.
    #[must_use]
    pub fn answers_text(&self) -> String {
        self.answers.iter().map(Answer::to_string).collect::<Vec<_>>().join(",")
    }

    /// The fields and values that the log has of it.
    pub(crate) fn fields(&self) -> Vec<Vec<u8>> {
        let (proposals, payloads) = self.batch.encode();
        let texts = [
            ("prev", self.previous.as_ref().map(Tag::to_string).unwrap_or_default()),
            ("tag", self.tag.to_string()),
            ("time", self.time_ms.to_string()),
            ("total", self.total_bytes.to_string()),
            ("format", self.format.to_string()),
            ("answers", self.answers_text()),
        ];
        let texts = texts.into_iter().flat_map(|(name, text)| [name.into(), text.into_bytes()]);
        texts.chain([b"proposals".to_vec(), proposals, b"payloads".to_vec(), payloads]).collect()
    }

    /// The lives of nodes that end with this entry: in order, because another process of the name begins, or because
    /// the others have declared them gone. Whoever was a member there is one no longer.
    pub fn ended(&self) -> impl Iterator<Item = LiveNode> {
        let own = |incarnation| LiveNode { node: self.tag.node.clone(), incarnation };
        self.decisions().filter_map(move |decision| match decision {
            (Proposal::NodeGone { seen }, Answer::Done) => Some(seen.live()),
            (Proposal::Begin { replaces: Some(replaced), .. }, Answer::Done) => Some(own(*replaced)),
            (Proposal::End, Answer::Done) => Some(own(self.tag.incarnation)),
            _ => None,
        })
    }

    /// Each proposal with its answer.
    pub fn decisions(&self) -> impl Iterator<Item = (&Proposal, &Answer)> {
        self.batch.proposals().iter().zip(&self.answers)
    }
}
