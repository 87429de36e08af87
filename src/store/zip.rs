//! Writes files of a store into one zip archive, uncompressed: weights do not compress.

use super::{Store, join};
use crate::{Error, Result};

/// Bytes copied at a time.
const CHUNK: u64 = 4 << 20;
/// 2026-01-01 in the format's own reckoning: an archive depends on its files only.
const DATE: u16 = (46 << 9) | (1 << 5) | 1;
const VERSION: u16 = 20;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;

struct Member<'n> {
    name: &'n str,
    crc: u32,
    size: u32,
    offset: u32,
}

/// Writes the files `names` of `folder` into the archive `key`, replacing it.
///
/// # Errors
/// A file that is not there; 4 GiB or more, which this form of the format cannot tell.
pub async fn write<S: Store>(store: &S, folder: &str, names: &[&str], key: &str) -> Result<()> {
    let partial = format!("{key}.partial");
    store.write(&partial, &[]).await?;
    let mut members = Vec::new();
    let mut offset = 0;
    for &name in names {
        let from = join(folder, name);
        let size = store.size(&from).await?;
        let size = size.ok_or_else(|| Error::input(&from, "no such file", "an existing file"))?;
        // The checksum stands before the bytes, so the file is read twice.
        let mut crc = flate2::Crc::new();
        let mut at = 0;
        while at < size {
            let end = (at + CHUNK).min(size);
            crc.update(&store.read(&from, at..end).await?);
            at = end;
        }
        let member = Member { name, crc: crc.sum(), size: narrow(key, size)?, offset: narrow(key, offset)? };
        let header = local_header(&member);
        store.append(&partial, &header).await?;
        let mut at = 0;
        while at < size {
            let end = (at + CHUNK).min(size);
            store.append(&partial, &store.read(&from, at..end).await?).await?;
            at = end;
        }
        offset += header.len() as u64 + size;
        members.push(member);
    }
    store.append(&partial, &directory(&members, narrow(key, offset)?)).await?;
    store.rename(&partial, key).await
}

fn narrow(key: &str, n_bytes: u64) -> Result<u32> {
    u32::try_from(n_bytes).map_err(|_| Error::input(key, format!("{n_bytes} bytes"), "less than 4 GiB"))
}

fn local_header(member: &Member<'_>) -> Vec<u8> {
    let mut out = b"PK\x03\x04".to_vec();
    out.extend(VERSION.to_le_bytes());
    common(&mut out, member);
    out.extend(member.name.as_bytes());
    out
}

/// From the flags to the length of the extra field: the same in both kinds of header.
fn common(out: &mut Vec<u8>, member: &Member<'_>) {
    for field in [FLAGS, 0, 0, DATE] {
        out.extend(field.to_le_bytes());
    }
    for field in [member.crc, member.size, member.size] {
        out.extend(field.to_le_bytes());
    }
    out.extend((member.name.len() as u16).to_le_bytes());
    out.extend(0_u16.to_le_bytes());
}

fn directory(members: &[Member<'_>], offset: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        out.extend(b"PK\x01\x02");
        out.extend(VERSION.to_le_bytes());
        out.extend(VERSION.to_le_bytes());
        common(&mut out, member);
        // No comment, first disk, no attributes.
        out.extend([0; 10]);
        out.extend(member.offset.to_le_bytes());
        out.extend(member.name.as_bytes());
    }
    let (size, count) = (out.len() as u32, members.len() as u16);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(0_u16.to_le_bytes());
    out
}
