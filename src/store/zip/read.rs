//! Reads archives from anywhere: what an archive claims is compared with what is there before memory is taken.

use super::{CENTRAL, CHUNK, END, END_ZIP64, IN_ZIP64, LOCAL, LOCATOR_ZIP64, ZIP64_FIELD};
use crate::store::{Store, shortened};
use crate::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};

/// Folders of models, adapters and runs have a handful.
const MOST_MEMBERS: u64 = 1000;
/// The directory is read whole.
const LARGEST_DIRECTORY: u64 = 1 << 20;
/// Bytes of the record that ends an archive, of its zip64 form, and of what points to that.
const END_BYTES: u64 = 22;
const END_ZIP64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
const LONGEST_COMMENT: u64 = u16::MAX as u64;
const LOCAL_BYTES: u64 = 30;
/// Deflate makes at most 1032 bytes of one (zlib's technical notes).
const MOST_FOLD: u64 = 1032;
const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path, with forward slashes; never one that leads out of the folder it is unpacked into.
    pub name: String,
    /// Its size, unpacked.
    pub size: u64,
    packed: u64,
    crc: u32,
    is_deflated: bool,
    offset: u64,
}

/// The files that the archive `key` lists, folders left out.
///
/// # Errors
/// No zip archive, a damaged one, or one whose claims cannot be true; encrypted files; other compression than
/// deflate; files of more than `limit` bytes in all, unpacked.
pub async fn members(store: &impl Store, key: &str, limit: u64) -> Result<Vec<Member>> {
    let size = store.size(key).await?.ok_or_else(|| Error::input(key, "no such file", "an existing file"))?;
    let broken = |problem: &str| Error::input(key, problem, "a whole zip archive");
    let tail = size.saturating_sub(END_BYTES + LONGEST_COMMENT + LOCATOR_BYTES)..size;
    let tail_start = tail.start;
    let tail = store.read(key, tail).await?;
    let end = find_end(&tail).ok_or_else(|| broken("is no zip archive, or its end is missing"))?;
    let record = Fields(&tail[end..]);
    let (mut n_members, mut n_bytes, mut start) = (
        u64::from(record.u16(10).unwrap_or(0)),
        u64::from(record.u32(12).unwrap_or(0)),
        u64::from(record.u32(16).unwrap_or(0)),
    );
    let locator = end.checked_sub(LOCATOR_BYTES as usize).map(|at| Fields(&tail[at..end]));
    if let Some(locator) = locator.filter(|locator| locator.0.starts_with(LOCATOR_ZIP64)) {
        let at = locator.u64(8).filter(|at| at.checked_add(END_ZIP64_BYTES).is_some_and(|end| end <= size));
        let at = at.ok_or_else(|| broken("points past its end"))?;
        let record = store.read(key, at..at + END_ZIP64_BYTES).await?;
        let record = Fields(&record);
        let numbers = [record.u64(32), record.u64(40), record.u64(48)];
        let ([Some(members), Some(bytes), Some(offset)], true) = (numbers, record.0.starts_with(END_ZIP64))
        else {
            return Err(broken("has a broken zip64 record"));
        };
        (n_members, n_bytes, start) = (members, bytes, offset);
    }
    if n_members > MOST_MEMBERS || n_bytes > LARGEST_DIRECTORY {
        let problem = format!("lists {n_members} files in {n_bytes} bytes");
        return Err(Error::input(key, problem, format!("at most {MOST_MEMBERS} files")));
    }
    let directory_end = start.checked_add(n_bytes).filter(|&last| last <= tail_start + end as u64);
    let directory_end = directory_end.ok_or_else(|| broken("has a directory past its end"))?;
    let directory = store.read(key, start..directory_end).await?;
    let mut found = Vec::new();
    let mut rest = &directory[..];
    for _ in 0..n_members {
        let (member, after) = member(key, rest)?;
        rest = after;
        if !member.name.ends_with('/') {
            found.push(member);
        }
    }
    check(key, &found, start, limit)?;
    Ok(found)
}

/// Where the end record begins: the last whose comment reaches to the archive's end.
fn find_end(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(END_BYTES as usize)?;
    (0..=last).rev().find(|&at| {
        let comment = Fields(&tail[at..]).u16(20).map_or(0, usize::from);
        tail[at..].starts_with(END) && at + END_BYTES as usize + comment == tail.len()
    })
}

/// The first entry of a directory, and the rest of it.
fn member<'d>(key: &str, directory: &'d [u8]) -> Result<(Member, &'d [u8])> {
    const FIXED: usize = 46;
    let broken = || Error::input(key, "has a broken directory", "a whole zip archive");
    let fields =
        Fields(directory.get(..FIXED).filter(|entry| entry.starts_with(CENTRAL)).ok_or_else(broken)?);
    let length = |at: usize| usize::from(fields.u16(at).unwrap_or(0));
    let (name_end, extra_end) = (FIXED + length(28), FIXED + length(28) + length(30));
    let end = extra_end + length(32);
    let (Some(name), Some(extra), Some(rest)) =
        (directory.get(FIXED..name_end), directory.get(name_end..extra_end), directory.get(end..))
    else {
        return Err(broken());
    };
    let name = String::from_utf8_lossy(name).replace('\\', "/");
    let shown = shortened(&name);
    let is_inside = !name.is_empty()
        && !name.starts_with('/')
        && !name.contains([':', '\0'])
        && !name.split('/').any(|part| part == ".." || part == ".");
    if !is_inside {
        return Err(Error::input(key, format!("holds a file called {shown}"), "names within one folder"));
    }
    let method = fields.u16(10).unwrap_or(u16::MAX);
    if fields.u16(8).is_none_or(|flags| flags & ENCRYPTED != 0) || ![STORED, DEFLATED].contains(&method) {
        let what = format!("{key}: {shown}, which is encrypted or packed by method {method}");
        return Err(Error::Unsupported {
            what,
            supported: "stored and deflated files, not encrypted".into(),
        });
    }
    // Numbers of 64 bits come in this order, each only where 32 bits could not tell it.
    let mut wide = zip64_numbers(extra);
    let mut number = |at: usize| -> Result<u64> {
        match fields.u32(at).unwrap_or(IN_ZIP64) {
            IN_ZIP64 => wide.next().ok_or_else(broken),
            number => Ok(u64::from(number)),
        }
    };
    let (size, packed, offset) = (number(24)?, number(20)?, number(42)?);
    let crc = fields.u32(16).unwrap_or(0);
    Ok((Member { name, size, packed, crc, is_deflated: method == DEFLATED, offset }, rest))
}

fn zip64_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut field: &[u8] = &[];
    while let (Some(kind), Some(length)) = (Fields(extra).u16(0), Fields(extra).u16(2)) {
        let Some(body) = extra.get(4..4 + usize::from(length)) else { break };
        if kind == ZIP64_FIELD {
            field = body;
        }
        extra = &extra[4 + usize::from(length)..];
    }
    field.chunks_exact(8).filter_map(|bytes| Fields(bytes).u64(0))
}

/// Refuses claims that contradict each other, or ask for more than `limit` bytes.
fn check(key: &str, members: &[Member], files_end: u64, limit: u64) -> Result<()> {
    let sum =
        |of: fn(&Member) -> u64| members.iter().try_fold(0_u64, |sum, member| sum.checked_add(of(member)));
    let fits = |member: &Member| {
        let most = if member.is_deflated { member.packed.saturating_mul(MOST_FOLD) } else { member.packed };
        let is_sized = member.size <= most && (member.is_deflated || member.size == member.packed);
        let end = member.offset.checked_add(LOCAL_BYTES).and_then(|at| at.checked_add(member.packed));
        is_sized && end.is_some_and(|end| end <= files_end)
    };
    if let Some(member) = members.iter().find(|member| !fits(member)) {
        let problem = format!("claims {} bytes for {}", member.size, shortened(&member.name));
        return Err(Error::input(key, problem, "sizes that the archive's own size allows"));
    }
    // Files that share bytes would unpack to more than the archive can hold.
    if sum(|member| member.packed).is_none_or(|packed| packed > files_end) {
        return Err(Error::input(key, "has files that overlap", "files one after the other"));
    }
    match sum(|member| member.size) {
        Some(size) if size <= limit => Ok(()),
        size => {
            let problem = format!("unpacks to {} bytes", size.unwrap_or(u64::MAX));
            Err(Error::input(key, problem, format!("at most {limit} bytes")))
        }
    }
}

/// Unpacks a member of the archive `key` to `to`, which gets its name once the checksum is right.
///
/// # Errors
/// Content that is not what the directory says; a full store.
pub async fn extract(store: &impl Store, key: &str, member: &Member, to: &str) -> Result<()> {
    let partial = format!("{to}.partial");
    let unpacked = unpack(store, key, member, &partial).await;
    if unpacked.is_err() {
        // The first failure is the one to tell.
        _ = store.remove(&partial).await;
    }
    unpacked?;
    store.rename(&partial, to).await
}

async fn unpack(store: &impl Store, key: &str, member: &Member, partial: &str) -> Result<()> {
    let name = shortened(&member.name);
    let damaged = |problem: &str| Error::input(key, format!("{name} {problem}"), "a whole zip archive");
    let size = store.size(key).await?.unwrap_or(0);
    if member.offset.checked_add(LOCAL_BYTES).is_none_or(|end| end > size) {
        return Err(damaged("lies past its end"));
    }
    let header = store.read(key, member.offset..member.offset + LOCAL_BYTES).await?;
    let header = Fields(&header);
    let (Some(name_length), Some(extra_length), true) =
        (header.u16(26), header.u16(28), header.0.starts_with(LOCAL))
    else {
        return Err(damaged("has no header"));
    };
    let start = member.offset + LOCAL_BYTES + u64::from(name_length) + u64::from(extra_length);
    let end = start.checked_add(member.packed).filter(|&end| end <= size);
    let end = end.ok_or_else(|| damaged("lies past its end"))?;
    store.write(partial, &[]).await?;
    let mut crc = flate2::Crc::new();
    let mut inflate = member.is_deflated.then(|| Decompress::new(false));
    let (mut at, mut n_out) = (start, 0_u64);
    let mut is_over = false;
    while at < end && !is_over {
        let next = end.min(at + CHUNK);
        let packed = store.read(key, at..next).await?;
        at = next;
        let Some(inflate) = &mut inflate else {
            crc.update(&packed);
            n_out += packed.len() as u64;
            store.append(partial, &packed).await?;
            continue;
        };
        let mut rest = &packed[..];
        loop {
            let mut out = Vec::with_capacity(CHUNK as usize);
            let before = inflate.total_in();
            let status = inflate.decompress_vec(rest, &mut out, FlushDecompress::None);
            rest = &rest[(inflate.total_in() - before) as usize..];
            n_out += out.len() as u64;
            is_over = matches!(status, Ok(Status::StreamEnd));
            if status.is_err() || n_out > member.size {
                return Err(damaged("is damaged"));
            }
            crc.update(&out);
            store.append(partial, &out).await?;
            // A full buffer may mean that more is to come of the same bytes.
            if is_over || (rest.is_empty() && out.len() < out.capacity()) {
                break;
            }
            if out.is_empty() {
                return Err(damaged("is damaged"));
            }
        }
    }
    if n_out != member.size || crc.sum() != member.crc {
        return Err(damaged("is damaged"));
    }
    Ok(())
}

/// Little-endian numbers at places of a record; none past its end.
#[derive(Clone, Copy)]
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}
