// Included by the targets of the three formats: two texts as schemas, compared in all ways, and their canonical forms.

use milena_registry::compat::{Format, Level, Schema, check};

/// Two schemas with a byte of 0 between them, or one that is compared with itself.
fn compare(format: Format, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (new, old) = text.split_once('\0').unwrap_or((text, text));
    let Ok(new) = Schema::parse(format, new, &[]) else { return };
    for written in [new.canonical(), new.normalized()] {
        if let Ok(again) = Schema::parse(format, &written, &[]) {
            // What is written is read as the same.
            let same = check(Level::Full, &new, std::slice::from_ref(&again));
            assert!(same.is_ok() || same.is_err_and(|found| found[0].kind().name() == "TOO_COMPLEX"), "{written}");
        }
    }
    if let Ok(again) = Schema::parse(format, &new.canonical(), &[]) {
        assert_eq!(again.canonical(), new.canonical());
    }
    let Ok(old) = Schema::parse(format, old, &[]) else { return };
    let older = [old];
    let holds = |level| check(level, &new, &older).is_ok();
    assert!(holds(Level::None));
    let both = holds(Level::Backward) && holds(Level::Forward);
    assert_eq!(both, holds(Level::Full));
    assert_eq!(both, holds(Level::FullTransitive));
}
