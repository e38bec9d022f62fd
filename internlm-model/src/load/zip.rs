//! The directory of a zip file whose members are stored as they are, which is what `torch.save`
//! writes. Members that are compressed or encrypted are refused, so nothing is ever inflated.
//!
//! Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (zip64).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::file::SourceFile;
use crate::error::Result;

/// Longest directory: a million members of torch.
const MAX_DIRECTORY: u64 = 128 << 20;
/// The end record and the longest comment behind it.
const MAX_TAIL: u64 = 22 + u16::MAX as u64;

/// A member's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Members by name. Offsets are those of the local headers until [`Directory::data`] looks.
pub(super) struct Directory {
    file: Arc<SourceFile>,
    members: BTreeMap<String, Member>,
}

impl Directory {
    /// Reads the directory at the end of a file.
    pub(super) fn read(file: &Arc<SourceFile>) -> Result<Self> {
        let (offset, len, count) = locate(file)?;
        if len > MAX_DIRECTORY {
            return Err(file.corrupt(format!("the zip directory has {len} bytes")));
        }
        let bytes = file.read(offset, len)?;
        let mut rest = bytes.as_slice();
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let Some((name, member, tail)) = entry(rest) else {
                return Err(
                    file.corrupt("the zip directory is cut, or a member is not stored as it is")
                );
            };
            rest = tail;
            members.insert(name, member);
        }
        Ok(Self {
            file: file.clone(),
            members,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Where a member's bytes are; its range was checked.
    pub(super) fn data(&self, name: &str) -> Result<Member> {
        let Some(member) = self.members.get(name) else {
            return Err(self.file.corrupt(format!("has no member `{name}`")));
        };
        let header = self.file.read(member.offset, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(self
                .file
                .corrupt(format!("member `{name}` has no local header")));
        }
        let skip = 30 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let end = member
            .offset
            .checked_add(skip)
            .and_then(|o| o.checked_add(member.len));
        match end {
            Some(end) if end <= self.file.len() => Ok(Member {
                offset: end - member.len,
                len: member.len,
            }),
            _ => Err(self
                .file
                .corrupt(format!("member `{name}` reaches behind the end"))),
        }
    }
}

/// Offset, length and entries of the directory.
fn locate(file: &SourceFile) -> Result<(u64, u64, u64)> {
    let no_end = || file.corrupt("has no zip directory; expected a file of torch.save since 1.6");
    let tail_len = file.len().min(MAX_TAIL);
    let tail_start = file.len() - tail_len;
    let tail = file.read(tail_start, tail_len)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|&at| tail[at..].starts_with(b"PK\x05\x06"))
        .ok_or_else(no_end)?;
    let record = &tail[end..];
    let (count, len, offset) = (u16_at(record, 10), u32_at(record, 12), u32_at(record, 16));
    if count != u16::MAX && len != u32::MAX && offset != u32::MAX {
        return Ok((offset.into(), len.into(), count.into()));
    }
    // zip64: a locator of 20 bytes precedes the end record.
    let locator = end
        .checked_sub(20)
        .map(|at| &tail[at..end])
        .ok_or_else(no_end)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Err(no_end());
    }
    let record = file.read(u64_at(locator, 8), 56)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(no_end());
    }
    Ok((
        u64_at(&record, 48),
        u64_at(&record, 40),
        u64_at(&record, 32),
    ))
}

/// The first entry of a directory, and what follows it; `None` for one that is cut, compressed or
/// encrypted.
fn entry(bytes: &[u8]) -> Option<(String, Member, &[u8])> {
    let (head, rest) = bytes.split_at_checked(46)?;
    if !head.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (flags, method) = (u16_at(head, 8), u16_at(head, 10));
    let (packed, len, offset) = (u32_at(head, 20), u32_at(head, 24), u32_at(head, 42));
    let (name, rest) = rest.split_at_checked(u16_at(head, 28).into())?;
    let (extra, rest) = rest.split_at_checked(u16_at(head, 30).into())?;
    let (_comment, rest) = rest.split_at_checked(u16_at(head, 32).into())?;
    // Values that do not fit stand in the zip64 extra field, in this order.
    let mut wide = zip64(extra).unwrap_or_default();
    let mut widen = |value: u32| match value {
        u32::MAX => {
            let (value, rest) = wide.split_at_checked(8)?;
            wide = rest;
            Some(u64_at(value, 0))
        }
        value => Some(value.into()),
    };
    let (len, packed, offset) = (widen(len)?, widen(packed)?, widen(offset)?);
    if method != 0 || flags & 1 != 0 || packed != len {
        return None;
    }
    let name = String::from_utf8_lossy(name).into_owned();
    Some((name, Member { offset, len }, rest))
}

/// The data of the zip64 extra field.
fn zip64(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (head, rest) = extra.split_at_checked(4)?;
        let (data, rest) = rest.split_at_checked(u16_at(head, 2).into())?;
        if u16_at(head, 0) == 1 {
            return Some(data);
        }
        extra = rest;
    }
}

/// Little-endian numbers at places that the callers' slices have.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
