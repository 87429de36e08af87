//! Which of a model's linear layers a method touches.

use super::TargetModules;
use crate::{Error, Result};

/// Decides by name which modules a method touches.
pub struct Matcher<'t> {
    targets: &'t TargetModules,
    pattern: Option<regex::Regex>,
}

impl TargetModules {
    /// Compiles the pattern, if there is one.
    pub fn matcher(&self) -> Result<Matcher<'_>> {
        let pattern = match self {
            Self::Pattern(pattern) => Some(regex::Regex::new(&format!("^(?:{pattern})$")).map_err(|e| {
                Error::input(
                    "method.target_modules",
                    e.to_string(),
                    "a regular expression over the whole module name",
                )
            })?),
            Self::AllLinear | Self::Names(_) => None,
        };
        Ok(Matcher { targets: self, pattern })
    }
}

impl Matcher<'_> {
    /// Whether the linear layer `module` gets an adapter. PEFT's `check_target_module_exists`.
    pub fn selects(&self, module: &str, is_head: bool) -> bool {
        match (self.targets, &self.pattern) {
            (TargetModules::AllLinear, _) => !is_head,
            (TargetModules::Names(names), _) => names.iter().any(|name| is_or_ends_in(module, name)),
            (TargetModules::Pattern(_), pattern) => pattern.as_ref().is_some_and(|p| p.is_match(module)),
        }
    }
}

/// Whether a dotted module name is `name` or ends in `.name`.
pub fn is_or_ends_in(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// The shortest list of names that selects exactly `targets` among `linears`: last parts where they suffice.
pub fn shortest_names(targets: &[String], linears: &[String]) -> Vec<String> {
    let mut short: Vec<String> =
        targets.iter().map(|t| t.rsplit('.').next().unwrap_or(t).to_string()).collect();
    short.sort();
    short.dedup();
    let reached = linears.iter().filter(|l| short.iter().any(|s| is_or_ends_in(l, s))).count();
    if reached == targets.len() { short } else { targets.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_as_in_peft() {
        let selects =
            |targets: TargetModules, module: &str| targets.matcher().expect("valid").selects(module, false);
        let names = |n: &str| serde_json::from_value::<TargetModules>(n.into()).expect("a word");
        assert!(selects(names("q_proj,v_proj"), "model.layers.0.self_attn.v_proj"));
        assert!(!selects(names("proj"), "model.layers.0.self_attn.v_proj"));
        assert!(selects(names("/.*attn.*/"), "model.layers.0.self_attn.v_proj"));
        assert!(!selects(names("/attn/"), "model.layers.0.self_attn.v_proj"));
        assert!(names("/(/").matcher().is_err());
    }

    #[test]
    fn short_names_are_used_only_where_they_select_the_same() {
        let all: Vec<String> = ["a.0.q", "a.1.q", "a.0.v"].map(String::from).to_vec();
        assert_eq!(shortest_names(&all, &all), ["q", "v"]);
        assert_eq!(shortest_names(&all[..1], &all), ["a.0.q"]);
    }
}
