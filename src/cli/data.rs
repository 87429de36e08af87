//! `attune data check FILE | fetch NAME`

use super::paint::{Paint, Style};
use super::progress::{Json, Progress};
use super::{args, json, open, paint, required, run_file};
use attune::config::{self, Run, Setting};
use attune::data::check::Part;
use attune::data::encode::{self, Shown};
use attune::data::read::MAX_UNPACKED_BYTES;
use attune::native::{self, FileStore};
use attune::protocol::Control;
use attune::session::{self, Checked, DataFile};
use attune::store::Store;
use attune::tokenizer::Tokenizer;
use attune::{Error, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// Settings of `check`; the file is an argument of its own.
const SETTINGS: &[&str] =
    &["model", "data.eval_path", "data.shape", "data.columns", "data.max_length", "data.loss_on"];

/// The arguments of `data`.
pub fn command(command: Command) -> Result<Command> {
    let check = Command::new("check")
        .about("Report bad rows, lengths, truncations, duplicates and overlap")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .help("JSONL, JSON, CSV, TSV, Parquet or text, gzip accepted"),
        )
        .arg(
            Arg::new("show")
                .long("show")
                .value_name("N")
                .value_parser(value_parser!(usize))
                .default_value("0")
                .requires("model")
                .help("Show the tokens of the first N rows, the ones that carry loss marked"),
        );
    let fetch = Command::new("fetch")
        .about("Download a data set")
        .arg(Arg::new("name").value_name("NAME").required(true).value_parser(["movie-reviews"]).help("Which"))
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .required(true)
                .help("Folder that receives train.jsonl and test.jsonl"),
        );
    Ok(command
        .about("Check and fetch data")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(args::add_flags(check, &settings(), &run_file::defaults()?))
        .subcommand(fetch))
}

/// Runs `attune data`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("check", matches)) => check(matches),
        Some(("fetch", matches)) => fetch(matches),
        _ => Ok(()),
    }
}

fn settings() -> Vec<&'static Setting> {
    config::table().filter(|setting| SETTINGS.contains(&setting.key().as_str())).collect()
}

fn fetch(matches: &ArgMatches) -> Result<()> {
    let json = json(matches);
    let mut progress = Progress::new(json);
    let reviews = native::movie_reviews(&mut |event| progress.event(&event))?;
    progress.finish();
    let out = FileStore::new(required::<PathBuf>(matches, "out")?);
    for (name, rows) in [("train.jsonl", reviews.train.len()), ("test.jsonl", reviews.test.len())] {
        let bytes = native::block_on(FileStore::new(&reviews.folder).read_all(name, MAX_UNPACKED_BYTES))?;
        native::block_on(out.write(name, &bytes))?;
        let path = out.path(name)?;
        match json {
            Json::Yes => paint::line(&serde_json::json!({ "path": path, "n_rows": rows }).to_string()),
            Json::No => paint::line(&format!("{rows:>6} rows  {}", path.display())),
        }
    }
    Ok(())
}

fn check(matches: &ArgMatches) -> Result<()> {
    let json = json(matches);
    let file: &String = required(matches, "file")?;
    let flags = args::given(matches, &settings());
    let run = run_file::assemble(&run_file::Sources { flags, ..run_file::Sources::default() })?;
    run.data.validate()?;
    let rows = read_file(file)?;
    let held_out = run.data.eval_path.as_deref().map(read_file).transpose()?;
    let tokenizer = tokenizer(&run, json)?;
    let mut progress = Progress::for_people(json);
    let checked = session::check(&run.data, &rows, held_out.as_ref(), tokenizer.as_ref(), &mut |event| {
        progress.event(&event);
        Control::Continue
    });
    progress.finish();
    let Checked { train, mut report, .. } = checked?;
    match &tokenizer {
        Some(tokenizer) => show(&train, tokenizer, *required::<usize>(matches, "show")?, json)?,
        None => report.notes.push("lengths and loss are counted in tokens: name a model with --model".into()),
    }
    match json {
        Json::Yes => paint::json(&report)?,
        Json::No => paint::line(report.to_string().trim_end()),
    }
    match report.problems.len() {
        0 => Ok(()),
        n => Err(Error::input(
            file,
            format!("{n} problems, listed above"),
            "none; `attune train --skip-bad-rows` leaves bad rows out",
        )),
    }
}

/// A data file with its bytes, refused by its size before it is read.
pub fn read_file(path: &str) -> Result<DataFile> {
    let io = |source| Error::io("read", path, source);
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_UNPACKED_BYTES {
        return Err(Error::input(
            path,
            format!("{size} bytes"),
            format!("at most {MAX_UNPACKED_BYTES} bytes: a sample of its rows"),
        ));
    }
    Ok(DataFile { name: path.into(), bytes: std::fs::read(path).map_err(io)? })
}

/// The tokenizer of the run's model; nothing where no model is named.
fn tokenizer(run: &Run, json: Json) -> Result<Option<Tokenizer>> {
    if run.model.is_empty() {
        return Ok(None);
    }
    let opened = open::model(&run.model, &mut Progress::for_people(json))?;
    let files = opened.files()?;
    session::tokenizer_of(&files).map(Some)
}

/// Prints the first rows token by token: green is learned, dim is context.
fn show(part: &Part, tokenizer: &Tokenizer, n_shown: usize, json: Json) -> Result<()> {
    let paint = Paint::stdout();
    for (row, encoded) in part.read.rows.iter().zip(&part.encoded).take(n_shown) {
        let shown = encode::show(encoded, tokenizer)?;
        if json == Json::Yes {
            let tokens: Vec<_> =
                shown.iter().map(|Shown { text, weight }| serde_json::json!([text, weight])).collect();
            let place = row.place.to_string();
            paint::line(
                &serde_json::json!({ "place": place, "ids": encoded.ids, "tokens": tokens }).to_string(),
            );
            continue;
        }
        let n_learned = shown.iter().filter(|token| token.weight > 0.0).count();
        let heading = format!("{}: {} tokens, {n_learned} with loss", row.place, shown.len());
        paint::line(&paint.apply(Style::Bold, &heading));
        let text: Vec<_> = shown.iter().map(|token| mark(token, paint)).collect();
        paint::line(&text.join(if paint.is_on() { "" } else { "|" }));
        paint::line("");
    }
    Ok(())
}

/// A token in its colour; without colours, in brackets if it is learned.
fn mark(token: &Shown, paint: Paint) -> String {
    let text = paint::printable(&token.text);
    match (paint.is_on(), token.weight > 0.0) {
        (true, true) => paint.apply(Style::Green, &text),
        (true, false) => paint.apply(Style::Dim, &text),
        (false, true) => format!("[{text}]"),
        (false, false) => text,
    }
}
