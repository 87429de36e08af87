//! A guard around the `parquet` crate's decoders, which assert and index where a damaged file should only be an
//! error: what is cheap to check is checked before, and a panic that comes all the same is caught and made an error.
//! (In a browser panics cannot be caught; there the checks must do.)
//!
//! Pages say little about what they unpack to: one entry of a dictionary, repeated, makes gigabytes of a few bytes.
//! So cells are counted before a page is decoded, and their bytes as they are made.

use ::parquet::basic::{Encoding, PageType};
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::column::reader::{ColumnReader, get_column_reader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::RowGroupReader;
use std::cell::Cell;
use std::panic;
use std::sync::Once;

/// How many bytes the columns may still unpack to.
pub(super) struct Budget {
    n_bytes_left: u64,
}

impl Budget {
    /// A budget of `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self { n_bytes_left: max_bytes }
    }

    /// Takes `n_bytes` off it.
    pub fn spend(&mut self, n_bytes: usize) -> Result<()> {
        self.n_bytes_left = self.n_bytes_left.checked_sub(n_bytes as u64).ok_or_else(too_much)?;
        Ok(())
    }
}

/// More than the budget allows.
#[derive(Debug, thiserror::Error)]
#[error("more than may be unpacked")]
struct TooMuch;

fn too_much() -> ParquetError {
    ParquetError::External(Box::new(TooMuch))
}

/// Whether reading ended because the budget did, rather than because the file is broken.
pub(super) fn is_too_much(error: &ParquetError) -> bool {
    matches!(error, ParquetError::External(inner) if inner.is::<TooMuch>())
}

/// The reader of a column whose place in the file and whose pages are checked first. `file_len` in bytes;
/// `cell_size` is what the least cell takes of the budget.
pub(super) fn checked_column(
    group: &dyn RowGroupReader,
    column: usize,
    file_len: u64,
    budget: &Budget,
    cell_size: usize,
) -> Result<ColumnReader> {
    let meta = group.metadata().column(column);
    let start = meta.dictionary_page_offset().unwrap_or_else(|| meta.data_page_offset());
    let end = u64::try_from(start)
        .ok()
        .zip(u64::try_from(meta.compressed_size()).ok())
        .and_then(|(s, l)| s.checked_add(l));
    if end.is_none_or(|end| end > file_len) || meta.data_page_offset() < 0 || meta.num_values() < 0 {
        return Err(wrong("a column that does not lie in the file"));
    }
    let levels = [meta.column_descr().max_rep_level(), meta.column_descr().max_def_level()];
    let n_levels = levels.into_iter().filter(|&max| max > 0).count();
    let n_cells_left = budget.n_bytes_left / cell_size as u64;
    let pages = group.get_column_page_reader(column)?;
    let pages = CheckedPages { pages, has_dictionary: false, n_levels, n_cells_left };
    Ok(get_column_reader(meta.column_descr_ptr(), Box::new(pages)))
}

thread_local! {
    /// Whether this thread is inside [`caught`].
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode` and makes a panic in it an error. Nothing that it may leave half done is used afterwards.
pub(super) fn caught<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOKED: Once = Once::new();
    // The panic becomes an error with its place; the hook would print it a first time, as if the program had failed.
    HOOKED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                others(info);
            }
        }));
    });
    let was_guarded = IS_GUARDED.replace(true);
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(decode));
    IS_GUARDED.set(was_guarded);
    outcome.unwrap_or_else(|_| Err(wrong("damaged beyond reading")))
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}

/// Hands pages on if the decoder can take them.
struct CheckedPages {
    pages: Box<dyn PageReader>,
    has_dictionary: bool,
    /// How many kinds of levels, repetition and definition, stand before the values.
    n_levels: usize,
    /// Cells that the budget still has bytes for.
    n_cells_left: u64,
}

impl CheckedPages {
    fn check(&mut self, page: &Page) -> Result<()> {
        let n_cells = u64::from(page.num_values());
        self.n_cells_left = self.n_cells_left.checked_sub(n_cells).ok_or_else(too_much)?;
        if page.page_type() == PageType::DICTIONARY_PAGE {
            if std::mem::replace(&mut self.has_dictionary, true) {
                return Err(wrong("a second dictionary in a column"));
            }
            if !matches!(page.encoding(), Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
                return Err(wrong("a dictionary in an encoding that dictionaries do not have"));
            }
            return Ok(());
        }
        let needs_dictionary =
            matches!(page.encoding(), Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY);
        if needs_dictionary && !self.has_dictionary {
            return Err(wrong("a page of dictionary keys without a dictionary"));
        }
        if page.buffer().is_empty() && page.num_values() > 0 {
            return Err(wrong("an empty page that claims values"));
        }
        if let Page::DataPage { buf, def_level_encoding, rep_level_encoding, .. } = page {
            if self.n_levels > 0 && [def_level_encoding, rep_level_encoding] != [&Encoding::RLE; 2] {
                return Err(wrong("levels in an encoding that is no longer in use"));
            }
            // Each kind of levels is preceded by its length in bytes, 4 bytes, little-endian.
            let mut rest = &buf[..];
            for _ in 0..self.n_levels {
                let (length, behind) =
                    rest.split_first_chunk::<4>().ok_or_else(|| wrong("a page without its levels"))?;
                let length = u32::from_le_bytes(*length) as usize;
                rest = behind.get(length..).ok_or_else(|| wrong("levels longer than their page"))?;
            }
        }
        if let Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } = page {
            let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
            if levels > buf.len() as u64 {
                return Err(wrong("levels longer than their page"));
            }
        }
        Ok(())
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Runs itself again, since what a panic prints goes around the test's own capture.
    #[test]
    fn a_panic_that_is_caught_prints_nothing_and_others_still_do() {
        const CHILD: &str = "ATTUNE_TEST_PANIC";
        if std::env::var_os(CHILD).is_some() {
            let error = caught::<()>(|| panic!("the decoder's own word")).unwrap_err();
            assert!(error.to_string().contains("damaged beyond reading"));
            let _ = std::panic::catch_unwind(|| panic!("another fault"));
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_panic_that_is_caught_prints_nothing_and_others_still_do", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        assert!(!said.contains("the decoder's own word"), "{said}");
        assert!(said.contains("another fault"), "{said}");
    }
}
