//! Parquet's columns → nested values, after Dremel (Melnik et al. 2010, "record assembly"): each cell carries how
//! much of its path is there (definition level) and which list it continues (repetition level).
//!
//! The `parquet` crate has a record interface as well, but it asserts on levels and types: a damaged file would end
//! the program. Here levels that contradict each other are errors.

use super::pages::{Budget, caught, checked_column};
use ::parquet::basic::{ConvertedType, Repetition};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::RowGroupReader;
use ::parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

/// A cell that is text but no UTF-8, or beyond the end of its column, or out of step with the other columns.
#[derive(Debug, PartialEq)]
pub(super) enum CellProblem {
    /// The row is bad; the next can be read.
    NotUtf8,
    /// Nothing behind this can be trusted.
    LevelsDisagree,
}

/// A field of the schema with the definition level at which it is there.
enum Node {
    Leaf {
        leaf: usize,
        def: i16,
    },
    Group {
        def: i16,
        fields: Vec<(String, Node)>,
    },
    /// `def`: the list is there; `item_def`: it has an item; `rep`: the level at which it goes on.
    List {
        def: i16,
        item_def: i16,
        rep: i16,
        item: Box<Node>,
    },
}

struct Cell {
    def: i16,
    rep: i16,
    /// `None` for text that is no UTF-8.
    value: Option<Value>,
}

/// The chosen columns of one row group, read row by row.
pub(super) struct Rows {
    fields: Vec<(String, Node)>,
    /// One per primitive column, in schema order.
    leaves: Vec<std::iter::Peekable<std::vec::IntoIter<Cell>>>,
    rows_left: usize,
    has_bad_text: bool,
}

impl Rows {
    /// Decodes the columns under the top-level fields in `used`, whose types must have been found readable, of a file of
    /// `file_len` bytes. What they unpack to is taken off `budget`.
    pub fn new(
        group: &dyn RowGroupReader,
        used: &[&Type],
        file_len: u64,
        budget: &mut Budget,
    ) -> Result<Self, ParquetError> {
        let n_rows = usize::try_from(group.metadata().num_rows())
            .map_err(|_| ParquetError::General("negative number of rows".into()))?;
        let mut leaves = Vec::new();
        for column in 0..group.num_columns() {
            let meta = group.metadata().column(column);
            let top = meta.column_path().parts().first();
            if top.is_some_and(|top| used.iter().any(|f| f.name() == top)) {
                let (max_def, max_rep) =
                    (meta.column_descr().max_def_level(), meta.column_descr().max_rep_level());
                let cells = caught(|| {
                    let column = checked_column(group, column, file_len, budget, size_of::<Cell>())?;
                    decode(column, n_rows, max_def, max_rep, budget)
                })?;
                leaves.push(cells.into_iter().peekable());
            }
        }
        let mut n_leaves = 0;
        let fields = used.iter().map(|f| (f.name().to_string(), node(f, 0, 0, &mut n_leaves))).collect();
        if n_leaves != leaves.len() {
            return Err(ParquetError::General("columns that the schema does not have".into()));
        }
        Ok(Self { fields, leaves, rows_left: n_rows, has_bad_text: false })
    }

    fn cell(&mut self, leaf: usize) -> Result<Cell, CellProblem> {
        self.leaves[leaf].next().ok_or(CellProblem::LevelsDisagree)
    }

    /// The next cell's definition and repetition level.
    fn levels(&mut self, leaf: usize) -> Result<(i16, i16), CellProblem> {
        self.leaves[leaf].peek().map(|c| (c.def, c.rep)).ok_or(CellProblem::LevelsDisagree)
    }

    /// Takes the value of `node` that comes next, from all its leaves.
    fn value(&mut self, node: &Node) -> Result<Value, CellProblem> {
        let (found, _) = self.levels(node.first_leaf())?;
        match node {
            Node::Leaf { leaf, def } => {
                let cell = self.cell(*leaf)?;
                self.has_bad_text |= cell.value.is_none();
                Ok(cell.value.filter(|_| cell.def == *def).unwrap_or(Value::Null))
            }
            Node::Group { def, .. } | Node::List { def, .. } if found < *def => {
                self.skip(node)?;
                Ok(Value::Null)
            }
            Node::Group { fields, .. } => {
                let mut object = Map::new();
                for (name, node) in fields {
                    object.insert(name.clone(), self.value(node)?);
                }
                Ok(Value::Object(object))
            }
            Node::List { item_def, .. } if found < *item_def => {
                self.skip(node)?;
                Ok(Value::Array(Vec::new()))
            }
            Node::List { rep, item, .. } => {
                let mut items = vec![self.value(item)?];
                while self.levels(node.first_leaf()).is_ok_and(|(_, next)| next >= *rep) {
                    items.push(self.value(item)?);
                }
                Ok(Value::Array(items))
            }
        }
    }

    /// Takes the one cell that each leaf of an absent value has.
    fn skip(&mut self, node: &Node) -> Result<(), CellProblem> {
        match node {
            Node::Leaf { leaf, .. } => self.cell(*leaf).map(|_| ()),
            Node::Group { fields, .. } => fields.iter().try_for_each(|(_, node)| self.skip(node)),
            Node::List { item, .. } => self.skip(item),
        }
    }

    fn row(&mut self, fields: &[(String, Node)]) -> Result<Map<String, Value>, CellProblem> {
        self.has_bad_text = false;
        for leaf in 0..self.leaves.len() {
            if self.levels(leaf)?.1 != 0 {
                return Err(CellProblem::LevelsDisagree); // a list went on in one column and ended in another
            }
        }
        let mut row = Map::new();
        for (name, node) in fields {
            row.insert(name.clone(), self.value(node)?);
        }
        if self.has_bad_text { Err(CellProblem::NotUtf8) } else { Ok(row) }
    }
}

impl Iterator for Rows {
    type Item = Result<Map<String, Value>, CellProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows_left = self.rows_left.checked_sub(1)?;
        let fields = std::mem::take(&mut self.fields);
        let row = self.row(&fields);
        self.fields = fields;
        Some(row)
    }
}

impl Node {
    fn first_leaf(&self) -> usize {
        match self {
            Self::Leaf { leaf, .. } => *leaf,
            Self::Group { fields, .. } => fields.first().map_or(0, |(_, node)| node.first_leaf()),
            Self::List { item, .. } => item.first_leaf(),
        }
    }
}

/// The tree below `field`, whose parent is there from definition level `def`.
fn node(field: &Type, def: i16, rep: i16, n_leaves: &mut usize) -> Node {
    let info = field.get_basic_info();
    let def = def + i16::from(info.repetition() != Repetition::REQUIRED);
    if field.is_primitive() {
        *n_leaves += 1;
        return Node::Leaf { leaf: *n_leaves - 1, def };
    }
    let mut group = |fields: &[::parquet::schema::types::TypePtr], def, rep| {
        fields.iter().map(|f| (f.name().to_string(), node(f, def, rep, n_leaves))).collect()
    };
    if info.converted_type() != ConvertedType::LIST {
        return Node::Group { def, fields: group(field.get_fields(), def, rep) };
    }
    let repeated = &field.get_fields()[0];
    let (item_def, rep) = (def + 1, rep + 1);
    let item = if repeated.is_primitive() {
        node(repeated, def, rep, n_leaves)
    } else if is_wrapper(repeated) {
        node(&repeated.get_fields()[0], item_def, rep, n_leaves)
    } else {
        Node::Group { def: item_def, fields: group(repeated.get_fields(), item_def, rep) }
    };
    Node::List { def, item_def, rep, item: Box::new(item) }
}

/// Whether the repeated group of a list only wraps the item: the present layout (`list.element`) rather than the old
/// one, in which the group is the item. The rules are those of "Backward-compatibility rules" in the format's
/// LogicalTypes.md.
fn is_wrapper(repeated: &Type) -> bool {
    repeated.get_fields().len() == 1 && repeated.name() != "array" && !repeated.name().ends_with("_tuple")
}

/// All cells of a column in a row group of `n_rows`.
fn decode(
    column: ColumnReader,
    n_rows: usize,
    max_def: i16,
    max_rep: i16,
    budget: &mut Budget,
) -> Result<Vec<Cell>, ParquetError> {
    /// Bounds what the library unpacks before its bytes are counted.
    const ROWS_AT_ONCE: usize = 1024;
    fn cells<T: DataType>(
        mut column: ColumnReaderImpl<T>,
        [n_rows, max_def, max_rep]: [usize; 3],
        budget: &mut Budget,
        json: impl Fn(&T::T) -> Option<Value>,
    ) -> Result<Vec<Cell>, ParquetError> {
        let wrong = |what: &str| ParquetError::General(format!("{what} that the schema does not allow"));
        let in_range = |level: i16, max| usize::try_from(level).is_ok_and(|l| l <= max);
        let (mut cells, mut n_rows_left) = (Vec::new(), n_rows);
        while n_rows_left > 0 {
            let (mut defs, mut reps, mut values) = (Vec::new(), Vec::new(), Vec::new());
            let n_wanted = n_rows_left.min(ROWS_AT_ONCE);
            let (n_read, _, _) =
                column.read_records(n_wanted, Some(&mut defs), Some(&mut reps), &mut values)?;
            let n_cells = if max_def > 0 { defs.len() } else { values.len() };
            if max_rep > 0 && reps.len() != n_cells {
                return Err(wrong("a number of repetition levels"));
            }
            if n_read == 0 && n_cells == 0 {
                break;
            }
            n_rows_left = n_rows_left.saturating_sub(n_read);
            let mut values = values.iter();
            for i in 0..n_cells {
                let def = if max_def > 0 { defs[i] } else { 0 };
                let rep = if max_rep > 0 { reps[i] } else { 0 };
                if !in_range(def, max_def) || !in_range(rep, max_rep) {
                    return Err(wrong("levels"));
                }
                let is_there = usize::try_from(def) == Ok(max_def);
                let value = if is_there {
                    json(values.next().ok_or_else(|| wrong("levels"))?)
                } else {
                    Some(Value::Null)
                };
                let n_text_bytes = value.as_ref().and_then(Value::as_str).map_or(0, str::len);
                budget.spend(size_of::<Cell>() + n_text_bytes)?;
                cells.push(Cell { def, rep, value });
            }
        }
        Ok(cells)
    }
    let level = |l: i16| usize::try_from(l).unwrap_or(0);
    let sizes = [n_rows, level(max_def), level(max_rep)];
    let float = |x: f64| Some(Number::from_f64(x).map_or(Value::Null, Value::Number));
    match column {
        ColumnReader::BoolColumnReader(c) => cells(c, sizes, budget, |&b| Some(b.into())),
        ColumnReader::Int32ColumnReader(c) => cells(c, sizes, budget, |&n| Some(n.into())),
        ColumnReader::Int64ColumnReader(c) => cells(c, sizes, budget, |&n| Some(n.into())),
        ColumnReader::FloatColumnReader(c) => cells(c, sizes, budget, |&x| float(f64::from(x))),
        ColumnReader::DoubleColumnReader(c) => cells(c, sizes, budget, |&x| float(x)),
        ColumnReader::ByteArrayColumnReader(c) => {
            cells(c, sizes, budget, |bytes| std::str::from_utf8(bytes.data()).ok().map(Value::from))
        }
        ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
            Err(ParquetError::General("a type that is not read".into()))
        }
    }
}
