//! The part of a plan that follows from the options alone.

use crate::dialect::Dialect;
use crate::dialect::chat::INITIAL_ROOM;
use crate::error::Error;
use crate::network::target::Target;
use crate::options::RunOptions;
use crate::plan::rooms::Rooms;

/// How often one client speaks in chat, at most, unless the senders are counted out: a chat server may
/// limit a client to 50 messages a second, and a limit that is only just met would be met unevenly.
pub const CHAT_SPEAKER_RATE_MAX: f64 = 40.0;

/// How many clients stop reading.
#[must_use]
pub fn slow_count(options: &RunOptions) -> u32 {
    (f64::from(options.clients) * options.slow_clients / 100.0).round() as u32
}

/// How many rooms there are, and how many clients speak in them.
#[must_use]
pub fn rooms(options: &RunOptions) -> Rooms {
    if options.dialect == Dialect::Private {
        // Two who write to each other are a room of their own, in which both speak.
        return Rooms { count: options.clients / 2, senders: options.senders.unwrap_or(options.clients) };
    }
    let count = options.rooms.unwrap_or(1).max(options.room.len() as u32);
    // One that speaks in each room on each server, so that every pair of servers is measured.
    let least = count.saturating_mul(options.urls.len() as u32);
    let senders = options.senders.unwrap_or_else(|| match options.dialect {
        Dialect::Chat => {
            let needed = (options.peak_rate() / CHAT_SPEAKER_RATE_MAX).ceil().max(1.0) as u32;
            needed.next_multiple_of(least)
        }
        Dialect::Raw => least,
        Dialect::Private | Dialect::Echo => options.clients,
    });
    Rooms { count, senders }
}

/// The names of the chat rooms or topics: the room that a chat client is in from the beginning, and the
/// topic that only loadgen uses, where none is given.
#[must_use]
pub fn room_names(options: &RunOptions) -> Vec<String> {
    let count = rooms(options).count;
    let default = match options.dialect {
        Dialect::Chat => INITIAL_ROOM,
        Dialect::Private => "pair",
        Dialect::Raw | Dialect::Echo => "loadgen",
    };
    match &options.room[..] {
        [] | [_] if count > 1 => {
            let name = options.room.first().map_or(default, String::as_str);
            (0..count).map(|index| format!("{name}-{index}")).collect()
        }
        [] => vec![default.to_owned()],
        names => names.to_vec(),
    }
}

/// The path to upgrade for each room, or one for all.
///
/// # Errors
///
/// [`Error::Usage`] when the URL names the path of one topic and there are several.
pub fn paths(options: &RunOptions, target: &Target) -> Result<Vec<String>, Error> {
    match (&target.path, options.dialect) {
        (Some(path), Dialect::Raw) if rooms(options).count > 1 || !options.room.is_empty() => {
            let why = format!("--rooms and --topic: the URL's path {path} names the topic; leave it out");
            Err(Error::Usage(why))
        }
        (Some(path), _) => Ok(vec![path.clone()]),
        (None, Dialect::Chat | Dialect::Private) => Ok(vec!["/chat".to_owned()]),
        (None, Dialect::Echo) => Ok(vec!["/echo".to_owned()]),
        (None, Dialect::Raw) => {
            Ok(room_names(options).iter().map(|topic| format!("/broadcast/{topic}")).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    #[test]
    fn a_path_names_one_topic() {
        let target = Target::parse("ws://a/b").expect("parses");
        for contradiction in [["--rooms", "2"], ["--topic", "t"]] {
            let options = options(&[&["--dialect", "raw"], &contradiction[..]].concat());
            assert!(paths(&options, &target).is_err(), "{contradiction:?}");
        }
        assert_eq!(paths(&options(&["--room", "a,b"]), &target).expect("one"), ["/b"]);
    }

    #[test]
    fn every_room_has_as_many_senders() {
        assert_eq!(rooms(&options(&["--room", "a,b,c", "--rate", "150"])), Rooms { count: 3, senders: 6 });
        let raw = options(&["--dialect", "raw", "--rooms", "4"]);
        assert_eq!(rooms(&raw), Rooms { count: 4, senders: 4 });
        let servers = ["--url", "ws://a", "--url", "ws://b", "--room", "a,b,c", "--rate", "300"];
        assert_eq!(rooms(&options(&servers)), Rooms { count: 3, senders: 12 });
        assert_eq!(room_names(&raw), ["loadgen-0", "loadgen-1", "loadgen-2", "loadgen-3"]);
    }
}
