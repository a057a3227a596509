//! Messages of clients of the chat and hub dialects.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::dialect::{Message, chat, hub};

const MESSAGE_BYTES_MAX: usize = 10 * 1024;

fuzz_target!(|payload: &[u8]| {
    let binary = Message::Binary(payload);
    assert!(chat::decode(binary, MESSAGE_BYTES_MAX).is_err() && hub::decode(binary, MESSAGE_BYTES_MAX).is_err());
    // A text message is valid UTF-8: the connection sees to that.
    if let Ok(text) = std::str::from_utf8(payload) {
        let _ = chat::decode(Message::Text(text), MESSAGE_BYTES_MAX);
        let _ = hub::decode(Message::Text(text), MESSAGE_BYTES_MAX);
    }
});
