//! URL paths of keys, as CloudFront wants them in an invalidation.

use std::fmt::Write as _;

/// The URL path of a key: a slash, then the key with exactly those bytes encoded that CloudFront
/// asks for (not ASCII, or unsafe in RFC 1738); any other encoding would name another cached object.
/// `*` and `?` are encoded too, since a path gives them a meaning of their own.
pub(in crate::steps) fn url_path(key: &str) -> String {
    let mut path = String::with_capacity(key.len() + 1);
    path.push('/');
    for byte in key.bytes() {
        if byte.is_ascii_graphic() && !br#"<>"%{}|\^~[]`#?*"#.contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_is_unsafe_and_nothing_else() {
        for (key, path) in [
            ("index.html", "/index.html"),
            ("a/b (1),$.js", "/a/b%20(1),$.js"),
            ("grün/ä.html", "/gr%C3%BCn/%C3%A4.html"),
            ("a~b%c#d?e*f", "/a%7Eb%25c%23d%3Fe%2Af"),
            ("a+b=c;d:e@f&g'h!", "/a+b=c;d:e@f&g'h!"),
        ] {
            assert_eq!(url_path(key), path);
        }
    }
}
