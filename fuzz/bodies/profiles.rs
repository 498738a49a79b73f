//! Any text as a file of profiles, and as the configuration file of another program.

use crate::profiles::Profiles;
use crate::profiles::import::{Format, detect, name_of, read};
use crate::profiles::secrets;

/// Nothing panics, and what is read can be written and read again.
pub(crate) fn run(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let _: Format = detect(text);
    for format in [Format::Properties, Format::Kcl, Format::Rpk, Format::Kaf] {
        imports(format, text);
    }
    let Ok(mut profiles) = Profiles::parse(text) else { return };
    // But for a byte order mark, for how lines and the file end, for space within the names of tables, and for the order of lines:
    // toml_edit writes a name that several tables have as the first of them has it, and dotted keys that begin alike together.
    assert_eq!(lines(&profiles.text()), lines(text), "a file that is not changed stays as it is");
    let all = profiles.all().expect("they were read before");
    for profile in &all {
        for (property, value) in &profile.properties {
            let _ = secrets::shown(property, value);
            profiles.set(&profile.name, property, "x").expect("it was there");
        }
        for (property, _) in &profile.properties {
            // A name that is written in two ways is found once for each.
            assert!(profiles.unset(&profile.name, property).expect("a table"), "{property:?}");
        }
    }
    assert!(Profiles::parse(&profiles.text()).is_ok());
}

/// The lines that say something, sorted and without space.
fn lines(text: &str) -> Vec<String> {
    let plain = text.trim_start_matches('\u{feff}').replace([' ', '\t'], "");
    let mut lines: Vec<String> =
        plain.split(['\r', '\n']).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn imports(format: Format, text: &str) {
    let Ok(imported) = read(format, text) else { return };
    for mut imports in imported.clusters {
        let (name, mut profiles) = (name_of(&imports.name), Profiles::default());
        imports.leave_out_sources(&name);
        imports.leave_out_secrets(&name);
        assert!(imports.properties.iter().all(|(_, value)| !secrets::is_command(value)));
        for (property, value) in &imports.properties {
            profiles.set(&name, property, value).expect("a good name");
        }
        let again = Profiles::parse(&profiles.text()).expect("our own text").profile(&name);
        let read = again.map(|profile| profile.properties).unwrap_or_default();
        assert_eq!(read, imports.properties);
    }
}
