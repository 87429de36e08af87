//! A guard around the `parquet` crate's decoders, which assert and index where a damaged file should only be an
//! error: what is cheap to check is checked before, and a panic that comes all the same is caught and made an error.
//! (In a browser panics cannot be caught; there the checks must do.)

use ::parquet::basic::{Encoding, PageType};
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::column::reader::{ColumnReader, get_column_reader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::RowGroupReader;

/// The reader of a column whose place in the file and whose pages are checked first. `file_len` in bytes.
pub(super) fn checked_column(
    group: &dyn RowGroupReader,
    column: usize,
    file_len: u64,
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
    let pages =
        CheckedPages { pages: group.get_column_page_reader(column)?, has_dictionary: false, n_levels };
    Ok(get_column_reader(meta.column_descr_ptr(), Box::new(pages)))
}

/// Runs `decode` and makes a panic in it an error. Nothing that it may leave half done is used afterwards.
pub(super) fn caught<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(wrong("damaged beyond reading")))
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
}

impl CheckedPages {
    fn check(&mut self, page: &Page) -> Result<()> {
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
