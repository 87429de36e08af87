//! `docs/performance.md`: its tables are written anew, the words around them are not touched.

use anyhow::{Context, Result};

const PAGE: &str = "docs/performance.md";

/// Puts the table of that name in the place of the one before.
///
/// # Errors
/// A page that lacks the marks of its place.
pub fn write(name: &str, table: &str) -> Result<()> {
    let path = crate::root().join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("could not read {PAGE}"))?;
    let page = with_table(&page, name, table)
        .with_context(|| format!("{PAGE}: no lines `{}` and `{}`", mark(name), END))?;
    std::fs::write(&path, page).with_context(|| format!("could not write {PAGE}"))?;
    println!("table in {PAGE}");
    Ok(())
}

const END: &str = "<!-- end -->";

fn mark(name: &str) -> String {
    format!("<!-- cargo xtask bench: {name} -->")
}

fn with_table(page: &str, name: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(&mark(name))?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{}\n\n{}\n\n{END}{after}", mark(name), table.trim()))
}

#[cfg(test)]
mod tests {
    use super::{END, PAGE, mark, with_table};

    #[test]
    fn only_the_table_of_that_name_is_replaced() {
        let page = format!("words\n{}\nold\n{END}\n{}\nkept\n{END}\nend\n", mark("a"), mark("b"));
        let page = with_table(&page, "a", "| new |\n").expect("its marks are there");
        assert_eq!(
            page,
            format!("words\n{}\n\n| new |\n\n{END}\n{}\nkept\n{END}\nend\n", mark("a"), mark("b"))
        );
        assert_eq!(with_table(&page, "c", ""), None);
    }

    #[test]
    fn the_page_has_a_place_for_each_table() {
        let page = std::fs::read_to_string(crate::root().join(PAGE)).expect("the page");
        assert!(["bench", "growth"].iter().all(|name| with_table(&page, name, "").is_some()));
    }
}
