//! The names of a schema and its imports, and what the check has to know of each message.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Field, FieldType, File, Label, Message, Proto, Type, is_scalar, known};

/// All names that a schema may use, by their full names.
#[derive(Debug, Default)]
pub(super) struct Names {
    types: HashMap<String, Named>,
    /// Options that are defined by `extend`, and whether they may come more than once.
    extensions: HashMap<String, bool>,
    /// Messages of the schema and of its imports.
    pub(super) messages: Vec<Shape>,
    /// The schema's own outermost messages.
    pub(super) roots: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A message, with its place in [`Names::messages`].
    Message(usize),
    Enum,
    /// A message that Protobuf or Confluent brings along.
    Known,
}

/// A message as the check sees it.
#[derive(Debug)]
pub(super) struct Shape {
    /// The full name.
    pub(super) full: String,
    /// The name without the package.
    pub(super) local: String,
    pub(super) imported: bool,
    pub(super) fields: BTreeMap<i64, Member>,
    pub(super) oneofs: Vec<String>,
    pub(super) inner: BTreeMap<String, usize>,
    /// The types of a map's entries, when the message stands for them.
    pub(super) map: Option<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) label: Option<Label>,
    pub(super) r#type: FieldType,
    /// The place in [`Shape::oneofs`].
    pub(super) oneof: Option<usize>,
}

impl Names {
    pub(super) fn collect(file: &File, imports: &[File]) -> Names {
        let mut names = Names::default();
        let imported: HashSet<&String> = std::iter::once(file)
            .chain(imports)
            .flat_map(|file| file.imports.iter().chain(&file.public_imports))
            .collect();
        for known in known::FILES.iter().filter(|known| imported.contains(&known.path.to_owned())) {
            let full = |name: &&str| format!("{}.{name}", known.package);
            names.types.extend(known.messages.iter().map(|name| (full(name), Named::Known)));
            names.types.extend(known.enums.iter().map(|name| (full(name), Named::Enum)));
        }
        names.extensions.extend(known::EXTENSIONS.iter().map(|name| ((*name).to_owned(), false)));
        for import in imports {
            names.file(import, true);
        }
        names.roots = names.file(file, false);
        names
    }

    fn file(&mut self, file: &File, imported: bool) -> BTreeMap<String, usize> {
        let package = file.package.as_deref().unwrap_or_default();
        self.extends(package, &file.extends);
        self.types(package, package, &file.types, imported)
    }

    fn extends(&mut self, scope: &str, extends: &[super::Extend]) {
        for field in extends.iter().flat_map(|extend| &extend.fields) {
            self.extensions.insert(join(scope, &field.name), field.label == Some(Label::Repeated));
        }
    }

    fn types(
        &mut self,
        package: &str,
        scope: &str,
        types: &[Type],
        imported: bool,
    ) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for r#type in types {
            match r#type {
                Type::Enum(inner) => {
                    self.types.insert(join(scope, &inner.name), Named::Enum);
                }
                Type::Message(message) => {
                    let full = join(scope, &message.name);
                    let place = self.messages.len();
                    self.messages.push(shape(package, &full, message, imported));
                    self.types.insert(full.clone(), Named::Message(place));
                    self.extends(&full, &message.extends);
                    let inner = self.types(package, &full, &message.types, imported);
                    self.messages[place].inner = inner;
                    found.insert(message.name.clone(), place);
                }
            }
        }
        found
    }

    /// What a name means inside a scope, and its full name. Inner scopes come first.
    pub(super) fn resolve(&self, scope: &str, name: &str) -> Option<(String, Named)> {
        resolve(scope, name, |full| self.types.get(full).copied())
    }

    /// The full name of an option, and whether it may come more than once.
    pub(super) fn extension(&self, scope: &str, name: &str) -> Option<(String, bool)> {
        resolve(scope, name, |full| self.extensions.get(full).copied())
    }
}

fn resolve<T>(scope: &str, name: &str, find: impl Fn(&str) -> Option<T>) -> Option<(String, T)> {
    if let Some(full) = name.strip_prefix('.') {
        return find(full).map(|found| (full.to_owned(), found));
    }
    let mut scope = scope;
    loop {
        let full = join(scope, name);
        if let Some(found) = find(&full) {
            return Some((full, found));
        }
        if scope.is_empty() {
            return None;
        }
        scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
    }
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn shape(package: &str, full: &str, message: &Message, imported: bool) -> Shape {
    let local = full.strip_prefix(package).map_or(full, |local| local.trim_start_matches('.'));
    let member = |field: &Field, oneof| {
        (field.number, Member { label: field.label, r#type: field.r#type.clone(), oneof })
    };
    let mut fields: BTreeMap<i64, Member> = message.fields.iter().map(|field| member(field, None)).collect();
    for (place, oneof) in message.oneofs.iter().enumerate() {
        fields.extend(oneof.fields.iter().map(|field| member(field, Some(place))));
    }
    let map = message.map_entry().map(|(key, value)| (key.r#type.to_string(), value.r#type.to_string()));
    Shape {
        full: full.to_owned(),
        local: local.to_owned(),
        imported,
        fields,
        oneofs: message.oneofs.iter().map(|oneof| oneof.name.clone()).collect(),
        inner: BTreeMap::new(),
        map,
    }
}

impl Proto {
    /// Names and numbers come once, and types are defined, in the schema itself. Imports were checked on their own.
    pub(super) fn check_types(&self) -> Result<(), String> {
        let package = self.file.package.as_deref().unwrap_or_default();
        self.check_scope(package, &self.file.types)?;
        for call in self.file.services.iter().flat_map(|service| &service.calls) {
            for (_, name) in [&call.request, &call.response] {
                self.check_type(package, name)?;
            }
        }
        for extend in &self.file.extends {
            self.check_type(package, &extend.name)?;
            extend.fields.iter().try_for_each(|field| self.check_field(package, field))?;
        }
        Ok(())
    }

    fn check_scope(&self, scope: &str, types: &[Type]) -> Result<(), String> {
        let mut seen = HashSet::new();
        for r#type in types {
            let name = match r#type {
                Type::Message(message) => &message.name,
                Type::Enum(found) => &found.name,
            };
            if !seen.insert(name) {
                return Err(format!("'{}' is defined twice", join(scope, name)));
            }
            if let Type::Message(message) = r#type {
                self.check_message(&join(scope, name), message)?;
            }
        }
        Ok(())
    }

    fn check_message(&self, full: &str, message: &Message) -> Result<(), String> {
        let in_oneofs = message.oneofs.iter().flat_map(|oneof| &oneof.fields);
        let (mut names, mut numbers) = (HashSet::new(), HashMap::new());
        for field in message.fields.iter().chain(in_oneofs) {
            if !names.insert(&field.name) {
                return Err(format!("'{full}' has two fields called '{}'", field.name));
            }
            if let Some(first) = numbers.insert(field.number, &field.name) {
                let (name, number) = (&field.name, field.number);
                return Err(format!(
                    "the fields '{first}' and '{name}' of '{full}' have the same number {number}"
                ));
            }
            self.check_field(full, field)?;
        }
        let in_groups = message.groups.iter().flat_map(|group| &group.fields);
        let in_extends = message.extends.iter().flat_map(|extend| &extend.fields);
        in_groups.chain(in_extends).try_for_each(|field| self.check_field(full, field))?;
        message.extends.iter().try_for_each(|extend| self.check_type(full, &extend.name))?;
        for oneof in &message.oneofs {
            if oneof.fields.iter().any(|field| matches!(field.r#type, FieldType::Map(..))) {
                return Err(format!("the oneof '{}' of '{full}' holds a map", oneof.name));
            }
        }
        self.check_scope(full, &message.types)
    }

    fn check_field(&self, scope: &str, field: &Field) -> Result<(), String> {
        match &field.r#type {
            FieldType::Name(name) | FieldType::Map(_, name) => self.check_type(scope, name),
        }
    }

    fn check_type(&self, scope: &str, name: &str) -> Result<(), String> {
        if is_scalar(name) || self.names.resolve(scope, name).is_some() {
            return Ok(());
        }
        Err(format!(
            "the type '{name}' in '{scope}' is not defined; define it or give the file that does as a reference"
        ))
    }
}
