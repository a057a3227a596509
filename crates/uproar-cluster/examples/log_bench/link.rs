//! A connection to Redis, and its answers.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uproar_cluster::Reply;

use crate::Result;

/// A connection.
pub(crate) struct Link {
    stream: TcpStream,
    /// Received, up to `length`.
    buffer: Vec<u8>,
    length: usize,
}

impl Link {
    pub(crate) async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 << 10], length: 0 })
    }

    pub(crate) async fn call(&mut self, words: &[&[u8]]) -> Result<Reply> {
        self.send(words).await?;
        loop {
            if let Some((reply, end)) = parse(&self.buffer[..self.length]) {
                self.forget(end);
                return Ok(reply);
            }
            self.receive().await?;
        }
    }

    pub(crate) async fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Skips an answer to `XREAD`, and returns how many entries it has.
    pub(crate) async fn skip_entries(&mut self) -> Result<u64> {
        loop {
            let received = &self.buffer[..self.length];
            if let Some(end) = end_of(received) {
                if received.starts_with(b"-") {
                    return Err(String::from_utf8_lossy(received).into());
                }
                // [[key, [entry, …]]]
                let lists = received.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"*"));
                let entries = lists.take(3).nth(2).and_then(|line| number(&line[1..])).unwrap_or(0);
                self.forget(end);
                return Ok(entries.unsigned_abs());
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<()> {
        if self.length == self.buffer.len() {
            self.buffer.resize(2 * self.length, 0);
        }
        let count = self.stream.read(&mut self.buffer[self.length..]).await?;
        self.length += count;
        if count == 0 { Err("Redis has closed the connection".into()) } else { Ok(()) }
    }

    fn forget(&mut self, end: usize) {
        self.buffer.copy_within(end..self.length, 0);
        self.length -= end;
    }
}

/// The line of RESP at `start`: its kind, its text, and where the next one begins.
fn line(received: &[u8], start: usize) -> Option<(u8, &[u8], usize)> {
    let rest = received.get(start..)?;
    let length = rest.iter().position(|byte| *byte == b'\n')?;
    Some((rest[0], rest.get(1..length.checked_sub(1)?)?, start + length + 1))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}

/// Where the first value ends, once all of it was received.
fn end_of(received: &[u8]) -> Option<usize> {
    let (mut place, mut missing) = (0, 1);
    while missing > 0 {
        let (kind, text, next) = line(received, place)?;
        place = next;
        missing -= 1;
        match kind {
            b'$' => place += usize::try_from(number(text)?).map_or(0, |length| length + 2),
            b'*' => missing += number(text)?.max(0),
            _ => {}
        }
    }
    (place <= received.len()).then_some(place)
}

/// The first value, and where it ends.
fn parse(received: &[u8]) -> Option<(Reply, usize)> {
    end_of(received)?;
    value(received, 0)
}

fn value(received: &[u8], start: usize) -> Option<(Reply, usize)> {
    let (kind, text, next) = line(received, start)?;
    Some(match kind {
        b':' => (Reply::Number(number(text)?), next),
        b'-' => (Reply::Error(String::from_utf8_lossy(text).into_owned()), next),
        b'$' => match usize::try_from(number(text)?) {
            Ok(length) => {
                (Reply::Text(Bytes::copy_from_slice(received.get(next..next + length)?)), next + length + 2)
            }
            Err(_) => (Reply::Nil, next),
        },
        b'*' => {
            let (mut values, mut place) = (Vec::new(), next);
            for _ in 0..number(text)? {
                let (value, end) = value(received, place)?;
                values.push(value);
                place = end;
            }
            (Reply::List(values), place)
        }
        _ => (Reply::Text(Bytes::copy_from_slice(text)), next),
    })
}
