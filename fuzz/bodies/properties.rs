//! Any bytes as a file of properties.

use milena::Properties;

/// Nothing panics, and the place of every mistake is told.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Properties::parse(&text) {
        Ok(properties) => {
            // No value is printed. A name is, even if it looks like a value.
            let printed = format!("{properties:?}");
            let is_named = properties.iter().any(|(name, _)| name.contains("hunter2"));
            assert!(is_named || !printed.contains("hunter2"), "{printed}");
            // What was made up is not run. A backslash may hide the word from this look, in a text of JAAS.
            let is_run = |value: &str| value.contains("command") || value.contains('\\');
            if properties.iter().any(|(_, value)| is_run(value)) {
                return;
            }
            if let Err(error) = properties.client() {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(error.to_string().contains("line "), "{error}"),
    }
}
