//! Caches an encoded list: it is long, and the same for many clients in a row.

use std::fmt::Write as _;
use std::sync::Arc;

/// A list, and its entries as JSON with commas between them.
#[derive(Debug)]
pub(super) struct Encoded<T> {
    source: Option<Arc<[T]>>,
    json: String,
}

impl<T> Default for Encoded<T> {
    fn default() -> Self {
        Self { source: None, json: String::new() }
    }
}

impl<T> Encoded<T> {
    /// The entries of `source`, encoded anew only when it is another list than the last time.
    pub(super) fn of(&mut self, source: &Arc<[T]>, encode: impl Fn(&T) -> serde_json::Value) -> &str {
        // The source is kept, so another list cannot have its address.
        if !self.source.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, source)) {
            self.json.clear();
            for (index, entry) in source.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(self.json, "{comma}{}", encode(entry)).expect("Bug: writing to a String failed");
            }
            self.source = Some(Arc::clone(source));
        }
        &self.json
    }

    /// The list of the last time.
    pub(super) fn source(&self) -> Option<&Arc<[T]>> {
        self.source.as_ref()
    }

    /// Its entries.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}
