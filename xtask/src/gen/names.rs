//! Schema names as Rust names.

/// `ThrottleTimeMs` → `throttle_time_ms`; runs of capitals are one word (`LogStartOffsetISR` → `..._isr`).
pub(crate) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, &letter) in letters.iter().enumerate() {
        let starts_word = letter.is_uppercase()
            && index > 0
            && (!letters[index - 1].is_uppercase()
                || letters.get(index + 1).is_some_and(|next| next.is_lowercase()));
        if starts_word && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// A field's name, escaped when Rust keeps the word for itself.
pub(crate) fn field(name: &str) -> String {
    let snake = snake(name);
    match snake.as_str() {
        "type" | "match" | "final" | "abstract" | "override" | "gen" => format!("r#{snake}"),
        _ => snake,
    }
}

/// The API's name: the message's without `Request` or `Response`.
pub(crate) fn api(name: &str) -> &str {
    name.strip_suffix("Request").or_else(|| name.strip_suffix("Response")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        let check = |name: &str, expect: &str| assert_eq!(field(name), expect);
        check("ThrottleTimeMs", "throttle_time_ms");
        check("protocolType", "protocol_type");
        check("KRaftVersionFeature", "k_raft_version_feature");
        check("ZkMigrationReady", "zk_migration_ready");
        check("HostISR", "host_isr");
        check("Type", "r#type");
    }
}
