//! What clients of the chat and hub dialects may send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::dialect::{chat, hub};
use uproar_protocol::frames::MessageKind;

const MESSAGE_BYTES_MAX: usize = 10 * 1024;

fuzz_target!(|payload: &[u8]| {
    for kind in [MessageKind::Text, MessageKind::Binary] {
        let chat = chat::decode(kind, payload, MESSAGE_BYTES_MAX);
        let hub = hub::decode(kind, payload, MESSAGE_BYTES_MAX);
        assert!(kind == MessageKind::Text || (chat.is_err() && hub.is_err()));
    }
});
