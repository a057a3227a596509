//! What a broadcast carries: which run it belongs to, which broadcast it is, when it was meant to be
//! sent and when it was.
//!
//! Raw and echo carry it in 32 bytes: magic, run token, sequence number, intended and actual time, big
//! endian. Chat carries the same as 47 characters that JSON does not escape:
//! `~lgTTTTTTTT.SSSSSSSS.IIIIIIIIIIII.AAAAAAAAAAAA.` in hexadecimal. Padding follows in both.

/// The fewest bytes of a raw or echo payload.
pub const BINARY_BYTES_MIN: usize = 32;
/// The fewest bytes of a chat message's content.
pub const TEXT_BYTES_MIN: usize = 47;

const MAGIC: [u8; 4] = *b"uLG1";
/// Where the sequence number begins in a text stamp, counted from its mark.
const TEXT_SEQUENCE_AT: usize = 12;
/// Times travel as twelve hexadecimal digits: 48 bits of nanoseconds are 78 hours.
const TEXT_TIME_MAX: u64 = (1 << 48) - 1;

/// What identifies and dates one broadcast. Times are of the run's [`crate::clock::Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which broadcast, counted from 0 over the whole run, the warm-up included.
    pub sequence: u64,
    /// When it was due.
    pub intended_ns: u64,
    /// When it was handed to the kernel.
    pub sent_ns: u64,
}

/// Writes and recognises the payloads of one run.
#[derive(Clone, Debug)]
pub struct Template {
    token: u32,
    mark: [u8; 11],
    payload_bytes: usize,
    /// As long as the longest padding; text and binary differ in how much of it they use.
    padding: Vec<u8>,
}

impl Template {
    /// Payloads of `payload_bytes` for the run `token`. Too small a size is the caller's mistake: the
    /// plan refuses it.
    #[must_use]
    pub fn new(token: u32, payload_bytes: usize) -> Self {
        let mut mark = [0; 11];
        mark[..3].copy_from_slice(b"~lg");
        put_hex(&mut mark[3..], u64::from(token));
        let padding = b"abcdefghijklmnopqrstuvwxyz".iter().copied().cycle().take(payload_bytes).collect();
        Self { token, mark, payload_bytes, padding }
    }

    /// What every text payload of this run begins with.
    #[must_use]
    pub fn text_mark(&self) -> &[u8] {
        &self.mark
    }

    /// Appends a binary payload.
    pub fn put_binary(&self, stamp: Stamp, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.token.to_be_bytes());
        for field in [stamp.sequence, stamp.intended_ns, stamp.sent_ns] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&self.padding[..self.payload_bytes - BINARY_BYTES_MIN]);
    }

    /// Appends a text payload.
    pub fn put_text(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.mark);
        out.extend_from_slice(b".00000000.000000000000.000000000000.");
        put_hex(&mut out[begin + 12..begin + 20], stamp.sequence);
        put_hex(&mut out[begin + 21..begin + 33], stamp.intended_ns.min(TEXT_TIME_MAX));
        put_hex(&mut out[begin + 34..begin + 46], stamp.sent_ns.min(TEXT_TIME_MAX));
        out.extend_from_slice(&self.padding[..self.payload_bytes - TEXT_BYTES_MIN]);
    }

    /// Reads a binary payload: `Ok(None)` when it is not of this run.
    ///
    /// # Errors
    ///
    /// [`Altered`] when it is of this run and not what was sent.
    pub fn read_binary(&self, payload: &[u8]) -> Result<Option<Stamp>, Altered> {
        let Some((header, padding)) = payload.split_first_chunk::<BINARY_BYTES_MIN>() else {
            return Ok(None);
        };
        if header[..4] != MAGIC || header[4..8] != self.token.to_be_bytes() {
            return Ok(None);
        }
        if payload.len() != self.payload_bytes || padding != &self.padding[..padding.len()] {
            return Err(Altered);
        }
        let field = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok(Some(Stamp { sequence: field(8), intended_ns: field(16), sent_ns: field(24) }))
    }

    /// Reads a text payload that must be one of this run.
    ///
    /// # Errors
    ///
    /// [`Altered`] when it is not what was sent.
    pub fn read_text(&self, text: &[u8]) -> Result<Stamp, Altered> {
        let Some((header, padding)) = text.split_first_chunk::<TEXT_BYTES_MIN>() else {
            return Err(Altered);
        };
        let dots = [11, 20, 33, 46].iter().all(|&at| header[at] == b'.');
        if !dots
            || !header.starts_with(&self.mark)
            || text.len() != self.payload_bytes
            || padding != &self.padding[..padding.len()]
        {
            return Err(Altered);
        }
        let field = |range: std::ops::Range<usize>| get_hex(&header[range]).ok_or(Altered);
        Ok(Stamp { sequence: field(12..20)?, intended_ns: field(21..33)?, sent_ns: field(34..46)? })
    }

    /// The sequence number of the text stamp whose mark begins at `mark_at`, without any further check.
    #[must_use]
    pub fn peek_text_sequence(&self, message: &[u8], mark_at: usize) -> Option<u64> {
        let begin = mark_at + TEXT_SEQUENCE_AT;
        get_hex(message.get(begin..begin + 8)?)
    }
}

/// A payload of this run that is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Altered;

fn put_hex(out: &mut [u8], value: u64) {
    let last = out.len() - 1;
    for (index, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (4 * (last - index))) as usize & 15];
    }
}

fn get_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_stamp_is_what_the_description_says() {
        let mut text = Vec::new();
        let template = Template::new(0xab, 50);
        template.put_text(Stamp { sequence: 1, intended_ns: 2, sent_ns: 0x3f }, &mut text);
        assert_eq!(text, b"~lg000000ab.00000001.000000000002.00000000003f.abc");
    }

    #[test]
    fn payloads_of_others_are_told_from_altered_ones() {
        let template = Template::new(7, 40);
        let mut payload = Vec::new();
        template.put_binary(Stamp { sequence: 1, intended_ns: 2, sent_ns: 3 }, &mut payload);
        assert_eq!(Template::new(8, 40).read_binary(&payload), Ok(None));
        assert_eq!(template.read_binary(b"hello"), Ok(None));
        payload[39] ^= 1;
        assert_eq!(template.read_binary(&payload), Err(Altered));
        assert_eq!(template.read_binary(&payload[..39]), Err(Altered));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sequence in 0..=u64::from(u32::MAX), intended_ns in 0..=TEXT_TIME_MAX,
            sent_ns in 0..=TEXT_TIME_MAX, padding in 0..200usize,
        ) {
            let stamp = Stamp { sequence, intended_ns, sent_ns };
            let template = Template::new(0x1234_5678, TEXT_BYTES_MIN + padding);
            let (mut text, mut binary) = (Vec::new(), Vec::new());
            template.put_text(stamp, &mut text);
            template.put_binary(stamp, &mut binary);
            prop_assert_eq!(text.len(), TEXT_BYTES_MIN + padding);
            prop_assert_eq!(binary.len(), TEXT_BYTES_MIN + padding);
            prop_assert_eq!(template.read_text(&text), Ok(stamp));
            prop_assert_eq!(template.peek_text_sequence(&text, 0), Some(sequence));
            prop_assert_eq!(template.read_binary(&binary), Ok(Some(stamp)));
        }
    }
}
