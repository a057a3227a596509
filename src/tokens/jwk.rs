//! JWK sets (RFC 7517): public keys and secrets by `kid`.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

use super::key::{CheckingKey, OF_RSA, OF_SECRET, SECRET_BYTES_MIN, check_rsa};

/// A key of a set.
#[derive(Clone, Debug)]
pub(super) struct JwkKey {
    pub(super) kid: String,
    pub(super) key: CheckingKey,
    /// The only algorithm that it is for, if its `alg` names one.
    pub(super) algorithm: Option<Algorithm>,
}

/// The keys of a set.
#[derive(Debug, Default)]
pub(super) struct JwkKeys {
    pub(super) keys: Vec<JwkKey>,
    /// The keys that cannot be used: by its `kid` or place, and why.
    pub(super) left_out: Vec<(String, &'static str)>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl JwkKeys {
    /// Reads a set. Keys that cannot be used are left out (RFC 7517, 5: "Implementations SHOULD ignore JWKs within a JWK
    /// Set that use \"kty\" (key type) values that are not understood by them").
    ///
    /// # Errors
    ///
    /// When it is no set, or only a part of one.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let set: Set = serde_json::from_slice(bytes)?;
        let mut read = Self::default();
        for (place, value) in set.keys.into_iter().enumerate() {
            let kid = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            match key(value) {
                Ok(key) => read.keys.push(key),
                Err(problem) => {
                    let name = kid.unwrap_or_else(|| format!("number {}", place + 1));
                    read.left_out.push((name, problem));
                }
            }
        }
        Ok(read)
    }
}

/// One key of a set.
fn key(value: Value) -> Result<JwkKey, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "its kind is unknown, or it is damaged")?;
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("it is not for signatures");
    }
    if common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
        return Err("it is not for signatures");
    }
    let kid = common.key_id.clone().ok_or("it has no kid")?;
    let key = checking_key(&jwk)?;
    let algorithm = match common.key_algorithm.map(Algorithm::try_from) {
        None => None,
        Some(Ok(algorithm)) if key.algorithms.contains(&algorithm) => Some(algorithm),
        Some(_) => return Err("its alg is not supported, or does not fit it"),
    };
    Ok(JwkKey { kid, key, algorithm })
}

fn checking_key(jwk: &Jwk) -> Result<CheckingKey, &'static str> {
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "its kind is unknown, or it is damaged")?;
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {
            let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
                return Err("it is damaged");
            };
            check_rsa(n, e)?;
            Ok(CheckingKey { algorithms: OF_RSA, key })
        }
        AlgorithmParameters::EllipticCurve(_) => CheckingKey::of_curve(key),
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
            CheckingKey::of_ed25519(key)
        }
        AlgorithmParameters::OctetKey(_) => {
            if key.try_get_as_bytes().map_or(0, <[u8]>::len) < SECRET_BYTES_MIN {
                return Err("its secret is shorter than 32 bytes");
            }
            Ok(CheckingKey { algorithms: OF_SECRET, key })
        }
        _ => Err("its kind is not supported"),
    }
}
