//! Stop texts in a stream: nothing of one is shown, even when it arrives in pieces.

/// Watches a stream for the first of some texts.
pub struct StopStrings<'s> {
    stops: &'s [String],
    held: String,
    found: bool,
}

impl<'s> StopStrings<'s> {
    /// A watch for `stops`.
    pub fn new(stops: &'s [String]) -> Self {
        Self { stops, held: String::new(), found: false }
    }

    /// Takes the next piece and returns what is certainly no part of a stop text.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        // The longest end of the text that might still become a stop text waits.
        let might_stop = |at: &usize| self.stops.iter().any(|s| s.starts_with(&self.held[*at..]));
        let starts = self.held.char_indices().map(|(at, _)| at);
        let wait = starts.into_iter().find(might_stop).unwrap_or(self.held.len());
        let rest = self.held.split_off(wait);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop text appeared.
    pub fn found(&self) -> bool {
        self.found
    }

    /// What was held back, once nothing more comes.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_text_in_pieces_is_never_shown() {
        let stops = ["\n\n".to_string(), "END".to_string()];
        let mut watch = StopStrings::new(&stops);
        assert_eq!(watch.push("a\n"), "a");
        assert_eq!(watch.push("b E"), "\nb ");
        assert_eq!(watch.push("N"), "");
        assert_eq!(watch.push("é"), "ENé");
        assert_eq!(watch.push("x\n\ny"), "x");
        assert!(watch.found());
    }

    #[test]
    fn what_only_looked_like_one_is_shown_at_the_end() {
        let stops = ["END".to_string()];
        let mut watch = StopStrings::new(&stops);
        assert_eq!(watch.push("the EN"), "the ");
        assert_eq!(watch.finish(), "EN");
    }
}
