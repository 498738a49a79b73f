//! Asking a broker whether it is ready: ApiVersions and Metadata by hand, over a plain socket. Knows two requests in
//! their oldest form, so that starting Kafka does not wait for the generated messages to compile.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// Whether the broker at `address` answers, and knows a controller and `brokers` brokers including itself.
///
/// # Errors
/// The error says what is still missing.
pub(super) fn ready(address: SocketAddr, brokers: usize) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = ask(&mut stream, API_VERSIONS, 0, 1, &[])?;
    let error = i16_at(&answer, 0)?;
    ensure!(error == 0, "ApiVersions answers with error {error}");
    // Metadata v1 with an empty array asks for no topics.
    let answer = ask(&mut stream, METADATA, 1, 2, &0i32.to_be_bytes())?;
    let (seen, controller) = read_metadata(&answer)?;
    ensure!(seen == brokers, "{seen} of {brokers} brokers are registered");
    ensure!(controller >= 0, "there is no controller yet");
    Ok(())
}

fn ask(
    stream: &mut TcpStream,
    key: i16,
    version: i16,
    correlation: i32,
    body: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend((-1i16).to_be_bytes()); // No client id.
    frame.extend(body);
    stream.write_all(&u32::try_from(frame.len())?.to_be_bytes())?;
    stream.write_all(&frame)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!((4..ANSWER_BYTES_MAX).contains(&length), "an answer of {length} bytes");
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    ensure!(answer[..4] == correlation.to_be_bytes(), "an answer to another request");
    Ok(answer.split_off(4))
}

/// The number of brokers and the controller's id in a Metadata v1 response.
fn read_metadata(answer: &[u8]) -> anyhow::Result<(usize, i32)> {
    let brokers = usize::try_from(i32_at(answer, 0)?).unwrap_or(0);
    let mut at = 4;
    for _ in 0..brokers {
        at += 4; // node_id
        at = skip_string(answer, at)? + 4; // host, port
        at = skip_string(answer, at)?; // rack
    }
    Ok((brokers, i32_at(answer, at)?))
}

fn skip_string(bytes: &[u8], at: usize) -> anyhow::Result<usize> {
    Ok(at + 2 + usize::try_from(i16_at(bytes, at)?).unwrap_or(0))
}

fn i16_at(bytes: &[u8], at: usize) -> anyhow::Result<i16> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).context("the answer is cut short")?;
    Ok(i16::from_be_bytes(*field))
}

fn i32_at(bytes: &[u8], at: usize) -> anyhow::Result<i32> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).context("the answer is cut short")?;
    Ok(i32::from_be_bytes(*field))
}

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const PATIENCE: Duration = Duration::from_secs(5);
/// ApiVersions of Kafka 4.4 is 600 bytes.
const ANSWER_BYTES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_v1_is_read() {
        let mut answer = 2i32.to_be_bytes().to_vec();
        for id in [1i32, 2] {
            answer.extend(id.to_be_bytes());
            answer.extend([0, 1, b'h']);
            answer.extend(9092i32.to_be_bytes());
            answer.extend((-1i16).to_be_bytes());
        }
        answer.extend(2i32.to_be_bytes());
        assert_eq!(read_metadata(&answer).unwrap(), (2, 2));
        for cut in 0..answer.len() {
            assert!(read_metadata(&answer[..cut]).is_err(), "cut at {cut}");
        }
    }
}
