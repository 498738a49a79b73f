//! The grammar of `.proto` texts, proto2 and proto3, as the parser of Confluent's registry takes it.

use super::reader::Reader;
use super::{
    Call, Constant, Enum, Extend, Field, FieldType, File, Group, Label, Message, OneOf, Range, Ranges,
    Service, Setting, Term, Type,
};

/// Messages in messages, and values in values of options. `protoc` allows 32 messages.
const DEPTH_MAX: usize = 64;

/// What `max` stands for in a range of field numbers.
const NUMBER_MAX: i64 = 536_870_911;

pub(super) fn parse(text: &str) -> Result<File, String> {
    let mut parser = Parser { reader: Reader::new(text), proto3: false };
    let mut file = File::default();
    while parser.reader.peek()?.is_some() {
        parser.statement(&mut file)?;
    }
    Ok(file)
}

struct Parser<'a> {
    reader: Reader<'a>,
    proto3: bool,
}

impl Parser<'_> {
    fn statement(&mut self, file: &mut File) -> Result<(), String> {
        if self.reader.take(';')? {
            return Ok(());
        }
        let word = self.reader.word()?;
        match word {
            "syntax" => {
                self.reader.expect('=')?;
                let syntax = self.reader.string()?;
                file.syntax = Some(match syntax.as_str() {
                    "proto2" => "proto2",
                    "proto3" => "proto3",
                    other => {
                        return Err(self
                            .reader
                            .error(format!("the syntax is \"{other}\", and proto2 and proto3 are known")));
                    }
                });
                self.proto3 = syntax == "proto3";
                self.reader.expect(';')
            }
            "edition" => Err(self.reader.error("editions are not supported; use proto3")),
            "package" => {
                if file.package.is_some() {
                    return Err(self.reader.error("a second package"));
                }
                file.package = Some(self.reader.word()?.to_owned());
                self.reader.expect(';')
            }
            "import" => {
                if self.reader.take_word("public")? {
                    file.public_imports.push(self.reader.string()?);
                } else if self.reader.take_word("weak")? {
                    // Confluent's canonical form has no weak imports.
                    self.reader.string()?;
                } else {
                    file.imports.push(self.reader.string()?);
                }
                self.reader.expect(';')
            }
            "option" => {
                file.options.push(self.setting()?);
                self.reader.expect(';')
            }
            "message" => {
                let message = self.message(0)?;
                file.types.push(Type::Message(message));
                Ok(())
            }
            "enum" => {
                let found = self.enumeration()?;
                file.types.push(Type::Enum(found));
                Ok(())
            }
            "extend" => {
                let extend = self.extend()?;
                file.extends.push(extend);
                Ok(())
            }
            "service" => {
                let service = self.service()?;
                file.services.push(service);
                Ok(())
            }
            other => Err(self.reader.error(format!("'{other}' starts no statement of a file"))),
        }
    }

    fn message(&mut self, depth: usize) -> Result<Message, String> {
        if depth > DEPTH_MAX {
            return Err(self.reader.error(format!("messages are nested deeper than {DEPTH_MAX} levels")));
        }
        let mut message = Message { name: self.reader.name()?, ..Message::default() };
        self.reader.expect('{')?;
        while !self.reader.take('}')? {
            self.member(&mut message, depth)?;
        }
        Ok(message)
    }

    fn member(&mut self, message: &mut Message, depth: usize) -> Result<(), String> {
        if self.reader.take(';')? {
            return Ok(());
        }
        // Each of these words may also be the type of a field.
        let word = self.reader.word()?;
        match word {
            "message" => {
                let inner = self.message(depth + 1)?;
                message.types.push(Type::Message(inner));
            }
            "enum" => {
                let inner = self.enumeration()?;
                message.types.push(Type::Enum(inner));
            }
            "extend" => {
                let extend = self.extend()?;
                message.extends.push(extend);
            }
            "option" => {
                message.options.push(self.setting()?);
                self.reader.expect(';')?;
            }
            "reserved" => {
                let ranges = self.ranges()?;
                message.reserved.push(ranges);
            }
            "extensions" => {
                let ranges = self.ranges()?;
                message.extensions.push(ranges);
            }
            "oneof" => {
                let oneof = self.oneof()?;
                message.oneofs.push(oneof);
            }
            word => self.field_or_group(word, &mut message.fields, &mut message.groups, true)?,
        }
        Ok(())
    }

    /// A field that starts with this word: its label or its type.
    fn field_or_group(
        &mut self,
        word: &str,
        fields: &mut Vec<Field>,
        groups: &mut Vec<Group>,
        labelled: bool,
    ) -> Result<(), String> {
        let label = match word {
            "optional" => Some(Label::Optional),
            "required" => Some(Label::Required),
            "repeated" => Some(Label::Repeated),
            _ => None,
        };
        if label.is_some() && !labelled {
            return Err(self.reader.error(format!("a field of a oneof has the label '{word}'")));
        }
        if label == Some(Label::Required) && self.proto3 {
            return Err(self.reader.error("'required' is no label of proto3"));
        }
        let word = if label.is_some() { self.reader.word()? } else { word };
        if word == "group" {
            let group = self.group(label)?;
            groups.push(group);
            return Ok(());
        }
        let r#type = self.field_type(word)?;
        if matches!(r#type, FieldType::Map(..)) && label.is_some() {
            return Err(self.reader.error("a map has a label"));
        }
        if labelled && label.is_none() && !self.proto3 && !matches!(r#type, FieldType::Map(..)) {
            return Err(self
                .reader
                .error(format!("the field with type '{word}' needs a label in proto2, such as optional")));
        }
        let field = self.field(label, r#type)?;
        fields.push(field);
        Ok(())
    }

    fn field_type(&mut self, word: &str) -> Result<FieldType, String> {
        if word != "map" || !self.reader.take('<')? {
            return Ok(FieldType::Name(word.to_owned()));
        }
        let key = self.reader.word()?.to_owned();
        self.reader.expect(',')?;
        let value = self.reader.word()?.to_owned();
        self.reader.expect('>')?;
        if !super::is_scalar(&key) || matches!(key.as_str(), "bytes" | "double" | "float") {
            return Err(self.reader.error(format!("a map has keys of type {key}")));
        }
        Ok(FieldType::Map(key, value))
    }

    fn field(&mut self, label: Option<Label>, r#type: FieldType) -> Result<Field, String> {
        let name = self.reader.name()?;
        self.reader.expect('=')?;
        let number = self.reader.number()?;
        if number < 1 {
            return Err(self
                .reader
                .error(format!("the field '{name}' has number {number}, and numbers start at 1")));
        }
        let mut options = self.settings()?;
        self.reader.expect(';')?;
        let mut special = |name: &str| {
            let at = options.iter().position(|option| option.name == name && !option.parenthesized)?;
            Some(options.remove(at).value)
        };
        let default = special("default");
        let json_name = special("json_name").and_then(|term| match term {
            Term::String(name) => Some(name),
            _ => None,
        });
        Ok(Field { label, r#type, name, number, options, default, json_name })
    }

    fn group(&mut self, label: Option<Label>) -> Result<Group, String> {
        let name = self.reader.name()?;
        self.reader.expect('=')?;
        let number = self.reader.number()?;
        self.reader.expect('{')?;
        let (mut fields, mut groups) = (Vec::new(), Vec::new());
        while !self.reader.take('}')? {
            if !self.reader.take(';')? {
                let word = self.reader.word()?;
                if word == "group" || !groups.is_empty() {
                    return Err(self.reader.error("a group is in a group"));
                }
                self.field_or_group(word, &mut fields, &mut groups, true)?;
            }
        }
        Ok(Group { label, name, number, fields })
    }

    fn oneof(&mut self) -> Result<OneOf, String> {
        let mut oneof =
            OneOf { name: self.reader.name()?, options: Vec::new(), fields: Vec::new(), groups: Vec::new() };
        self.reader.expect('{')?;
        while !self.reader.take('}')? {
            if self.reader.take(';')? {
                continue;
            }
            match self.reader.word()? {
                "option" => {
                    oneof.options.push(self.setting()?);
                    self.reader.expect(';')?;
                }
                word => self.field_or_group(word, &mut oneof.fields, &mut oneof.groups, false)?,
            }
        }
        Ok(oneof)
    }

    fn enumeration(&mut self) -> Result<Enum, String> {
        let name = self.reader.name()?;
        let mut found = Enum { name, reserved: Vec::new(), options: Vec::new(), constants: Vec::new() };
        self.reader.expect('{')?;
        while !self.reader.take('}')? {
            if self.reader.take(';')? {
                continue;
            }
            match self.reader.word()? {
                "option" => {
                    found.options.push(self.setting()?);
                    self.reader.expect(';')?;
                }
                "reserved" => {
                    let ranges = self.ranges()?;
                    found.reserved.push(ranges);
                }
                name => {
                    self.reader.expect('=')?;
                    let number = self.reader.number()?;
                    let options = self.settings()?;
                    self.reader.expect(';')?;
                    found.constants.push(Constant { name: name.to_owned(), number, options });
                }
            }
        }
        Ok(found)
    }

    fn extend(&mut self) -> Result<Extend, String> {
        let name = self.reader.word()?.to_owned();
        let (mut fields, mut groups) = (Vec::new(), Vec::new());
        self.reader.expect('{')?;
        while !self.reader.take('}')? {
            if !self.reader.take(';')? {
                let word = self.reader.word()?;
                self.field_or_group(word, &mut fields, &mut groups, true)?;
            }
        }
        Ok(Extend { name, fields })
    }

    fn service(&mut self) -> Result<Service, String> {
        let mut service = Service { name: self.reader.name()?, options: Vec::new(), calls: Vec::new() };
        self.reader.expect('{')?;
        while !self.reader.take('}')? {
            if self.reader.take(';')? {
                continue;
            }
            match self.reader.word()? {
                "option" => {
                    service.options.push(self.setting()?);
                    self.reader.expect(';')?;
                }
                "rpc" => {
                    let call = self.call()?;
                    service.calls.push(call);
                }
                other => {
                    return Err(self.reader.error(format!("'{other}' starts no statement of a service")));
                }
            }
        }
        Ok(service)
    }

    fn call(&mut self) -> Result<Call, String> {
        let name = self.reader.name()?;
        let request = self.call_type()?;
        if !self.reader.take_word("returns")? {
            return Err(self.reader.error("'returns' is missing"));
        }
        let response = self.call_type()?;
        let mut options = Vec::new();
        if self.reader.take('{')? {
            while !self.reader.take('}')? {
                if self.reader.take(';')? {
                    continue;
                }
                if !self.reader.take_word("option")? {
                    return Err(self.reader.error("a call has options only"));
                }
                options.push(self.setting()?);
                self.reader.expect(';')?;
            }
        } else {
            self.reader.expect(';')?;
        }
        Ok(Call { name, request, response, options })
    }

    fn call_type(&mut self) -> Result<(bool, String), String> {
        self.reader.expect('(')?;
        let stream = self.reader.take_word("stream")?;
        let name = self.reader.word()?.to_owned();
        self.reader.expect(')')?;
        Ok((stream, name))
    }

    fn ranges(&mut self) -> Result<Ranges, String> {
        let mut found = Ranges { ranges: Vec::new(), options: Vec::new() };
        loop {
            if let Some('"' | '\'') = self.reader.peek()? {
                let name = self.reader.string()?;
                found.ranges.push(Range::Name(name));
            } else {
                let first = self.reader.number()?;
                if self.reader.take_word("to")? {
                    let last =
                        if self.reader.take_word("max")? { NUMBER_MAX } else { self.reader.number()? };
                    found.ranges.push(Range::Numbers(first, last));
                } else {
                    found.ranges.push(Range::Number(first));
                }
            }
            if !self.reader.take(',')? {
                break;
            }
        }
        found.options = self.settings()?;
        self.reader.expect(';')?;
        Ok(found)
    }

    /// Options in brackets, if there are any.
    fn settings(&mut self) -> Result<Vec<Setting>, String> {
        let mut found = Vec::new();
        if !self.reader.take('[')? {
            return Ok(found);
        }
        loop {
            found.push(self.setting()?);
            if !self.reader.take(',')? {
                self.reader.expect(']')?;
                return Ok(found);
            }
        }
    }

    /// `name = value`.
    fn setting(&mut self) -> Result<Setting, String> {
        let parenthesized = self.reader.take('(')?;
        let name = self.reader.word()?.to_owned();
        let mut inner: Vec<String> = Vec::new();
        if parenthesized {
            self.reader.expect(')')?;
            // `(name).of.a.field`, where a part may be an extension in parentheses again.
            if self.reader.peek()? == Some('.') {
                let path = self.reader.word()?;
                inner.extend(path.split('.').filter(|part| !part.is_empty()).map(str::to_owned));
            }
        }
        self.reader.expect('=')?;
        let mut value = self.term(0)?;
        for name in inner.into_iter().rev() {
            value = Term::Inner(Box::new(Setting { name, parenthesized: false, value }));
        }
        Ok(Setting { name, parenthesized, value })
    }

    fn term(&mut self, depth: usize) -> Result<Term, String> {
        if depth > DEPTH_MAX {
            return Err(self.reader.error(format!("values are nested deeper than {DEPTH_MAX} levels")));
        }
        match self.reader.peek()? {
            Some('{') => self.map('{', '}', depth),
            Some('<') => self.map('<', '>', depth),
            Some('[') => self.list(depth),
            Some('"' | '\'') => Ok(Term::String(self.reader.string()?)),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => {
                Ok(Term::Number(self.reader.word()?.to_owned()))
            }
            _ => Ok(Term::Word(self.reader.word()?.to_owned())),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Term, String> {
        self.reader.expect('[')?;
        let mut terms = Vec::new();
        while !self.reader.take(']')? {
            terms.push(self.term(depth + 1)?);
            if !self.reader.take(',')? && self.reader.peek()? != Some(']') {
                return Err(self.reader.error("',' or ']' is missing"));
            }
        }
        Ok(Term::List(terms))
    }

    fn map(&mut self, open: char, close: char, depth: usize) -> Result<Term, String> {
        self.reader.expect(open)?;
        let mut members: Vec<(String, Term)> = Vec::new();
        while !self.reader.take(close)? {
            let name = if self.reader.take('[')? {
                let mut name = format!("[{}", self.reader.word()?);
                if self.reader.take('/')? {
                    name = format!("{name}/{}", self.reader.word()?);
                }
                self.reader.expect(']')?;
                name + "]"
            } else {
                self.reader.word()?.to_owned()
            };
            if !self.reader.take(':')? && !matches!(self.reader.peek()?, Some('{' | '<')) {
                return Err(self.reader.error("':' is missing"));
            }
            let value = self.term(depth + 1)?;
            // A name that comes again is one of a repeated field.
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, Term::List(values))) => values.push(value),
                Some((_, known)) => {
                    *known = Term::List(vec![std::mem::replace(known, Term::List(Vec::new())), value]);
                }
                None => members.push((name, value)),
            }
            if !self.reader.take(',')? {
                self.reader.take(';')?;
            }
        }
        Ok(Term::Map(members))
    }
}
