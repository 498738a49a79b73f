//! Any bytes as a file of properties.

use milena::Properties;

/// Nothing panics, and the place of every mistake is told.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Properties::parse(&text) {
        Ok(properties) => {
            // No value is printed.
            let printed = format!("{properties:?}");
            if let Err(error) = properties.client() {
                let text = error.to_string();
                assert!(!text.is_empty() && !printed.contains("hunter2"), "{text}");
            }
        }
        Err(error) => assert!(error.to_string().contains("line "), "{error}"),
    }
}
