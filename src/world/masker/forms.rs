//! The forms in which programs print a secret.
//!
//! base64 of a text that contains the secret depends on where in that text it
//! begins: there are three alignments, and of each only the characters that
//! the secret alone determines are looked for.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SHORTEST;

/// Parts of a secret (lines, JSON values, a URL's password) count from this many characters on;
/// shorter ones are everyday words.
const SHORTEST_PART: usize = 8;

/// Names of JSON values that are no secrets although they stand in one, as databases' secrets have them.
const OPEN_NAMES: [&str; 7] =
    ["username", "engine", "host", "dbname", "dbInstanceIdentifier", "dbClusterIdentifier", "region"];

/// Adds every form of a secret and of its parts.
pub(super) fn add(value: &str, needles: &mut BTreeSet<String>) {
    let value = value.trim();
    let mut texts: Vec<String> = vec![value.to_owned()];
    if value.contains('\n') {
        for joint in [" ", "\\n", "\r\n", ""] {
            texts.push(value.lines().collect::<Vec<_>>().join(joint));
        }
        texts.extend(value.lines().map(str::trim).filter(|line| is_part(line)).map(str::to_owned));
    }
    if let Ok(json) = serde_json::from_str(value) {
        leaves(&json, &mut texts);
    }
    if let Some(password) = url_password(value) {
        texts.extend([password.to_owned(), unpercent(password)].into_iter().filter(|text| is_part(text)));
    }
    for text in texts {
        encoded(&text, needles);
    }
    wrapped(value, needles);
}

fn is_part(text: &str) -> bool {
    text.chars().count() >= SHORTEST_PART && !text.starts_with("-----")
}

fn leaves(json: &serde_json::Value, texts: &mut Vec<String>) {
    match json {
        serde_json::Value::String(text) if is_part(text) => texts.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(item, texts)),
        serde_json::Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !OPEN_NAMES.contains(&name.as_str()))
            .for_each(|(_, value)| leaves(value, texts)),
        _ => {}
    }
}

/// The password of `scheme://user:password@host…`.
fn url_password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

fn unpercent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(text: &str, needles: &mut BTreeSet<String>) {
    let json = json_escaped(text);
    let all = [
        text.to_owned(),
        json.replace('/', "\\/"),
        json_escaped(&json),
        ascii(&json),
        json,
        percent(text, true, false),
        percent(text, false, false),
        percent(text, true, true),
        percent(text, false, true),
        percent(text, true, false).replace("%2F", "/"),
        percent(text, false, false).replace("%2f", "/"),
        xml(text, "&#39;"),
        xml(text, "&apos;"),
        text.replace('\'', r"'\''"),
        text.replace('\'', "'\"'\"'"),
        backslashed(text),
        hex(text, false),
        hex(text, true),
    ];
    needles.extend(all.into_iter().filter(|form| form.chars().count() >= SHORTEST));
    base64(text, needles);
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// JSON as writers make it that keep to ASCII.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Percent-encoding with upper or lower case digits; as in a form, a blank becomes a plus.
pub(super) fn percent(text: &str, upper: bool, form: bool) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' if form => out.push('+'),
            // Writing to a String cannot fail.
            _ if upper => drop(write!(out, "%{byte:02X}")),
            _ => drop(write!(out, "%{byte:02x}")),
        }
    }
    out
}

fn xml(text: &str, apostrophe: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', apostrophe)
}

/// As `printf %q` writes it.
fn backslashed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"_-./:@%+=,".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn hex(text: &str, upper: bool) -> String {
    let lower = crate::world::files::hex(text.as_bytes());
    if upper { lower.to_uppercase() } else { lower }
}

fn base64(text: &str, needles: &mut BTreeSet<String>) {
    for shift in 0..3_usize {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(text.as_bytes());
        // Characters that also hold bits of what stands before or after are left out.
        let first = (shift * 8).div_ceil(6);
        let last = bytes.len() * 8 / 6;
        for form in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            if let Some(inner) = form.get(first..last)
                && inner.len() >= SHORTEST
            {
                needles.insert(inner.to_owned());
            }
        }
    }
}

/// The lines of base64 as `base64` and `openssl` break it.
fn wrapped(value: &str, needles: &mut BTreeSet<String>) {
    let whole = STANDARD_NO_PAD.encode(value);
    for width in [64, 76] {
        let mut rest = whole.as_str();
        while let Some((line, after)) = rest.split_at_checked(width) {
            needles.insert(line.to_owned());
            rest = after;
        }
        if rest.len() < whole.len() && rest.len() >= SHORTEST_PART {
            // The last character may hold bits of a line end that was encoded too.
            needles.insert(rest.get(..rest.len() - 1).unwrap_or_default().to_owned());
        }
    }
}
