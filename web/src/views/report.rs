//! What a data file turned out to be: counts, columns, rows as read, problems, lengths, tokens.

use crate::state::Page;
use crate::units::count;
use crate::words::{counted, fill, t};
use attune::config::{Columns, Field};
use attune::protocol::{BadRow, Column, DataView, LengthBucket, Report, ShownRow, ShownToken};
use leptos::prelude::*;
use std::collections::BTreeSet;

/// Everything there is to say about the data before a run.
pub fn report(page: Page, data: DataView) -> AnyView {
    let DataView { name, report, rows, bad_rows, split } = data;
    let words = serde_json::to_value(report.shape).ok();
    let shape = words.as_ref().and_then(|word| word.as_str()).map_or_else(|| t("not told"), str::to_string);
    let mut facts = vec![(t("Rows"), count(report.n_rows)), (t("Shape"), shape)];
    facts.extend(split.map(|(train, held_out)| {
        (t("Trained on, held out"), format!("{}, {}", count(train), count(held_out)))
    }));
    facts.push((t("Repeated"), count(report.duplicates.len())));
    let lengths = report.tokens.as_ref().map(|tokens| {
        facts.extend([
            (t("Tokens"), count(tokens.n_tokens)),
            (t("Learned"), format!("{} %", tokens.n_target_tokens * 100 / tokens.n_tokens.max(1))),
            (t("Median, longest"), format!("{}, {}", tokens.median, tokens.longest)),
            (t("Cut"), count(tokens.truncated.len())),
        ]);
        lengths(&tokens.lengths)
    });
    // Whoever names columns goes on naming them.
    let is_open = report.shape.is_none() || page.run.with_untracked(|run| run.data.columns.is_some());
    let facts = facts.into_iter().map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> });
    let notes = report.notes.iter().cloned().map(|note| view! { <p class="note">{note}</p> });
    view! {
        <section class="card" id="data-card" aria-label=t("The data")>
            <h3>{name.clone()}</h3>
            <dl class="facts">{facts.collect_view()}</dl>
            {problems(&name, &report, &bad_rows)}
            {notes.collect_view()}
            {lengths}
        </section>
        {columns(page, report.columns, is_open)}
        {preview(&rows, bad_rows)}
        {tokens(rows)}
    }
    .into_any()
}

/// Each problem leads to its row, where that is shown.
fn problems(name: &str, report: &Report, bad_rows: &[BadRow]) -> Option<AnyView> {
    if report.n_bad_rows == 0 && report.problems.is_empty() {
        return None;
    }
    let heading = match report.n_bad_rows {
        0 => t("Problems"),
        n => counted(n, "{n} bad row", "{n} bad rows"),
    };
    let shown: BTreeSet<usize> = bad_rows.iter().map(|row| row.line).collect();
    let line = |problem: &String| {
        let digits = problem.strip_prefix(name)?.strip_prefix(':')?;
        let line = digits.split(|sign: char| !sign.is_ascii_digit()).next()?.parse().ok()?;
        shown.contains(&line).then_some(line)
    };
    let item = |problem: &String| match line(problem) {
        Some(line) => view! { <li><a href=format!("#row-{line}")>{problem.clone()}</a></li> }.into_any(),
        None => view! { <li>{problem.clone()}</li> }.into_any(),
    };
    let items: Vec<AnyView> = report.problems.iter().map(item).collect();
    Some(
        view! { <div class="failure"><strong>{heading}</strong><ul class="problems" tabindex="0" aria-label=t("Problems")>{items}</ul></div> }
            .into_any(),
    )
}

/// The file's columns, their first values, and what each of them is.
fn columns(page: Page, columns: Vec<Column>, is_open: bool) -> Option<AnyView> {
    if columns.is_empty() {
        return None;
    }
    let row = move |(index, Column { name, values }): (usize, Column)| {
        let is_plain = name.chars().all(|sign| sign.is_alphanumeric() || sign == '_');
        let id = if is_plain { format!("column-{name}") } else { format!("column-{index}") };
        let select = select(page, id.clone(), name.clone());
        let values = values.into_iter().map(|value| view! { <span class="value">{value}</span> });
        view! {
            <tr>
                <th scope="row"><label for=id><code>{name}</code></label></th>
                <td class="values">{values.collect_view()}</td>
                <td>{select}</td>
            </tr>
        }
    };
    Some(
        view! {
            <details class="card" id="columns" open=is_open>
                <summary>{t("What the columns are")}</summary>
                <p class="hint">{t("Where the names are others than those of a known shape, say which column holds the prompt, the completion or the text.")}</p>
                <div class="wide" tabindex="0" role="region" aria-label=t("What the columns are")>
                    <table class="files">
                        <thead><tr><th scope="col">{t("Column")}</th><th scope="col">{t("First values")}</th><th scope="col">{t("Read as")}</th></tr></thead>
                        <tbody>{columns.into_iter().enumerate().map(row).collect_view()}</tbody>
                    </table>
                </div>
            </details>
        }
        .into_any(),
    )
}

fn select(page: Page, id: String, column: String) -> AnyView {
    let current = {
        let column = column.clone();
        page.run.with_untracked(|run| field_of(run.data.columns.as_ref(), &column))
    };
    let options = Field::ALL.map(|field| {
        view! { <option value=field.name() selected=current == Some(field)>{field.name()}</option> }
    });
    let change = move |event| {
        let word = event_target_value(&event);
        let field = Field::ALL.into_iter().find(|field| field.name() == word);
        page.run.update(|run| {
            let mut columns = run.data.columns.take().unwrap_or_default();
            columns.0.retain(|_, other| *other != column);
            if let Some(field) = field {
                columns.0.insert(field, column.clone());
            }
            run.data.columns = (!columns.0.is_empty()).then_some(columns);
        });
    };
    view! {
        <select id=id disabled=move || !page.is_free() on:change=change>
            <option value="" selected=current.is_none()>{t("not read")}</option>
            {options.collect_view()}
        </select>
    }
    .into_any()
}

/// What a column is: what was said, or what its own name says where nothing else is read as that.
fn field_of(columns: Option<&Columns>, column: &str) -> Option<Field> {
    let said = columns.map(|columns| &columns.0);
    let said_of = said.into_iter().flatten().find(|(_, other)| *other == column).map(|(field, _)| *field);
    let own = || Field::ALL.into_iter().find(|field| field.name() == column);
    said_of.or_else(|| own().filter(|field| said.is_none_or(|said| !said.contains_key(field))))
}

/// The first rows as read, and the bad ones as they stand in the file.
fn preview(rows: &[ShownRow], bad_rows: Vec<BadRow>) -> Option<AnyView> {
    if rows.is_empty() && bad_rows.is_empty() {
        return None;
    }
    let names =
        |row: &ShownRow| -> Vec<String> { row.fields.iter().map(|field| field.name.clone()).collect() };
    let first = rows.first().map(names).unwrap_or_default();
    // Conversations differ from row to row.
    let is_table = rows.iter().all(|row| names(row) == first) && (1..=2).contains(&first.len());
    let heads = if is_table { first } else { vec![t("Turns")] };
    let n_columns = heads.len();
    let mut shown: Vec<(usize, AnyView)> = rows.iter().map(|row| (row.line, good(row, is_table))).collect();
    shown.extend(bad_rows.into_iter().map(|row| (row.line, bad(row, n_columns))));
    shown.sort_by_key(|(line, _)| *line);
    let shown: Vec<AnyView> = shown.into_iter().map(|(_, row)| row).collect();
    let heads = heads.into_iter().map(|head| view! { <th scope="col">{head}</th> });
    Some(
        view! {
            <section class="card" id="preview" aria-label=t("Rows as read")>
                <h3>{t("Rows as read")}</h3>
                <div class="wide tall" tabindex="0" role="region" aria-label=t("Rows as read")>
                    <table class="preview">
                        <thead><tr><th scope="col">{t("Line")}</th>{heads.collect_view()}</tr></thead>
                        <tbody>{shown}</tbody>
                    </table>
                </div>
            </section>
        }
        .into_any(),
    )
}

fn good(row: &ShownRow, is_table: bool) -> AnyView {
    let fields = row.fields.iter();
    let cells = if is_table {
        fields.map(|field| view! { <td>{field.text.clone()}</td> }.into_any()).collect()
    } else {
        let turns = fields.map(|field| {
            view! { <p><span class="hint">{field.name.clone()}</span>" "{field.text.clone()}</p> }
        });
        vec![view! { <td>{turns.collect_view()}</td> }.into_any()]
    };
    view! { <tr><th scope="row" class="line">{row.line}</th>{cells}</tr> }.into_any()
}

fn bad(row: BadRow, n_columns: usize) -> AnyView {
    let problems = row.problems.into_iter().map(|problem| view! { <p class="problem">{problem}</p> });
    view! {
        <tr class="bad" id=format!("row-{}", row.line)>
            <th scope="row" class="line">{row.line}</th>
            <td colspan=n_columns>{row.text.map(|text| view! { <code>{text}</code> })}{problems.collect_view()}</td>
        </tr>
    }
    .into_any()
}

fn lengths(bars: &[LengthBucket]) -> AnyView {
    let most = bars.iter().map(|bar| bar.n_rows).max().unwrap_or(1).max(1);
    let bar = |bar: &LengthBucket| {
        view! {
            <tr>
                <th scope="row">{fill("to {n}", &[("n", &bar.up_to_tokens)])}</th>
                <td><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width=100.0 * bar.n_rows as f64 / most as f64 height="8" rx="1" /></svg></td>
                <td class="number">{count(bar.n_rows)}</td>
            </tr>
        }
    };
    view! {
        <table class="lengths">
            <caption>{t("Rows by tokens")}</caption>
            <tbody>{bars.iter().map(bar).collect_view()}</tbody>
        </table>
    }
    .into_any()
}

fn tokens(rows: Vec<ShownRow>) -> Option<AnyView> {
    if rows.is_empty() {
        return None;
    }
    let token = |token: ShownToken| {
        let class = if token.weight > 0.0 { "token learned" } else { "token context" };
        view! { <span class=class>{token.text}</span> }
    };
    let row = |row: ShownRow| {
        view! {
            <li>
                <span class="line">{row.line}</span>
                <span class="tokens">{row.tokens.into_iter().map(token).collect_view()}</span>
            </li>
        }
    };
    Some(
        view! {
            <section class="card" aria-label=t("The first rows, token by token")>
                <h3>{t("What is learned")}</h3>
                <p class="legend"><span class="token learned">{t("learned")}</span><span class="token context">{t("context")}</span></p>
                <ol class="rows" tabindex="0" aria-label=t("The first rows")>{rows.into_iter().map(row).collect_view()}</ol>
            </section>
        }
        .into_any(),
    )
}
