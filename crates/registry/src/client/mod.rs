//! A client of schema registries with Confluent's REST API: Confluent's own, Apicurio's (`/apis/ccompat/v7`), Karapace, Redpanda's.
//!
//! ```text
//! SchemaRegistry ─▶ Known (cache, one request for all who ask) ─▶ Rest (addresses, attempts) ─▶ milena::http
//! ```
//!
//! `attempts` and `cache` are pure: they are tested on virtual time.

mod admin;
mod answers;
mod attempts;
mod auth;
mod builder;
mod cache;
mod clock;
mod flight;
mod rest;
mod schema;

use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use self::admin::NewAssociation;
use self::answers::{RegisterBody, RegisteredAnswer, SchemaAnswer};
pub(crate) use self::attempts::part;
pub use self::builder::SchemaRegistryBuilder;
use self::cache::Weigh as _;
use self::clock::Clock;
pub(crate) use self::clock::random;
use self::flight::Known;
use self::rest::{Call, Rest, encoded};
pub use self::schema::{
    Association, CompatibilityCheck, CompatibilityLevel, Deletion, Mode, Reference, RegisteredSchema, Schema,
    SchemaType, Version,
};
use crate::framing::{Part, SchemaId};
use crate::{RegistryError, RegistryErrorKind};

/// A client of a schema registry. Cheap to clone; clones share what they remember.
///
/// What an id or a GUID stands for never changes, so it is asked for once and remembered, within bounds: while the registry is down,
/// what is known goes on working. Callers who ask for the same thing at the same time share one request. That something does not
/// exist is remembered for a minute.
///
/// A request that fails for a reason that may pass (no connection, status 408, 425, 429 or 5xx) goes to the next address at once, and
/// to the first one again after a wait. Deleting is not repeated after a connection that was lost: it may have been carried out.
///
/// ```no_run
/// # async fn example() -> Result<(), milena_registry::RegistryError> {
/// use milena_registry::{Schema, SchemaRegistry};
///
/// let registry = SchemaRegistry::builder(["https://registry-1.example", "https://registry-2.example"])
///     .basic("billing", "hunter2")
///     .build()?;
/// let registered = registry.register("orders-value", &Schema::avro(r#""string""#)).await?;
/// let latest = registry.latest("orders-value").await?;
/// assert_eq!(latest.id, registered.id);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SchemaRegistry(Arc<Inner>);

struct Inner {
    rest: Arc<Rest>,
    clock: Clock,
    /// Whether the registry is asked to normalize what it is sent.
    normalizes: bool,
    /// By id or GUID, within a subject's context if one is named.
    schemas: Known<(SchemaId, Option<Arc<str>>), Schema>,
    versions: Known<(Arc<str>, u32), Arc<RegisteredSchema>>,
    latest: Known<Arc<str>, Arc<RegisteredSchema>>,
    /// Schemas that were registered or looked up under a subject.
    registered: Known<(Arc<str>, Schema, bool), Arc<RegisteredSchema>>,
    /// Subjects of topics, by association.
    subjects: Known<(Arc<str>, Arc<str>, Part), Arc<str>>,
}

impl SchemaRegistry {
    /// A client of the registry at this address, such as `http://localhost:8081`.
    ///
    /// # Errors
    /// When it is no address.
    pub fn new(url: impl Into<String>) -> Result<Self, RegistryError> {
        Self::builder([url.into()]).build()
    }

    /// A client of a registry that has these addresses. They must be `https`, or `http` to this machine or to a host that
    /// [`http_to`](SchemaRegistryBuilder::http_to) names.
    pub fn builder<T: Into<String>>(urls: impl IntoIterator<Item = T>) -> SchemaRegistryBuilder {
        SchemaRegistryBuilder::new(urls.into_iter().map(Into::into).collect())
    }

    /// A client without a registry, which knows what it is [told](Self::remember).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use milena_registry::framing::SchemaId;
    /// use milena_registry::{Schema, SchemaRegistry};
    ///
    /// let registry = SchemaRegistry::offline();
    /// registry.remember(SchemaId::Id(7), Schema::avro(r#""string""#));
    /// assert_eq!(registry.schema(SchemaId::Id(7)).await?.text(), r#""string""#);
    /// let error = registry.schema(SchemaId::Id(8)).await.unwrap_err();
    /// assert_eq!(error.to_string(), "looking up schema 8: the registry is offline, and this is not known");
    /// # Ok(())
    /// # }
    /// ```
    pub fn offline() -> Self {
        let built = Self::builder(Vec::<String>::new()).build();
        built.unwrap_or_else(|_| unreachable!("there is nothing in it that can be wrong"))
    }

    /// The schema that a record names.
    ///
    /// # Errors
    /// When there is none, or the registry cannot be asked. Ids of Glue's are not looked up, nor are Apicurio's global ids, because
    /// this is Confluent's API.
    ///
    /// # Cancel safety
    /// Dropped, the request goes on for others who wait for it, and what comes of it is remembered.
    pub async fn schema(&self, id: SchemaId) -> Result<Schema, RegistryError> {
        self.schema_in(id, None).await
    }

    /// As [`schema`](Self::schema), in the context of this subject: where a registry has several contexts, an id can stand for
    /// different schemas.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn schema_in_context_of(&self, id: SchemaId, subject: &str) -> Result<Schema, RegistryError> {
        self.schema_in(id, Some(subject.into())).await
    }

    async fn schema_in(&self, id: SchemaId, subject: Option<Arc<str>>) -> Result<Schema, RegistryError> {
        let query =
            subject.as_deref().map(|subject| format!("?subject={}", encoded(subject))).unwrap_or_default();
        let path = match id {
            SchemaId::Id(id) => format!("/schemas/ids/{id}{query}"),
            // Apicurio's API by Confluent's names gives content ids, unless it is set up otherwise.
            SchemaId::ContentId(id) => format!("/schemas/ids/{id}{query}"),
            SchemaId::Guid(guid) => format!("/schemas/guids/{guid}"),
            other => {
                let text =
                    format!("looking up {other}: a registry with Confluent's API does not know such ids");
                return match self.0.schemas.known(&(id, subject), &self.0.clock) {
                    Some(known) => known,
                    None => Err(RegistryError::new(RegistryErrorKind::Unsupported, text)),
                };
            }
        };
        let call = Call::get(path, format!("looking up {id}"));
        let fetch = || self.fetch(call, move |answer: SchemaAnswer| answer.of(id));
        self.0.schemas.get((id, subject), &self.0.clock, fetch).await
    }

    /// The schema that a record names, if it is known without asking.
    pub fn known(&self, id: SchemaId) -> Option<Schema> {
        self.0.schemas.known(&(id, None), &self.0.clock).and_then(Result::ok)
    }

    /// Tells what an id stands for, so that the registry is not asked.
    pub fn remember(&self, id: SchemaId, schema: Schema) {
        self.0.schemas.put((id, None), schema, &self.0.clock);
    }

    /// The last version of a subject. It is believed for a minute ([`latest_ttl`](SchemaRegistryBuilder::latest_ttl)), and for longer
    /// if the registry cannot be asked.
    ///
    /// # Errors
    /// When there is none, or the registry cannot be asked.
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let call = Call::get(
            format!("/subjects/{}/versions/latest", encoded(subject)),
            format!("looking up the latest version of subject {subject:?}"),
        );
        let fetch = || self.fetch(call, |answer: RegisteredAnswer| answer.registered(None).map(Arc::new));
        self.0.latest.get(subject.into(), &self.0.clock, fetch).await
    }

    /// A version of a subject. [`Version::Latest`] is [`latest`](Self::latest).
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn version(
        &self,
        subject: &str,
        version: impl Into<Version>,
    ) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let Version::Number(number) = version.into() else { return self.latest(subject).await };
        let call = Call::get(
            // A reference may name a version that was deleted since, and what was written with it is still there.
            format!("/subjects/{}/versions/{number}?deleted=true", encoded(subject)),
            format!("looking up version {number} of subject {subject:?}"),
        );
        let read = move |answer: RegisteredAnswer| answer.of_version(number).map(Arc::new);
        let fetch = || self.fetch(call, read);
        self.0.versions.get((subject.into(), number), &self.0.clock, fetch).await
    }

    /// The version of a subject that has this schema. It is remembered.
    ///
    /// # Errors
    /// When the subject does not have it, or the registry cannot be asked.
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn lookup(
        &self,
        subject: &str,
        schema: &Schema,
    ) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let doing = format!("looking up a schema of subject {subject:?}");
        self.posted(subject, schema, "", doing, false).await
    }

    /// Registers a schema under a subject, unless it has it. It is remembered.
    ///
    /// # Errors
    /// When the schema is not valid or not compatible, or the registry cannot be asked.
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn register(
        &self,
        subject: &str,
        schema: &Schema,
    ) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let doing = format!("registering a schema under subject {subject:?}");
        self.posted(subject, schema, "/versions", doing, true).await
    }

    async fn posted(
        &self,
        subject: &str,
        schema: &Schema,
        path: &str,
        doing: String,
        registers: bool,
    ) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let key = (Arc::from(subject), schema.clone(), registers);
        let fetch = || {
            let query = if self.0.normalizes { "?normalize=true" } else { "" };
            let path = format!("/subjects/{}{path}{query}", encoded(subject));
            let call = Call::post(path, RegisterBody::of(schema), doing);
            let (asked, subject) = (schema.clone(), subject.to_owned());
            let outdated = registers.then(|| (self.0.latest.clone(), self.0.registered.clone()));
            self.fetch(call, move |answer: RegisteredAnswer| {
                let mut registered = answer.registered(Some(&asked))?;
                if let Some((latest, looked_up)) = outdated {
                    latest.forget_if(|latest| **latest == *subject);
                    // That it was not there.
                    looked_up.forget_if(|(of, schema, _)| **of == *subject && *schema == asked);
                }
                if registered.subject.is_empty() {
                    registered.subject = subject;
                }
                Ok(Arc::new(registered))
            })
        };
        self.0.registered.get(key, &self.0.clock, fetch).await
    }

    /// All schemas that a schema refers to, and those that they refer to, each before those that use it. There are at most 1000, at
    /// most 64 levels deep, of at most 16 MiB together, and all of them are there within the [time for a
    /// call](SchemaRegistryBuilder::timeout). Of several references of one name the first one counts, as with Java's client.
    ///
    /// # Errors
    /// When one does not exist, or the registry cannot be asked, or there are too many.
    ///
    /// # Cancel safety
    /// As [`schema`](Self::schema).
    pub async fn resolve(&self, schema: &Schema) -> Result<Vec<(Reference, Schema)>, RegistryError> {
        if schema.references().is_empty() {
            return Ok(Vec::new());
        }
        // A registry that is just fast enough for each of a thousand would take hours.
        let timeout = self.0.rest.timeout;
        match tokio::time::timeout(timeout, self.resolved(schema)).await {
            Ok(resolved) => resolved,
            Err(_) => {
                let text =
                    format!("looking up what the schema refers to: that is not complete within {timeout:?}");
                Err(RegistryError::new(RegistryErrorKind::Unavailable, text))
            }
        }
    }

    async fn resolved(&self, schema: &Schema) -> Result<Vec<(Reference, Schema)>, RegistryError> {
        let mut resolved: Vec<(Reference, Schema)> = Vec::new();
        let (mut met, mut bytes) = (HashSet::new(), 0usize);
        // Depth first, without recursion: what is left to do at each level.
        let mut levels = vec![schema.references().to_vec().into_iter()];
        let mut open: Vec<(Reference, Schema)> = Vec::new();
        while let Some(level) = levels.last_mut() {
            let Some(reference) = level.next() else {
                levels.pop();
                resolved.extend(open.pop());
                continue;
            };
            // By name: two versions of one type would define it twice.
            if !met.insert(reference.name.clone()) {
                continue;
            }
            let too_much = |what: &str| {
                let text = format!("the schema refers to more than {what}");
                RegistryError::new(RegistryErrorKind::Unsupported, text)
            };
            if met.len() > REFERENCES_MAX || levels.len() > REFERENCE_LEVELS_MAX {
                let what =
                    format!("{REFERENCES_MAX} others, or more than {REFERENCE_LEVELS_MAX} levels deep");
                return Err(too_much(&what));
            }
            let version = match u32::try_from(reference.version) {
                Ok(version) if version > 0 => Version::Number(version),
                // Registries write -1 for the latest.
                _ => Version::Latest,
            };
            let found = self.version(&reference.subject, version).await?.schema.clone();
            bytes = bytes.saturating_add(found.bytes());
            if bytes > REFERENCE_BYTES_MAX {
                return Err(too_much(&format!("{REFERENCE_BYTES_MAX} bytes of other schemas")));
            }
            levels.push(found.references().to_vec().into_iter());
            open.push((reference, found));
        }
        Ok(resolved)
    }

    /// Makes the request, and reads the answer as `read` says.
    fn fetch<A, T>(
        &self,
        call: Call,
        read: impl FnOnce(A) -> Result<T, String> + Send + 'static,
    ) -> Fetching<T>
    where
        A: DeserializeOwned + Send + 'static,
    {
        let (rest, clock) = (Arc::clone(&self.0.rest), self.0.clock.clone());
        Box::pin(async move {
            let answer = rest.call(&call, &clock).await?;
            read(answer).map_err(|why| {
                RegistryError::new(RegistryErrorKind::Garbage, format!("{}: {why}", call.doing))
            })
        })
    }

    /// Asks without remembering.
    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, RegistryError> {
        self.0.rest.call(&call, &self.0.clock).await
    }
}

/// A request on its way.
type Fetching<T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send>>;

/// A schema refers to at most this many others, and this deep, so that nothing turns in circles or grows without end.
const REFERENCES_MAX: usize = 1000;
const REFERENCE_LEVELS_MAX: usize = 64;
const REFERENCE_BYTES_MAX: usize = 16 << 20;

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaRegistry").field("urls", &self.0.rest.urls).finish_non_exhaustive()
    }
}
