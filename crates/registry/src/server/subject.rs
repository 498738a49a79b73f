//! Names of subjects with their contexts: `orders-value` is in the default context, `:.europe:orders-value` in `.europe`.

/// The context of subjects whose name has no context.
pub(super) const DEFAULT_CONTEXT: &str = ".";
/// Config and mode of this context hold for all contexts that have none of their own.
const GLOBAL_CONTEXT: &str = ".__GLOBAL";
/// Before a prefix of names, this asks for subjects of all contexts.
pub(super) const ALL_CONTEXTS: &str = ":*:";

/// The name of a subject, taken apart. With an empty name it stands for the context itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    /// It starts with a dot.
    pub(super) context: String,
    pub(super) name: String,
}

impl Subject {
    /// Takes a name apart. Every text is a name: one that does not start like a context is in the default one.
    pub(super) fn parse(text: &str) -> Self {
        let in_default = || Self { context: DEFAULT_CONTEXT.into(), name: text.into() };
        let Some(rest) = text.strip_prefix(':') else { return in_default() };
        if !rest.starts_with('.') {
            return in_default();
        }
        let (context, name) = rest.split_once(':').unwrap_or((rest, ""));
        Self { context: context.into(), name: name.into() }
    }

    /// The same name, as it is stored: without a context if it is the default one.
    pub(super) fn qualified(&self) -> String {
        format!("{}{}", self.prefix(), self.name)
    }

    /// What the names of all subjects of this context start with; empty for the default context.
    pub(super) fn prefix(&self) -> String {
        if self.context == DEFAULT_CONTEXT { String::new() } else { format!(":{}:", self.context) }
    }

    pub(super) fn is_in_default_context(&self) -> bool {
        self.context == DEFAULT_CONTEXT
    }

    /// Whether it stands for the context from which all other contexts inherit.
    pub(super) fn is_global_context(&self) -> bool {
        self.context == GLOBAL_CONTEXT && self.name.is_empty()
    }

    /// The name under which the config and the mode for all contexts are kept.
    pub(super) fn global_context() -> String {
        format!(":{GLOBAL_CONTEXT}:")
    }

    /// Whether schemas may be registered under it.
    pub(super) fn may_have_schemas(&self) -> bool {
        self.may_have_settings() && self.context != GLOBAL_CONTEXT
    }

    /// Whether it may have a config or a mode.
    pub(super) fn may_have_settings(&self) -> bool {
        let has_control = |text: &str| text.chars().any(char::is_control);
        !has_control(&self.name)
            && !has_control(&self.context)
            && !["__GLOBAL", "__EMPTY"].contains(&self.name.as_str())
    }

    /// Whether `other` is this subject, or a subject of this context if this stands for one.
    pub(super) fn covers(&self, other: &str) -> bool {
        if self.qualified() == other {
            return true;
        }
        self.name.is_empty() && (self.context == GLOBAL_CONTEXT || Self::parse(other).context == self.context)
    }
}

/// A name as it is stored: `:.:orders` is `orders`.
pub(super) fn normalized(text: &str) -> String {
    Subject::parse(text).qualified()
}

/// A name that a subject refers to: without a context, it is in the context of `parent`.
pub(super) fn within(parent: &str, text: &str) -> String {
    let subject = Subject::parse(text);
    if subject.is_in_default_context() && !text.starts_with(":.:") {
        return format!("{}{}", Subject::parse(parent).prefix(), subject.name);
    }
    subject.qualified()
}

/// The prefix for names of a context that a path names: `europe`, `.europe` and `:.europe:` are the same.
/// None if there is no such name.
pub(super) fn context_prefix(text: &str) -> Option<String> {
    let inner = text.strip_prefix(':').unwrap_or(text);
    let inner = inner.strip_suffix(':').unwrap_or(inner);
    if inner.contains(':') {
        return None;
    }
    let context = if inner.starts_with('.') { inner.to_owned() } else { format!(".{inner}") };
    Some(Subject { context, name: String::new() }.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_contexts() {
        for (text, context, name, stored) in [
            ("orders", ".", "orders", "orders"),
            (":.:orders", ".", "orders", "orders"),
            (":.eu:orders", ".eu", "orders", ":.eu:orders"),
            (":.eu:a:b", ".eu", "a:b", ":.eu:a:b"),
            (":.eu:", ".eu", "", ":.eu:"),
            (":.eu", ".eu", "", ":.eu:"),
            (":orders", ".", ":orders", ":orders"),
            ("", ".", "", ""),
        ] {
            let subject = Subject::parse(text);
            assert_eq!((subject.context.as_str(), subject.name.as_str()), (context, name), "{text}");
            assert_eq!(subject.qualified(), stored, "{text}");
        }
    }

    #[test]
    fn references_are_in_the_context_of_their_subject() {
        assert_eq!(within("a", "b"), "b");
        assert_eq!(within(":.eu:a", "b"), ":.eu:b");
        assert_eq!(within(":.eu:a", ":.us:b"), ":.us:b");
        assert_eq!(within(":.eu:a", ":.:b"), "b");
    }

    #[test]
    fn a_context_covers_its_subjects() {
        assert!(Subject::parse(":.eu:").covers(":.eu:a"));
        assert!(!Subject::parse(":.eu:").covers("a"));
        assert!(Subject::parse(":.__GLOBAL:").covers("a"));
        assert!(Subject::parse("a").covers("a") && !Subject::parse("a").covers("ab"));
    }

    #[test]
    fn contexts_of_paths_are_read() {
        for text in ["eu", ".eu", ":.eu:", ":.eu"] {
            assert_eq!(context_prefix(text).as_deref(), Some(":.eu:"), "{text}");
        }
        assert_eq!(context_prefix(".").as_deref(), Some(""));
        assert_eq!(context_prefix("a:b"), None);
    }
}
