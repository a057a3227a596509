//! Messages of clients of the chat and hub dialects.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::dialect::{Message, chat, hub};

const MESSAGE_BYTES_MAX: usize = 10 * 1024;

fuzz_target!(|payload: &[u8]| {
    let binary = Message::Binary(payload.into());
    assert!(chat::decode(&binary, MESSAGE_BYTES_MAX).is_err() && hub::decode(&binary, MESSAGE_BYTES_MAX).is_err());
    // A text message is valid UTF-8: the connection sees to that.
    if let Ok(text) = std::str::from_utf8(payload) {
        let text = Message::Text(text.into());
        let _ = chat::decode(&text, MESSAGE_BYTES_MAX);
        let _ = hub::decode(&text, MESSAGE_BYTES_MAX);
    }
});
