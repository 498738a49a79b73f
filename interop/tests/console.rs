//! Kafka's console producer and consumer and Milena's client read each other's records: every codec, headers, null and empty
//! keys and values, byte for byte, on Kafka 4 and 3.9.

use milena::Compression;
use milena_interop::letter::{self, Letter};
use milena_interop::raw::Raw;
use milena_interop::{ours, real};
use xtask::kafka::{Cluster, Tool};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// The separators of fields, headers and records, and the text for null. No letter contains them.
const FIELD: &str = "<field>";
const HEADER: &str = "<header>";
const RECORD: &str = "<record>";
const NULL: &str = "<null>";

/// The console consumer's output for `letter`.
fn printed(letter: &Letter) -> Vec<u8> {
    let or_null = |bytes: &Option<Vec<u8>>| bytes.clone().unwrap_or_else(|| NULL.into());
    let mut text = format!("CreateTime:{}{FIELD}", letter.timestamp).into_bytes();
    for (index, (name, value)) in letter.headers.iter().enumerate() {
        text.extend(if index > 0 { HEADER } else { "" }.bytes());
        text.extend(name.bytes().chain([b':']));
        text.extend(or_null(value));
    }
    if letter.headers.is_empty() {
        text.extend(b"NO_HEADERS");
    }
    text.extend(FIELD.bytes());
    text.extend(or_null(&letter.key));
    text.extend(FIELD.bytes());
    text.extend(or_null(&letter.value));
    text.extend(RECORD.bytes());
    text
}

/// All letters in partition 0: the console consumer reads one partition in order.
fn letters() -> Vec<Letter> {
    letter::awkward().into_iter().map(|letter| Letter { partition: 0, ..letter }).collect()
}

fn console_consumes(kafka: &Cluster, name: &str) {
    let bootstrap = kafka.bootstrap();
    let letters = letters();
    let property = if kafka.version().starts_with('3') { "--property" } else { "--formatter-property" };
    for codec in CODECS {
        let topic = format!("{name}-{codec:?}");
        Raw::connect(&bootstrap).unwrap().create_topic(&topic, 1).unwrap();
        ours::produce(&bootstrap, &topic, codec, &letters).unwrap();

        let count = letters.len().to_string();
        let mut args = vec!["--topic", &topic, "--partition", "0", "--offset", "earliest"];
        args.extend(["--max-messages", &count, "--timeout-ms", "20000"]);
        let separators = [
            format!("key.separator={FIELD}"),
            format!("headers.separator={HEADER}"),
            format!("line.separator={RECORD}"),
            format!("null.literal={NULL}"),
        ];
        let shown = ["print.timestamp=true", "print.headers=true", "print.key=true"];
        for setting in shown.into_iter().chain(separators.iter().map(String::as_str)) {
            args.extend([property, setting]);
        }
        let output = kafka.tool(Tool::ConsoleConsumer, &args, None).unwrap();
        let wanted: Vec<u8> = letters.iter().flat_map(printed).collect();
        let differs = output.stdout.iter().zip(&wanted).position(|(a, b)| a != b);
        let around = |bytes: &[u8]| {
            let at = differs.unwrap_or_else(|| bytes.len().min(wanted.len())).saturating_sub(60);
            String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 120)]).into_owned()
        };
        assert!(
            output.stdout == wanted,
            "{codec:?}: {} bytes of {}, first difference at {differs:?}\nconsole: {}\nwanted: {}\n{}",
            output.stdout.len(),
            wanted.len(),
            around(&output.stdout),
            around(&wanted),
            String::from_utf8_lossy(&output.stderr),
        );
    }
}

/// The letters that can be typed: text without line ends. Their timestamps cannot be typed.
fn typed() -> Vec<Letter> {
    let is_text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().is_none_or(|bytes| {
            std::str::from_utf8(bytes)
                .is_ok_and(|text| !text.contains(['\n', '\r', '\0']) && text.len() < 1000)
        })
    };
    let typed = |letter: &Letter| {
        let in_headers = letter.headers.iter().all(|(name, value)| !name.is_empty() && is_text(value));
        in_headers && is_text(&letter.key) && is_text(&letter.value)
    };
    letters().into_iter().filter(typed).collect()
}

/// The line typed for `letter`: headers, key and value.
fn line(letter: &Letter) -> String {
    let or_null = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or_else(|| NULL.into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let headers: Vec<String> =
        letter.headers.iter().map(|(name, value)| format!("{name}:{}", or_null(value))).collect();
    // A letter without headers is typed with null headers: an empty text would be a header without a name.
    let headers = if headers.is_empty() { NULL.into() } else { headers.join(HEADER) };
    format!("{headers}{FIELD}{}{FIELD}{}\n", or_null(&letter.key), or_null(&letter.value))
}

fn console_produces(kafka: &Cluster, name: &str) {
    let bootstrap = kafka.bootstrap();
    let letters = typed();
    assert!(letters.len() > 100, "only {} letters can be typed", letters.len());
    let lines: String = letters.iter().map(line).collect();
    let property = if kafka.version().starts_with('3') { "--property" } else { "--reader-property" };
    for codec in CODECS {
        let topic = format!("{name}-{codec:?}");
        Raw::connect(&bootstrap).unwrap().create_topic(&topic, 1).unwrap();
        let codec_name = format!("{codec:?}").to_lowercase();
        let mut args = vec!["--topic", &topic, "--compression-codec", &codec_name];
        let separators = [
            format!("headers.delimiter={FIELD}"),
            format!("headers.separator={HEADER}"),
            format!("key.separator={FIELD}"),
            format!("null.marker={NULL}"),
        ];
        let read = ["parse.headers=true", "parse.key=true"];
        for setting in read.into_iter().chain(separators.iter().map(String::as_str)) {
            args.extend([property, setting]);
        }
        let output = kafka.tool(Tool::ConsoleProducer, &args, Some(lines.as_bytes())).unwrap();
        assert!(output.status.success(), "{codec:?}: {}", String::from_utf8_lossy(&output.stderr));

        let mut received = ours::consume(&bootstrap, &topic, 1, letters.len()).unwrap().received;
        for received in &mut received {
            assert!(received.letter.timestamp > letter::TIME, "the console stamps with its own clock");
            received.letter.timestamp = letters[usize::try_from(received.offset).unwrap()].timestamp;
        }
        letter::assert_same(&format!("Milena reads the console's {codec:?}"), &letters, &received);
    }
}

#[test]
fn the_console_consumer_reads_what_milena_wrote() {
    let Some(kafka) = real::kafka() else { return };
    console_consumes(kafka, "from-milena");
}

#[test]
fn the_console_consumer_of_3_9_reads_what_milena_wrote() {
    let Some(kafka) = real::old() else { return };
    console_consumes(kafka, "from-milena");
}

#[test]
fn milena_reads_what_the_console_producer_wrote() {
    let Some(kafka) = real::kafka() else { return };
    console_produces(kafka, "from-console");
}

#[test]
fn milena_reads_what_the_console_producer_of_3_9_wrote() {
    let Some(kafka) = real::old() else { return };
    console_produces(kafka, "from-console");
}
