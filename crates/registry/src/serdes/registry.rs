//! Serdes whose schemas are in a registry.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use milena::{Batch, Header};
use tokio::time::Instant;

use super::format::{Decode, Encode, Format, Prepare, RecordDecoder, RecordEncoder};
use super::naming::SubjectName;
use super::outage::WhileDown;
use crate::client::random;
use crate::framing::{self, Framed, Part, SchemaId, header_value, write_prefix};
use crate::{RegisteredSchema, Schema, SchemaRegistry, SerdeError};

/// Writes and reads values with schemas of a registry, in one format. Cheap to clone; clones share what they know, and one serves any
/// number of topics.
///
/// Reading: the record names the schema that it was written with, which is fetched once. All framings are read.
///
/// Writing: the [schema](Self::schema) that is given must be in the registry. That it is registered by the program
/// ([`auto_register`](Self::auto_register)) is off by default, unlike Java's: in production, schemas are reviewed before.
///
/// A schema with rules that encrypt is refused for reading and writing, and one with other rules for writing, because Milena carries no
/// rules out.
pub struct RegistrySerde<F: Format>(Arc<Inner<F>>);

struct Inner<F: Format> {
    registry: SchemaRegistry,
    format: F,
    settings: Settings,
    /// Schemas that were read with, or why they cannot be.
    readers: RwLock<HashMap<SchemaId, Reader<F>>>,
    /// What topics are written with.
    writers: Mutex<Writers<F>>,
    /// Whether the log says that the registry is waited for.
    is_waiting: AtomicBool,
    /// When the registry could not be asked last, and why.
    failure: Mutex<Option<(Instant, SerdeError)>>,
}

type Reader<F> = Result<Arc<<F as Format>::Compiled>, SerdeError>;
/// By topic, so that finding one allocates nothing: for keys and for values.
type Writers<F> = [HashMap<Box<str>, Arc<SchemaWriter<F>>>; 2];

#[derive(Debug, Clone, Default)]
struct Settings {
    schema: Option<Schema>,
    subject_name: SubjectName,
    auto_register: bool,
    use_latest_version: bool,
    use_id: Option<u32>,
    registered: Option<Arc<RegisteredSchema>>,
    in_header: bool,
    ignores_rules: bool,
    while_down: WhileDown,
    pause: Duration,
}

/// A schema to write with, and its framing.
pub struct SchemaWriter<F: Format> {
    id: u32,
    compiled: F::Compiled,
    prefix: Vec<u8>,
    /// The header's name and value, if the schema is named there.
    header: Option<(&'static str, Vec<u8>)>,
}

/// The schema of the record before: most records of a batch have the same.
pub struct SchemaMemory<F: Format>(Option<(SchemaId, Arc<F::Compiled>)>);

/// More schemas are hardly in use at a time. What is dropped is fetched again.
const SCHEMAS_MAX: usize = 1000;

impl<F: Format + Clone> RegistrySerde<F> {
    /// A serde of this format. Without a [schema](Self::schema) it only reads, unless it writes with the
    /// [latest version](Self::use_latest_version) or a [certain id](Self::use_id).
    pub fn new(registry: &SchemaRegistry, format: F) -> Self {
        Self::with(registry, format, Settings::default())
    }

    fn with(registry: &SchemaRegistry, format: F, settings: Settings) -> Self {
        let (readers, writers) = (RwLock::default(), Mutex::new([HashMap::new(), HashMap::new()]));
        let (registry, is_waiting, failure) = (registry.clone(), AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Inner { registry, format, settings, readers, writers, is_waiting, failure }))
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.0.settings.clone();
        change(&mut settings);
        Self::with(&self.0.registry, self.0.format.clone(), settings)
    }

    /// The schema to write with.
    #[must_use]
    pub fn schema(self, schema: Schema) -> Self {
        self.set(|settings| settings.schema = Some(schema))
    }

    /// How subjects are named. Default: by topic. (Java: `key.subject.name.strategy`, `value.subject.name.strategy`.)
    #[must_use]
    pub fn subject_name(self, name: SubjectName) -> Self {
        self.set(|settings| settings.subject_name = name)
    }

    /// Registers the schema if the registry does not have it. Default: no. (Java: `auto.register.schemas`, true.)
    #[must_use]
    pub fn auto_register(self, registers: bool) -> Self {
        self.set(|settings| settings.auto_register = registers)
    }

    /// Writes with the last version of the subject, whatever schema is given, and follows it when it changes. Default: no. (Java:
    /// `use.latest.version`.)
    #[must_use]
    pub fn use_latest_version(self, is_latest: bool) -> Self {
        self.set(|settings| settings.use_latest_version = is_latest)
    }

    /// Writes with the schema of this id. (Java: `use.schema.id`.)
    #[must_use]
    pub fn use_id(self, id: u32) -> Self {
        self.set(|settings| settings.use_id = Some(id))
    }

    /// Writes with this version of a subject, as the registry gave it. Nothing is asked, but for what it refers to.
    #[must_use]
    pub fn use_registered(self, registered: Arc<RegisteredSchema>) -> Self {
        self.set(|settings| settings.registered = Some(registered))
    }

    /// Names the schema by its GUID in a header of the record. Default: by its id in the payload. (Java: `HeaderSchemaIdSerializer`.)
    #[must_use]
    pub fn in_header(self, is_in_header: bool) -> Self {
        self.set(|settings| settings.in_header = is_in_header)
    }

    /// After the registry could not be asked for a schema to read with, it is not asked for another one for this time: records of schemas
    /// that are not known are told at once. Default: zero, so that each batch asks again.
    #[must_use]
    pub fn pause_after_failure(self, pause: Duration) -> Self {
        self.set(|settings| settings.pause = pause)
    }

    /// Writes with schemas that have rules other than encryption, without carrying them out: conditions are not checked, and nothing
    /// is transformed. Default: such schemas are refused.
    #[must_use]
    pub fn ignore_rules(self) -> Self {
        self.set(|settings| settings.ignores_rules = true)
    }

    /// Whether what needs a schema that is not known waits or fails while the registry cannot be asked. Default: it
    /// [fails](WhileDown::Fail).
    #[must_use]
    pub fn while_down(self, what: WhileDown) -> Self {
        self.set(|settings| settings.while_down = what)
    }
}

impl<F: Format> RegistrySerde<F> {
    /// The registry.
    pub fn registry(&self) -> &SchemaRegistry {
        &self.0.registry
    }

    /// The format.
    pub fn format(&self) -> &F {
        &self.0.format
    }

    /// Makes a schema ready that records name, so that it can be read with at once.
    ///
    /// # Errors
    /// When the registry cannot be asked, or the schema cannot be used.
    ///
    /// # Cancel safety
    /// It can be dropped.
    pub async fn load(&self, id: SchemaId) -> Result<(), SerdeError> {
        if let Some(Ok(_)) = self.known(id) {
            return Ok(());
        }
        let loaded = match self.pausing() {
            Some(error) => Err(error),
            None => {
                let loaded = loop {
                    let loaded = self.loaded(id).await;
                    if !self.waits_after(&loaded).await {
                        break loaded.map(Arc::new);
                    }
                };
                if let Err(error) = &loaded
                    && error.is_retriable()
                {
                    *self.failure() = Some((Instant::now(), error.clone()));
                }
                loaded
            }
        };
        let outcome = loaded.as_ref().map(drop).map_err(Clone::clone);
        let mut readers = self.0.readers.write().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= SCHEMAS_MAX && !readers.contains_key(&id) {
            readers.clear();
        }
        readers.insert(id, loaded);
        outcome
    }

    /// Why the registry is not asked now.
    fn pausing(&self) -> Option<SerdeError> {
        let failure = self.failure();
        let (at, error) = failure.as_ref()?;
        (at.elapsed() < self.0.settings.pause).then(|| error.clone())
    }

    fn failure(&self) -> MutexGuard<'_, Option<(Instant, SerdeError)>> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn loaded(&self, id: SchemaId) -> Result<F::Compiled, SerdeError> {
        let schema = self.0.registry.schema(id).await?;
        self.compiled(&schema, false).await
    }

    async fn compiled(&self, schema: &Schema, is_to_write: bool) -> Result<F::Compiled, SerdeError> {
        let others = self.0.registry.resolve(schema).await?;
        let of_rules = is_to_write && !self.0.settings.ignores_rules;
        for schema in std::iter::once(schema).chain(others.iter().map(|(_, schema)| schema)) {
            check_rules(schema, of_rules)?;
        }
        self.0.format.compile(schema, &others)
    }

    fn known(&self, id: SchemaId) -> Option<Reader<F>> {
        self.0.readers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// A schema that was [loaded](Self::load), ready to read and write with.
    ///
    /// # Errors
    /// When it was not loaded, or cannot be used.
    pub fn loaded_schema(&self, id: SchemaId) -> Result<Arc<F::Compiled>, SerdeError> {
        self.known(id).unwrap_or_else(|| {
            Err(SerdeError::schema(format!("{id} is not known yet: prepare for the batch, or load it")))
        })
    }

    /// Refuses to write with a schema whose rules matter and are not carried out.
    #[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
    pub(crate) fn check_rules_of(&self, id: SchemaId) -> Result<(), SerdeError> {
        let known = self.0.registry.known(id);
        known.map_or(Ok(()), |schema| check_rules(&schema, !self.0.settings.ignores_rules))
    }

    /// Loads the schema that a record names, if it can be read at all.
    async fn load_for(&self, part: Part, payload: &[u8], headers: &[Header<'_>]) -> Result<(), SerdeError> {
        self.load(framing::read(part, payload, headers.iter().copied())?.schema()).await
    }

    /// Reads a key or a value, and asks the registry if its schema is not known.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use milena_registry::framing::{Part, SchemaId};
    /// use milena_registry::{Avro, RegistrySerde, Schema, SchemaRegistry};
    ///
    /// let registry = SchemaRegistry::offline(); // SchemaRegistry::new("http://localhost:8081")?
    /// registry.remember(SchemaId::Id(7), Schema::avro("\"string\""));
    /// let serde = RegistrySerde::new(&registry, Avro);
    /// let text: &str = serde.read(Part::Value, b"\0\0\0\0\x07\x06now", &[]).await?;
    /// assert_eq!(text, "now");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it cannot be read.
    ///
    /// # Cancel safety
    /// It can be dropped.
    pub async fn read<'de, T>(
        &self,
        part: Part,
        payload: &'de [u8],
        headers: &[Header<'de>],
    ) -> Result<T, SerdeError>
    where
        F: Decode<'de, T>,
    {
        self.load_for(part, payload, headers).await?;
        self.decode(&mut SchemaMemory::default(), part, payload, headers.iter().copied())
    }

    /// What a topic is written with.
    async fn writer_of(&self, topic: &str, part: Part) -> Result<Arc<SchemaWriter<F>>, SerdeError> {
        loop {
            let writer = self.writer_now(topic, part).await;
            if !self.waits_after(&writer).await {
                return writer;
            }
        }
    }

    /// Whether the registry is to be asked again. If it is, this was the pause before.
    async fn waits_after<T>(&self, asked: &Result<T, SerdeError>) -> bool {
        let pause = asked.as_ref().err().and_then(|error| {
            let pause = self.0.settings.while_down.pause(error, random())?;
            if !self.0.is_waiting.swap(true, Ordering::Relaxed) {
                tracing::warn!(target: "milena", "{error}; what needs it waits");
            }
            Some(pause)
        });
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None if self.0.is_waiting.load(Ordering::Relaxed) => {
                self.0.is_waiting.store(false, Ordering::Relaxed);
            }
            None => {}
        }
        pause.is_some()
    }

    async fn writer_now(&self, topic: &str, part: Part) -> Result<Arc<SchemaWriter<F>>, SerdeError> {
        let settings = &self.0.settings;
        let index = usize::from(part == Part::Value);
        let known = self.writers()[index].get(topic).cloned();
        if let Some(known) = &known
            && !settings.use_latest_version
        {
            return Ok(Arc::clone(known));
        }
        let registered = self.registered(topic, part).await?;
        if let Some(known) = known
            && known.id == registered.id
        {
            return Ok(known);
        }
        let compiled = self.compiled(&registered.schema, true).await?;
        let indexes = self.0.format.indexes(&compiled)?;
        let (mut prefix, mut header) = (Vec::new(), None);
        if settings.in_header {
            let guid = registered.guid.ok_or_else(|| {
                SerdeError::schema(format!(
                    "the registry gives no GUID for schema {}: name it by its id",
                    registered.id
                ))
            })?;
            header = Some((part.schema_id_header(), header_value(guid, indexes.as_deref())));
        } else {
            write_prefix(registered.id, indexes.as_deref(), &mut prefix);
        }
        let writer = Arc::new(SchemaWriter { id: registered.id, compiled, prefix, header });
        let writers = &mut self.writers()[index];
        if writers.len() >= SCHEMAS_MAX {
            writers.clear();
        }
        writers.insert(topic.into(), Arc::clone(&writer));
        Ok(writer)
    }

    fn writers(&self) -> MutexGuard<'_, Writers<F>> {
        self.0.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema to write to a topic with, as the registry has it.
    async fn registered(&self, topic: &str, part: Part) -> Result<Arc<RegisteredSchema>, SerdeError> {
        let (registry, settings) = (&self.0.registry, &self.0.settings);
        if let Some(registered) = &settings.registered {
            return Ok(Arc::clone(registered));
        }
        if let Some(id) = settings.use_id {
            let schema = registry.schema(SchemaId::Id(id)).await?;
            let (guid, subject, version) = (None, String::new(), 0);
            return Ok(Arc::new(RegisteredSchema { id, guid, subject, version, schema }));
        }
        let own = settings.schema.as_ref();
        let named = match (own, &settings.subject_name) {
            // Only these need the name of the record.
            (Some(own), SubjectName::Record | SubjectName::TopicRecord | SubjectName::Associated { .. }) => {
                self.compiled(own, true).await.and_then(|compiled| self.0.format.record_name(&compiled))
            }
            _ => Err(SerdeError::schema("there is no schema whose record could name the subject")),
        };
        let subject = settings.subject_name.subject(registry, topic, part, || named).await?;
        if settings.use_latest_version {
            return Ok(registry.latest(&subject).await?);
        }
        let own = own.ok_or_else(|| {
            let why = "there is no schema to write with: give one, or use the latest version of the subject";
            SerdeError::schema(why)
        })?;
        // Before it is registered.
        check_rules(own, !settings.ignores_rules)?;
        if !settings.auto_register {
            return Ok(registry.lookup(&subject, own).await?);
        }
        let registered = registry.register(&subject, own).await?;
        if registered.version > 0 {
            return Ok(registered);
        }
        // Some registries answer with the id alone, and the subject's settings may have added rules to the schema: that they encrypt
        // must not be missed.
        let id = SchemaId::Id(registered.id);
        let schema = match subject.starts_with(":.") {
            true => registry.schema_in_context_of(id, &subject).await?,
            false => registry.schema(id).await?,
        };
        Ok(Arc::new(RegisteredSchema { schema, ..(*registered).clone() }))
    }

    fn body<'de, T>(&self, compiled: &F::Compiled, framed: &Framed<'de>) -> Result<T, SerdeError>
    where
        F: Decode<'de, T>,
    {
        if framed.is_compressed() {
            return Err(SerdeError::data(
                "the body is compressed by Glue's serializer, which is not read here",
            ));
        }
        if self.0.format.has_indexes(compiled) {
            let (indexes, body) = framed.message()?;
            return self.0.format.decode(compiled, Some(indexes), body);
        }
        self.0.format.decode(compiled, None, framed.body())
    }
}

/// Refuses a schema whose rules matter and are not carried out.
fn check_rules(schema: &Schema, is_of_others: bool) -> Result<(), SerdeError> {
    if let Some(why) = schema.unreadable_rules() {
        let why = format!(
            "the schema's rules cannot be read and may encrypt: {why}: nothing is written in clear text"
        );
        return Err(SerdeError::rules(why));
    }
    if let [first, ..] = schema.encryption_rules() {
        let why = format!(
            "the schema's rule {first:?} encrypts, which Milena does not do: nothing is written in clear text"
        );
        return Err(SerdeError::rules(why));
    }
    match schema.other_rules() {
        [first, ..] if is_of_others => {
            let why =
                format!("the schema's rule {first:?} would not be carried out: allow that with ignore_rules");
            Err(SerdeError::rules(why))
        }
        _ => Ok(()),
    }
}

impl<F: Format, T: ?Sized> RecordEncoder<T> for RegistrySerde<F>
where
    F: Encode<T>,
{
    type Writer = Arc<SchemaWriter<F>>;

    async fn writer(&self, topic: &str, part: Part) -> Result<Self::Writer, SerdeError> {
        self.writer_of(topic, part).await
    }

    #[inline]
    fn encode(&self, writer: &Self::Writer, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let begin = into.len();
        into.extend_from_slice(&writer.prefix);
        let encoded = self.0.format.encode(&writer.compiled, value, into);
        if encoded.is_err() {
            into.truncate(begin);
        }
        encoded
    }

    fn header<'a>(&self, writer: &'a Self::Writer) -> Option<Header<'a>> {
        let (name, value) = writer.header.as_ref()?;
        Some(Header::new(name, Some(value.as_slice())))
    }
}

impl<F: Format> Prepare for RegistrySerde<F> {
    async fn prepare(&self, batch: &Batch, part: Part) {
        for id in self.wanted(batch, part) {
            // Each record that needs it tells why it cannot be read.
            let _ = self.load(id).await;
        }
    }
}

impl<'a, F: Format, T> RecordDecoder<'a, T> for RegistrySerde<F>
where
    F: Decode<'a, T>,
{
    type Memory = SchemaMemory<F>;

    #[inline]
    fn decode(
        &self,
        memory: &mut SchemaMemory<F>,
        part: Part,
        payload: &'a [u8],
        headers: impl Iterator<Item = Header<'a>>,
    ) -> Result<T, SerdeError> {
        let framed = framing::read(part, payload, headers)?;
        let id = framed.schema();
        match &memory.0 {
            Some((known, compiled)) if *known == id => self.body(compiled, &framed),
            _ => {
                let compiled = self.loaded_schema(id)?;
                let (_, compiled) = memory.0.insert((id, compiled));
                self.body(compiled, &framed)
            }
        }
    }
}

impl<F: Format> RegistrySerde<F> {
    /// The schemas of a batch that are not ready. At most [`SCHEMAS_MAX`]: whoever writes more in one batch means no good.
    fn wanted(&self, batch: &Batch, part: Part) -> Vec<SchemaId> {
        let mut wanted: Vec<SchemaId> = Vec::new();
        let mut last = None;
        for record in batch {
            let payload = if part == Part::Key { record.key() } else { record.value() };
            let Some(payload) = payload else { continue };
            let Ok(framed) = framing::read(part, payload, record.headers()) else { continue };
            let id = framed.schema();
            if last == Some(id) {
                continue;
            }
            last = Some(id);
            let is_ready = self.known(id).is_some_and(|known| {
                // What cannot be used stays so, unless the registry was down or did not have it yet.
                known.as_ref().map_or_else(|error| error.registry().is_none(), |_| true)
            });
            if !is_ready && !wanted.contains(&id) && wanted.len() < SCHEMAS_MAX {
                wanted.push(id);
            }
        }
        wanted
    }
}

impl<F: Format> Clone for RegistrySerde<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Format> Default for SchemaMemory<F> {
    fn default() -> Self {
        Self(None)
    }
}

impl<F: Format> fmt::Debug for RegistrySerde<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySerde").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl<F: Format> fmt::Debug for SchemaWriter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaWriter").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<F: Format> fmt::Debug for SchemaMemory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchemaMemory").field(&self.0.as_ref().map(|(id, _)| id)).finish()
    }
}
