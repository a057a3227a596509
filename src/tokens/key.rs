//! Key files: PEM keys and secrets, for checking and for signing.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// The algorithms of a secret.
pub(super) const OF_SECRET: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
/// The algorithms of an RSA key.
pub(super) const OF_RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
/// The algorithm of a key on the curve P-256.
pub(super) const OF_P256: &[Algorithm] = &[Algorithm::ES256];
/// The algorithm of a key on the curve P-384.
pub(super) const OF_P384: &[Algorithm] = &[Algorithm::ES384];
/// The algorithm of an Ed25519 key.
pub(super) const OF_ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The shortest secret: as long as the hash of HS256 (RFC 7518, 3.2).
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// The sizes of RSA keys. RFC 7518, 3.3, demands 2,048 bits; larger keys than these are refused by the `rsa` crate.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// A key to check tokens with, and the algorithms that it is for.
#[derive(Clone, Debug)]
pub(super) struct CheckingKey {
    pub(super) algorithms: &'static [Algorithm],
    pub(super) key: DecodingKey,
}

/// A key to sign tokens with.
#[derive(Debug)]
pub(super) struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

/// What a key file holds.
enum KeyFile<'a> {
    Pem { tag: String, text: &'a [u8] },
    Secret(&'a [u8]),
}

impl<'a> KeyFile<'a> {
    /// What a file holds.
    ///
    /// A public key must not become a secret: whoever knows it could sign with it. So everything that looks like a key
    /// in another form is refused.
    fn of(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            let blocks = pem::parse_many(bytes).map_err(|_| "its PEM is damaged; write the file again")?;
            return match &blocks[..] {
                [block] => Ok(Self::Pem { tag: block.tag().to_owned(), text: bytes }),
                [] => Err("its PEM is damaged; write the file again"),
                _ => Err("it has several PEM blocks; use a file for each key"),
            };
        }
        if is_der(bytes) {
            return Err("it looks like a key in DER; convert it to PEM: openssl pkey -inform DER");
        }
        if is_utf16(bytes) {
            return Err("it is text in UTF-16; write it in UTF-8");
        }
        let text = bytes.strip_prefix(UTF8_BOM).unwrap_or(bytes).trim_ascii();
        // Random bytes are hardly ever UTF-8.
        if (text.starts_with(b"{") || text.starts_with(b"[")) && std::str::from_utf8(text).is_ok() {
            return Err("it looks like JSON; JWK sets are for --token-jwks");
        }
        if text.starts_with(b"----") {
            return Err("it looks like a key, but is no PEM; convert it: ssh-keygen -i -m RFC4716 -f FILE");
        }
        if [&b"ssh-"[..], b"ecdsa-sha2-"].iter().any(|begin| text.starts_with(begin)) {
            return Err("it is a key of ssh; convert it to PEM: ssh-keygen -e -m PKCS8 -f FILE");
        }
        if is_base64_of_key(text) {
            return Err("it looks like a key without the first and the last line of its PEM; add them");
        }
        let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let secret = secret.strip_suffix(b"\r").filter(|_| secret.len() < bytes.len()).unwrap_or(secret);
        if secret.len() < SECRET_BYTES_MIN {
            return Err("the secret is shorter than 32 bytes; make one: openssl rand -base64 48");
        }
        Ok(Self::Secret(secret))
    }
}

const PEM_BEGIN: &[u8] = b"-----BEGIN ";

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// True for text in UTF-16 that has a mark, or a line of a PEM file.
fn is_utf16(bytes: &[u8]) -> bool {
    let dashes = b"-\0-\0-\0-\0";
    bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.windows(dashes.len()).any(|window| window == dashes)
}

/// True for a key in DER, or one of ssh, in base64.
fn is_base64_of_key(text: &[u8]) -> bool {
    let mut packed: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    while packed.last() == Some(&b'=') {
        packed.pop();
    }
    [data_encoding::BASE64_NOPAD, data_encoding::BASE64URL_NOPAD]
        .iter()
        .filter_map(|encoding| encoding.decode(&packed).ok())
        .any(|key| is_der(&key) || key.starts_with(b"\0\0\0"))
}

/// True for one whole ASN.1 sequence. A random secret looks like one with a chance of 1 in 65,000.
fn is_der(bytes: &[u8]) -> bool {
    match *bytes {
        [0x30, length, ..] if length < 0x80 => bytes.len() == 2 + usize::from(length),
        [0x30, 0x81, length, ..] => bytes.len() == 3 + usize::from(length),
        [0x30, 0x82, high, low, ..] => bytes.len() == 4 + usize::from(u16::from_be_bytes([high, low])),
        _ => false,
    }
}

impl CheckingKey {
    /// The key in a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to do.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = match KeyFile::of(bytes)? {
            KeyFile::Secret(secret) => {
                let key = DecodingKey::from_secret(secret).map_err(|_| "the secret is empty")?;
                return Ok(Self { algorithms: OF_SECRET, key });
            }
            KeyFile::Pem { tag, text } => match &*tag {
                "PUBLIC KEY" | "RSA PUBLIC KEY" => text,
                tag if tag.contains("PRIVATE KEY") => {
                    return Err(
                        "it is a private key, which the server does not need: openssl pkey -in FILE -pubout",
                    );
                }
                "CERTIFICATE" => {
                    return Err(
                        "it is a certificate; take its key out: openssl x509 -in FILE -noout -pubkey",
                    );
                }
                _ => return Err(UNSUPPORTED),
            },
        };
        if let Ok(key) = DecodingKey::from_rsa_pem(text) {
            let bytes = key.try_get_as_bytes().map_err(|_| UNSUPPORTED)?;
            let utils = &provider().key_utils;
            let (n, e) = (utils.rsa_pub_components_from_public_key)(bytes).map_err(|_| UNSUPPORTED)?;
            check_rsa(&n, &e)?;
            return Ok(Self { algorithms: OF_RSA, key });
        }
        match (DecodingKey::from_ec_pem(text), DecodingKey::from_ed_pem(text)) {
            (Ok(key), _) => Self::of_curve(key),
            (_, Ok(key)) => Self::of_ed25519(key),
            _ => Err(UNSUPPORTED),
        }
    }

    /// A key on P-256 or P-384.
    pub(super) fn of_curve(key: DecodingKey) -> Result<Self, &'static str> {
        // An uncompressed point: a byte, and two coordinates (SEC 1, 2.3.3).
        let algorithms = match key.try_get_as_bytes().map_or(0, <[u8]>::len) {
            65 => OF_P256,
            97 => OF_P384,
            _ => return Err("its curve is not supported; use P-256, P-384, Ed25519 or RSA"),
        };
        verifier(algorithms[0], &key).map_err(|_| UNSUPPORTED)?;
        Ok(Self { algorithms, key })
    }

    /// An Ed25519 key.
    pub(super) fn of_ed25519(key: DecodingKey) -> Result<Self, &'static str> {
        // The verifier relies on this length.
        if key.try_get_as_bytes().map_or(0, <[u8]>::len) != 32 {
            return Err(UNSUPPORTED);
        }
        verifier(Algorithm::EdDSA, &key).map_err(|_| UNSUPPORTED)?;
        Ok(Self { algorithms: OF_ED25519, key })
    }
}

/// The problem of a key that is not of a supported kind, or damaged.
const UNSUPPORTED: &str = "it is no RSA, P-256, P-384 or Ed25519 key, or it is damaged; make another one";

/// Checks the numbers of an RSA key. A modulus and an exponent are odd in every one.
pub(super) fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), &'static str> {
    let modulus = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(modulus) || !is_odd(exponent) || exponent == [1] {
        return Err(UNSUPPORTED);
    }
    if !RSA_BYTES.contains(&modulus.len()) {
        return Err("RSA keys must have 2048 to 4096 bits; make another one");
    }
    Ok(())
}

impl SigningKey {
    /// The key in a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to do.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = match KeyFile::of(bytes)? {
            KeyFile::Secret(secret) => {
                let key = EncodingKey::from_secret(secret).map_err(|_| "the secret is empty")?;
                return Ok(Self { algorithm: Algorithm::HS256, key });
            }
            KeyFile::Pem { tag, text } => match &*tag {
                "PRIVATE KEY" | "RSA PRIVATE KEY" => text,
                "EC PRIVATE KEY" => {
                    return Err("convert it first: openssl pkcs8 -topk8 -nocrypt -in FILE");
                }
                "ENCRYPTED PRIVATE KEY" => {
                    return Err("it is encrypted; decrypt it first: openssl pkey -in FILE");
                }
                _ => return Err("only private keys and secrets can sign a token"),
            },
        };
        let key = EncodingKey::from_rsa_pem(text)
            .or_else(|_| EncodingKey::from_ec_pem(text))
            .or_else(|_| EncodingKey::from_ed_pem(text))
            .map_err(|_| UNSUPPORTED)?;
        let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
        let algorithm = algorithms.into_iter().find(|algorithm| signer(*algorithm, &key).is_ok());
        Ok(Self { algorithm: algorithm.ok_or(UNSUPPORTED)?, key })
    }
}

fn provider() -> &'static CryptoProvider {
    CryptoProvider::try_get_default().expect("Bug: jsonwebtoken is built without cryptography")
}

fn verifier(
    algorithm: Algorithm,
    key: &DecodingKey,
) -> Result<Box<dyn JwtVerifier>, jsonwebtoken::errors::Error> {
    (provider().verifier_factory)(&algorithm, key)
}

fn signer(
    algorithm: Algorithm,
    key: &EncodingKey,
) -> Result<Box<dyn JwtSigner>, jsonwebtoken::errors::Error> {
    (provider().signer_factory)(&algorithm, key)
}
