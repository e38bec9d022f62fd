//! Hashes that identify texts.

use sha2::{Digest, Sha256};

/// The SHA-256 of bytes, in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
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
