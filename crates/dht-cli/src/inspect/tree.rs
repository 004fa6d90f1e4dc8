//! Bencode as a tree, read by bendy: what it says is canonical, is.

use core::fmt::Write as _;

use bendy::decoding::{Decoder, Object};
use serde::Serialize;

use crate::parse::to_hex;

/// Deeper nesting is not followed; messages that nodes accept are flatter.
const MAX_DEPTH: usize = 32;
/// Bytes that are no text are shown up to here.
const MAX_SHOWN: usize = 64;

/// What could be read, and what stopped it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Option<Branch>,
    pub(super) problems: Vec<String>,
}

/// A value with its key and meaning.
#[derive(Debug, Serialize)]
pub(crate) struct Branch {
    /// The key, if the value stands in a dictionary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(flatten)]
    pub(crate) value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meaning: Option<String>,
    /// What packed values hold: nodes, peers, infohashes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) contents: Vec<String>,
}

/// A bencoded value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    /// An integer, as text because bencode knows no bounds.
    Integer(String),
    /// A string that is printable ASCII.
    Text(String),
    /// Any other string, as hex.
    Hex(String),
    List(Vec<Branch>),
    Dict(Vec<Branch>),
}

impl Tree {
    /// Reads as much as possible.
    pub(super) fn read(datagram: &[u8]) -> Self {
        let mut problems = Vec::new();
        let mut decoder = Decoder::new(datagram).with_max_depth(MAX_DEPTH);
        let root = match decoder.next_object() {
            Ok(Some(object)) => Some(branch(None, object, &mut problems)),
            Ok(None) => None,
            Err(error) => {
                problems.push(not_canonical(&error));
                None
            }
        };
        if problems.is_empty() {
            let trailing = trailing(datagram);
            if trailing > 0 {
                problems.push(format!("{trailing} bytes follow the message, and are ignored"));
            }
        }
        Self { root, problems }
    }
}

impl Branch {
    /// The bytes of a string.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        match &self.value {
            Value::Text(text) => Some(text.clone().into_bytes()),
            Value::Hex(hex) => crate::parse::hex(hex),
            Value::Integer(_) | Value::List(_) | Value::Dict(_) => None,
        }
    }

    /// Writes the branch, one value a line, indented.
    pub(crate) fn write(&self, depth: usize, text: &mut String) {
        let indent = "  ".repeat(depth);
        let key = self.key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
        let meaning =
            self.meaning.as_ref().map(|meaning| format!("   -- {meaning}")).unwrap_or_default();
        let value = match &self.value {
            Value::Integer(number) => number.clone(),
            Value::Text(string) => format!("{string:?}"),
            Value::Hex(hex) => shown(hex),
            Value::List(items) if items.is_empty() => "[]".to_owned(),
            Value::Dict(items) if items.is_empty() => "{}".to_owned(),
            Value::List(_) => "list".to_owned(),
            Value::Dict(_) => "dictionary".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}{key}{value}{meaning}");
        for content in &self.contents {
            let _ = writeln!(text, "{indent}    {content}");
        }
        if let Value::List(items) | Value::Dict(items) = &self.value {
            for item in items {
                item.write(depth + 1, text);
            }
        }
    }
}

fn shown(hex: &str) -> String {
    let bytes = hex.len() / 2;
    match hex.get(..2 * MAX_SHOWN) {
        Some(start) if bytes > MAX_SHOWN => format!("0x{start}... ({bytes} bytes)"),
        _ => format!("0x{hex} ({bytes} bytes)"),
    }
}

/// Turns an object into a branch; the depth is bounded by the decoder.
fn branch(key: Option<String>, object: Object<'_, '_>, problems: &mut Vec<String>) -> Branch {
    let value = match object {
        Object::Integer(number) => Value::Integer(number.to_owned()),
        Object::Bytes(bytes) => string(bytes),
        Object::List(mut list) => {
            let mut items = Vec::new();
            loop {
                match list.next_object() {
                    Ok(Some(item)) => items.push(branch(None, item, problems)),
                    Ok(None) => break,
                    Err(error) => {
                        note(problems, &error);
                        break;
                    }
                }
            }
            Value::List(items)
        }
        Object::Dict(mut dict) => {
            let mut items = Vec::new();
            loop {
                match dict.next_pair() {
                    Ok(Some((key, item))) => {
                        let key = key.escape_ascii().to_string();
                        items.push(branch(Some(key), item, problems));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        note(problems, &error);
                        break;
                    }
                }
            }
            Value::Dict(items)
        }
    };
    Branch { key, value, meaning: None, contents: Vec::new() }
}

fn string(bytes: &[u8]) -> Value {
    let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    match str::from_utf8(bytes) {
        Ok(text) if printable => Value::Text(text.to_owned()),
        Ok(_) | Err(_) => Value::Hex(to_hex(bytes)),
    }
}

/// An error inside a value is met again in every value around it; it is noted once.
fn note(problems: &mut Vec<String>, error: &bendy::decoding::Error) {
    if problems.is_empty() {
        problems.push(not_canonical(error));
    }
}

fn not_canonical(error: &bendy::decoding::Error) -> String {
    format!("not canonical bencode: {error}")
}

/// How many bytes follow a datagram's first value, which is known to be canonical.
fn trailing(datagram: &[u8]) -> usize {
    let mut decoder = Decoder::new(datagram).with_max_depth(MAX_DEPTH);
    match decoder.next_object() {
        Ok(Some(Object::Dict(dict))) => {
            dict.into_raw().map_or(0, |raw| datagram.len().saturating_sub(raw.len()))
        }
        Ok(Some(Object::List(list))) => {
            list.into_raw().map_or(0, |raw| datagram.len().saturating_sub(raw.len()))
        }
        Ok(Some(Object::Integer(_) | Object::Bytes(_)) | None) | Err(_) => 0,
    }
}
