//! Keys in files, sets of keys, and tokens that are checked with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_000_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tokens/testdata").join(name)
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(testdata(name)).unwrap()
}

/// A directory with this key in its file `key`.
fn key_file(bytes: &[u8]) -> (TempDir, TokenFiles) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, bytes).unwrap();
    (directory, TokenFiles { keys: vec![path], ..TokenFiles::default() })
}

fn jwks_file(set: &Value) -> (TempDir, TokenFiles) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set.json");
    std::fs::write(&path, set.to_string()).unwrap();
    (directory, TokenFiles { jwks: Some(path), ..TokenFiles::default() })
}

fn problem(bytes: &[u8]) -> String {
    let (_directory, files) = key_file(bytes);
    files.load().map(|_| ()).unwrap_err().to_string()
}

fn ann() -> TokenCommand {
    TokenCommand {
        subject: "ann".into(),
        name: None,
        expires: Duration::from_secs(60),
        is_admin: false,
        may_rename: false,
        rooms: Vec::new(),
        topics: Vec::new(),
        publish: Vec::new(),
        rate: None,
    }
}

/// A token as the command makes it.
fn made(files: &TokenFiles) -> String {
    let mut out = Vec::new();
    run(&ann(), files, NOW, &mut out).unwrap();
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

/// A token with this header and these claims.
fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).unwrap()
}

fn with_kid(algorithm: Algorithm, kid: &str) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW + 60})
}

/// The parts, with another one in a place.
fn with_part(token: &str, place: usize, part: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[place] = part;
    parts.join(".")
}

fn base64(text: &str) -> String {
    data_encoding::BASE64URL_NOPAD.encode(text.as_bytes())
}

#[test]
fn a_token_is_right_for_the_key_that_it_was_made_with_and_for_no_other() {
    let pairs = [
        ("rsa.pem", "rsa-public.pem"),
        ("rsa-pkcs1.pem", "rsa-public-pkcs1.pem"),
        ("p256.pem", "p256-public.pem"),
        ("p384.pem", "p384-public.pem"),
        ("ed25519.pem", "ed25519-public.pem"),
    ];
    let sign_with = |name| TokenFiles { keys: vec![testdata(name)], ..TokenFiles::default() };
    for (own, _) in pairs {
        let token = made(&sign_with(own));
        for (other, public) in pairs {
            let outcome = sign_with(public).load().unwrap().check(&token, NOW);
            // Both files of the RSA key have the same key.
            let is_same = own == other || own.starts_with("rsa") && other.starts_with("rsa");
            assert_eq!(outcome.is_ok(), is_same, "{own} {public}: {outcome:?}");
        }
        let all =
            TokenFiles { keys: pairs.map(|(_, public)| testdata(public)).to_vec(), ..TokenFiles::default() };
        assert_eq!(&*all.load().unwrap().check(&token, NOW).unwrap().account, "ann");
        assert_eq!(all.load().unwrap().check(&token, NOW + 60), Err(TokenError::Expired));
    }
}

#[test]
fn the_end_of_the_last_line_is_no_part_of_a_secret() {
    let (_directory, files) = key_file(SECRET);
    let token = made(&files);
    for end in ["", "\n", "\r\n"] {
        let (_directory, files) = key_file(&[SECRET, end.as_bytes()].concat());
        assert!(files.load().unwrap().check(&token, NOW).is_ok(), "{end:?}");
    }
    for end in [" ", "\r", "\n\n"] {
        let (_directory, files) = key_file(&[SECRET, end.as_bytes()].concat());
        assert_eq!(files.load().unwrap().check(&token, NOW), Err(TokenError::Signature), "{end:?}");
    }
}

#[test]
fn unusable_key_files_say_what_to_do() {
    let der = pem::parse(pem("ed25519-public.pem")).unwrap().into_contents();
    let two = [pem("p256-public.pem"), pem("p384-public.pem")].concat();
    let cut = &pem("rsa-public.pem")[..200];
    let jwk = json!({"kty": "oct", "k": "c2VjcmV0", "note": "longer than thirty-two bytes"}).to_string();
    for (bytes, wanted) in [
        (&b""[..], "shorter than 32 bytes"),
        (&SECRET[1..], "shorter than 32 bytes"),
        (&[&SECRET[1..], b"\n"].concat(), "shorter than 32 bytes"),
        (&pem("rsa.pem"), "it is a private key"),
        (&pem("p256-sec1.pem"), "it is a private key"),
        (&pem("ed25519.pem"), "it is a private key"),
        (&pem("rsa-1024-public.pem"), "2048 to 4096 bits"),
        (&pem("p521-public.pem"), "its curve is not supported"),
        (&pem("secp256k1-public.pem"), "it is no RSA, P-256, P-384 or Ed25519 key"),
        (cut, "its PEM is damaged"),
        (&two, "several PEM blocks"),
        (&der, "a key in DER"),
        (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH ann@here", "a key of ssh"),
        (jwk.as_bytes(), "JWK sets are for --token-jwks"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAAC3NzaC1lZDI1NTE5AAAAIH\n", "is no PEM"),
        (b"AAAAC3NzaC1lZDI1NTE5AAAAIHNzaC1rZXktb2YtdGhpcnR5LXR3by1ieXRlcyEh", "without the first"),
    ] {
        let said = problem(bytes);
        assert!(said.starts_with("--token-key: ") && said.contains(wanted), "{said}");
    }
    let missing = TokenFiles { keys: vec!["/nonexistent".into()], ..TokenFiles::default() };
    assert!(missing.load().unwrap_err().to_string().contains("No such file"));
}

#[test]
fn tokens_are_made_with_private_keys_and_secrets_alone() {
    let said = |name: &str| {
        let files = TokenFiles { keys: vec![testdata(name)], ..TokenFiles::default() };
        run(&ann(), &files, NOW, &mut Vec::new()).unwrap_err().to_string()
    };
    assert!(said("rsa-public.pem").contains("only private keys and secrets"));
    assert!(said("p256-sec1.pem").contains("openssl pkcs8 -topk8"));
    let none = run(&ann(), &TokenFiles::default(), NOW, &mut Vec::new());
    assert!(matches!(none, Err(TokenCommandError::NoKey)));
    let (_directory, files) = key_file(SECRET);
    let nobody = TokenCommand { subject: String::new(), ..ann() };
    let refused = run(&nobody, &files, NOW, &mut Vec::new());
    assert!(matches!(refused, Err(TokenCommandError::Refused(TokenError::Subject))));
    let short = TokenCommand { expires: Duration::from_millis(10), ..ann() };
    let refused = run(&short, &files, NOW, &mut Vec::new());
    assert!(matches!(refused, Err(TokenCommandError::Refused(TokenError::Expired))));
}

#[test]
fn a_made_token_says_everything_that_was_asked_for() {
    let (_directory, files) = key_file(SECRET);
    let files = TokenFiles { issuer: Some("backend".into()), audience: Some("chat".into()), ..files };
    let command = TokenCommand {
        name: Some("Ann".into()),
        is_admin: true,
        may_rename: true,
        rooms: vec!["team-*".into()],
        topics: vec!["prices".into()],
        publish: vec!["topic:prices".into()],
        rate: Some(5),
        ..ann()
    };
    let mut out = Vec::new();
    run(&command, &files, NOW, &mut out).unwrap();
    let token = String::from_utf8(out).unwrap();
    let identity = files.load().unwrap().check(token.trim_end(), NOW).unwrap();
    let rights = &identity.rights;
    assert_eq!((&*identity.name, identity.is_admin, rights.may_rename), ("Ann", true, true));
    assert!(rights.may_join("team-a") && !rights.may_join("general") && !rights.may_publish_in("team-a"));
    assert!(rights.may_hear("prices") && !rights.may_hear("news") && rights.may_publish_on("prices"));
    assert_eq!((rights.messages_per_second, rights.expires_at), (Some(5), Some(NOW + 60)));
    let elsewhere = TokenFiles { audience: Some("mail".into()), ..files };
    assert_eq!(elsewhere.load().unwrap().check(token.trim_end(), NOW), Err(TokenError::Audience));
}

/// A public key in forms that are no PEM.
fn other_forms(text: &[u8]) -> Vec<Vec<u8>> {
    let utf8 = std::str::from_utf8(text).unwrap();
    let lines: Vec<&str> = utf8.lines().filter(|line| !line.starts_with("-----")).collect();
    let little: Vec<u8> = utf8.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = utf8.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let jwk = json!([{"kty": "EC", "crv": "P-256", "x": lines.concat()}]).to_string();
    let url_safe = lines.concat().replace('+', "-").replace('/', "_").replace('=', "");
    vec![
        pem::parse(text).unwrap().into_contents(),
        lines.concat().into(),
        lines.join("\r\n").into(),
        format!("\u{feff}\n {}\n", lines.join("\n")).into(),
        url_safe.into(),
        [&b"\xff\xfe"[..], &little].concat(),
        [&b"\xfe\xff"[..], &big].concat(),
        little,
        big,
        jwk.clone().into(),
        format!("\u{feff} {jwk}").into(),
        format!("\u{feff}{}", &jwk[1..jwk.len() - 1]).into(),
        // Only a part of it.
        jwk[..jwk.len() - 2].into(),
    ]
}

#[test]
fn a_public_key_is_no_secret() {
    // What a library does that takes the algorithm from the token.
    for name in ["rsa-public.pem", "p256-public.pem", "ed25519-public.pem"] {
        let files = TokenFiles { keys: vec![testdata(name)], ..TokenFiles::default() };
        let set = files.load().unwrap();
        let text = pem(name);
        for other in other_forms(&text) {
            let said = problem(&other);
            assert!(said.contains("it looks like") || said.contains("UTF-16"), "{name}: {said}");
        }
        for secret in [&text[..], text.trim_ascii_end()] {
            let key = EncodingKey::from_secret(secret).unwrap();
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let token = signed(&Header::new(algorithm), &claims(), &key);
                assert_eq!(set.check(&token, NOW), Err(TokenError::NoKey), "{name}");
            }
        }
    }
}

#[test]
fn unsigned_and_damaged_tokens_are_refused() {
    let (_directory, files) = key_file(SECRET);
    let set = files.load().unwrap();
    let token = made(&files);
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    for alg in ["none", "None", "NONE", "nOnE", "", "HS1", "PS256\u{0}"] {
        let unsigned = base64(&json!({"alg": alg, "typ": "JWT"}).to_string());
        for signature in ["", signature] {
            let token = format!("{unsigned}.{payload}.{signature}");
            assert_eq!(set.check(&token, NOW), Err(TokenError::Malformed), "{alg}");
        }
    }
    for header in [
        "",
        "e30",
        "!",
        &base64("[]"),
        &base64("{\"alg\":1}"),
        &base64("{\"alg\":\"HS256\",\"kid\":1}"),
        &base64("{\"alg\":\"HS256\",\"crit\":[]}"),
        &base64(&"[".repeat(10_000)),
    ] {
        let outcome = set.check(&with_part(&token, 0, header), NOW);
        assert_eq!(outcome, Err(TokenError::Malformed), "{header}");
    }
    for (token, wanted) in [
        ("".to_owned(), TokenError::Malformed),
        (".".to_owned(), TokenError::Malformed),
        ("..".to_owned(), TokenError::Malformed),
        ("a.b.c".to_owned(), TokenError::Malformed),
        (format!("{header}.{payload}"), TokenError::Malformed),
        (format!("{token}."), TokenError::Malformed),
        (format!("{token}.x"), TokenError::Malformed),
        (format!("{header}.{payload}."), TokenError::Signature),
        (format!("{header}.{payload}.AAAA"), TokenError::Signature),
        (format!("{header}.{payload}.!"), TokenError::Malformed),
        (
            with_part(&token, 1, &base64(&json!({"sub": "boss", "exp": NOW + 60}).to_string())),
            TokenError::Signature,
        ),
        ("x".repeat(64 << 10), TokenError::TooLong),
        (format!("{header}.{}.{signature}", "x".repeat(64 << 10)), TokenError::TooLong),
    ] {
        assert_eq!(set.check(&token, NOW), Err(wanted), "{}", &token[..token.len().min(80)]);
    }
    let key = EncodingKey::from_secret(SECRET).unwrap();
    for claims in [json!([]), json!("ann"), json!(1), Value::Null] {
        let token = signed(&Header::new(Algorithm::HS256), &claims, &key);
        assert_eq!(set.check(&token, NOW), Err(TokenError::NoClaims), "{claims}");
    }
    let critical = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) };
    assert_eq!(set.check(&signed(&critical, &claims(), &key), NOW), Err(TokenError::Malformed));
    let pss = EncodingKey::from_rsa_pem(&pem("rsa.pem")).unwrap();
    let rsa = TokenFiles { keys: vec![testdata("rsa-public.pem")], ..TokenFiles::default() };
    let token = signed(&Header::new(Algorithm::PS256), &claims(), &pss);
    assert_eq!(rsa.load().unwrap().check(&token, NOW), Err(TokenError::NoKey));
}

/// A public key as a set has it.
fn jwk(name: &str, algorithm: Algorithm, kid: &str) -> Value {
    let bytes = pem(name);
    let key = match algorithm {
        Algorithm::RS256 => DecodingKey::from_rsa_pem(&bytes),
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(&bytes),
        _ => DecodingKey::from_ed_pem(&bytes),
    };
    let jwk = Jwk::from_decoding_key(&key.unwrap(), Some(algorithm)).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn oct(kid: &str, secret: &[u8]) -> Value {
    json!({"kty": "oct", "kid": kid, "k": data_encoding::BASE64URL_NOPAD.encode(secret)})
}

#[test]
fn a_key_of_a_set_is_chosen_by_its_kid() {
    let set = json!({"keys": [
        jwk("rsa-public.pem", Algorithm::RS256, "r"), jwk("p256-public.pem", Algorithm::ES256, "e"),
        jwk("p384-public.pem", Algorithm::ES384, "f"), jwk("ed25519-public.pem", Algorithm::EdDSA, "d"),
        oct("h", SECRET),
    ]});
    let (_directory, files) = jwks_file(&set);
    let set = files.load().unwrap();
    assert_eq!((set.count(), set.remarks().len()), (5, 0));
    let ec = |name| EncodingKey::from_ec_pem(&pem(name)).unwrap();
    for (kid, algorithm, key) in [
        ("r", Algorithm::RS256, EncodingKey::from_rsa_pem(&pem("rsa.pem")).unwrap()),
        ("e", Algorithm::ES256, ec("p256.pem")),
        ("f", Algorithm::ES384, ec("p384.pem")),
        ("d", Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem("ed25519.pem")).unwrap()),
        ("h", Algorithm::HS512, EncodingKey::from_secret(SECRET).unwrap()),
    ] {
        assert!(set.check(&signed(&with_kid(algorithm, kid), &claims(), &key), NOW).is_ok(), "{kid}");
        for header in [Header::new(algorithm), with_kid(algorithm, "x"), with_kid(algorithm, "")] {
            let outcome = set.check(&signed(&header, &claims(), &key), NOW);
            assert_eq!(outcome, Err(TokenError::NoKey), "{header:?}");
        }
    }
    // The key says RS256 alone.
    let rsa = EncodingKey::from_rsa_pem(&pem("rsa.pem")).unwrap();
    let token = signed(&with_kid(Algorithm::RS512, "r"), &claims(), &rsa);
    assert_eq!(set.check(&token, NOW), Err(TokenError::NoKey));
}

#[test]
fn keys_of_a_set_that_cannot_be_used_are_left_out() {
    let changed = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let rsa = || jwk("rsa-public.pem", Algorithm::RS256, "r");
    let ed = || jwk("ed25519-public.pem", Algorithm::EdDSA, "d");
    let (modulus, _) = rsa_parts("rsa-1024-public.pem");
    let keys = [
        changed(rsa(), "use", json!("enc")),
        changed(rsa(), "key_ops", json!(["sign"])),
        changed(rsa(), "alg", json!("RSA-OAEP")),
        changed(rsa(), "alg", json!("HS256")),
        changed(rsa(), "kid", Value::Null),
        changed(rsa(), "n", json!("")),
        changed(rsa(), "n", json!(modulus)),
        changed(rsa(), "e", json!("")),
        changed(rsa(), "e", json!("AA")),
        changed(ed(), "x", json!("")),
        changed(ed(), "x", json!("AAAA")),
        changed(ed(), "x", json!("!")),
        changed(ed(), "crv", json!("Ed448")),
        changed(jwk("p256-public.pem", Algorithm::ES256, "e"), "y", json!("AAAA")),
        changed(
            jwk("p256-public.pem", Algorithm::ES256, "e"),
            "x",
            jwk("ed25519-public.pem", Algorithm::EdDSA, "")["x"].clone(),
        ),
        oct("h", &SECRET[1..]),
        json!({"kty": "AKP", "kid": "a", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({}),
        json!(1),
        Value::Null,
    ];
    for key in &keys {
        let (_directory, files) = jwks_file(&json!({ "keys": [key, oct("good", SECRET)] }));
        let set = files.load().unwrap();
        assert_eq!((set.count(), set.remarks().len()), (1, 1), "{key}");
    }
    let (_directory, files) = jwks_file(&json!({ "keys": [] }));
    let set = files.load().unwrap();
    assert_eq!((set.count(), set.remarks().len()), (0, 1));
    assert_eq!(set.check("a.b.c", NOW), Err(TokenError::Malformed));
}

/// Modulus and exponent, as a set has them.
fn rsa_parts(name: &str) -> (Value, Value) {
    let key = DecodingKey::from_rsa_pem(&pem(name)).unwrap();
    let jwk = serde_json::to_value(Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).unwrap()).unwrap();
    (jwk["n"].clone(), jwk["e"].clone())
}

#[test]
fn what_cannot_be_read_leaves_the_keys_as_they_were() {
    let (old, new) = (&b"the old secret of thirty-two bytes"[..], &b"the new secret of thirty-two bytes"[..]);
    let token = |kid: &str, secret: &[u8]| {
        let key = EncodingKey::from_secret(secret).unwrap();
        signed(&with_kid(Algorithm::HS256, kid), &claims(), &key)
    };
    let (old_token, new_token) = (token("old", old), token("new", new));
    let (directory, files) = jwks_file(&json!({ "keys": [oct("old", old)] }));
    let path = directory.path().join("set.json");
    let (keys, checker) = TokenKeys::open(files).unwrap();
    let accepted = || [&old_token, &new_token].map(|token| checker.check(token, NOW).is_ok());
    assert_eq!(accepted(), [true, false]);
    let both = json!({ "keys": [oct("old", old), oct("new", new)] }).to_string();
    for length in 0..both.len() {
        std::fs::write(&path, &both[..length]).unwrap();
        keys.reload();
        assert_eq!(accepted(), [true, false], "{length}");
    }
    std::fs::write(&path, &both).unwrap();
    keys.reload();
    assert_eq!(accepted(), [true, true]);
    std::fs::remove_file(&path).unwrap();
    keys.reload();
    assert_eq!(accepted(), [true, true]);
    std::fs::write(&path, json!({ "keys": [oct("new", new)] }).to_string()).unwrap();
    keys.reload();
    assert_eq!(accepted(), [false, true]);
    std::fs::write(&path, json!({ "keys": [] }).to_string()).unwrap();
    keys.reload();
    assert_eq!(accepted(), [false, false]);
}

#[test]
fn a_check_counts_the_keys_that_it_tries() {
    let set = json!({"keys": [oct("h", SECRET), oct("h", &[1; 32]), oct("h", &[2; 32]), oct("i", &[3; 32])]});
    let (_directory, files) = jwks_file(&set);
    let (_, checker) = TokenKeys::open(files).unwrap();
    let token = |kid: &str, secret: &[u8]| {
        let key = EncodingKey::from_secret(secret).unwrap();
        signed(&with_kid(Algorithm::HS256, kid), &claims(), &key)
    };
    for (token, wanted) in [
        (token("h", SECRET), 1),
        (token("h", &[2; 32]), 3),
        (token("h", b"forged"), 3),
        (token("x", SECRET), 0),
        ("a.b.c".to_owned(), 0),
    ] {
        let mut tried = 0;
        let _ = checker.check_counting(&token, NOW, &mut tried);
        assert_eq!(tried, wanted);
    }
}

#[test]
fn without_keys_no_token_is_right() {
    let (_directory, files) = key_file(SECRET);
    assert_eq!(TokenChecker::default().check(&made(&files), NOW), Err(TokenError::NoKey));
    assert!(!TokenChecker::default().has_keys());
}

proptest! {
    #[test]
    fn nothing_that_is_shown_makes_it_panic(text: String, header in "\\PC{0,60}", payload in "\\PC{0,60}", signature: Vec<u8>) {
        let keys = ["rsa-public.pem", "p256-public.pem", "p384-public.pem", "ed25519-public.pem"];
        let files = TokenFiles { keys: keys.map(testdata).to_vec(), ..TokenFiles::default() };
        let set = files.load().unwrap();
        prop_assert!(set.check(&text, NOW).is_err());
        let signature = data_encoding::BASE64URL_NOPAD.encode(&signature);
        for algorithm in ["RS256", "RS512", "ES256", "ES384", "EdDSA"] {
            let header = format!(r#"{{"alg":"{algorithm}","typ":{}}}"#, Value::from(&*header));
            let token = format!("{}.{}.{signature}", base64(&header), base64(&payload));
            prop_assert_eq!(set.check(&token, NOW), Err(TokenError::Signature));
        }
    }
}
