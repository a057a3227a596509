//! Reads the fields of a JSON body, and notes everything that is wrong with them.
//!
//! A caller learns of all wrong fields at once, each with its JSON pointer (RFC 6901). Unknown fields are refused: a
//! misspelt `idempotency_key` would publish twice.

use serde_json::{Map, Value};

use super::problem::{FieldError, Problem, ProblemKind};

/// The fields of one object. What was read is taken out; [`Fields::end`] refuses the rest.
#[derive(Debug)]
pub(super) struct Fields {
    object: Map<String, Value>,
    /// The pointer to the object itself.
    pointer: String,
    errors: Vec<FieldError>,
}

impl Fields {
    /// The fields of a body.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or not an object.
    pub(super) fn of_body(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Self::of_object(object, String::new())),
            Ok(_) => Err(Problem::new(ProblemKind::Malformed, "the body is not a JSON object")),
            Err(error) => Err(Problem::new(ProblemKind::Malformed, format!("the body is not JSON: {error}"))),
        }
    }

    /// The fields of an object at a pointer.
    pub(super) fn of_object(object: Map<String, Value>, pointer: String) -> Self {
        Self { object, pointer, errors: Vec::new() }
    }

    /// A field that may be absent. `null` counts as absent.
    fn optional<T>(&mut self, key: &str, expected: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = self.object.remove(key).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.refuse(key, format!("is not {expected}"));
        }
        read
    }

    /// A text, if there is one.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.optional(key, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A whole number from 0 on, if there is one.
    pub(super) fn number(&mut self, key: &str) -> Option<u64> {
        self.optional(key, "a whole number from 0 on", |value| value.as_u64())
    }

    /// A list, if there is one.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<Value>> {
        self.optional(key, "an array", |value| match value {
            Value::Array(list) => Some(list),
            _ => None,
        })
    }

    /// A list of texts, if there is one.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let list = self.list(key)?;
        let mut texts = Vec::with_capacity(list.len());
        for (index, value) in list.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                _ => self.refuse(&format!("{key}/{index}"), "is not a string"),
            }
        }
        Some(texts)
    }

    /// Notes that a field is wrong.
    pub(super) fn refuse(&mut self, key: &str, detail: impl Into<String>) {
        // Keys that we know have no `~` or `/` but the one between a list and its index.
        let pointer = format!("{}/{key}", self.pointer);
        self.errors.push(FieldError { detail: detail.into(), pointer: Some(pointer), parameter: None });
    }

    /// The value of a field, or notes that it is wrong.
    pub(super) fn accept<T>(&mut self, key: &str, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|detail| self.refuse(key, detail)).ok()
    }

    /// Notes that a field is missing.
    pub(super) fn require(&mut self, key: &str, is_there: bool) {
        // One of the wrong type was noted before.
        if !is_there
            && !self.errors.iter().any(|error| error.pointer == Some(format!("{}/{key}", self.pointer)))
        {
            self.refuse(key, "is missing");
        }
    }

    /// Refuses all that was not read, and returns what was wrong.
    ///
    /// # Errors
    ///
    /// What was wrong.
    pub(super) fn end(mut self) -> Result<(), Vec<FieldError>> {
        let unknown: Vec<String> = self.object.keys().map(|key| escaped(key)).collect();
        for key in unknown {
            self.refuse(&key, "is not known");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

/// A key within a JSON pointer.
fn escaped(key: &str) -> String {
    key.chars().take(64).collect::<String>().replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let body = br#"{"room": 7, "content": "hi", "seconds": 1.5, "days": 3, "rooms": ["a", 1, null], "to/day~": 1, "none": null}"#;
        let mut fields = Fields::of_body(body).unwrap();
        assert_eq!(fields.text("room"), None);
        assert_eq!(fields.text("content").as_deref(), Some("hi"));
        assert_eq!((fields.number("seconds"), fields.number("days")), (None, Some(3)));
        assert_eq!(fields.texts("rooms"), Some(vec!["a".into()]));
        assert_eq!(fields.text("none"), None);
        fields.require("room", false);
        fields.require("name", false);
        let errors = fields.end().unwrap_err();
        let told: Vec<_> =
            errors.iter().map(|error| (error.pointer.as_deref().unwrap(), &*error.detail)).collect();
        assert_eq!(
            told,
            [
                ("/room", "is not a string"),
                ("/seconds", "is not a whole number from 0 on"),
                ("/rooms/1", "is not a string"),
                ("/rooms/2", "is not a string"),
                ("/name", "is missing"),
                ("/to~1day~0", "is not known"),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in [&b""[..], b"[]", b"1", b"{", b"\xff", b"{} {}"] {
            assert_eq!(Fields::of_body(body).unwrap_err().status().as_u16(), 400);
        }
        assert!(Fields::of_body(b"{}").unwrap().end().is_ok());
    }
}
