//! Which release of a client is driven: as the lock file of this workspace has it.

use crate::Client;

pub(crate) fn of<C: Client>() -> String {
    let locked = locked(C::NAME, include_str!("../../Cargo.lock")).unwrap_or("unknown");
    C::beneath().map_or_else(|| locked.to_owned(), |beneath| format!("{locked} ({beneath})"))
}

fn locked<'a>(package: &str, lock: &'a str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_the_package_of_that_very_name() {
        let lock = "[[package]]\nname = \"rdkafka-sys\"\nversion = \"4.1.0\"\n\n\
                    [[package]]\nname = \"rdkafka\"\nversion = \"0.39.0\"\n";
        assert_eq!(locked("rdkafka", lock), Some("0.39.0"));
        assert_eq!(locked("kafka", lock), None);
    }
}
