//! Reads PEM (RFC 7468): the blocks between `-----BEGIN` and `-----END`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A block of PEM.
pub(super) struct Block<'a> {
    /// What it says that it is, such as `CERTIFICATE`.
    pub(super) label: &'a str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Whether `bytes` hold a block.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes())
}

/// The blocks of `text`. Text around them is skipped, as tools write comments there. The lines of a block may be joined with
/// spaces, as a property of one line has them.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, String> {
    // Comments around the blocks may be in any encoding.
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, BEGIN) {
        let block = &rest[at..];
        let end = find(block, END).ok_or("a PEM block has a BEGIN and no END")?;
        let body = std::str::from_utf8(&block[..end]).map_err(|_| "a PEM block is not text")?;
        let (label, body) = body.split_once(DASHES).ok_or("the BEGIN of a PEM block is not complete")?;
        rest = &block[end..];
        if body.contains("Proc-Type:") {
            return Err(format!(
                "the PEM block {label} is encrypted in OpenSSL's old form, which is weak; write it anew with \
                 `openssl pkcs8 -topk8`"
            ));
        }
        let compact: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        let der = STANDARD
            .decode(&*compact)
            .map_err(|_| format!("the PEM block {label} is not base64 between its BEGIN and its END"))?;
        blocks.push(Block { label, der: Zeroizing::new(der) });
    }
    Ok(blocks)
}

/// Where what follows the first `pattern` in `bytes` begins; for `END`, where it begins itself.
fn find(bytes: &[u8], pattern: &str) -> Option<usize> {
    let at = bytes.windows(pattern.len()).position(|window| window == pattern.as_bytes())?;
    Some(if pattern == BEGIN { at + pattern.len() } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_files_and_as_one_line() {
        let check = |text: &str, expected: &[(&str, &[u8])]| {
            let found = blocks(text.as_bytes()).expect(text);
            let found: Vec<_> = found.iter().map(|block| (block.label, &block.der[..])).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &[]);
        check(
            "a comment\n-----BEGIN A-----\nAQID\nBAU=\n-----END A-----\nmore\n",
            &[("A", &[1, 2, 3, 4, 5])],
        );
        check("-----BEGIN A B----- AQID BAU= -----END A B-----", &[("A B", &[1, 2, 3, 4, 5])]);
        check(
            "-----BEGIN A-----\r\nAQID\r\n-----END A-----\r\n-----BEGIN B-----\r\nBAU=\r\n-----END B-----",
            &[("A", &[1, 2, 3]), ("B", &[4, 5])],
        );
        assert!(is_pem(b"\xe9 -----BEGIN A-----") && !is_pem(b"-----END A-----"));
        assert_eq!(blocks(b"\xe9\n-----BEGIN A-----AQID-----END A-----\n\xe9").expect("one").len(), 1);
    }

    #[test]
    fn what_is_no_pem_is_told() {
        let check = |text: &str, says: &str| {
            let error = blocks(text.as_bytes()).err().expect(text);
            assert!(error.contains(says), "{error}");
        };
        check("-----BEGIN A-----\nAQID", "no END");
        check("-----BEGIN A\nAQID-----END A-----", "not complete");
        check("-----BEGIN A-----\nA*ID\n-----END A-----", "the PEM block A is not base64");
        check(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAQID\n-----END RSA",
            "openssl pkcs8 -topk8",
        );
    }
}
