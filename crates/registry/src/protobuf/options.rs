//! Options of files: values of any depth, which the compiler reads by recursion. Nothing that is read or written with a schema needs
//! them, but for those that Protobuf itself knows.

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

/// Messages, options and the values of options are nested at most this deep. protoc allows 32 levels of messages.
pub(super) const NESTED_MAX: usize = 100;

/// Whether the brackets of a `.proto` text are nested too deep, whatever they mean.
pub(super) fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut left) = (0usize, text.as_bytes());
    while let Some((&byte, rest)) = left.split_first() {
        left = match byte {
            b'/' if rest.first() == Some(&b'/') => after(rest, |rest| rest.starts_with(b"\n"), 1),
            b'/' if rest.first() == Some(&b'*') => after(&rest[1..], |rest| rest.starts_with(b"*/"), 2),
            // In the values of options.
            b'#' => after(rest, |rest| rest.starts_with(b"\n"), 1),
            b'"' | b'\'' => after_text(byte, rest),
            _ => rest,
        };
        match byte {
            b'{' | b'[' | b'<' | b'(' => depth += 1,
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTED_MAX {
            return true;
        }
    }
    false
}

/// What follows the first place where something ends.
fn after(bytes: &[u8], is_end: impl Fn(&[u8]) -> bool, length: usize) -> &[u8] {
    let end = (0..bytes.len()).find(|at| is_end(&bytes[*at..]));
    end.map_or(&[], |end| &bytes[end + length..])
}

/// What follows a text, which ends with its line at the latest.
fn after_text(quote: u8, mut bytes: &[u8]) -> &[u8] {
    while let Some((&byte, rest)) = bytes.split_first() {
        match byte {
            b'\\' if rest.first() != Some(&b'\n') => bytes = rest.get(1..).unwrap_or_default(),
            b'\n' => return rest,
            byte if byte == quote => return rest,
            _ => bytes = rest,
        }
    }
    bytes
}

macro_rules! clear {
    ($options:expr) => {
        if let Some(options) = &mut $options {
            options.uninterpreted_option.clear();
        }
    };
}

/// Takes away options that are texts still. protoc leaves none, and a text can be nested as deep as it likes.
pub(super) fn without_texts(file: &mut FileDescriptorProto) {
    clear!(file.options);
    file.message_type.iter_mut().for_each(of_message);
    file.enum_type.iter_mut().for_each(of_enum);
    file.extension.iter_mut().for_each(of_field);
    file.service.iter_mut().for_each(of_service);
}

/// Decoding a descriptor has bounded how deep messages are.
fn of_message(message: &mut DescriptorProto) {
    clear!(message.options);
    message.field.iter_mut().chain(&mut message.extension).for_each(of_field);
    message.enum_type.iter_mut().for_each(of_enum);
    message.nested_type.iter_mut().for_each(of_message);
    for oneof in &mut message.oneof_decl {
        clear!(oneof.options);
    }
    for range in &mut message.extension_range {
        clear!(range.options);
    }
}

fn of_field(field: &mut FieldDescriptorProto) {
    clear!(field.options);
}

fn of_enum(declared: &mut EnumDescriptorProto) {
    clear!(declared.options);
    for value in &mut declared.value {
        clear!(value.options);
    }
}

fn of_service(service: &mut ServiceDescriptorProto) {
    clear!(service.options);
    for method in &mut service.method {
        clear!(method.options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_texts_and_comments_do_not_count() {
        let deep = "{".repeat(NESTED_MAX + 1);
        assert!(is_too_deep(&deep) && !is_too_deep(&deep[1..]));
        assert!(is_too_deep(&format!("\"{{{{\\\"\" '\"' // }}}}\n /* }}}} */ {deep}")));
        for text in [
            format!("'{deep}'"),
            format!("\"\\\"{deep}\""),
            format!("// {deep}\n"),
            format!("/* {deep} */"),
            "{}[]<>()".repeat(1000),
        ] {
            assert!(!is_too_deep(&text), "{text}");
        }
        // A text ends with its line, so that nothing hides after a quotation mark that is left open.
        for open in ["'", "\"\\", "# /* \"", "// /*"] {
            assert!(is_too_deep(&format!("{open}\n{deep}")), "{open}");
        }
    }
}
