//! ZIP archives (PKWARE's APPNOTE), as far as office documents need them: stored and deflated files, whose unpacked
//! size is limited whatever the archive says about it.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::tool::ToolError;

const END: u32 = 0x0605_4b50;
const ENTRY: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Most files of an archive.
const MAX_ENTRIES: usize = 10_000;

/// Length of the end record, and the longest comment behind it.
const END_LENGTH: usize = 22;
const COMMENT: usize = 65_535;

struct Entry {
    method: u16,
    crc: u32,
    packed: usize,
    at: usize,
}

/// An archive that is read.
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<String, Entry>,
}

fn broken(what: &str) -> ToolError {
    ToolError::failed(format!("the file is a broken archive: {what}"))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

impl<'a> Archive<'a> {
    /// Reads the list of files.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ToolError> {
        let start = bytes.len().saturating_sub(END_LENGTH + COMMENT);
        let last = bytes.len().saturating_sub(END_LENGTH);
        let end = (start..=last)
            .rev()
            .find(|&at| long(bytes, at) == Some(END));
        let end = end.ok_or_else(|| broken("it has no end"))?;
        Self::listed(bytes, end).ok_or_else(|| broken("its list of files is damaged"))
    }

    fn listed(bytes: &'a [u8], end: usize) -> Option<Self> {
        let count = usize::from(short(bytes, end + 10)?).min(MAX_ENTRIES);
        let mut at = long(bytes, end + 16)? as usize;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            if long(bytes, at)? != ENTRY {
                return None;
            }
            let length = |offset| short(bytes, at + offset).map(usize::from);
            let (name_length, extra, comment) = (length(28)?, length(30)?, length(32)?);
            let name = bytes.get(at + 46..at + 46 + name_length)?;
            let entry = Entry {
                method: short(bytes, at + 10)?,
                crc: long(bytes, at + 16)?,
                packed: long(bytes, at + 20)? as usize,
                at: long(bytes, at + 42)? as usize,
            };
            // A name that comes twice is the first one's, for every reader of it here.
            let name = String::from_utf8_lossy(name).into_owned();
            entries.entry(name).or_insert(entry);
            at += 46 + name_length + extra + comment;
        }
        Some(Self { bytes, entries })
    }

    /// The names of its files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// A file of it, if it is there.
    pub(crate) fn read(&self, name: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, ToolError> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let packed = self
            .packed(entry)
            .ok_or_else(|| broken(&format!("`{name}` is not where it should be")))?;
        let mut bytes = Vec::new();
        let limit = (max_bytes as u64).saturating_add(1);
        let read = match entry.method {
            STORED => packed.take(limit).read_to_end(&mut bytes),
            DEFLATED => DeflateDecoder::new(packed)
                .take(limit)
                .read_to_end(&mut bytes),
            other => return Err(broken(&format!("`{name}` is packed by the method {other}"))),
        };
        read.map_err(|error| broken(&format!("`{name}`: {error}")))?;
        if bytes.len() > max_bytes {
            return Err(ToolError::Limit {
                what: format!("`{name}` in the archive has more than {max_bytes} bytes"),
            });
        }
        let mut crc = Crc::new();
        crc.update(&bytes);
        match crc.sum() == entry.crc {
            true => Ok(Some(bytes)),
            false => Err(broken(&format!("the checksum of `{name}` does not fit"))),
        }
    }

    fn packed(&self, entry: &Entry) -> Option<&'a [u8]> {
        if long(self.bytes, entry.at)? != LOCAL {
            return None;
        }
        let name = usize::from(short(self.bytes, entry.at + 26)?);
        let extra = usize::from(short(self.bytes, entry.at + 28)?);
        let start = entry.at + 30 + name + extra;
        self.bytes.get(start..start.checked_add(entry.packed)?)
    }
}

/// An archive that is written.
#[derive(Default)]
pub(crate) struct ArchiveWriter {
    bytes: Vec<u8>,
    list: Vec<u8>,
    count: u16,
}

/// The first of January 1980, midnight: archives of the same files are the same.
const DATE: u16 = 0x0021;

impl ArchiveWriter {
    /// Adds a file.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> Result<(), ToolError> {
        let too_large = || ToolError::Limit {
            what: "the file would be too large".to_owned(),
        };
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content)?;
        let deflated = encoder.finish()?;
        let (method, packed) = match deflated.len() < content.len() {
            true => (DEFLATED, deflated.as_slice()),
            false => (STORED, content),
        };
        let mut crc = Crc::new();
        crc.update(content);
        let at = u32::try_from(self.bytes.len()).map_err(|_| too_large())?;
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let packed_size = u32::try_from(packed.len()).map_err(|_| too_large())?;
        let name_length = u16::try_from(name.len()).map_err(|_| too_large())?;
        self.count = self.count.checked_add(1).ok_or_else(too_large)?;
        // Both headers share these: version 2.0, names in UTF-8, method, time, date, checksum, sizes, lengths.
        let mut shared = Vec::new();
        for value in [20, 0x0800, method, 0, DATE] {
            shared.extend(u16::to_le_bytes(value));
        }
        for value in [crc.sum(), packed_size, size] {
            shared.extend(u32::to_le_bytes(value));
        }
        shared.extend(name_length.to_le_bytes());
        shared.extend(0_u16.to_le_bytes());
        self.bytes.extend(LOCAL.to_le_bytes());
        self.bytes.extend(&shared);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(packed);
        self.list.extend(ENTRY.to_le_bytes());
        self.list.extend(20_u16.to_le_bytes());
        self.list.extend(&shared);
        // No comment, first disk, attributes.
        self.list.extend([0; 10]);
        self.list.extend(at.to_le_bytes());
        self.list.extend(name.as_bytes());
        Ok(())
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let at = self.bytes.len() as u32;
        let length = self.list.len() as u32;
        self.bytes.extend(&self.list);
        self.bytes.extend(END.to_le_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend([0; 2]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = ArchiveWriter::default();
        writer.add("a.txt", b"short").unwrap();
        writer.add("数.txt", &[b'x'; 100_000]).unwrap();
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = archive();
        assert!(bytes.len() < 1_000);
        let read = Archive::open(&bytes).unwrap();
        assert_eq!(read.names().collect::<Vec<_>>(), ["a.txt", "数.txt"]);
        assert_eq!(
            read.read("a.txt", 5).unwrap().as_deref(),
            Some(b"short".as_slice())
        );
        assert_eq!(
            read.read("数.txt", 100_000).unwrap(),
            Some(vec![b'x'; 100_000])
        );
        assert_eq!(read.read("none", 5).unwrap(), None);
        for name in ["a.txt", "数.txt"] {
            assert!(matches!(read.read(name, 4), Err(ToolError::Limit { .. })));
        }
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let bytes = archive();
        assert!(Archive::open(b"").is_err());
        for cut in 0..bytes.len() {
            assert!(Archive::open(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            // Whatever is said, nothing panics and nothing wrong is given.
            if let Ok(read) = Archive::open(&damaged)
                && let Ok(Some(text)) = read.read("a.txt", 100)
            {
                assert_eq!(text, b"short", "{at}");
            }
        }
    }
}
