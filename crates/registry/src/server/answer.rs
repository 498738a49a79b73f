//! The routes: which question or change a request is, and how the answer looks. No I/O.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::formats::Formats;
use super::record::{Config, Record};
use super::request::{Method, Request};
use super::shown::{
    AssociationInfo, Associations, Compatible, ContextId, ErrorShown, ModeShown, Schema, SubjectVersion,
};
use super::state::{
    AssociationFilter, AssociationRequest, Change, Mode, RegisterRequest, State, Stored, TOPIC,
};
use super::subject::{Subject, context_prefix, within};

/// What is sent, once the records are in the topic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) records: Vec<Record>,
}

/// What a registry says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// The id of the Kafka cluster with the topic.
    pub(super) cluster_id: String,
    pub(super) version: &'static str,
}

/// Lists of schemas have at most this many, because each may be large.
const SCHEMAS_MAX: usize = 1000;

impl Answer {
    fn json(what: &impl Serialize) -> Self {
        // What is serialised are structs with text as keys, so it cannot fail.
        Self { status: 200, body: serde_json::to_vec(what).unwrap_or_default(), records: Vec::new() }
    }

    fn text(text: String) -> Self {
        Self { status: 200, body: text.into_bytes(), records: Vec::new() }
    }

    fn empty() -> Self {
        Self { status: 204, body: Vec::new(), records: Vec::new() }
    }

    fn changed<T>(change: Change<T>, show: impl FnOnce(&T) -> Self) -> Self {
        Self { records: change.records, ..show(&change.answer) }
    }

    /// What is sent instead of an answer.
    pub(super) fn refusal(fault: &Fault) -> Self {
        let body = Self::json(&ErrorShown { error_code: fault.code, message: &fault.message });
        Self { status: fault.status(), ..body }
    }
}

/// The answer to a request, with the records that it needs in the topic.
///
/// # Errors
/// Why it is refused.
pub(super) fn answer(
    state: &State,
    formats: &dyn Formats,
    identity: &Identity,
    request: &Request,
) -> Result<Answer, Fault> {
    let on = Routes { state, formats, request };
    let parts: Vec<_> = request.path.iter().map(String::as_str).collect();
    let get = |answer: &dyn Fn() -> Result<Answer, Fault>| match request.method {
        Method::Get => answer(),
        _ => Err(Fault::method()),
    };
    match parts.as_slice() {
        [] => Ok(Answer::json(&Map::new())),
        ["subjects"] => get(&|| on.subjects()),
        ["subjects", subject, rest @ ..] => on.subject(&state.behind_alias(subject), rest),
        ["schemas"] => get(&|| on.schemas()),
        ["schemas", "types"] => get(&|| Ok(Answer::json(&formats.kinds()))),
        ["schemas", "ids", id, rest @ ..] => get(&|| on.id(id, rest)),
        ["schemas", "guids", guid] => get(&|| on.guid(guid)),
        ["schemas", "guids", guid, "ids"] => get(&|| on.ids_of_guid(guid)),
        ["compatibility", "subjects", subject, "versions", rest @ ..] if rest.len() < 2 => {
            match request.method {
                Method::Post => on.compatibility(&state.behind_alias(subject), rest.first().copied()),
                _ => Err(Fault::method()),
            }
        }
        ["config"] => on.config(&None),
        ["config", subject] => on.config(&scope(subject)),
        ["mode"] => on.mode(&None),
        ["mode", subject] => on.mode(&scope(subject)),
        ["contexts"] => get(&|| on.contexts()),
        ["contexts", context] => match request.method {
            Method::Delete => on.delete_context(context),
            _ => Err(Fault::method()),
        },
        ["associations"] => on.associate(None),
        ["associations", "subjects", subject] => get(&|| on.associations_of_subject(subject)),
        ["associations", "resources", namespace, name] => get(&|| on.associations_of_name(namespace, name)),
        ["associations", "resources", id] => on.resource(id),
        ["v1", "metadata", "id"] => get(&|| Ok(Answer::json(&cluster(&identity.cluster_id)))),
        ["v1", "metadata", "version"] => {
            get(&|| Ok(Answer::json(&json!({ "version": identity.version, "commitId": "" }))))
        }
        _ => Err(Fault::not_found()),
    }
}

fn cluster(id: &str) -> Value {
    json!({ "scope": { "path": [], "clusters": { "kafka-cluster": id, "schema-registry-cluster": "schema-registry" } }, "id": "" })
}

/// What a config or mode is for: None is the default context.
fn scope(subject: &str) -> Option<String> {
    let place = Subject::parse(subject);
    let is_default = place.is_in_default_context() && place.name.is_empty();
    (!is_default).then(|| place.qualified())
}

/// A version in a path; -1 is the latest.
fn version(text: &str) -> Result<i32, Fault> {
    if text.trim().eq_ignore_ascii_case("latest") {
        return Ok(-1);
    }
    match text.trim().parse() {
        Ok(version) if version == -1 || version > 0 => Ok(version),
        _ => Err(Fault::invalid_version(text)),
    }
}

struct Routes<'a> {
    state: &'a State,
    formats: &'a dyn Formats,
    request: &'a Request,
}

impl Routes<'_> {
    fn subjects(&self) -> Result<Answer, Fault> {
        let prefix = self.request.text("subjectPrefix").unwrap_or_default();
        let names = self.state.subjects(prefix, self.request.deleted());
        Ok(Answer::json(&self.request.page(usize::MAX).of(names)))
    }

    fn subject(&self, subject: &str, rest: &[&str]) -> Result<Answer, Fault> {
        match (self.request.method, rest) {
            (Method::Post, []) => self.look_up(subject),
            (Method::Delete, []) => {
                let change = self.state.delete_subject(subject, self.request.flag("permanent"))?;
                Ok(Answer::changed(change, Answer::json))
            }
            (Method::Get, ["metadata"]) => self.latest_with(subject),
            (Method::Get, ["versions"]) => {
                let versions = self.state.version_numbers(subject, self.request.deleted());
                let versions = versions.ok_or_else(|| Fault::subject_not_found(subject))?;
                Ok(Answer::json(&self.request.page(usize::MAX).of(versions)))
            }
            (Method::Post, ["versions"]) => self.register(subject),
            (Method::Get, ["versions", number]) => {
                let stored = self.version(subject, version(number)?, self.request.flag("deleted"))?;
                Ok(Answer::json(&self.formatted(stored, Schema::of(stored))))
            }
            (Method::Delete, ["versions", number]) => {
                let permanent = self.request.flag("permanent");
                let change = self.state.delete_version(subject, version(number)?, permanent)?;
                Ok(Answer::changed(change, Answer::json))
            }
            (Method::Get, ["versions", number, "schema"]) => {
                let stored = self.version(subject, version(number)?, self.request.flag("deleted"))?;
                Ok(Answer::text(self.formatted(stored, Schema::of(stored)).schema))
            }
            (Method::Get, ["versions", number, "referencedby"]) => {
                let stored = self.version(subject, version(number)?, true)?;
                let (subject, version) = (&stored.value.subject, stored.value.version);
                let ids = self.state.referenced_by(subject, version, self.request.flag("deleted"));
                Ok(Answer::json(&self.request.page(SCHEMAS_MAX).of(ids)))
            }
            (
                _,
                [] | ["metadata" | "versions"] | ["versions", _] | ["versions", _, "schema" | "referencedby"],
            ) => Err(Fault::method()),
            _ => Err(Fault::not_found()),
        }
    }

    fn version(&self, subject: &str, version: i32, deleted: bool) -> Result<&Stored, Fault> {
        self.state.version_anywhere(subject, version, deleted).ok_or_else(|| {
            if self.state.is_known(subject, deleted) {
                Fault::version_not_found(version)
            } else {
                Fault::subject_not_found(subject)
            }
        })
    }

    /// Applies what the query says of the form of the schema.
    fn formatted<'b>(&self, stored: &'b Stored, mut shown: Schema<'b>) -> Schema<'b> {
        if self.request.text("referenceFormat") == Some("qualified") {
            for reference in &mut shown.references {
                reference.subject = within(&stored.value.subject, &reference.subject);
            }
        }
        if self.request.text("format") == Some("serialized")
            && let Ok(source) = self.state.source(&stored.value.subject, &stored.value.content())
            && let Some(serialized) = self.formats.serialized(&source)
        {
            shown.schema = serialized;
        }
        shown
    }

    fn look_up(&self, subject: &str) -> Result<Answer, Fault> {
        let asked: RegisterRequest = self.request.json()?;
        let (normalize, deleted) = (self.request.flag("normalize"), self.request.flag("deleted"));
        for name in self.state.anywhere(subject) {
            match self.state.look_up(self.formats, &name, &asked, normalize, deleted) {
                Ok(Some(stored)) => return Ok(Answer::json(&self.formatted(stored, Schema::of(stored)))),
                Ok(None) => {}
                // In another context what the schema refers to may be missing.
                Err(_) if name != subject => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(if self.state.is_known(subject, deleted) {
            Fault::schema_not_found()
        } else {
            Fault::subject_not_found(subject)
        })
    }

    fn latest_with(&self, subject: &str) -> Result<Answer, Fault> {
        let properties: BTreeMap<_, _> = self.request.all("key").zip(self.request.all("value")).collect();
        let deleted = self.request.flag("deleted");
        match self.state.latest_with(subject, &properties, deleted) {
            Some(stored) => Ok(Answer::json(&self.formatted(stored, Schema::of(stored)))),
            None if self.state.is_known(subject, deleted) => Err(Fault::schema_not_found()),
            None => Err(Fault::subject_not_found(subject)),
        }
    }

    fn register(&self, subject: &str) -> Result<Answer, Fault> {
        let asked: RegisterRequest = self.request.json()?;
        if let Some(rules) = &asked.rule_set {
            rules.check().map_err(Fault::invalid_rules)?;
        }
        if !Subject::parse(subject).may_have_schemas() {
            return Err(Fault::invalid_subject(subject));
        }
        let (normalize, force) = (self.request.flag("normalize"), self.request.flag("force"));
        let change = self.state.register(self.formats, subject, &asked, normalize, force)?;
        Ok(Answer::changed(change, |stored| {
            Answer::json(&Schema { subject: None, ..self.formatted(stored, Schema::of(stored)) })
        }))
    }

    fn schemas(&self) -> Result<Answer, Fault> {
        let prefix = self.request.text("subjectPrefix").unwrap_or_default();
        let (deleted, latest_only) = (self.request.flag("deleted"), self.request.flag("latestOnly"));
        let mut found = self.state.schemas(prefix, deleted, latest_only);
        if let Some(kind) = self.request.filled("ruleType") {
            found.retain(|stored| stored.value.rule_set.as_ref().is_some_and(|rules| rules.has_type(kind)));
        }
        let aliases = if self.request.flag("aliases") { self.state.aliases() } else { BTreeMap::new() };
        let shown = self.request.page(SCHEMAS_MAX).of(found).into_iter().map(|stored| Schema {
            aliases: aliases.get(&stored.value.subject).cloned().unwrap_or_default(),
            ..Schema::of(stored)
        });
        Ok(Answer::json(&shown.collect::<Vec<_>>()))
    }

    fn id(&self, id: &str, rest: &[&str]) -> Result<Answer, Fault> {
        let id: i32 = id.parse().map_err(|_| Fault::not_found())?;
        // An alias stands for its subject here, too.
        let subject = self.request.filled("subject").map(|subject| self.state.behind_alias(subject));
        let subject = subject.as_deref();
        let found = || self.state.by_id(id, subject).ok_or_else(|| Fault::schema_not_found_by(id));
        let deleted = self.request.flag("deleted");
        match rest {
            [] => {
                let stored = found()?;
                let place = subject.map(Subject::parse).is_some_and(|place| !place.name.is_empty());
                let shown =
                    if place { Schema { id: None, ..Schema::of(stored) } } else { Schema::alone(stored) };
                let max_id = self.request.flag("fetchMaxId");
                let max_id = max_id.then(|| self.state.greatest_id(&stored.value.subject));
                Ok(Answer::json(&Schema { max_id, ..self.formatted(stored, shown) }))
            }
            ["schema"] => {
                let stored = found()?;
                Ok(Answer::text(self.formatted(stored, Schema::of(stored)).schema))
            }
            ["subjects"] => {
                let places =
                    self.state.places_of(id, subject, deleted).ok_or_else(Fault::schema_not_found)?;
                let mut subjects: Vec<_> = places.into_iter().map(|(subject, _)| subject).collect();
                subjects.dedup();
                Ok(Answer::json(&self.request.page(usize::MAX).of(subjects)))
            }
            ["versions"] => {
                let places =
                    self.state.places_of(id, subject, deleted).ok_or_else(Fault::schema_not_found)?;
                let places = self.request.page(usize::MAX).of(places).into_iter();
                let shown: Vec<_> =
                    places.map(|(subject, version)| SubjectVersion { subject, version }).collect();
                Ok(Answer::json(&shown))
            }
            _ => Err(Fault::not_found()),
        }
    }

    fn guid(&self, text: &str) -> Result<Answer, Fault> {
        let guid = text.parse().map_err(|_| Fault::schema_not_found_by(text))?;
        let stored = self.state.by_guid(guid).ok_or_else(|| Fault::schema_not_found_by(text))?;
        Ok(Answer::json(&self.formatted(stored, Schema::alone(stored))))
    }

    fn ids_of_guid(&self, text: &str) -> Result<Answer, Fault> {
        let ids = text.parse().map(|guid| self.state.ids_of(guid)).unwrap_or_default();
        let shown: Vec<_> = ids.into_iter().map(|(context, id)| ContextId { context, id }).collect();
        Ok(Answer::json(&shown))
    }

    fn compatibility(&self, subject: &str, number: Option<&str>) -> Result<Answer, Fault> {
        let asked: RegisterRequest = self.request.json()?;
        let against = match number.map(version).transpose()? {
            None => None,
            Some(number) => match self.state.version_here(subject, number) {
                Some(stored) => Some(Some(stored)),
                // A first schema is compatible.
                None if number == -1 => None,
                None => return Err(Fault::version_not_found(number)),
            },
        };
        let (normalize, verbose) = (self.request.flag("normalize"), self.request.flag("verbose"));
        let checked =
            self.state.check_compatibility(self.formats, subject, &asked, normalize, against.flatten());
        let problems = match checked {
            // Whoever wants to know more gets the reason as an answer.
            Err(fault) if verbose && fault.code == 42201 => vec![fault.message],
            checked => checked?,
        };
        let shown = Compatible { is_compatible: problems.is_empty(), messages: verbose.then_some(problems) };
        Ok(Answer::json(&shown))
    }

    fn config(&self, scope: &Option<String>) -> Result<Answer, Fault> {
        let name = scope.as_deref().unwrap_or_default();
        match self.request.method {
            Method::Get if self.request.flag("defaultToGlobal") => {
                Ok(Answer::json(&self.state.config_in_scope(scope)))
            }
            Method::Get => Ok(Answer::json(&self.state.config(scope).ok_or_else(|| Fault::no_config(name))?)),
            Method::Put => {
                let asked: Map<String, Value> = self.request.json()?;
                let change = self.state.set_config(scope, &asked)?;
                if !Subject::parse(name).may_have_settings() {
                    return Err(Fault::invalid_subject(name));
                }
                Ok(Answer::changed(change, |config| Answer::json(&renamed(config))))
            }
            Method::Delete => Ok(Answer::changed(self.state.delete_config(scope)?, Answer::json)),
            Method::Post => Err(Fault::method()),
        }
    }

    fn mode(&self, scope: &Option<String>) -> Result<Answer, Fault> {
        let name = scope.as_deref().unwrap_or_default();
        let shown = |mode: Option<Mode>| Answer::json(&ModeShown { mode: mode.map(Mode::name) });
        match self.request.method {
            Method::Get if self.request.flag("defaultToGlobal") => {
                Ok(shown(Some(self.state.mode_in_scope(scope))))
            }
            Method::Get => Ok(shown(Some(self.state.mode(scope).ok_or_else(|| Fault::no_mode(name))?))),
            Method::Put => {
                if !Subject::parse(name).may_have_settings() {
                    return Err(Fault::invalid_subject(name));
                }
                let asked: Map<String, Value> = self.request.json()?;
                let mode = match asked.get("mode") {
                    None | Some(Value::Null) => None,
                    Some(mode) => Some(mode.as_str().and_then(Mode::parse).ok_or_else(Fault::invalid_mode)?),
                };
                let change = self.state.set_mode(scope, mode, self.request.flag("force"))?;
                Ok(Answer::changed(change, |()| shown(mode)))
            }
            Method::Delete => {
                let change = self.state.delete_mode(scope, self.request.flag("recursive"))?;
                Ok(Answer::changed(change, |mode| shown(*mode)))
            }
            Method::Post => Err(Fault::method()),
        }
    }

    fn contexts(&self) -> Result<Answer, Fault> {
        let prefix = self.request.text("contextPrefix").unwrap_or_default();
        let shown = self.state.contexts().filter(|context| context.starts_with(prefix));
        Ok(Answer::json(&self.request.page(usize::MAX).of(shown)))
    }

    fn delete_context(&self, context: &str) -> Result<Answer, Fault> {
        let prefix = context_prefix(context).ok_or_else(|| Fault::invalid_subject(context))?;
        Ok(Answer::changed(self.state.delete_context(&prefix)?, |()| Answer::empty()))
    }

    /// Which associations the query asks for.
    fn filter(&self) -> AssociationFilter {
        AssociationFilter {
            resource_type: Some(self.request.filled("resourceType").unwrap_or(TOPIC).into()),
            association_types: self.request.all("associationType").map(str::to_owned).collect(),
            lifecycle: self.request.filled("lifecycle").map(str::to_owned),
        }
    }

    fn associations_of_subject(&self, subject: &str) -> Result<Answer, Fault> {
        let found = self.state.associations_of_subject(&super::subject::normalized(subject), &self.filter());
        let found = self.request.page(SCHEMAS_MAX).of(found).into_iter();
        Ok(Answer::json(&found.map(|one| one.shown()).collect::<Vec<_>>()))
    }

    fn associations_of_name(&self, namespace: &str, name: &str) -> Result<Answer, Fault> {
        let found = self.state.associations_of_name(namespace, name, &self.filter());
        let found = self.request.page(SCHEMAS_MAX).of(found).into_iter();
        Ok(Answer::json(&found.map(|one| one.shown()).collect::<Vec<_>>()))
    }

    fn resource(&self, id: &str) -> Result<Answer, Fault> {
        match self.request.method {
            Method::Get => {
                let found = self.state.associations_of_id(id, &self.filter());
                let found = self.request.page(SCHEMAS_MAX).of(found).into_iter();
                Ok(Answer::json(&found.map(|one| one.shown()).collect::<Vec<_>>()))
            }
            Method::Put => self.associate(Some(id)),
            Method::Delete => {
                let (cascade, dry_run) = (self.request.flag("cascadeLifecycle"), self.request.flag("dryRun"));
                let change = self.state.dissociate(id, &self.filter(), cascade, dry_run)?;
                Ok(Answer::changed(change, |()| Answer::empty()))
            }
            Method::Post => Err(Fault::method()),
        }
    }

    /// `id` is in the path if the resource may be there already.
    fn associate(&self, id: Option<&str>) -> Result<Answer, Fault> {
        match (self.request.method, id) {
            (Method::Post, None) | (Method::Put, Some(_)) => {}
            _ => return Err(Fault::method()),
        }
        let mut asked: AssociationRequest = self.request.json()?;
        if let Some(id) = id {
            if asked.resource_id.as_deref().is_some_and(|other| other != id) {
                return Err(Fault::invalid_association("resourceId", "must be the one in the path"));
            }
            asked.resource_id = Some(id.into());
        }
        let context = self.request.text("context").unwrap_or_default();
        let dry_run = self.request.flag("dryRun");
        let change = self.state.associate(self.formats, context, &asked, id.is_none(), dry_run)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (name, namespace, id) =
            (text(&asked.resource_name), text(&asked.resource_namespace), text(&asked.resource_id));
        Ok(Answer::changed(change, |made| {
            let associations = made.iter().map(|one| AssociationInfo {
                subject: &one.value.subject,
                association_type: &one.value.association_type,
                lifecycle: &one.value.lifecycle,
                frozen: one.value.frozen,
                schema: one.schema.as_ref().map(Schema::of),
            });
            Answer::json(&Associations {
                resource_name: &name,
                resource_namespace: &namespace,
                resource_id: &id,
                resource_type: TOPIC,
                associations: associations.collect(),
            })
        }))
    }
}

/// A config as a change of it shows it: the level has another name there.
fn renamed(config: &Config) -> Value {
    let mut shown = serde_json::to_value(config).unwrap_or_default();
    if let Some(fields) = shown.as_object_mut()
        && let Some(level) = fields.remove("compatibilityLevel")
    {
        fields.insert("compatibility".into(), level);
    }
    shown
}
