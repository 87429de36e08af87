//! Where this machine's pip looks for packages: environment, then configuration files, then the default.
//!
//! After pip's documentation, "Configuration": variables win over files, and files of the user over those of
//! the system. Read because on many machines the default index is not the one that answers.

use std::path::{Path, PathBuf};

/// The index of the Python Packaging Authority, pip's default.
const DEFAULT_INDEX: &str = "https://pypi.org/simple";

/// Indexes to ask, in order, without a slash at the end. Empty where `no-index` is set.
pub(super) fn indexes() -> Vec<String> {
    let files = files().into_iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect::<Vec<_>>();
    indexes_from(&super::environment, &files)
}

/// As [`indexes`], with the environment and the texts of the files, the strongest first.
fn indexes_from(environment: &dyn Fn(&str) -> Option<String>, files: &[String]) -> Vec<String> {
    let setting = |name: &str| {
        let variable = format!("PIP_{}", name.replace('-', "_").to_uppercase());
        environment(&variable).or_else(|| files.iter().find_map(|text| value_of(text, name)))
    };
    if setting("no-index")
        .is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
    {
        return Vec::new();
    }
    let main = setting("index-url").unwrap_or_else(|| DEFAULT_INDEX.to_owned());
    let extra = setting("extra-index-url").unwrap_or_default();
    main.split_whitespace()
        .take(1)
        .chain(extra.split_whitespace())
        .map(|url| url.trim_end_matches('/').to_owned())
        .collect()
}

/// A value of an ini file's `[download]`, `[install]` or `[global]` section; the specific sections win.
fn value_of(text: &str, name: &str) -> Option<String> {
    ["download", "install", "global"].iter().find_map(|section| {
        let mut in_section = false;
        let mut found: Option<String> = None;
        let mut in_value = false;
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            // An indented line continues the value above it.
            if line.starts_with([' ', '\t']) && in_value {
                if let Some(value) = &mut found {
                    value.push(' ');
                    value.push_str(trimmed);
                }
                continue;
            }
            in_value = false;
            if let Some(title) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                in_section = title.trim() == *section;
            } else if let Some((key, value)) = trimmed.split_once(['=', ':']).filter(|_| in_section)
                && key.trim().replace('_', "-").eq_ignore_ascii_case(name)
            {
                found = Some(value.trim().to_owned());
                in_value = true;
            }
        }
        found.filter(|value| !value.is_empty())
    })
}

/// pip's configuration files, the strongest first.
fn files() -> Vec<PathBuf> {
    let name = if cfg!(windows) { "pip.ini" } else { "pip.conf" };
    let explicit = super::environment("PIP_CONFIG_FILE").map(PathBuf::from);
    let environment = super::environment("VIRTUAL_ENV").map(|folder| Path::new(&folder).join(name));
    let user = dirs::config_dir().map(|folder| folder.join("pip").join(name));
    // pip reads the XDG folder on every Unix, macOS included, and its own old one.
    let home = dirs::home_dir();
    let unix =
        home.iter().flat_map(|home| [home.join(".config/pip").join(name), home.join(".pip").join(name)]);
    let system = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"].map(PathBuf::from);
    explicit.into_iter().chain(environment).chain(user).chain(unix).chain(system).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[global]\nindex_url = http://mirror/simple/\nextra-index-url =\n  http://a/simple\n  \
                        http://b/simple/\ntimeout = 60\n[list]\nindex-url = http://wrong\n";

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn the_default_index_is_asked_where_nothing_is_configured() {
        assert_eq!(indexes_from(&none, &[]), [DEFAULT_INDEX]);
    }

    #[test]
    fn files_are_read_and_the_environment_wins() {
        let files = [FILE.to_owned()];
        assert_eq!(
            indexes_from(&none, &files),
            ["http://mirror/simple", "http://a/simple", "http://b/simple"]
        );
        let environment = |name: &str| (name == "PIP_INDEX_URL").then(|| "https://u:p@own/simple".to_owned());
        assert_eq!(indexes_from(&environment, &files)[0], "https://u:p@own/simple");
    }

    #[test]
    fn the_first_file_wins_and_a_section_of_the_command_over_global() {
        let specific =
            "[global]\nindex-url: http://general\n[download]\nindex-url: http://specific\n".to_owned();
        assert_eq!(indexes_from(&none, &[specific, FILE.to_owned()])[0], "http://specific");
    }

    #[test]
    fn no_index_means_none() {
        assert!(indexes_from(&none, &["[global]\nno-index = true\n".to_owned()]).is_empty());
    }
}
