//! The first bytes of a connection: the request that a server reads, the response that a client reads, a URL.
//! Wherever the bytes are cut, a verdict on their beginning is the verdict on all of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_protocol::head::parse;
use uproar::handshake::endpoint::Dialects;
use uproar::handshake::origin::OriginPolicy;
use uproar::handshake::route::{RoutePolicy, route};
use uproar_protocol::upgrade::{check_request, check_response};
use uproar_protocol::url::Url;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, received) = input;
    let whole = parse(received);
    match parse(&received[..usize::from(cut).min(received.len())]) {
        Ok(None) => {}
        said => assert_eq!(said, whole),
    }
    if let Ok(Some(head)) = whole {
        assert!(head.bytes <= received.len());
        let _ = check_request(&head);
        let origins = OriginPolicy { is_on_loopback: cut % 4 >= 2, ..OriginPolicy::default() };
        let policy = RoutePolicy {
            origins: &origins,
            is_from_proxy: cut % 8 >= 4,
            dialects: Dialects::ALL,
            draining: false,
            requires_sign_in: cut % 2 == 1,
            takes_tokens: cut % 16 >= 8,
        };
        let _ = route(&head, policy);
    }
    if let Ok(Some(accepted)) = check_response(received, KEY, &["json"]) {
        assert!(accepted.head_bytes <= received.len());
    }
    if let Ok(url) = std::str::from_utf8(received).map_err(drop).and_then(|url| Url::parse(url).map_err(drop)) {
        assert!(!url.host.is_empty() && url.target.starts_with('/'));
        assert_eq!(Url::parse(&url.to_string()), Ok(url));
    }
});
