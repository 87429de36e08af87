//! The run in force: defaults, then the run file, then flags, then `--set`. All mistakes are reported at once.

use super::args::Given;
use attune::config::{self, Run, Setting};
use attune::{Error, Result, methods};

/// Where the settings of one run come from, the weakest first.
#[derive(Default)]
pub struct Sources<'a> {
    /// Name and text of the run file.
    pub file: Option<(&'a str, &'a str)>,
    /// `--method`.
    pub method: Option<&'a str>,
    /// Flags.
    pub flags: Vec<Given>,
    /// `--set KEY=VALUE`, in the order given.
    pub overrides: Vec<&'a str>,
}

/// A key of the run with its value, and the place to name when it is wrong.
struct Leaf {
    section: String,
    name: String,
    value: toml::Value,
    place: String,
}

impl Leaf {
    fn key(&self) -> String {
        dotted(&self.section, &self.name)
    }
}

/// The defaults as a table, with the settings of every method in `method`.
pub fn defaults() -> Result<toml::Table> {
    let mut table = to_table(&Run::default())?;
    let mut method = toml::Table::new();
    for (kind, _) in methods::KINDS {
        let run = read(toml::Table::from_iter([("method".to_string(), kind_table(kind))]))
            .map_err(|message| Error::Internal(format!("defaults of method {kind}: {message}")))?;
        if let Some(toml::Value::Table(settings)) = to_table(&run)?.remove("method") {
            method.extend(settings);
        }
    }
    table.insert("method".into(), method.into());
    Ok(table)
}

/// Puts the sources together.
///
/// # Errors
/// Every unknown key (with the nearest known one), value of the wrong type, and setting of another method.
pub fn assemble(sources: &Sources<'_>) -> Result<Run> {
    let mut leaves = Vec::new();
    let mut problems = Vec::new();
    if let Some((name, text)) = sources.file {
        leaves.extend(file_leaves(name, text)?);
    }
    let file_kind = kind_of(&leaves).unwrap_or_else(|| DEFAULT_METHOD.into());
    // Settings of a method that is not used any more would be refused as unknown.
    if sources.method.is_some() {
        if sources.method != Some(file_kind.as_str()) {
            leaves.retain(|leaf| leaf.section != "method");
        }
        leaves.retain(|leaf| leaf.key() != "method.kind");
    }
    if let Some(method) = sources.method {
        let value = toml::Value::String(method.into());
        leaves.push(Leaf { section: "method".into(), name: "kind".into(), value, place: "--method".into() });
    }
    for given in &sources.flags {
        let place = format!("--{}", given.setting.flag());
        let (section, name) = (given.setting.section.to_string(), given.setting.name.to_string());
        leaves.push(Leaf { section, name, value: given.value.clone(), place });
    }
    for text in &sources.overrides {
        match override_leaves(text) {
            Ok(more) => leaves.extend(more),
            Err(problem) => problems.push(problem),
        }
    }
    let kind = kind_of(&leaves).unwrap_or_else(|| DEFAULT_METHOD.into());
    if let Some(file) = sources.file.filter(|_| kind != file_kind) {
        drop_default_learning_rate(file, &file_kind, &mut leaves);
    }
    problems.extend(leaves.iter().filter_map(|leaf| problem_of(leaf, &kind)));
    Error::all(problems)?;

    let mut table = toml::Table::from_iter([("method".to_string(), kind_table(&kind))]);
    for leaf in leaves {
        insert(&mut table, leaf);
    }
    read(table).map_err(|message| {
        Error::input("settings", message, "a run file as `attune train --print-config` writes it")
    })
}

/// A saved run file states the learning rate in force. Where that is the default of its own method, another method
/// takes its own; one that was chosen stays.
fn drop_default_learning_rate((name, text): (&str, &str), kind: &str, leaves: &mut Vec<Leaf>) {
    let Ok(of_method) = read(toml::Table::from_iter([("method".to_string(), kind_table(kind))])) else {
        return;
    };
    let default = of_method.method.default_learning_rate();
    let Ok(Some(stated)) = toml::from_str::<Run>(text).map(|run| run.train.learning_rate) else { return };
    if stated == default {
        let place = format!("{name}:");
        leaves.retain(|leaf| !(leaf.key() == LEARNING_RATE && leaf.place.starts_with(&place)));
    }
}

const LEARNING_RATE: &str = "train.learning_rate";

const DEFAULT_METHOD: &str = "lora";

fn kind_of(leaves: &[Leaf]) -> Option<String> {
    let kind = leaves.iter().rev().find(|leaf| leaf.key() == "method.kind")?;
    kind.value.as_str().map(str::to_string)
}

fn kind_table(kind: &str) -> toml::Value {
    toml::Table::from_iter([("kind".to_string(), toml::Value::String(kind.into()))]).into()
}

fn to_table(run: &Run) -> Result<toml::Table> {
    toml::Table::try_from(run).map_err(|error| Error::Internal(format!("settings: {error}")))
}

fn read(table: toml::Table) -> Result<Run, String> {
    toml::Value::Table(table).try_into::<Run>().map_err(|error| error.message().trim().to_string())
}

fn insert(table: &mut toml::Table, leaf: Leaf) {
    let target = if leaf.section.is_empty() {
        table
    } else {
        match table.entry(leaf.section).or_insert_with(|| toml::Table::new().into()) {
            toml::Value::Table(section) => section,
            _ => return,
        }
    };
    target.insert(leaf.name, leaf.value);
}

fn dotted(section: &str, name: &str) -> String {
    if section.is_empty() { name.into() } else { format!("{section}.{name}") }
}

/// Top-level keys and those one section down; deeper tables stay values and are refused by their setting.
fn leaves_of(table: toml::Table, place: impl Fn(&str, &str) -> String) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(section) => leaves.extend(section.into_iter().map(|(name, value)| {
                let place = place(&key, &name);
                Leaf { section: key.clone(), name, value, place }
            })),
            value => leaves.push(Leaf { section: String::new(), place: place("", &key), name: key, value }),
        }
    }
    leaves
}

fn file_leaves(file: &str, text: &str) -> Result<Vec<Leaf>> {
    let table = toml::from_str::<toml::Table>(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Error::input(
            format!("{file}:{line}"),
            error.message().trim(),
            "TOML as `attune train --print-config` writes it",
        )
    })?;
    Ok(leaves_of(table, |section, name| match line_of(text, section, name) {
        Some(line) => format!("{file}:{line}: {}", dotted(section, name)),
        None => format!("{file}: {}", dotted(section, name)),
    }))
}

/// Line, from 1, on which `name = …` stands below `[section]`. Enough for files as they are usually written.
fn line_of(text: &str, section: &str, name: &str) -> Option<usize> {
    let mut current = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = header.trim().to_string();
        } else if let Some((key, _)) = line.split_once('=') {
            let key = key.trim().trim_matches('"');
            if (current == section && key == name) || (current.is_empty() && key == dotted(section, name)) {
                return Some(number + 1);
            }
        }
    }
    None
}

fn override_leaves(text: &str) -> Result<Vec<Leaf>> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::input(
            format!("--set {text}"),
            "no `=`",
            "section.setting=value, as train.epochs=2",
        ));
    };
    let mut table = toml::Table::new();
    let (key, value) = (key.trim(), value.trim());
    // `--set data.path=2026` names a file, not a number.
    let is_text = config::table().any(|setting| setting.key() == key && setting.kind.contains("String"));
    let quoted = toml::Value::String(value.into()).to_string();
    let plain = is_text && !value.starts_with(['"', '\'', '[']);
    config::apply_override(&mut table, key, if plain { &quoted } else { value })?;
    Ok(leaves_of(table, |section, name| format!("--set {}", dotted(section, name))))
}

/// What is wrong with one key, looked at alone.
fn problem_of(leaf: &Leaf, kind: &str) -> Option<Error> {
    let key = leaf.key();
    if key == "method.kind" {
        let known: Vec<&str> = methods::KINDS.iter().map(|(name, _)| *name).collect();
        let fits = leaf.value.as_str().is_some_and(|value| known.contains(&value));
        return (!fits)
            .then(|| Error::input(&leaf.place, format!("method {}", leaf.value), known.join(" or ")));
    }
    let Some(setting) = setting_of(leaf, kind) else { return Some(unknown(leaf, kind)) };
    let mut alone = toml::Table::from_iter([("method".to_string(), kind_table(kind))]);
    let value = leaf.value.clone();
    insert(
        &mut alone,
        Leaf { section: leaf.section.clone(), name: leaf.name.clone(), value, place: String::new() },
    );
    let message = read(alone).err()?;
    Some(match message.split_once(", expected ") {
        // The words of an enum are better than any other.
        Some((problem, expected)) if problem.starts_with("unknown variant") => {
            Error::input(&leaf.place, problem, expected)
        }
        // So is what a list or a table is told.
        Some((problem, expected)) if ["Vec<String>", "Columns"].contains(&setting.inner_kind()) => {
            Error::input(&leaf.place, problem, expected)
        }
        Some((problem, _)) => Error::input(&leaf.place, problem, setting.expects()),
        None => Error::input(&leaf.place, message, setting.doc),
    })
}

/// The settings that a run with this method has.
fn settings_of(kind: &str) -> impl Iterator<Item = &'static Setting> + '_ {
    let of_method =
        |kind: &str| methods::KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, s)| s);
    config::table().filter(|setting| setting.section != "method").chain(of_method(kind))
}

fn setting_of(leaf: &Leaf, kind: &str) -> Option<&'static Setting> {
    settings_of(kind).find(|setting| setting.section == leaf.section && setting.name == leaf.name)
}

fn unknown(leaf: &Leaf, kind: &str) -> Error {
    let key = leaf.key();
    let owners: Vec<&str> = methods::KINDS
        .iter()
        .filter(|(_, settings)| settings.iter().any(|setting| setting.key() == key))
        .map(|(name, _)| *name)
        .collect();
    if !owners.is_empty() {
        let problem = format!("method {kind} has no setting `{}`", leaf.name);
        return Error::input(&leaf.place, problem, format!("--method {}", owners.join(" or ")));
    }
    let nearest = settings_of(kind).map(Setting::key).min_by_key(|known| distance(known, &key));
    let expected = match nearest {
        Some(known) if distance(&known, &key) <= key.len().max(6) / 3 => format!("`{known}`"),
        _ => "a setting that `attune train --print-config` lists".into(),
    };
    Error::input(&leaf.place, format!("unknown setting `{key}`"), expected)
}

/// Edits that turn one name into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune::methods::MethodConfig;

    fn run(file: &str, method: Option<&str>, overrides: &[&str]) -> Result<Run> {
        let file = (!file.is_empty()).then_some(("run.toml", file));
        assemble(&Sources { file, method, overrides: overrides.to_vec(), ..Sources::default() })
    }

    #[test]
    fn nothing_given_is_the_default_run() {
        assert_eq!(run("", None, &[]).unwrap(), Run::default());
    }

    #[test]
    fn the_file_is_read_and_set_wins_over_it() {
        let file = "model = \"m\"\n[train]\nepochs = 2\nlearning_rate = 1e-3\n[method]\nrank = 4\n";
        let run = run(file, None, &["train.learning_rate=1e-4", "data.path=123"]).unwrap();
        assert_eq!((run.model.as_str(), run.train.epochs, run.train.learning_rate), ("m", 2.0, Some(1e-4)));
        assert!(matches!(run.method, MethodConfig::Lora(ref lora) if lora.rank == 4), "{:?}", run.method);
    }

    #[test]
    fn another_method_drops_the_files_settings_of_the_first() {
        let run = run("[method]\nkind = \"lora\"\nrank = 4\n", Some("full"), &[]).unwrap();
        assert!(matches!(run.method, MethodConfig::Full(_)));
    }

    #[test]
    fn another_method_takes_its_own_learning_rate_unless_one_was_chosen() {
        let lora = run("", None, &[]).unwrap();
        let saved = |rate: f64| {
            let mut run = lora.clone();
            run.train.learning_rate = Some(rate);
            run.to_toml().unwrap()
        };
        assert_eq!(run(&saved(2e-4), Some("full"), &[]).unwrap().learning_rate(), 2e-5, "LoRA's default");
        assert_eq!(run(&saved(1e-3), Some("full"), &[]).unwrap().learning_rate(), 1e-3, "chosen");
        assert_eq!(
            run(&saved(2e-4), Some("lora"), &[]).unwrap().train.learning_rate,
            Some(2e-4),
            "the same method"
        );
        let set = run(&saved(2e-4), Some("full"), &["train.learning_rate=2e-4"]).unwrap();
        assert_eq!(set.learning_rate(), 2e-4, "said with this command");
    }

    #[test]
    fn all_mistakes_are_reported_with_their_places() {
        let file = "[train]\nlerning_rate = 1\nepochs = \"two\"\n[method]\nkind = \"full\"\nrank = 4\n";
        let error = run(file, None, &["train.optimizer=adm", "nonsense"]).unwrap_err().to_string();
        for part in [
            "run.toml:2: train.lerning_rate: unknown setting `train.lerning_rate`; expected `train.learning_rate`",
            "run.toml:3: train.epochs: invalid type: string \"two\"",
            "run.toml:6: method.rank: method full has no setting `rank`; expected --method lora",
            "--set train.optimizer: unknown variant `adm`; expected one of `adamw`",
            "--set nonsense: no `=`",
        ] {
            assert!(error.contains(part), "{part}\nnot in\n{error}");
        }
    }

    #[test]
    fn a_torn_file_is_reported_with_its_line() {
        let error = run("model = \"m\"\n[train\n", None, &[]).unwrap_err();
        assert!(error.to_string().starts_with("run.toml:2: "), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_effective_run_file_reads_back_as_the_same_run() {
        let first = run("", Some("full"), &["train.epochs=1", "data.path=rows.jsonl"]).unwrap();
        assert_eq!(run(&first.to_toml().unwrap(), None, &[]).unwrap(), first);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "ab", 2), ("rank", "rank", 0), ("rnak", "rank", 2), ("epoch", "epochs", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
