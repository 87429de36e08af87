//! Writes files of a store into one archive, uncompressed: weights do not compress.

use super::{CENTRAL, CHUNK, END, END_ZIP64, IN_ZIP64, LOCAL, LOCATOR_ZIP64, ZIP64_FIELD};
use crate::store::{Store, join};
use crate::{Error, Result};

/// 2026-01-01 in the format's own reckoning: an archive depends on its files only.
const DATE: u16 = (46 << 9) | (1 << 5) | 1;
/// What a reader has to know: stored files, and files with zip64 fields.
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;

/// A file as the directory tells it.
pub(super) struct Written {
    pub name: String,
    pub crc: u32,
    pub size: u64,
    pub offset: u64,
}

/// Writes the files `names` of `folder` into the archive `key`, replacing it. `progress` is told the bytes done
/// and the bytes in all.
///
/// # Errors
/// A file that is not there; a full store.
pub async fn write<S: Store>(
    store: &S,
    folder: &str,
    names: &[&str],
    key: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let mut sizes = Vec::new();
    for &name in names {
        let from = join(folder, name);
        let size = store.size(&from).await?;
        sizes.push(size.ok_or_else(|| Error::input(&from, "no such file", "an existing file"))?);
    }
    let partial = format!("{key}.partial");
    let written = write_to(store, folder, names, &sizes, &partial, progress).await;
    if written.is_err() {
        // The first failure is the one to tell.
        _ = store.remove(&partial).await;
    }
    written?;
    store.rename(&partial, key).await
}

async fn write_to<S: Store>(
    store: &S,
    folder: &str,
    names: &[&str],
    sizes: &[u64],
    partial: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    store.write(partial, &[]).await?;
    let mut files = Vec::new();
    let mut offset = 0;
    // The checksum stands before the bytes, so each file is read twice.
    let (mut done, total) = (0, 2 * sizes.iter().sum::<u64>());
    for (&name, &size) in names.iter().zip(sizes) {
        let from = join(folder, name);
        let mut crc = flate2::Crc::new();
        for chunk in chunks(size) {
            done += chunk.end - chunk.start;
            crc.update(&store.read(&from, chunk).await?);
            progress(done, total);
        }
        let file = Written { name: name.into(), crc: crc.sum(), size, offset };
        let header = local_header(&file);
        store.append(partial, &header).await?;
        for chunk in chunks(size) {
            done += chunk.end - chunk.start;
            store.append(partial, &store.read(&from, chunk).await?).await?;
            progress(done, total);
        }
        offset += header.len() as u64 + size;
        files.push(file);
    }
    store.append(partial, &directory(&files, offset)).await
}

fn chunks(size: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..size.div_ceil(CHUNK)).map(move |index| index * CHUNK..size.min((index + 1) * CHUNK))
}

/// The number where 32 bits can tell it.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(IN_ZIP64)
}

fn is_wide(number: u64) -> bool {
    narrow(number) == IN_ZIP64
}

/// The extra field with the numbers that 32 bits cannot tell; empty where there are none.
fn zip64_field(numbers: &[u64]) -> Vec<u8> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let mut out = ZIP64_FIELD.to_le_bytes().to_vec();
    out.extend((8 * numbers.len() as u16).to_le_bytes());
    numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
    out
}

pub(super) fn local_header(file: &Written) -> Vec<u8> {
    let numbers: &[u64] = if is_wide(file.size) { &[file.size, file.size] } else { &[] };
    let extra = zip64_field(numbers);
    let mut out = LOCAL.to_vec();
    common(&mut out, file, &extra);
    out.extend(file.name.as_bytes());
    out.extend(extra);
    out
}

/// From the version needed to the length of the extra field: the same in both kinds of header.
fn common(out: &mut Vec<u8>, file: &Written, extra: &[u8]) {
    let version = if extra.is_empty() { VERSION } else { VERSION_ZIP64 };
    // Neither compressed nor with a time of day.
    for field in [version, FLAGS, 0, 0, DATE] {
        out.extend(field.to_le_bytes());
    }
    for field in [file.crc, narrow(file.size), narrow(file.size)] {
        out.extend(field.to_le_bytes());
    }
    out.extend((file.name.len() as u16).to_le_bytes());
    out.extend((extra.len() as u16).to_le_bytes());
}

/// What ends an archive whose files end at `offset`.
pub(super) fn directory(files: &[Written], offset: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for file in files {
        let mut numbers = Vec::new();
        if is_wide(file.size) {
            numbers.extend([file.size, file.size]);
        }
        if is_wide(file.offset) {
            numbers.push(file.offset);
        }
        let extra = zip64_field(&numbers);
        out.extend(CENTRAL);
        out.extend(VERSION_ZIP64.to_le_bytes());
        common(&mut out, file, &extra);
        // No comment, first disk, no attributes.
        out.extend([0; 10]);
        out.extend(narrow(file.offset).to_le_bytes());
        out.extend(file.name.as_bytes());
        out.extend(extra);
    }
    let (size, count) = (out.len() as u64, files.len() as u64);
    if is_wide(offset) {
        out.extend(END_ZIP64);
        // Bytes that follow of this record.
        out.extend(44_u64.to_le_bytes());
        out.extend(VERSION_ZIP64.to_le_bytes());
        out.extend(VERSION_ZIP64.to_le_bytes());
        out.extend([0; 8]);
        [count, count, size, offset].iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend(LOCATOR_ZIP64);
        out.extend([0; 4]);
        out.extend((offset + size).to_le_bytes());
        out.extend(1_u32.to_le_bytes());
    }
    out.extend(END);
    out.extend([0; 4]);
    out.extend((count as u16).to_le_bytes());
    out.extend((count as u16).to_le_bytes());
    out.extend((size as u32).to_le_bytes());
    out.extend(narrow(offset).to_le_bytes());
    out.extend(0_u16.to_le_bytes());
    out
}
