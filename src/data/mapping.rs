//! A file's own column names → the fields of a shape, as `data.columns` says.

use super::shapes::{SHAPES, fields};
use crate::config::{Columns, Field, Shape};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Fields and the columns they are read from; empty where the names are right as they are.
#[derive(Default)]
pub(super) struct Mapping(Vec<(&'static str, String)>);

impl Mapping {
    pub fn new(columns: Option<&Columns>) -> Self {
        let columns = columns.map(|columns| &columns.0).into_iter().flatten();
        Self(columns.map(|(field, column)| (Field::name(*field), column.clone())).collect())
    }

    /// The shape that the named fields make by themselves: rows need not tell it.
    pub fn shape(&self) -> Option<Shape> {
        let is_named = |field: &&str| self.0.iter().any(|(name, _)| name == field);
        SHAPES.into_iter().find(|&shape| fields(shape).0.iter().all(is_named))
    }

    /// The column that `field` is read from.
    pub fn column<'a>(&'a self, field: &'a str) -> &'a str {
        self.0.iter().find(|(name, _)| *name == field).map_or(field, |(_, column)| column)
    }

    /// The record under a shape's names. A column that has the name of a field which is read from another one
    /// is not read.
    pub fn apply<'r>(&self, record: &'r Map<String, Value>) -> Cow<'r, Map<String, Value>> {
        if self.0.is_empty() {
            return Cow::Borrowed(record);
        }
        let mut renamed = Map::new();
        for (field, column) in &self.0 {
            if let Some(value) = record.get(column) {
                renamed.insert((*field).to_owned(), value.clone());
            }
        }
        for (name, value) in record {
            let is_taken = self.0.iter().any(|(field, column)| field == name || column == name);
            if !is_taken {
                renamed.insert(name.clone(), value.clone());
            }
        }
        Cow::Owned(renamed)
    }

    /// `prompt` or `messages[2].role` with the column's name.
    pub fn path(&self, path: &str) -> String {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        format!("{}{}", self.column(&path[..end]), &path[end..])
    }

    /// A message's field names as the file's.
    pub fn words(&self, message: &str) -> String {
        let part = |(index, text)| if index % 2 == 1 { self.column(text) } else { text };
        message.split('`').enumerate().map(part).collect::<Vec<_>>().join("`")
    }
}
