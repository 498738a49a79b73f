//! Properties against the complete lists of Java's and librdkafka's settings.

use std::fmt::Write as _;

use super::foreign::{Foreign, Otherwise};
use super::properties::{find, find_with};
use super::*;

/// A line of a list.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    name: &'a str,
    default: Option<&'a str>,
    bounds: Option<&'a str>,
    /// Our setting, or how a value other than the default is treated.
    here: &'a str,
}

const LISTS: [&str; 2] =
    [include_str!("../../tests/settings/java.tsv"), include_str!("../../tests/settings/librdkafka.tsv")];

fn known(list: &'static str) -> impl Iterator<Item = Known<'static>> {
    list.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().unwrap_or_else(|| panic!("{line:?} has five cells"));
        let (name, _, default, bounds, here) = (cell(), cell(), cell(), cell(), cell());
        let some = |text: &'static str| Some(text).filter(|text| *text != "-");
        Known { name, default: some(default), bounds: some(bounds), here }
    })
}

/// The settings after `name` is set to `text`, with `before` set first.
fn set(before: &[(&str, &str)], name: &str, text: &str) -> Result<Settings, Error> {
    before.iter().copied().chain([(name, text)]).collect::<Properties>().settings()
}

/// How a value of `name` other than the default is treated.
fn treatment(name: &str) -> &'static str {
    if let Some(setting) = find(name) {
        return setting.name;
    }
    match find_with(name, Foreign::find).map(|foreign| foreign.otherwise) {
        Some(Otherwise::Sets(_)) => "sets",
        Some(Otherwise::Ignored(_)) => "ignored",
        Some(Otherwise::Refused(_)) => "refused",
        Some(Otherwise::NeedsSasl(_)) => "refused with SASL",
        Some(Otherwise::SetsSasl(_)) => "sets SASL",
        Some(Otherwise::SetsTls(_)) => "sets TLS",
        None => "unknown",
    }
}

#[test]
fn every_name_of_both_dialects_is_known() {
    let mut wrong = String::new();
    for Known { name, here, .. } in LISTS.into_iter().flat_map(known) {
        if treatment(name) != here {
            let _ = writeln!(wrong, "{name}: {} and not {here}", treatment(name));
        }
    }
    assert_eq!(wrong, "");
}

#[test]
fn every_default_of_both_dialects_is_taken() {
    for Known { name, default, .. } in LISTS.into_iter().flat_map(known) {
        let Some(default) = default else { continue };
        for protocol in ["PLAINTEXT", "SSL"] {
            let taken = set(&[("security.protocol", protocol)], name, default);
            assert!(taken.is_ok(), "{name}={default}: {:?}", taken.err());
        }
    }
}

/// Ends of their bounds that are out of bounds here, each for a reason.
const REFUSED_BOUNDS: [(&str, &str); 6] = [
    // With no time for an answer, or no memory to send from, no operation could ever succeed.
    ("request.timeout.ms", "0"),
    ("default.api.timeout.ms", "0"),
    ("buffer.memory", "0"),
    ("max.request.size", "0"),
    // Brokers know -1, 0 and 1 only.
    ("acks", "1000"),
    ("request.required.acks", "1000"),
];

#[test]
fn the_bounds_of_both_dialects_are_taken() {
    for Known { name, bounds, here, .. } in LISTS.into_iter().flat_map(known) {
        let Some(bounds) = bounds else { continue };
        if here.starts_with("refused") {
            continue;
        }
        let values: Vec<_> = match bounds.split_once("..") {
            Some((least, most)) => [least, most].into_iter().filter(|end| !end.is_empty()).collect(),
            None => bounds.split('|').filter(|word| !word.starts_with("by_duration")).collect(),
        };
        for text in values {
            let before = match treatment(name) {
                "sets TLS" => &[("security.protocol", "SSL")][..],
                "sets SASL" => &[("security.protocol", "PLAINTEXT")],
                _ => &[],
            };
            let taken = set(before, name, text);
            let expected = !REFUSED_BOUNDS.contains(&(name, text));
            assert_eq!(taken.is_ok(), expected, "{name}={text}: {:?}", taken.err());
        }
    }
}

/// The settings of a file.
fn file(text: &str) -> Result<Settings, Error> {
    Properties::parse(text)?.settings()
}

#[test]
fn everyday_files_work_as_they_are() {
    let check = |text: &str, ignored: &[&str], right: fn(&Settings) -> bool| {
        let settings = file(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert!(right(&settings), "{settings:?}");
        assert_eq!(settings.ignored.keys().map(String::as_str).collect::<Vec<_>>(), ignored, "{text}");
    };
    // Java's producer, as its documentation showed for years.
    check(
        "bootstrap.servers=localhost:9092\nacks=all\nretries=0\nbatch.size=16384\nlinger.ms=1\n\
         buffer.memory=33554432\n\
         key.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         value.serializer=org.apache.kafka.common.serialization.StringSerializer\n",
        &["retries"],
        |s| s.producer.batch_bytes_max == 16384 && s.producer.memory_bytes_max == Some(32 << 20),
    );
    // Java's consumer.
    check(
        "bootstrap.servers = kafka-1:9092, kafka-2:9092\ngroup.id = billing\nenable.auto.commit = False\n\
         auto.offset.reset = earliest\nisolation.level = read_committed\nmax.poll.records = 500\n\
         key.deserializer = org.apache.kafka.common.serialization.ByteArrayDeserializer\n\
         value.deserializer = io.confluent.kafka.serializers.KafkaAvroDeserializer\n\
         schema.registry.url = http://registry:8081\nspecific.avro.reader = true\n",
        &["schema.registry.url", "specific.avro.reader", "value.deserializer"],
        |s| {
            let is_reset =
                s.consumer.reset == Some(Reset::Earliest) && s.consumer.delivery_records_max == Some(500);
            is_reset && s.group.id.as_deref() == Some("billing") && !s.group.auto_commit
        },
    );
    // kcat's.
    check(
        "metadata.broker.list=kafka-1\\:9092\napi.version.request=true\nbroker.address.family=v4\n\
         socket.keepalive.enable=true\nmessage.timeout.ms=0\nmessage.send.max.retries=2147483647\n\
         queue.buffering.max.ms=0.5\nqueue.buffering.max.kbytes=1024\ncompression.codec=inherit\n\
         topic.request.required.acks=-1\ntopic.partitioner=murmur2_random\n\
         socket.send.buffer.bytes=0\ntopic.metadata.refresh.interval.ms=-1\nmax.in.flight=1000000\n\
         statistics.interval.ms=0\nenable.auto.offset.store=f\n",
        &["broker.address.family"],
        |s| {
            s.producer.delivery_timeout == kind::NO_LIMIT
                && s.client.metadata_age_max == kind::NO_LIMIT
                && s.producer.memory_bytes_max == Some(1 << 20)
                && s.producer.compression == Compression::None
                && s.producer.in_flight_max == 5
                && s.producer.idempotence
        },
    );
    // For large records.
    check(
        "max.request.size=20971520\nfetch.max.bytes=209715200\nmax.partition.fetch.bytes=20971520\n\
         request.timeout.ms=120000\nretry.backoff.ms=5000\nreconnect.backoff.ms=2000\nmax.block.ms=9223372036854775807\n",
        &[],
        |s| {
            s.client.response_bytes_max > s.consumer.fetch_bytes_max
                && s.consumer.fetch_bytes_max == 200 << 20
                && s.client.retry_backoff_max.as_secs() == 5
                && s.client.reconnect_backoff_max.as_secs() == 2
        },
    );
    // Settings of TLS, with a connection in plain text.
    check(
        "security.protocol=plaintext\nssl.endpoint.identification.algorithm=https\nssl.truststore.location=/a\n\
         sasl.mechanism=PLAIN\n",
        &["sasl.mechanism", "ssl.truststore.location"],
        |_| true,
    );
    // An empty value asks for nothing.
    check("transactional.id=\nssl.endpoint.identification.algorithm=\ninterceptor.classes=\n", &[], |_| true);
}

#[test]
fn partitioners_are_known_by_both_dialects_names() {
    let check = |text: &str, expected: &str| {
        let settings = file(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{:?}", settings.producer.partitioner), expected, "{text}");
    };
    let java = "partitioner.class=org.apache.kafka.clients.producer";
    check(&format!("{java}.RoundRobinPartitioner"), "RoundRobin");
    check(&format!("{java}.UniformStickyPartitioner"), "Uniform");
    check(&format!("{java}.internals.DefaultPartitioner"), "Murmur2Random");
    check("partitioner.class=null", "Murmur2Random");
    check("partitioner.ignore.keys=true", "Uniform");
    check("partitioner=consistent_random", "ConsistentRandom");
    check("topic.partitioner=FNV1A", "Fnv1a");
    check("partitioner=random", "Random");
    check("linger.ms=5", "Murmur2Random");
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason_and_no_secret_is_told() {
    let check = |text: &str, says: &str| {
        let error = file(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    };
    check(
        "sasl.jaas.config=PlainLoginModule required username=\"a\" password=\"hunter2\";",
        "it needs security.protocol=SASL_SSL or SASL_PLAINTEXT",
    );
    check("sasl.password=hunter2", "line 1: setting the property \"sasl.password\"");
    check("a.b=hunter2", "there is no such setting");
    check("security.protocol=SSL\nssl.key.password=hunter2", "ssl.key.password is given and no key is");
    check("ssl.keystore.password=hunter2", "it needs security.protocol=SSL");
    check("security.protocol=SASL", "is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL");
    check("partitioner.class=com.example.Own", "nor a partitioner of Java's client");
    check("partitioner=consistent_randon", "consistent_random");
    check("transaction.two.phase.commit.enable=true", "KIP-939");
    check("interceptor.classes=com.example.Interceptor", "interceptors are set in code");
    check("config.providers=file", "look up");
    check("dr_msg_cb=x", "a C function");
    check("enable.idempotence=true\nacks=1", "needs acks=all");
    check("auto.offset.reset=by_duration:1h", "ISO 8601");
    check("auto.offset.reset=by_duration:-PT1H", "ISO 8601");
    check("compression.type=\"lz4\"", "without quotes");
    check("bootstrap.servers=", "the list is empty");
    check("linger.ms=", "the value is empty");
}

#[test]
fn a_value_out_of_bounds_is_named_with_the_bound() {
    let check = |text: &str, says: &str| {
        let error = file(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    };
    check("batch.size=-1", "-1 is less than the least, 0");
    check("max.in.flight=0", "0 is less than the least, 1");
    check("max.poll.records=0", "0 is less than the least, 1");
    check("buffer.memory=0", "0 is less than the least, 4096");
    check("request.timeout.ms=0", "0 ms is less than the least, 1 ms");
    check("fetch.max.bytes=2147483648", "2147483648 is more than the most, 2147483647");
    check("max.in.flight=99999999999999999999999", "is more than the most, 1000000");
    check("linger.ms=NaN", "is not a number of milliseconds");
    check("batch.size=16k", "\"16k\" is not a whole number");
    check("compression.zstd.level=23", "23 is more than the most, 22");
    check(&format!("client.id={}", "x".repeat(32768)), "32767 is the most");
}

#[test]
fn zeros_that_would_make_a_storm_are_taken_as_the_least_that_makes_none() {
    let settings = file(
        "metadata.max.age.ms=0\nretry.backoff.ms=0\nretry.backoff.max.ms=0\nreconnect.backoff.ms=0\n\
         reconnect.backoff.max.ms=0\nfetch.max.wait.ms=0\nfetch.min.bytes=0\nfetch.max.bytes=0\n",
    )
    .expect("taken");
    let client = &settings.client;
    let times = [
        client.metadata_age_max,
        client.retry_backoff,
        client.retry_backoff_max,
        client.reconnect_backoff,
        client.reconnect_backoff_max,
        settings.consumer.fetch_wait,
    ];
    assert_eq!(times.map(|time| time.as_millis()), [1000, 10, 100, 10, 100, 10]);
    assert_eq!((settings.consumer.fetch_bytes_min, settings.consumer.fetch_bytes_max), (1, 1));
}

#[test]
fn settings_made_in_code_are_held_to_the_same_bounds() {
    let mut settings = Settings::default();
    settings.client.metadata_age_max = Duration::ZERO;
    settings.fit().expect("raised");
    assert_eq!(settings.client.metadata_age_max.as_millis(), 1000);
    settings.client.memory_bytes_max = 0;
    let error = settings.fit().expect_err("refused").to_string();
    assert!(error.contains("the setting memory_bytes_max: 0 is less than the least, 8192"), "{error}");

    let producer = ProducerSettings { in_flight_max: 0, ..ProducerSettings::default() };
    let error = Settings::default().with_producer(producer).expect_err("refused").to_string();
    assert!(error.contains("in_flight_max"), "{error}");
    let consumer = ConsumerSettings { fetch_bytes_max: 200 << 20, ..ConsumerSettings::default() };
    let error = Settings::default().with_consumer(consumer).expect_err("refused").to_string();
    assert!(error.contains("response_bytes_max"), "{error}");
}

#[test]
fn levels_are_for_the_codec_that_is_used() {
    let level = |text: &str| file(text).expect(text).compression_level();
    assert_eq!(level("compression.type=gzip\ncompression.gzip.level=9\ncompression.zstd.level=3"), Some(9));
    assert_eq!(level("compression.zstd.level=-1\ncompression.type=zstd"), Some(-1));
    assert_eq!(level("compression.gzip.level=-1\ncompression.type=gzip"), None);
    assert_eq!(level("compression.codec=gzip\ncompression.level=12"), Some(9));
    assert_eq!(level("compression.codec=zstd\ncompression.level=12"), Some(12));
    assert_eq!(level("compression.codec=snappy\ncompression.level=12"), None);
    assert_eq!(level("compression.type=none\ncompression.gzip.level=9"), None);
}

#[test]
fn what_has_no_effect_is_one_sentence() {
    let settings = file("share.a=a\nretries=3\nshare.b=1\nshare.a=b\n").expect("taken");
    assert_eq!(
        settings.ignored().expect("some"),
        "without effect here: retries (failed records are retried until delivery.timeout.ms has passed); share.a, \
         share.b (there are no share groups)"
    );
    assert_eq!(file("acks=all").expect("taken").ignored(), None);
}

#[test]
fn a_reset_by_duration_is_read_as_java_reads_it() {
    let hour = 3600.0;
    for (text, seconds) in [
        ("PT1H", hour),
        ("P1D", 24.0 * hour),
        ("pt30m", hour / 2.0),
        ("P2DT3H4M5.5S", 51.0 * hour + 245.5),
        ("PT0S", 0.0),
    ] {
        let settings = file(&format!("auto.offset.reset=by_duration:{text}")).expect("a duration");
        let reset = settings.consumer.reset;
        assert_eq!(reset, Some(Reset::ByDuration(Duration::from_secs_f64(seconds))), "{text}");
    }
    for text in ["", "P", "PT", "P1DT", "1H", "PT1", "PTH", "PT1.5H", "PT1M1H", "P-1D", "PT1H junk"] {
        assert!(file(&format!("auto.offset.reset=by_duration:{text}")).is_err(), "{text:?}");
    }
}

#[test]
fn a_file_is_named_with_its_line() {
    let dir = std::env::temp_dir().join(format!("milena-properties-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("made");
    let path = dir.join("client.properties");
    std::fs::write(&path, b"# caf\xe9\nclient.id=caf\xe9\n").expect("written");
    let settings = Properties::read(&path).expect("read").settings().expect("taken");
    assert_eq!(&*settings.client.client_id, "café");
    std::fs::write(&path, "acks=all\nlinger.mss=5\n").expect("written");
    let error = Properties::read(&path).expect("read").settings().expect_err("refused").to_string();
    assert!(error.contains("client.properties, line 2: setting the property \"linger.mss\""), "{error}");
    let error = Properties::read(&dir).expect_err("a directory").to_string();
    assert!(error.contains("reading the properties file"), "{error}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn what_a_protocol_does_not_have_is_refused_as_java_refuses_it() {
    for (text, why) in [
        ("group.protocol=consumer\nsession.timeout.ms=6000", "the coordinator has this setting"),
        ("group.protocol=CONSUMER\nheartbeat.interval.ms=6000", "the coordinator has this setting"),
        ("group.protocol=consumer\npartition.assignment.strategy=range", "the coordinator has this setting"),
        ("group.protocol=classic\ngroup.remote.assignor=uniform", "it is for group_protocol=consumer"),
    ] {
        let error = file(text).expect_err(text).to_string();
        assert!(error.contains(why), "{error}");
    }
    for text in ["group.protocol=classic\nsession.timeout.ms=6000", "group.remote.assignor=uniform"] {
        file(text).expect(text);
    }
}

#[test]
fn assignors_are_known_by_their_names_and_by_javas_classes() {
    let java = "org.apache.kafka.clients.consumer.";
    let names = |text: &str| {
        let settings = file(&format!("partition.assignment.strategy={text}")).expect(text);
        settings.group.assignors.iter().map(|assignor| assignor.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("cooperative-sticky, range"), ["cooperative-sticky", "range"]);
    assert_eq!(names(&format!("{java}StickyAssignor,{java}RoundRobinAssignor")), ["sticky", "roundrobin"]);
    let error = file("partition.assignment.strategy=com.example.Own").expect_err("unknown").to_string();
    assert!(error.contains("is not one of range, roundrobin, sticky, cooperative-sticky"), "{error}");
}

#[test]
fn a_proxy_is_set_and_its_password_is_not_printed() {
    let settings = file("proxy=socks5://alice:hunter2@proxy:1081").expect("taken");
    assert_eq!(format!("{:?}", settings.client.proxy), "Some(socks5://alice:***@proxy:1081)");
    let error = file("proxy=https://alice:hunter2@proxy").expect_err("refused").to_string();
    assert!(error.contains("it is neither a SOCKS5 proxy") && !error.contains("hunter2"), "{error}");
}

#[cfg(feature = "tls")]
mod of_tls {
    use super::*;

    fn stores(name: &str) -> String {
        format!("{}/tests/tls/stores/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    /// Whether the properties can be used, or what is wrong with them.
    fn outcome(text: &str) -> String {
        let text = format!("security.protocol=SSL\n{text}").replace("STORES/", &stores(""));
        let read = file(&text).and_then(|settings| settings.tls.expect("TLS").check());
        read.map_or_else(|error| error.to_string(), |()| "read".into())
    }

    #[test]
    fn files_of_both_dialects_work_as_they_are() {
        let escaped = |name: &str| {
            let pem = std::fs::read_to_string(stores(name)).expect("there");
            pem.trim().replace('\n', " \\\n  ")
        };
        let check = |text: &str| assert_eq!(outcome(text), "read", "{text}");
        // Java.
        check(
            "ssl.truststore.location=STORES/java-trust.jks\nssl.truststore.password=changeit\nssl.truststore.type=JKS\n\
             ssl.keystore.location=STORES/java.p12\nssl.keystore.password=changeit\nssl.keystore.type=PKCS12\n\
             ssl.key.password=changeit\nssl.endpoint.identification.algorithm=https\nssl.protocol=TLSv1.3\n\
             ssl.enabled.protocols=TLSv1.2,TLSv1.3,TLSv1.1\n",
        );
        check(
            "ssl.truststore.location=STORES/ca.pem\nssl.truststore.type=PEM\nssl.endpoint.identification.algorithm=\n",
        );
        check(&format!(
            "ssl.truststore.type=PEM\nssl.truststore.certificates={}\nssl.keystore.type=PEM\nssl.keystore.key={}\n\
             ssl.keystore.certificate.chain={}\nssl.key.password=changeit\n",
            escaped("ca.pem"),
            escaped("key-pbkdf2.pem"),
            escaped("own.pem")
        ));
        // librdkafka.
        check(
            "ssl.ca.location=STORES/ca.pem\nssl.certificate.location=STORES/own.pem\nssl.key.location=STORES/key-scrypt.pem\n\
             ssl.key.password=changeit\nenable.ssl.certificate.verification=true\n\
             ssl.endpoint.identification.algorithm=none\n",
        );
        check(
            "ssl.keystore.location=STORES/openssl.p12\nssl.keystore.password=changeit\nssl.ca.location=STORES/ca.pem\n",
        );
        check("enable.ssl.certificate.verification=false\n");
    }

    #[test]
    fn what_they_say_counts() {
        let tls = |text: &str| {
            let settings = file(&format!("security.protocol=ssl\n{text}")).expect(text);
            format!("{:?}", settings.tls.expect("TLS"))
        };
        assert!(tls("").contains("System") && tls("").contains("checks: All"), "{}", tls(""));
        assert!(tls("ssl.ca.location=probe").contains("System"));
        assert!(tls("ssl.endpoint.identification.algorithm=").contains("checks: NoHostName"));
        assert!(tls("enable.ssl.certificate.verification=false").contains("checks: Nothing"));
        assert!(tls("ssl.enabled.protocols=TLSv1.3").contains("versions: [false, true]"));
        assert!(tls("ssl.protocol=TLSv1.2").contains("versions: [true, false]"));
        let text =
            "ssl.ca.location=a\nssl.truststore.password=hunter2\nssl.certificate.pem=a\nssl.key.pem=hunter2";
        assert!(!tls(text).contains("hunter2") && tls(text).contains("***"), "{}", tls(text));
        let properties = Properties::parse(text).expect("parsed");
        assert!(!format!("{properties:?}").contains("hunter2"), "{properties:?}");
        assert!(file("security.protocol=PLAINTEXT\nssl.ca.location=a").expect("taken").tls.is_none());
        let addresses =
            file("security.protocol=SSL\nbootstrap.servers=SSL://a:1, ssl://b:2,c:3").expect("taken");
        assert_eq!(addresses.client.bootstrap.len(), 3);
    }

    #[test]
    fn what_contradicts_itself_or_cannot_be_done_is_refused() {
        let check = |text: &str, says: &str| {
            let outcome = outcome(text);
            assert!(outcome.contains(says), "{text}: {outcome}");
            assert!(!outcome.contains("hunter2"), "{outcome}");
        };
        check("ssl.ca.location=a\nssl.ca.pem=b", "roots are given both in a file and in PEM");
        check("ssl.truststore.password=hunter2", "ssl.truststore.location is not");
        check("ssl.keystore.password=hunter2", "ssl.keystore.location is not");
        check("ssl.key.pem=hunter2", "no certificate for it");
        check("ssl.certificate.location=a", "no private key for it");
        check("ssl.certificate.location=a\nssl.key.pem=hunter2", "both be in files, or both in PEM");
        check("ssl.keystore.location=a\nssl.key.pem=hunter2", "outside of it");
        check("ssl.truststore.type=BCFKS", "is not one of JKS, PKCS12, PEM");
        check(
            "ssl.truststore.location=STORES/java-trust.jks\nssl.truststore.type=PEM",
            "it is JKS, and its type is said",
        );
        check(
            "ssl.truststore.location=STORES/java-trust.p12\nssl.truststore.password=hunter2",
            "the password is wrong",
        );
        check("ssl.enabled.protocols=TLSv1.1", "none is safe");
        check("ssl.protocol=SSLv3", "is not one of TLSv1.3, TLSv1.2, TLS");
        check("ssl.cipher.suites=TLS_AES_128_GCM_SHA256", "a provider of rustls decides it");
        check("ssl.engine.factory.class=com.example.Own", "a Java class");
        check("bootstrap.servers=PLAINTEXT://a:1,SASL_SSL://a:1", "an address does not choose SASL_SSL");
    }

    #[test]
    fn a_password_or_a_key_of_tls_comes_from_where_its_text_says() {
        let names = ["ssl.truststore.password", "ssl.keystore.password", "ssl.key.password"];
        for name in names.into_iter().chain(["ssl.keystore.key", "ssl.key.pem"]) {
            for (text, says) in [
                ("env:MILENA_NO_SUCH_VARIABLE", "the environment has no variable"),
                ("file:/no/such/file", "the file \"/no/such/file\" cannot be read"),
                ("command:/no/such/program x", "the command \"/no/such/program\" cannot be run"),
            ] {
                let outcome = outcome(&format!("{name}={text}"));
                assert!(outcome.contains(name) && outcome.contains(says), "{name}={text}: {outcome}");
            }
        }
        let store = "ssl.truststore.location=STORES/java-trust.p12\nssl.truststore.password";
        #[cfg(unix)]
        assert_eq!(outcome(&format!("{store}=command:echo changeit")), "read");
    }
}

mod of_sasl {
    use super::*;

    /// The SASL of a file, as `Debug` shows it, and the properties without effect; or the error.
    fn outcome(text: &str) -> Result<(String, Vec<String>), String> {
        let properties = Properties::parse(text).expect("parsed");
        assert!(!format!("{properties:?}").contains("hunter2"), "{properties:?}");
        let settings = properties.settings().map_err(|error| error.to_string())?;
        let ignored = settings.ignored.keys().cloned().collect();
        Ok((settings.sasl.map(|sasl| sasl.mechanism().to_owned()).unwrap_or_default(), ignored))
    }

    #[test]
    fn files_of_both_dialects_work_as_they_are() {
        let check = |text: &str, mechanism: &str, ignored: &[&str]| {
            let (found, without_effect) = outcome(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (&*found, without_effect),
                (mechanism, ignored.iter().map(|name| (*name).into()).collect()),
                "{text}"
            );
        };
        // Java.
        check(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n  \
             username=\"alice\" \\\n  password=\"hunter2\";\n",
            "PLAIN",
            &[],
        );
        check(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.kerberos.service.name=kafka\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"a\" \
             password=\"hunter2\" tokenauth=\"true\";\n",
            "SCRAM-SHA-512",
            &["sasl.kerberos.service.name"],
        );
        check(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.login.refresh.window.factor=0.5\n\
             sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"alice\" unsecuredLoginLifetimeSeconds=\"60\" \
             unsecuredLoginExtension_cluster=\"c\";\n",
            "OAUTHBEARER",
            &["sasl.login.refresh.window.factor"],
        );
        // librdkafka.
        check(
            "security.protocol=sasl_plaintext\nsasl.mechanisms=scram-sha-256\nsasl.username=alice\nsasl.password=hunter2\n\
             bootstrap.servers=SASL_PLAINTEXT://a:1\n",
            "SCRAM-SHA-256",
            &[],
        );
        check(
            "security.protocol=sasl_plaintext\nsasl.mechanism=OAUTHBEARER\nenable.sasl.oauthbearer.unsecure.jwt=true\n\
             sasl.oauthbearer.config=principal=admin scope=a,b lifeSeconds=60 extension_x=y\n\
             sasl.oauthbearer.method=default\n",
            "OAUTHBEARER",
            &[],
        );
        // Without SASL.
        check(
            "security.protocol=PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.password=hunter2\nsasl.oauthbearer.scope=x\n",
            "",
            &["sasl.mechanism", "sasl.oauthbearer.scope", "sasl.password"],
        );
    }

    #[test]
    #[cfg(feature = "tls")]
    fn with_tls_both_are_set() {
        let settings = file(
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=hunter2\n",
        );
        let settings = settings.expect("taken");
        assert!(settings.tls.is_some() && settings.sasl.is_some());
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    }

    #[cfg(feature = "aws-msk-iam")]
    #[test]
    fn files_for_msk_work_as_they_are_and_options_without_effect_are_refused() {
        // As Amazon's documentation has it.
        let file = "security.protocol=SASL_SSL\nsasl.mechanism=AWS_MSK_IAM\n\
                    sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler\n";
        let check = |options: &str, expected: Result<(), &str>| {
            let module = "sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required";
            let outcome = outcome(&format!("{file}{module} {options};"));
            match (outcome, expected) {
                (Ok((mechanism, ignored)), Ok(())) => {
                    assert_eq!((&*mechanism, ignored.len()), ("AWS_MSK_IAM", 0), "{options}");
                }
                (Err(why), Err(says)) => {
                    assert!(why.contains(says) && !why.contains("hunter2"), "{options}: {why}");
                }
                (outcome, _) => panic!("{options}: {outcome:?}"),
            }
        };
        check("", Ok(()));
        check("awsProfileName=\"staging\" awsDebugCreds=\"false\" awsAddDefaultProviders=false", Ok(()));
        check(
            "awsRoleArn=\"arn:aws:iam::1:role/r\"",
            Err("the option \"awsRoleArn\", and this client does not assume a role"),
        );
        check("awsRoleSecretAccessKey=hunter2", Err("awsRoleSecretAccessKey"));
        check(
            "awsMaxRetries=\"3\"",
            Err("the option \"awsMaxRetries\", which is not supported for IAMLoginModule"),
        );
        check("awsDebugCreds=true", Err("the option \"awsDebugCreds\", which is not supported"));
        check("awsAddDefaultProviders=false", Err("no place is left"));
        check("awsProfileName=p awsAddDefaultProviders=true", Err("looks at no other place"));
        assert_eq!(outcome(file).expect("the default places").0, "AWS_MSK_IAM");
        let why = outcome(&format!("{file}sasl.username=a\nsasl.password=hunter2")).expect_err("refused");
        assert!(why.contains("are not for AWS_MSK_IAM"), "{why}");
        let why = outcome(&format!(
            "{file}sasl.jaas.config=PlainLoginModule required username=a password=hunter2;"
        ));
        assert!(why.expect_err("refused").contains("AWS_MSK_IAM needs IAMLoginModule"));
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_named_without_a_secret() {
        let check = |text: &str, says: &str| {
            let why = outcome(&format!("security.protocol=SASL_PLAINTEXT\n{text}")).expect_err(text);
            assert!(why.contains(says), "{text}: {why}");
            assert!(!why.contains("hunter2"), "{why}");
        };
        check("", "sasl.mechanism is not given, and its default, GSSAPI, is not supported");
        check("sasl.mechanism=GSSAPI", "\"GSSAPI\" is not supported; choose PLAIN, SCRAM-SHA-256");
        check("sasl.mechanism=PLAIN", "sasl.username is missing, or sasl.jaas.config");
        check("sasl.mechanism=PLAIN\nsasl.username=a", "sasl.password is missing");
        let plain = "sasl.jaas.config=x.PlainLoginModule required username=\"a\" password=\"hunter2\"";
        check(
            &format!("sasl.mechanism=PLAIN\n{plain}"),
            "line 3: setting the property \"sasl.jaas.config\": the semicolon",
        );
        check(&format!("sasl.mechanism=SCRAM-SHA-256\n{plain};"), "SCRAM-SHA-256 needs ScramLoginModule");
        check(
            &format!("sasl.mechanism=PLAIN\n{plain} hunter=\"2\";"),
            "has the option \"hunter\", which is not supported",
        );
        check(
            &format!("sasl.mechanism=PLAIN\nsasl.password=hunter2\n{plain};"),
            "the credentials are given twice",
        );
        check(
            "sasl.mechanism=PLAIN\nsasl.jaas.config=PlainLoginModule required;",
            "sasl.jaas.config has no username",
        );
        check("sasl.mechanism=OAUTHBEARER", "there is nothing that gives tokens");
        check("sasl.mechanism=OAUTHBEARER\nenable.sasl.oauthbearer.unsecure.jwt=true", "needs a subject");
        check(
            "sasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=hunter2\nenable.sasl.oauthbearer.unsecure.jwt=true",
            "is for OAUTHBEARER, and PLAIN is chosen",
        );
        let of_issuer = match cfg!(feature = "oauth") {
            true => "sasl.oauthbearer.token.endpoint.url is missing",
            false => "build with the feature \"oauth\"",
        };
        check("sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.method=oidc", of_issuer);
        check("sasl.login.class=com.example.Own", "a Java class");
        check(
            "sasl.password=env:MILENA_NO_SUCH_VARIABLE",
            "the environment has no variable \"MILENA_NO_SUCH_VARIABLE\"",
        );
        check("sasl.password=file:/no/such/file", "the file \"/no/such/file\" cannot be read");
        check("sasl.password=command:/no/such/program", "the command \"/no/such/program\" cannot be run");
        check(
            "sasl.mechanism=PLAIN\nsasl.jaas.config=PlainLoginModule required username=a password=\"file:/no/such/file\";",
            "the file \"/no/such/file\" cannot be read",
        );
    }
}
