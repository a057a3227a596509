//! A client of the hub dialect: what it says, what it must be answered, and who it is told is there.
//!
//! It is told neither ids nor times. But every message carries the names in the room, and each of them must
//! follow from the one before; and what it hears must stand in the room as those heard it who know the ids.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::random::Random;
use crate::record::{Record, RelayKey, content_key};
use crate::scenario::{CONTENT_BYTES_MAX, Scenario};
use crate::violation::{Checked, ensure, violated};

/// Every key of every message, sorted.
const KEYS: [&str; 6] = ["content", "from", "ip", "type", "user", "user_list"];

/// Answers, all of which come in the room's order but the errors.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Login(String),
    Said(String),
    Renamed(String),
    Who,
}

#[derive(Debug)]
pub(crate) struct Hub {
    client: usize,
    address: String,
    has_shaken_hands: bool,
    /// Its name, once it was told that it has logged in.
    name: Option<String>,
    /// True from its attempt to log in until it is told what became of it.
    is_logging_in: bool,
    /// The names in the room, sorted, as it was told them last.
    names: Vec<String>,
    sequence: usize,
    answers: VecDeque<Answer>,
    errors: VecDeque<String>,
    refused_for_rate: usize,
    /// Answers that never came, which only the rate limit excuses.
    skipped: usize,
    /// What the room has said since its login, in order.
    heard: Vec<RelayKey>,
    /// True once it was told that it is sent away for its silence.
    pub(crate) is_told_of_silence: bool,
}

impl Hub {
    pub(crate) fn new(client: usize, address: String) -> Self {
        Self {
            client,
            address,
            has_shaken_hands: false,
            name: None,
            is_logging_in: false,
            names: Vec::new(),
            sequence: 0,
            answers: VecDeque::new(),
            errors: VecDeque::new(),
            refused_for_rate: 0,
            skipped: 0,
            heard: Vec::new(),
            is_told_of_silence: false,
        }
    }

    /// True once it was told that it is a member.
    pub(crate) fn is_in_room(&self) -> bool {
        self.name.is_some()
    }

    /// True while it may be a member or not.
    pub(crate) fn is_logging_in(&self) -> bool {
        self.is_logging_in
    }

    /// The next thing to send; `None` while it has to wait and see.
    pub(crate) fn speak(&mut self, scenario: &Scenario, random: &mut Random) -> Option<String> {
        if !self.is_in_room() && !self.is_logging_in && random.percent(70) {
            return Some(self.login());
        }
        if scenario.is_rate_limited() && !self.is_in_room() {
            // What is dropped, and so what an answer would be, it cannot know yet.
            return (!self.is_logging_in).then(|| self.login());
        }
        let is_member = self.is_in_room() || self.is_logging_in;
        let message = match random.below(12) {
            0..=5 => {
                let len =
                    if random.percent(90) { random.below(40) } else { random.below(CONTENT_BYTES_MAX / 4) };
                let content = self.content(&"你x".repeat(len / 2));
                if is_member {
                    self.answers.push_back(Answer::Said(content.clone()));
                }
                json!({ "type": "user", "content": content, "from": "somebody" })
            }
            6 | 7 if is_member => {
                let name = self.new_name();
                self.answers.push_back(Answer::Renamed(name.clone()));
                if random.percent(50) {
                    json!({ "type": "rename", "content": format!(" {name} ") })
                } else {
                    json!({ "type": "user", "content": format!("\\rename {name}") })
                }
            }
            6 | 7 => self.refused(json!({ "type": "rename", "content": "x" }), "Log in first"),
            8 => {
                self.answers.push_back(Answer::Who);
                if random.percent(50) {
                    json!({ "type": "who" })
                } else {
                    json!({ "type": "user", "content": "\\who" })
                }
            }
            9 if is_member => {
                self.refused(json!({ "type": "login", "content": "x" }), "You are logged in already")
            }
            9 | 10 => {
                let bad = json!({ "type": "login", "content": "x".repeat(21) });
                self.refused(bad, "Invalid name (1-20 characters required)")
            }
            _ => self.refused(json!({ "type": "message" }), "Unknown message type: message"),
        };
        Some(message.to_string())
    }

    /// Says something that everyone in the room must hear, and asks who is there.
    pub(crate) fn probe(&mut self) -> Vec<String> {
        if !self.is_in_room() {
            return Vec::new();
        }
        let content = self.content("probe");
        self.answers.extend([Answer::Said(content.clone()), Answer::Who]);
        [json!({ "type": "user", "content": content }), json!({ "type": "who" })]
            .map(|message| message.to_string())
            .into()
    }

    fn login(&mut self) -> String {
        let name = self.new_name();
        self.is_logging_in = true;
        self.answers.push_back(Answer::Login(name.clone()));
        json!({ "type": "login", "content": name }).to_string()
    }

    fn refused(&mut self, message: Value, error: &str) -> Value {
        self.errors.push_back(error.to_owned());
        message
    }

    fn content(&mut self, pad: &str) -> String {
        self.sequence += 1;
        format!("{}/{} {pad}", self.client, self.sequence)
    }

    /// A name that nobody else ever has.
    fn new_name(&mut self) -> String {
        self.sequence += 1;
        format!("H{}-{}", self.client, self.sequence)
    }

    /// Takes one message of the server.
    pub(crate) fn hear(&mut self, text: &str, record: &mut Record, scenario: &Scenario) -> Checked {
        let Ok(message) = serde_json::from_str::<Value>(text) else { violated!(Protocol, "no JSON: {text}") };
        let mut keys: Vec<&str> =
            message.as_object().into_iter().flat_map(|fields| fields.keys()).map(String::as_str).collect();
        keys.sort_unstable();
        ensure!(Protocol, keys == KEYS, "not the keys of a message: {text}");
        let field = |key: &str| message[key].as_str().unwrap_or_default();
        let listed: Vec<&str> =
            message["user_list"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let len = listed.len();
        ensure!(EverythingBounded, len <= scenario.names_max(), "{len} names");
        let in_words = listed.join(", ");
        let mut names: Vec<String> = listed.into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        let (kind, user, content) = (field("type"), field("user"), field("content"));
        if kind == "system" && content == "idle timeout" {
            // So it may be even when the home has taken longer than that to say who is there.
            self.is_told_of_silence = true;
            return Ok(());
        }
        if !self.has_shaken_hands {
            ensure!(Protocol, kind == "handshake", "{kind} before the handshake");
            ensure!(Protocol, field("ip") == self.address, "{} is another one's address", field("ip"));
            self.has_shaken_hands = true;
            self.names = names;
            return Ok(());
        }
        ensure!(Protocol, field("ip").is_empty() && kind != "handshake", "an address is given away: {text}");
        match kind {
            "login" => {
                ensure!(Protocol, user == content && user == field("from"), "a login of two names: {text}");
                if !self.is_in_room() {
                    let own = self.take(|answer| *answer == Answer::Login(user.to_owned()))?;
                    ensure!(OneLeave, own.is_some(), "a login of {user} before one's own");
                    ensure!(OneLeave, names.iter().any(|name| name == user), "not listed at one's own login");
                    self.name = Some(user.to_owned());
                    self.is_logging_in = false;
                    self.names = names;
                    return Ok(());
                }
                self.follow(names, scenario, |names| names.push(user.to_owned()))
            }
            "logout" => {
                ensure!(OneLeave, self.is_in_room(), "a logout before one's login");
                let own = self.name.as_deref() == Some(user);
                ensure!(OneLeave, user == content && !own, "a logout of {user}, who is told: {text}");
                self.follow(names, scenario, |names| remove(names, user))
            }
            "user" => {
                ensure!(
                    Protocol,
                    self.is_in_room() && user == field("from"),
                    "words before one's login: {text}"
                );
                self.follow(names, scenario, |_| {})?;
                if let Some(private) = record.privates.get_mut(content) {
                    let twice = private.received_by.replace(self.client);
                    ensure!(Protocol, twice.is_none(), "a private message twice: {content:?}");
                    return Ok(());
                }
                self.hear_words(user, content)
            }
            "system" => self.hear_system(content, &in_words, names, scenario),
            _ => violated!(Protocol, "an unknown message: {text}"),
        }
    }

    fn hear_words(&mut self, user: &str, content: &str) -> Checked {
        // An image shows as its address, which stands for what it holds.
        let shown = content.strip_prefix(crate::chat::IMAGES).map(|key| format!("{key} image"));
        let Some(key) = content_key(shown.as_deref().unwrap_or(content)) else {
            violated!(Protocol, "words that nobody has said: {content:?}")
        };
        if key.0 == self.client {
            ensure!(Protocol, self.name.as_deref() == Some(user), "one's own words from {user}");
            let said = self.take(|answer| *answer == Answer::Said(content.to_owned()))?;
            ensure!(OneOrder, said.is_some(), "one's own words twice: {content:?}");
        }
        ensure!(OneOrder, self.heard.last() != Some(&key), "{content:?} came twice");
        self.heard.push(key);
        Ok(())
    }

    fn hear_system(
        &mut self,
        content: &str,
        in_words: &str,
        names: Vec<String>,
        scenario: &Scenario,
    ) -> Checked {
        if let Some((old, new)) = content.split_once(" 改名为 ") {
            ensure!(OneLeave, self.is_in_room(), "a new name before one's login: {content}");
            if self.name.as_deref() == Some(old) {
                let own = self.take(|answer| *answer == Answer::Renamed(new.to_owned()))?;
                ensure!(OneOrder, own.is_some(), "a new name that was not asked for: {content}");
                self.name = Some(new.to_owned());
            }
            return self.follow(names, scenario, |names| {
                remove(names, old);
                names.push(new.to_owned());
            });
        }
        if self.is_in_room() {
            self.follow(names, scenario, |_| {})?;
        }
        match content {
            "Too many messages" => {
                ensure!(Protocol, scenario.is_rate_limited(), "refused without a limit");
                if self.is_logging_in {
                    // The only thing that it has said.
                    self.is_logging_in = false;
                    self.answers.clear();
                } else {
                    self.refused_for_rate += 1;
                }
            }
            _ if self.errors.front().is_some_and(|error| error == content) => drop(self.errors.pop_front()),
            _ if self.errors.iter().any(|error| error == content) => {
                while self.errors.pop_front().is_some_and(|error| error != content) {
                    self.skip()?;
                }
            }
            _ => {
                ensure!(Protocol, content == in_words, "an answer to nothing: {content:?}");
                let who = self.take(|answer| *answer == Answer::Who)?;
                ensure!(Protocol, who.is_some(), "names that nobody has asked for: {content:?}");
            }
        }
        Ok(())
    }

    /// The names that it is told are those of before after a `change`, where all are told.
    fn follow(
        &mut self,
        told: Vec<String>,
        scenario: &Scenario,
        change: impl FnOnce(&mut Vec<String>),
    ) -> Checked {
        if scenario.is_presence_exact() && scenario.names_max() >= scenario.arrivals_max {
            change(&mut self.names);
            self.names.sort_unstable();
            ensure!(OneLeave, self.names == told, "{:?} should be there, {told:?} are listed", self.names);
        }
        self.names = told;
        Ok(())
    }

    /// The next answer that `is_meant`; only the rate limit excuses those before it.
    fn take(&mut self, is_meant: impl Fn(&Answer) -> bool) -> Checked<Option<Answer>> {
        while let Some(answer) = self.answers.pop_front() {
            if is_meant(&answer) {
                return Ok(Some(answer));
            }
            self.skip()?;
        }
        Ok(None)
    }

    fn skip(&mut self) -> Checked {
        self.skipped += 1;
        ensure!(OneOrder, self.skipped <= self.refused_for_rate, "no answer in its place");
        Ok(())
    }

    /// Everything that was said has been answered.
    pub(crate) fn check_at_rest(&self, record: &Record) -> Checked {
        ensure!(NoWaitingOnTheSlow, self.has_shaken_hands, "no handshake");
        let open = self.answers.len() + self.errors.len() + self.skipped;
        ensure!(
            NoWaitingOnTheSlow,
            open == self.refused_for_rate,
            "{open} answers have not come, {} were refused: {:?} {:?}",
            self.refused_for_rate,
            self.answers.iter().take(3).collect::<Vec<_>>(),
            self.errors.iter().take(3).collect::<Vec<_>>()
        );
        self.check_order(record)
    }

    /// What it has heard stands in the room in that order, without gap, up to the last that anyone has heard.
    pub(crate) fn check_order(&self, record: &Record) -> Checked {
        let ids: Vec<Option<u64>> = self.heard.iter().map(|key| record.id_in_general(*key)).collect();
        for (pair, keys) in ids.windows(2).zip(self.heard.windows(2)) {
            if let [Some(before), Some(id)] = pair {
                ensure!(
                    OneOrder,
                    before + 1 == *id,
                    "{keys:?} were heard one after the other: {before}, {id}"
                );
            }
        }
        if let Some(Some(last)) = ids.last() {
            let last_id = record.last_id("general");
            ensure!(OneOrder, *last == last_id, "at {last} of general, others are at {last_id}");
        }
        Ok(())
    }
}

fn remove(names: &mut Vec<String>, name: &str) {
    if let Some(place) = names.iter().position(|known| known == name) {
        names.remove(place);
    }
}
