//! Bounds on an untrusted file, checked on the wire before anything is decoded.
//!
//! A decoded message takes far more memory than its bytes: an empty node is two bytes in the file and
//! over a hundred in memory. So the messages, strings and numbers are counted first, and a file with
//! too many of them is refused; what remains is bounded by a small multiple of the file's own size.

use crate::error::{Error, Result};

/// Largest file accepted, in bytes: protobuf's own limit.
pub const FILE_MAX: u64 = i32::MAX as u64;
/// Most messages and strings accepted in one file.
pub const ITEMS_MAX: u64 = 1_000_000;

/// The messages that can be repeated or nested in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// A message or string that holds no further messages worth counting.
    Leaf,
}

impl Message {
    /// What field `number` of this message holds, or `None` when it is not decoded or is bulk data.
    fn field(self, number: u64) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) => Message::Graph,
            (Message::Model, 8 | 14) => Message::Leaf,
            (Message::Graph, 1) => Message::Node,
            (Message::Graph, 5) => Message::Tensor,
            (Message::Graph, 11 | 12) => Message::ValueInfo,
            (Message::Graph, 15) => Message::Leaf,
            (Message::Node, 1 | 2) => Message::Leaf,
            (Message::Node, 5) => Message::Attribute,
            (Message::Attribute, 5) => Message::Tensor,
            (Message::Tensor, 13) => Message::Leaf,
            (Message::ValueInfo, 2) => Message::Type,
            (Message::Type, 1) => Message::TensorType,
            (Message::TensorType, 2) => Message::Shape,
            (Message::Shape, 1) => Message::Leaf,
            _ => return None,
        })
    }
}

/// Refuses bytes that are not protobuf, or that hold too many messages.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::Limit {
            what: "the model's size in bytes".into(),
            got: bytes.len() as u64,
            limit: FILE_MAX,
        });
    }
    let mut items = 0;
    walk(bytes, Message::Model, &mut items)
}

/// The recursion is as deep as the table above: no message in it contains itself.
fn walk(mut rest: &[u8], message: Message, items: &mut u64) -> Result<()> {
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let (number, wire) = (key >> 3, key & 7);
        match wire {
            0 => {
                varint(&mut rest)?;
            }
            1 => drop(take(&mut rest, 8)?),
            2 => {
                let length = varint(&mut rest)?;
                let body = take(&mut rest, length)?;
                if let Some(inner) = message.field(number) {
                    *items += 1;
                    if *items > ITEMS_MAX {
                        let what = "the number of messages and strings in the model".into();
                        return Err(Error::Limit { what, got: *items, limit: ITEMS_MAX });
                    }
                    if inner != Message::Leaf {
                        walk(body, inner, items)?;
                    }
                }
            }
            5 => drop(take(&mut rest, 4)?),
            other => return Err(Error::NotOnnx { why: format!("field {number} has the wire type {other}") }),
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, tail)) = rest.split_first() else {
            return Err(Error::NotOnnx { why: "it ends inside a number".into() });
        };
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::NotOnnx { why: "a number takes more than ten bytes".into() })
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let have = rest.len();
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((body, tail)) = split else {
        return Err(Error::NotOnnx {
            why: format!("a field of {length} bytes has only {have} left in the file"),
        });
    };
    *rest = tail;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_is_named_with_both_numbers() {
        let refused = check(&[0x3a, 5, 0, 0]).unwrap_err().to_string();
        assert!(refused.contains("a field of 5 bytes has only 2 left"), "{refused}");
        assert!(check(&[0x80]).is_err());
        assert!(check(&[0x0b]).unwrap_err().to_string().contains("wire type 3"));
        assert!(check(&[0xff; 16]).is_err());
    }

    #[test]
    fn a_flood_of_empty_nodes_is_refused() {
        let nodes = 2 * (ITEMS_MAX as usize + 1);
        let mut bytes = vec![0x3a];
        let mut length = nodes;
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend([0x0a, 0].repeat(ITEMS_MAX as usize + 1));
        assert!(matches!(check(&bytes), Err(Error::Limit { limit: ITEMS_MAX, .. })));
    }
}
