//! The names of Java's and librdkafka's settings that are not settings here. A value of one of them asks for what Milena
//! does in any case, or for what it cannot do and is refused with the reason, or has no effect, which is logged once.

use milena_wire::codec::Compression;

use super::kind::{Flag, Kind as _, Number};
use super::oauth;
use super::sasl::SaslProperties;
use super::secret::secret;
use super::table::MEMORY;
use super::tls::{self, TlsProperties};
use super::{Settings, Unit};
use crate::{Partitioner, Secret};

/// Names that are treated in the same way.
pub(super) struct Foreign {
    /// A name that ends in `*` stands for all names that begin with the rest.
    pub(super) names: &'static [&'static str],
    /// The values that ask for what Milena does in any case. An empty value always does.
    anyway: &'static [&'static str],
    pub(super) otherwise: Otherwise,
}

/// What happens with any other value.
#[derive(Clone, Copy)]
pub(super) enum Otherwise {
    /// It has no effect, for this reason.
    Ignored(&'static str),
    /// It is refused, for this reason.
    Refused(&'static str),
    /// It is for a mechanism, or a way to get tokens, that properties cannot choose. It is refused if they choose SASL, and has
    /// no effect otherwise.
    NeedsSasl(&'static str),
    /// It sets a part of SASL. Without SASL it has no effect.
    SetsSasl(fn(&mut SaslProperties, &str) -> Result<(), String>),
    /// It sets a part of TLS. In plain text it has no effect.
    SetsTls(fn(&mut TlsProperties, &str) -> Result<(), String>),
    /// It sets a part of our settings.
    Sets(fn(&mut Settings, &str) -> Result<(), String>),
}

impl Foreign {
    /// The entry for `name`.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let is_called = |known: &&str| match known.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => *known == name,
        };
        FOREIGN.iter().find(|foreign| foreign.names.iter().any(is_called))
    }

    /// All names but those that end in `*`.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        FOREIGN.iter().flat_map(|foreign| foreign.names).copied().filter(|name| !name.ends_with('*'))
    }

    /// Whether the value `text` asks for what Milena does in any case.
    pub(super) fn says_what_happens_anyway(&self, text: &str) -> bool {
        text.is_empty() || self.anyway.iter().any(|value| value.eq_ignore_ascii_case(text))
    }
}

use Otherwise::{Ignored, NeedsSasl, Refused, Sets, SetsSasl, SetsTls};

const YES: &[&str] = &["true", "t", "1"];
const NO: &[&str] = &["false", "f", "0"];
const NONE: &[&str] = &[];

const NO_METRICS: Otherwise = Ignored("no metrics are reported");
const OWN_WAY: Otherwise = Ignored("the client decides this itself");
const NO_CALLBACK: Otherwise = Refused("it is a C function, which a property cannot name");

/// A property that says where tokens come from.
const fn issuer(
    names: &'static [&'static str],
    anyway: &'static [&'static str],
    set: fn(&mut SaslProperties, &str) -> Result<(), String>,
) -> Foreign {
    Foreign { names, anyway, otherwise: SetsSasl(set) }
}

const FOREIGN: &[Foreign] = &[
    // Security.
    Foreign {
        names: &["security.protocol"],
        // `Properties::settings` reads it.
        anyway: &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        otherwise: Refused("it is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    },
    Foreign {
        names: &["ssl.truststore.location", "ssl.ca.location"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.roots.location, text)),
    },
    Foreign {
        names: &["ssl.truststore.certificates", "ssl.ca.pem"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.roots.pem, text)),
    },
    Foreign {
        names: &["ssl.truststore.password"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given_secret(&mut tls.roots.password, text)),
    },
    Foreign {
        names: &["ssl.truststore.type"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| tls::form(text).map(|form| tls.roots.form = form)),
    },
    Foreign {
        names: &["ssl.keystore.location"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.own.location, text)),
    },
    Foreign {
        names: &["ssl.keystore.password"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given_secret(&mut tls.own.password, text)),
    },
    Foreign {
        names: &["ssl.keystore.type"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| tls::form(text).map(|form| tls.own.form = form)),
    },
    Foreign {
        names: &["ssl.keystore.certificate.chain", "ssl.certificate.pem"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.chain_pem, text)),
    },
    Foreign {
        names: &["ssl.certificate.location"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.chain_location, text)),
    },
    Foreign {
        names: &["ssl.keystore.key", "ssl.key.pem"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given_secret(&mut tls.key_pem, text)),
    },
    Foreign {
        names: &["ssl.key.location"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.key_location, text)),
    },
    Foreign {
        names: &["ssl.key.password"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given_secret(&mut tls.key_password, text)),
    },
    Foreign {
        names: &["ssl.crl.location"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| given(&mut tls.revocation_list, text)),
    },
    Foreign {
        names: &["ssl.endpoint.identification.algorithm"],
        anyway: &["https"],
        otherwise: SetsTls(|tls, text| tls::skips_host_name(text).map(|skips| tls.skips_host_name = skips)),
    },
    Foreign {
        names: &["enable.ssl.certificate.verification"],
        anyway: YES,
        otherwise: SetsTls(|tls, text| Flag.read(text).map(|verifies| tls.skips_certificate = !verifies)),
    },
    Foreign {
        names: &["ssl.enabled.protocols"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| tls::enabled(text).map(|enabled| tls.enabled = Some(enabled))),
    },
    Foreign {
        names: &["ssl.protocol"],
        anyway: NONE,
        otherwise: SetsTls(|tls, text| tls::is_at_most_12(text).map(|is| tls.is_at_most_12 = is)),
    },
    Foreign {
        names: &["ssl.keymanager.algorithm", "ssl.trustmanager.algorithm"],
        anyway: &["PKIX", "SunX509"],
        otherwise: Ignored("there is one algorithm, which is PKIX"),
    },
    Foreign {
        names: &["ssl.provider", "ssl.secure.random.implementation"],
        anyway: NONE,
        otherwise: Ignored("the provider of rustls that is installed or built in does the cryptography"),
    },
    Foreign {
        names: &["ssl.ca.certificate.stores"],
        anyway: &["Root"],
        otherwise: Ignored("the system's roots are those that it trusts for servers"),
    },
    Foreign {
        names: &["ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list"],
        anyway: NONE,
        otherwise: Refused("a provider of rustls decides it; install one that has these algorithms only"),
    },
    Foreign {
        names: &["ssl.engine.factory.class"],
        anyway: NONE,
        otherwise: Refused("it names a Java class, which Milena cannot run"),
    },
    Foreign {
        names: &["ssl.engine.id", "ssl.engine.location", "ssl.providers"],
        anyway: &["dynamic"],
        otherwise: Refused("it is for OpenSSL, which Milena does not use"),
    },
    Foreign {
        names: &["ssl.certificate.verify_cb", "ssl_engine_callback_data"],
        anyway: NONE,
        otherwise: NO_CALLBACK,
    },
    Foreign {
        names: &["ssl_ca", "ssl_certificate", "ssl_key"],
        anyway: NONE,
        otherwise: Refused("it is a C structure, which a property cannot name"),
    },
    Foreign {
        names: &["sasl.mechanism", "sasl.mechanisms"],
        anyway: NONE,
        otherwise: SetsSasl(SaslProperties::set_mechanism),
    },
    Foreign { names: &["sasl.username"], anyway: NONE, otherwise: SetsSasl(SaslProperties::set_user) },
    Foreign { names: &["sasl.password"], anyway: NONE, otherwise: SetsSasl(SaslProperties::set_password) },
    Foreign { names: &["sasl.jaas.config"], anyway: NONE, otherwise: SetsSasl(SaslProperties::set_jaas) },
    Foreign {
        names: &["enable.sasl.oauthbearer.unsecure.jwt"],
        anyway: NO,
        otherwise: SetsSasl(|sasl, text| Flag.read(text).map(|is| sasl.is_unsecured = is)),
    },
    Foreign {
        names: &["sasl.oauthbearer.config"],
        anyway: NONE,
        otherwise: SetsSasl(SaslProperties::set_unsecured),
    },
    Foreign {
        names: &["sasl.login.refresh.*"],
        anyway: NONE,
        otherwise: Ignored("a token is fetched again when 75 to 80 % of its life have passed"),
    },
    issuer(&[oauth::CONNECT_TIMEOUT], NONE, |sasl, text| sasl.oauth.set(oauth::CONNECT_TIMEOUT, text)),
    issuer(&[oauth::READ_TIMEOUT], NONE, |sasl, text| sasl.oauth.set(oauth::READ_TIMEOUT, text)),
    issuer(&[oauth::BACKOFF], &["100"], |sasl, text| sasl.oauth.set(oauth::BACKOFF, text)),
    issuer(&[oauth::BACKOFF_MAX], &["10000"], |sasl, text| sasl.oauth.set(oauth::BACKOFF_MAX, text)),
    Foreign {
        names: &["sasl.kerberos.*"],
        anyway: NONE,
        otherwise: Ignored("it is for GSSAPI, which is not supported"),
    },
    Foreign {
        names: &["sasl.login.callback.handler.class"],
        anyway: &[
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
            "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler",
        ],
        otherwise: NeedsSasl("it names a Java class, which Milena cannot run"),
    },
    Foreign {
        names: &["sasl.client.callback.handler.class"],
        // AWS_MSK_IAM always has it.
        anyway: &["software.amazon.msk.auth.iam.IAMClientCallbackHandler"],
        otherwise: NeedsSasl("it names a Java class, which Milena cannot run"),
    },
    Foreign {
        names: &["sasl.login.class"],
        anyway: NONE,
        otherwise: NeedsSasl("it names a Java class, which Milena cannot run"),
    },
    issuer(&[oauth::URL], NONE, |sasl, text| sasl.oauth.set(oauth::URL, text)),
    issuer(&[oauth::METHOD], &["default"], |sasl, text| sasl.oauth.set(oauth::METHOD, text)),
    issuer(
        &[oauth::RETRIEVER],
        &["org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"],
        |sasl, text| sasl.oauth.set(oauth::RETRIEVER, text),
    ),
    issuer(&[oauth::GRANT], &["client_credentials"], |sasl, text| sasl.oauth.set(oauth::GRANT, text)),
    issuer(&[oauth::CLIENT_ID, "sasl.oauthbearer.client.id"], NONE, |sasl, text| {
        sasl.oauth.set(oauth::CLIENT_ID, text)
    }),
    issuer(&[oauth::CLIENT_SECRET, "sasl.oauthbearer.client.secret"], NONE, |sasl, text| {
        sasl.oauth.set(oauth::CLIENT_SECRET, text)
    }),
    issuer(&[oauth::SCOPE], NONE, |sasl, text| sasl.oauth.set(oauth::SCOPE, text)),
    issuer(&[oauth::EXTENSIONS], NONE, |sasl, text| sasl.oauth.set(oauth::EXTENSIONS, text)),
    issuer(&[oauth::URLENCODE], NO, |sasl, text| sasl.oauth.set(oauth::URLENCODE, text)),
    issuer(&[oauth::ASSERTION_FILE], NONE, |sasl, text| sasl.oauth.set(oauth::ASSERTION_FILE, text)),
    issuer(&[oauth::KEY_FILE], NONE, |sasl, text| sasl.oauth.set(oauth::KEY_FILE, text)),
    issuer(&[oauth::KEY_PEM], NONE, |sasl, text| sasl.oauth.set(oauth::KEY_PEM, text)),
    issuer(&[oauth::KEY_PASSPHRASE], NONE, |sasl, text| sasl.oauth.set(oauth::KEY_PASSPHRASE, text)),
    issuer(&[oauth::TEMPLATE, "sasl.oauthbearer.assertion.jwt.template.file"], NONE, |sasl, text| {
        sasl.oauth.set(oauth::TEMPLATE, text)
    }),
    issuer(&[oauth::ALGORITHM], &["RS256"], |sasl, text| sasl.oauth.set(oauth::ALGORITHM, text)),
    issuer(&[oauth::CLAIM_AUD], NONE, |sasl, text| sasl.oauth.set(oauth::CLAIM_AUD, text)),
    issuer(&[oauth::CLAIM_ISS], NONE, |sasl, text| sasl.oauth.set(oauth::CLAIM_ISS, text)),
    issuer(&[oauth::CLAIM_SUB], NONE, |sasl, text| sasl.oauth.set(oauth::CLAIM_SUB, text)),
    issuer(&[oauth::CLAIM_EXP], &["300"], |sasl, text| sasl.oauth.set(oauth::CLAIM_EXP, text)),
    issuer(&[oauth::CLAIM_NBF], &["60"], |sasl, text| sasl.oauth.set(oauth::CLAIM_NBF, text)),
    issuer(&[oauth::CLAIM_JTI], NO, |sasl, text| sasl.oauth.set(oauth::CLAIM_JTI, text)),
    Foreign {
        names: &["sasl.oauthbearer.jwt.validator.class"],
        anyway: &[
            "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
            "org.apache.kafka.common.security.oauthbearer.ClientJwtValidator",
        ],
        otherwise: NeedsSasl("it names a Java class, which Milena cannot run"),
    },
    Foreign {
        names: &["sasl.oauthbearer.metadata.authentication.type"],
        anyway: &["none"],
        otherwise: NeedsSasl("metadata services of clouds are not asked for tokens; use Sasl::oauth_bearer"),
    },
    Foreign {
        names: &["sasl.oauthbearer.sub.claim.name"],
        anyway: &["sub"],
        otherwise: NeedsSasl("the broker chooses the claim that names the principal"),
    },
    Foreign {
        names: &["sasl.oauthbearer.*"],
        anyway: NONE,
        otherwise: NeedsSasl("it is for brokers, which check tokens"),
    },
    Foreign {
        names: &["https.ca.location"],
        anyway: NONE,
        otherwise: SetsSasl(|sasl, text| given(&mut sasl.oauth.tls.roots.location, text)),
    },
    Foreign {
        names: &["https.ca.pem"],
        anyway: NONE,
        otherwise: SetsSasl(|sasl, text| given(&mut sasl.oauth.tls.roots.pem, text)),
    },
    Foreign { names: &["oauthbearer_token_refresh_cb"], anyway: NONE, otherwise: NO_CALLBACK },
    Foreign {
        names: &["security.providers"],
        anyway: NONE,
        otherwise: Refused("it names Java classes, which Milena cannot run"),
    },
    // Connections.
    Foreign {
        names: &["send.buffer.bytes", "receive.buffer.bytes"],
        anyway: &["-1"],
        otherwise: Ignored("the system chooses the sizes of socket buffers"),
    },
    Foreign {
        names: &["socket.send.buffer.bytes", "socket.receive.buffer.bytes"],
        anyway: &["0"],
        otherwise: Ignored("the system chooses the sizes of socket buffers"),
    },
    Foreign { names: &["socket.keepalive.enable"], anyway: YES, otherwise: OWN_WAY },
    Foreign { names: &["socket.nagle.disable"], anyway: YES, otherwise: OWN_WAY },
    Foreign { names: &["socket.max.fails"], anyway: &["1"], otherwise: OWN_WAY },
    Foreign { names: &["broker.address.family"], anyway: &["any"], otherwise: OWN_WAY },
    Foreign {
        names: &[
            "broker.address.ttl",
            "socket.blocking.max.ms",
            "reconnect.backoff.jitter.ms",
            "bootstrap.resolve.timeout.ms",
            "internal.termination.signal",
        ],
        anyway: NONE,
        otherwise: OWN_WAY,
    },
    Foreign {
        names: &["bootstrap.controllers"],
        anyway: &["[]"],
        otherwise: Refused("Milena cannot bootstrap from controllers; name brokers with bootstrap.servers"),
    },
    // API versions.
    Foreign {
        names: &["api.version.request"],
        anyway: YES,
        otherwise: Ignored("a broker is always asked for its versions"),
    },
    Foreign {
        names: &["api.version.request.timeout.ms", "api.version.fallback.ms", "broker.version.fallback"],
        anyway: NONE,
        otherwise: Ignored("a broker is always asked for its versions"),
    },
    // Metadata.
    Foreign {
        names: &["metadata.recovery.strategy"],
        anyway: &["rebootstrap"],
        otherwise: Ignored("when no known broker answers, the bootstrap servers are asked again"),
    },
    Foreign {
        names: &["metadata.recovery.rebootstrap.trigger.ms"],
        anyway: NONE,
        otherwise: Ignored("when no known broker answers, the bootstrap servers are asked again"),
    },
    Foreign { names: &["topic.metadata.refresh.sparse"], anyway: YES, otherwise: OWN_WAY },
    Foreign {
        names: &[
            "metadata.max.idle.ms",
            "metadata.cluster.check.enable",
            "metadata.request.timeout.ms",
            "metadata.fetch.timeout.ms",
            "topic.metadata.refresh.fast.interval.ms",
            "topic.metadata.refresh.fast.cnt",
        ],
        anyway: NONE,
        otherwise: OWN_WAY,
    },
    Foreign {
        names: &["topic.blacklist"],
        anyway: NONE,
        otherwise: Ignored("a consumer reads the topics it names, and no others"),
    },
    // Metrics, logs and the client's own description.
    Foreign { names: &["statistics.interval.ms"], anyway: &["0"], otherwise: NO_METRICS },
    Foreign {
        names: &[
            "metric.reporters",
            "metrics.num.samples",
            "metrics.recording.level",
            "metrics.sample.window.ms",
            "auto.include.jmx.reporter",
        ],
        anyway: &["[]"],
        otherwise: NO_METRICS,
    },
    Foreign {
        names: &[
            "debug",
            "log_level",
            "log.queue",
            "log.thread.name",
            "log.connection.close",
            "enabled_events",
            "builtin.features",
        ],
        anyway: NONE,
        otherwise: Ignored("the `tracing` subscriber chooses what is logged"),
    },
    Foreign { names: &["enable.random.seed"], anyway: YES, otherwise: OWN_WAY },
    // Other code.
    Foreign {
        names: &["interceptor.classes", "interceptors", "plugin.library.paths"],
        anyway: &["[]"],
        otherwise: Refused("a property cannot name interceptors and plugins; interceptors are set in code"),
    },
    Foreign {
        names: &["config.providers"],
        anyway: &["[]"],
        otherwise: Refused(
            "providers are Java classes, which Milena cannot run to look up the values that refer to them",
        ),
    },
    Foreign {
        names: &[
            "error_cb",
            "throttle_cb",
            "stats_cb",
            "log_cb",
            "background_event_cb",
            "socket_cb",
            "connect_cb",
            "closesocket_cb",
            "open_cb",
            "resolve_cb",
            "consume_cb",
            "rebalance_cb",
            "offset_commit_cb",
            "dr_cb",
            "dr_msg_cb",
            "partitioner_cb",
            "msg_order_cmp",
            "opaque",
            "default_topic_conf",
        ],
        anyway: NONE,
        otherwise: NO_CALLBACK,
    },
    Foreign {
        names: &["key.serializer", "value.serializer", "key.deserializer", "value.deserializer"],
        anyway: &[
            "org.apache.kafka.common.serialization.StringSerializer",
            "org.apache.kafka.common.serialization.ByteArraySerializer",
            "org.apache.kafka.common.serialization.ByteBufferSerializer",
            "org.apache.kafka.common.serialization.BytesSerializer",
            "org.apache.kafka.common.serialization.StringDeserializer",
            "org.apache.kafka.common.serialization.ByteArrayDeserializer",
            "org.apache.kafka.common.serialization.ByteBufferDeserializer",
            "org.apache.kafka.common.serialization.BytesDeserializer",
        ],
        otherwise: Ignored("keys and values are bytes, which the application makes and reads itself"),
    },
    Foreign {
        names: &[
            "schema.registry.*",
            "basic.auth.*",
            "bearer.auth.*",
            "auto.register.schemas",
            "use.latest.version",
            "specific.avro.reader",
            "key.subject.name.strategy",
            "value.subject.name.strategy",
        ],
        anyway: NONE,
        otherwise: Ignored("keys and values are bytes, which the application makes and reads itself"),
    },
    // Producing.
    Foreign {
        names: &["retries", "message.send.max.retries"],
        anyway: &["2147483647"],
        otherwise: Ignored("failed records are retried until delivery.timeout.ms has passed"),
    },
    Foreign {
        names: &["partitioner.ignore.keys"],
        anyway: NO,
        otherwise: Sets(|to, text| {
            if Flag.read(text)? {
                to.producer.partitioner = Partitioner::Uniform;
            }
            Ok(())
        }),
    },
    Foreign {
        names: &["transaction.two.phase.commit.enable"],
        anyway: NO,
        otherwise: Refused("transactions are not prepared for a commit in two phases (KIP-939)"),
    },
    Foreign {
        names: &["enable.gapless.guarantee"],
        anyway: NO,
        otherwise: Refused("the records after a failed one are still sent"),
    },
    Foreign {
        names: &["queuing.strategy"],
        anyway: &["fifo"],
        otherwise: Refused("records are sent in the order in which they were produced"),
    },
    Foreign {
        names: &["queue.buffering.max.kbytes"],
        anyway: NONE,
        otherwise: Sets(|to, text| kibibytes(text, &mut to.producer.memory_bytes_max)),
    },
    Foreign { names: &["queue.buffering.max.messages"], anyway: &["0"], otherwise: OWN_WAY },
    Foreign {
        names: &[
            "batch.num.messages",
            "message.copy.max.bytes",
            "queue.buffering.backpressure.threshold",
            "sticky.partitioning.linger.ms",
            "buffer.memory.allocation.strategy",
            "block.on.buffer.full",
            "timeout.ms",
        ],
        anyway: NONE,
        otherwise: OWN_WAY,
    },
    Foreign {
        names: &["delivery.report.only.error"],
        anyway: NO,
        otherwise: Ignored("each record's delivery has its result"),
    },
    Foreign {
        names: &["produce.offset.report"],
        anyway: YES,
        otherwise: Ignored("each record's delivery has its result"),
    },
    Foreign {
        names: &["compression.gzip.level"],
        anyway: NONE,
        otherwise: Sets(|to, text| level(text, &mut to.levels.gzip, Some(Compression::Gzip))),
    },
    Foreign {
        names: &["compression.zstd.level"],
        anyway: NONE,
        otherwise: Sets(|to, text| level(text, &mut to.levels.zstd, Some(Compression::Zstd))),
    },
    Foreign {
        names: &["compression.lz4.level"],
        anyway: NONE,
        otherwise: Ignored("the lz4 codec has one level"),
    },
    Foreign {
        names: &["compression.level"],
        anyway: NONE,
        otherwise: Sets(|to, text| level(text, &mut to.levels.any, None)),
    },
    // Consuming.
    Foreign {
        names: &["enable.auto.offset.store"],
        anyway: NO,
        otherwise: Ignored("a batch counts once the program has marked it as done"),
    },
    Foreign { names: &["group.protocol.type"], anyway: &["consumer"], otherwise: OWN_WAY },
    Foreign {
        names: &[
            "coordinator.query.interval.ms",
            "internal.leave.group.on.close",
            "internal.throw.on.fetch.stable.offset.unsupported",
        ],
        anyway: NONE,
        otherwise: OWN_WAY,
    },
    Foreign {
        names: &["offset.store.*"],
        anyway: NONE,
        otherwise: Ignored("offsets are stored by the group's coordinator"),
    },
    Foreign { names: &["share.*"], anyway: NONE, otherwise: Ignored("there are no share groups") },
    Foreign {
        names: &["queued.max.messages.kbytes"],
        anyway: NONE,
        otherwise: Sets(|to, text| kibibytes(text, &mut to.consumer.memory_bytes_max)),
    },
    Foreign {
        names: &[
            "fetch.queue.backoff.ms",
            "fetch.error.backoff.ms",
            "consume.callback.max.messages",
            "exclude.internal.topics",
        ],
        anyway: NONE,
        otherwise: OWN_WAY,
    },
    Foreign {
        names: &["enable.partition.eof"],
        anyway: NO,
        otherwise: Ignored("a consumer does not report the end of a partition"),
    },
];

/// Sets a text. An empty one asks for nothing.
fn given(to: &mut Option<String>, text: &str) -> Result<(), String> {
    *to = (!text.is_empty()).then(|| text.to_owned());
    Ok(())
}

/// Sets a secret, from where its text says. An empty one asks for nothing.
fn given_secret(to: &mut Option<Secret>, text: &str) -> Result<(), String> {
    *to = if text.is_empty() { None } else { Some(secret(text)?) };
    Ok(())
}

/// Memory in librdkafka's unit, KiB. librdkafka accepts 1 KiB, which is less than a batch; then the least we accept is set.
fn kibibytes(text: &str, to: &mut Option<usize>) -> Result<(), String> {
    let most = usize::MAX >> 10;
    let kind = Number { unit: Unit::Count, least: 1, most, floor: 1, ceiling: most };
    *to = Some((kind.fit(kind.read(text)?)? << 10).max(MEMORY.least));
    Ok(())
}

/// The compression level of one codec, or of all. -1 is the codec's default, except for zstd, which has a level -1.
fn level(text: &str, to: &mut Option<i32>, of: Option<Compression>) -> Result<(), String> {
    let (least, most) = match of.and_then(Compression::levels) {
        Some(levels) => levels.into_inner(),
        // librdkafka's bounds, which are lz4's.
        None => (-1, 12),
    };
    let is_default = text == "-1" && of != Some(Compression::Zstd);
    let kind = Number { unit: Unit::Count, least, most, floor: least, ceiling: most };
    *to = if is_default { None } else { Some(kind.fit(kind.read(text)?)?) };
    Ok(())
}
