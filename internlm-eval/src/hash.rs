//! Hashes that identify texts.

use sha2::{Digest, Sha256};

/// Bytes in hex, two small digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of bytes, in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Its first 16 digits.
pub(crate) fn hex16(bytes: &[u8]) -> String {
    let mut hex = sha256_hex(bytes);
    hex.truncate(16);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_text_has_the_known_hash() {
        assert_eq!(hex16(b""), "e3b0c44298fc1c14");
        assert_eq!(sha256_hex(b"").len(), 64);
    }
}
