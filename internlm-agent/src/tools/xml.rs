//! What readers of XML share.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart};

/// A character, or one of the five names that XML has. Names that a document declares itself are not known here, so
/// a text cannot grow by them.
pub(crate) fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = reference.xml10_content();
    match quick_xml::escape::resolve_predefined_entity(&name) {
        Some(text) => text.to_owned(),
        None => String::new(),
    }
}

/// The value of an attribute whose name, without its prefix, is this.
pub(crate) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    find(tag, |_, local| local == name)
}

/// The same, of a name that has a prefix, whatever it is.
#[cfg(feature = "documents")]
pub(crate) fn prefixed(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    find(tag, |whole, local| local == name && whole != name)
}

fn find(tag: &BytesStart<'_>, fits: impl Fn(&str, &str) -> bool) -> Option<String> {
    let mut attributes = tag.attributes();
    // Looking for names that come twice would take quadratic time.
    attributes.with_checks(false);
    let found = attributes
        .flatten()
        .find(|attribute| fits(attribute.key.as_ref(), attribute.key.local_name().as_ref()))?;
    let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
    Some(value.into_owned())
}
