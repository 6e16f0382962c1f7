//! A job as plain data: nodes in topological order, each naming its inputs.
//!
//! ```text
//!  Source ─▶ Calc ─▶ WindowAggregate ─▶ Calc ─▶ Sink
//! ```
//!
//! The planner makes it without knowing the parallelism; the runtime places it, cuts it at the exchanges and puts a
//! local aggregation before them where that pays.

use crate::expr::Expr;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use millstream_core::{Millis, TableSpec, TimeDomain};
use std::sync::Arc;

/// A whole job.
#[derive(Debug, Clone, Default)]
pub struct Dataflow {
    /// In topological order: a node's inputs come before it.
    pub nodes: Vec<Node>,
    /// Where rows go that are late everywhere. Their count is kept in any case.
    pub late_output: Option<SideOutput>,
    /// Where rows go that could not be read.
    pub bad_output: Option<SideOutput>,
}

/// One node of the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Stable under edits of the query that do not concern this node. Unique in the graph.
    pub id: String,
    /// For people: `WindowAggregate(TUMBLE 1 h, by origin)`.
    pub label: String,
    pub kind: NodeKind,
    pub inputs: Vec<Input>,
    /// Columns of what the node emits. A sink's: the columns it is given.
    pub schema: SchemaRef,
    /// Which kinds of rows the node emits. A sink's: which it is given.
    pub changes: Changes,
}

/// Which kinds of rows a stream brings. In the order of what they ask of whoever reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changes {
    /// `+I` alone: what was said stays said.
    #[default]
    Insert,
    /// `+I`, `+U`, `-D`: a row replaces the one of the same key. Only tables that know the key can read it.
    Upsert,
    /// `+I`, `-U`, `+U`, `-D`: what is replaced is taken back first.
    Retract,
}

impl Changes {
    /// The kinds by Flink's short names.
    pub fn short(self) -> &'static str {
        match self {
            Changes::Insert => "+I",
            Changes::Upsert => "+I +U -D",
            Changes::Retract => "+I -U +U -D",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Input {
    /// Index into [`Dataflow::nodes`].
    pub node: usize,
    pub port: usize,
    pub exchange: Exchange,
}

impl Input {
    pub fn forward(node: usize) -> Input {
        Input { node, port: 0, exchange: Exchange::Forward }
    }
}

/// How rows get from the tasks of one node to the tasks of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// To the task of the same index, by direct call.
    Forward,
    /// To the owner of the key group of these columns.
    Hash(Vec<usize>),
    /// All to task 0.
    Single,
    /// All to every task.
    Broadcast,
}

#[derive(Debug, Clone)]
pub enum NodeKind {
    Source(SourceNode),
    /// A bounded source of rows that stand in the SQL text (`VALUES`, `SELECT` without FROM): emitted once, by task 0.
    Values(RecordBatch),
    Calc(Calc),
    /// Hands on the rows of all inputs; the watermark is the least of theirs.
    Union,
    WindowRows(WindowRows),
    WindowAggregate(WindowAggregate),
    WindowPanes(WindowPanes),
    Over(Over),
    GroupAggregate(GroupAggregate),
    Join(Join),
    MultiJoin(MultiJoin),
    TemporalJoin(TemporalJoin),
    LookupJoin(LookupJoin),
    TopN(TopN),
    Deduplicate(Deduplicate),
    /// Before a table whose primary key is not the key of the query (rule 31): of the rows of a key that have come and not
    /// been taken back, the table has the last one. Emits the columns of the input.
    UpsertMaterialize {
        /// The primary key's columns.
        keys: Vec<usize>,
        /// Whether somebody behind asks for the row as it was before an update (`-U`).
        update_before: bool,
    },
    /// Behind a table that tells of a row by its key alone: remembers the last row of each key, and tells what was there before
    /// each change. The changes of a key come out one by one, as they came in; one that changes nothing does not. Emits the
    /// columns of the input.
    Normalize {
        /// The primary key's columns.
        keys: Vec<usize>,
        /// Whether somebody behind asks for the row as it was before an update (`-U`).
        update_before: bool,
    },
    Unnest(Unnest),
    Expand(Expand),
    Limit(u64),
    Sink(SinkNode),
}

/// Reads a table, completes its rows and makes the watermark.
///
/// Columns: the projected physical columns, the metadata columns, then `$proctime` where it is asked for; from these
/// `computed` makes the columns handed on. `$watermark` comes behind them where it is asked for.
#[derive(Debug, Clone)]
pub struct SourceNode {
    pub table: TableSpec,
    pub processing_time: bool,
    pub computed: Option<Vec<Expr>>,
    pub watermark: Option<WatermarkSpec>,
    /// A partition that is silent for this long (wall clock) leaves the minimum. `None`: never.
    pub idle_timeout: Option<Millis>,
    /// When every partition is silent, let the watermark follow the clock this far behind it. `None`: never.
    pub wall_clock_fallback: Option<Millis>,
    /// Event time stands still until everything has been read, so that no row is late: batch mode.
    pub nothing_late: bool,
    /// Set a row with a NULL event time aside instead of failing the job.
    pub null_time_set_aside: bool,
    /// Adds [`ROW_WATERMARK`](millstream_core::metadata::ROW_WATERMARK) as the last column. Needs a watermark.
    pub row_watermarks: bool,
    /// Which kinds of rows the table brings. With [`Changes::Upsert`] a row that is gone (`-D`) knows its primary key, and
    /// may have NULL in all other columns, that of event time too.
    pub brings: Changes,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct WatermarkSpec {
    /// The event-time column, among the columns handed on.
    pub column: usize,
    /// Over the columns handed on; of type `Timestamp(Millisecond, _)`.
    pub expression: Expr,
    /// Where the expression is `column - constant`: the constant.
    pub delay: Option<Millis>,
}

/// Keeps the rows where `filter` holds, then makes `columns` of them.
#[derive(Debug, Clone)]
pub struct Calc {
    pub filter: Option<Expr>,
    /// `None`: all columns as they are.
    pub columns: Option<Vec<Expr>>,
}

/// How rows fall into windows.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// Fixed windows without gap or overlap.
    Tumble { size: Millis, offset: Millis },
    /// A window of `size` starts every `slide`. `size` need not be a multiple of `slide`.
    Hop { size: Millis, slide: Millis, offset: Millis },
    /// Windows that start together every `size` and end every `step` later.
    Cumulate { size: Millis, step: Millis, offset: Millis },
    /// For each key: rows at most `gap` apart belong together. Columns of the key are `partition`.
    Session { gap: Millis, partition: Vec<usize> },
    /// The window stands in two columns (`TIMESTAMP(3)`), made by an earlier node.
    Attached { start: usize, end: usize },
}

/// What windows follow: a column, a clock, and a zone for windows over `TIMESTAMP_LTZ`.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowTime {
    /// The time attribute's column: `Timestamp(Millisecond, _)`. For [`Window::Attached`] it has no meaning.
    pub column: usize,
    pub domain: TimeDomain,
    /// Windows over `TIMESTAMP_LTZ` are cut in this zone's local time; `None` for UTC and for plain `TIMESTAMP`.
    /// An IANA name (`Asia/Shanghai`) or an offset (`+08:00`).
    pub zone: Option<String>,
}

/// A window table function by itself: each row comes out once for each of its windows, with the columns
/// `window_start`, `window_end` (`Timestamp(Millisecond, None)`) and `window_time` (as the time attribute) appended.
/// Rows of sessions wait until their session has closed.
#[derive(Debug, Clone)]
pub struct WindowRows {
    pub window: Window,
    pub time: WindowTime,
    /// Column to order ties by, where the input has it: [`ROW_ORDER`](millstream_core::metadata::ROW_ORDER).
    pub order: Option<usize>,
}

/// `GROUP BY window_start, window_end, keys`: emitted once, when the watermark closes the window; again at once for
/// each change within `lateness`.
///
/// Emits the key columns, `window_start`, `window_end` (`Timestamp(Millisecond, None)`), `window_time` (the type
/// of the time column), then one column for each call.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    pub window: Window,
    pub time: WindowTime,
    pub keys: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    /// How long a closed window still takes rows. 0: none.
    pub lateness: Millis,
    pub order: Option<usize>,
}

/// A [`WindowAggregate`] whose results are told in *panes*: some while the window is open, one when the watermark closes it,
/// some for late rows. Each key of a window has panes of its own.
///
/// Emits what [`WindowAggregate`] emits, any number of times.
#[derive(Debug, Clone)]
pub struct WindowPanes {
    pub windows: WindowAggregate,
    /// Before the window closes. `None`: nothing is told before.
    pub early: Option<Trigger>,
    /// For late rows, within `windows.lateness`.
    pub late: Trigger,
    pub panes: Panes,
    /// Whether somebody behind asks for the row as it was before an update (`-U`). It only concerns [`Panes::Retracting`].
    pub update_before: bool,
}

/// When a pane is due that has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Whenever the clock passes a multiple of this, counted from 1970.
    Every(Millis),
    /// With its n-th row.
    Rows(u64),
    /// With each row.
    Change,
}

/// What a pane says of its key and window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panes {
    /// The result over all rows so far, in place of the one told before; nothing where it is the same.
    Retracting,
    /// The result over all rows so far, as a new row; nothing where it is the same.
    Accumulating,
    /// The result over the rows since the last pane, as a new row.
    Discarding,
}

/// One aggregate of one query.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Argument columns of the input.
    pub args: Vec<usize>,
    pub distinct: bool,
    /// A BOOLEAN column of the input: only rows where it is true count.
    pub filter: Option<usize>,
    /// Name and type of the result.
    pub result: Field,
}

#[derive(Debug, Clone)]
pub enum AggregateFunction {
    /// Without argument: rows. With one: values that are not NULL.
    Count,
    /// Exact and independent of order for every type; an overflow of the result type is an error.
    Sum,
    /// Of integers an integer, rounded toward zero, as in Flink.
    Avg,
    Min,
    Max,
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    /// By (time, order), of the values that are not NULL, as in Flink.
    FirstValue,
    LastValue,
    /// Values that are not NULL, by (time, order), joined with the separator.
    ListAgg {
        separator: String,
    },
    ArrayAgg,
    /// Which values there are, and how often.
    Collect,
    ApproxCountDistinct,
    /// `fraction` in 0..=1.
    ApproxPercentile {
        fraction: f64,
    },
    /// Any other aggregate of DataFusion, run as a kernel over its own state columns. Its arguments are columns.
    Kernel(Arc<AggregateFunctionExpr>),
}

/// `OVER (PARTITION BY keys ORDER BY time ...)`: each input row with one more column for each call.
///
/// A row comes out when the watermark has reached its time, so that every earlier row has been seen.
#[derive(Debug, Clone)]
pub struct Over {
    pub keys: Vec<usize>,
    /// The time attribute: `Timestamp(Millisecond, _)`.
    pub time: usize,
    pub domain: TimeDomain,
    pub order: Option<usize>,
    pub calls: Vec<OverCall>,
}

#[derive(Debug, Clone)]
pub struct OverCall {
    pub function: OverFunction,
    pub frame: Frame,
}

#[derive(Debug, Clone)]
pub enum OverFunction {
    Aggregate(AggregateCall),
    /// 1, 2, 3 … by (time, order).
    RowNumber {
        result: Field,
    },
    Rank {
        result: Field,
    },
    DenseRank {
        result: Field,
    },
    /// The value `offset` rows before; NULL where there is none.
    Lag {
        arg: usize,
        offset: u64,
        result: Field,
    },
}

/// From where to the current row. `None`: from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Rows at most this much older, both bounds inclusive; all rows of the same time are in (peers).
    Range { preceding: Option<Millis> },
    /// That many rows before, and this one.
    Rows { preceding: Option<u64> },
}

/// `GROUP BY keys` without a window: one row for each group, kept up to date. The first row of a group inserts its result, later
/// ones that change it update it, and a group whose last row has been taken back is deleted (rule 28). Without keys there
/// is one group, which is never deleted.
///
/// Emits the key columns, then one column for each call.
#[derive(Debug, Clone)]
pub struct GroupAggregate {
    pub keys: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    /// Rows of the input may take others back. Without, aggregates need not remember what could be taken back.
    pub retracts: bool,
    /// Whether somebody behind asks for the row as it was before an update (`-U`).
    pub update_before: bool,
    /// How long a group is remembered after its last row.
    pub ttl: Option<StateTtl>,
    /// Column to order ties by, where the input has it: [`ROW_ORDER`](millstream_core::metadata::ROW_ORDER).
    pub order: Option<usize>,
}

/// State is forgotten this long after the event time of the row that touched it last: a row that comes when the watermark
/// before it has passed `last touch + keep` finds nothing. It goes by the rows' own times, so it does not depend on when they
/// arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTtl {
    pub keep: Millis,
    /// The event-time column of each input: `Timestamp(Millisecond, _)`.
    pub times: Vec<usize>,
}

/// Rows of input 0 (left) with rows of input 1 (right).
///
/// Emits the columns of the left, then those of the right; of a semi or anti join those of the left alone.
#[derive(Debug, Clone)]
pub struct Join {
    pub kind: JoinKind,
    /// Columns that have to be equal: of the left, of the right. Types agree.
    pub keys: Vec<(usize, usize)>,
    /// For each pair of keys: NULL equals NULL (`IS NOT DISTINCT FROM`, `INTERSECT`).
    pub null_equals_null: Vec<bool>,
    /// What else has to hold: over the columns of the left, then those of the right.
    pub residual: Option<Expr>,
    pub scope: JoinScope,
}

/// Rows of three or more inputs with equal keys, all with all, kept up to date at once: what joins of two at a time make, without
/// a memory of what the first of them make. NULL equals nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiJoin {
    /// Of each input, the columns that have to be equal, in one order. Types agree.
    pub keys: Vec<Vec<usize>>,
    /// Inputs by LEFT JOIN: where they have no row of the key, NULLs stand in its place. Never the first.
    pub outer: Vec<bool>,
    /// Inputs that may take rows back.
    pub retracts: Vec<bool>,
    /// The columns that come out: of which input, and which of its columns.
    pub columns: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    /// Rows of the left with a partner (`IN`, `EXISTS`).
    Semi,
    /// Rows of the left without one (`NOT EXISTS`).
    Anti,
    /// All rows of the left, and in a column behind theirs whether they have a partner (`EXISTS` as a value).
    Mark,
}

/// Which rows can meet, and with it how long they are remembered.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinScope {
    /// All rows, as long as they have not been taken back. The result is updated at once.
    Always {
        ttl: Option<StateTtl>,
        /// Whether the input of each side may take rows back.
        retracts: [bool; 2],
    },
    /// Rows of the same window, which stands in two columns (`Timestamp(Millisecond, None)`) of each side and is among the
    /// keys too. Everything comes out once, when the watermark closes the window (rule 37). Inputs only insert.
    Window { start: [usize; 2], end: [usize; 2], domain: TimeDomain },
    /// `left time BETWEEN right time + lower AND right time + upper`, both bounds inclusive (rule 19). Inputs only insert.
    /// The watermark handed on is held back, so that no row that comes out is late by either of its times.
    Interval { times: [usize; 2], domain: TimeDomain, lower: Millis, upper: Millis },
    /// All rows with those of a small input that ends by itself. Every task keeps all of these, and the other input, the
    /// large one, passes by once they are there: it stays where it is and is not remembered, and no result is revised but
    /// where the large input itself revises. The large side's rows come out for INNER, and where they are the outer ones.
    ///
    /// No source of the large input is read before the small one has ended; they have no source in common.
    Broadcast {
        /// Which input is the small one.
        small: usize,
        /// Whether it may take rows back.
        retracts: bool,
    },
}

/// `left JOIN right FOR SYSTEM_TIME AS OF left.time`: each row of the left with the version of the right that held at its
/// time (rule 22). A row of the left comes out when the watermark has reached its time; what came out is never revised.
///
/// Emits the columns of the left, then those of the right. The left only inserts; the right is a table with a primary key
/// that inserts, updates and deletes.
#[derive(Debug, Clone)]
pub struct TemporalJoin {
    /// Rows of the left without a version come out with NULLs.
    pub outer: bool,
    /// Columns that have to be equal; the right ones are the primary key of its table.
    pub keys: Vec<(usize, usize)>,
    pub residual: Option<Expr>,
    /// Time of a row of the left, time from which a version of the right holds: `Timestamp(Millisecond, _)`.
    pub times: [usize; 2],
    /// A version that is older than this at the time of the row counts as none (`ASOF` with a tolerance).
    pub tolerance: Option<Millis>,
    /// Column to order ties of the left by.
    pub order: Option<usize>,
}

/// `left JOIN table FOR SYSTEM_TIME AS OF left.processing_time`: each row of the left with the rows that a table of the
/// outer world has under its key when it is asked. Rows come out in the order in which they came in, and the watermark
/// stays behind those that wait for an answer. What came out is never revised.
///
/// Emits the columns of the left, then those of `looked_up`. The left only inserts.
#[derive(Debug, Clone)]
pub struct LookupJoin {
    pub table: TableSpec,
    /// What is made of the columns that the table hands on, one after the other.
    pub steps: Vec<Calc>,
    /// The columns that come of the last step.
    pub looked_up: SchemaRef,
    /// Rows of the left that find nothing come out with NULLs.
    pub outer: bool,
    /// Columns that have to be equal: of the left, of `looked_up`. At least one; NULL equals nothing.
    pub keys: Vec<(usize, usize)>,
    /// What else has to hold: over the columns of the left, then those of `looked_up`.
    pub residual: Option<Expr>,
}

impl LookupJoin {
    /// For each key, the column that it is of those that the table hands on. `None`: it is computed of them.
    pub fn stored_keys(&self) -> Vec<Option<usize>> {
        let stored = |key: usize| {
            self.steps.iter().rev().try_fold(key, |column, step| match &step.columns {
                None => Some(column),
                Some(columns) => columns.get(column)?.as_column(),
            })
        };
        self.keys.iter().map(|(_, key)| stored(*key)).collect()
    }
}

/// The first rows of each partition in an order: `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= n`.
///
/// Emits the columns of the input, then the rank where `rank` is set. What is updated with a rank: by ROW_NUMBER the row that
/// has it (partition and rank name a row of the result), by RANK and DENSE_RANK the rank of a row (its other columns name it).
#[derive(Debug, Clone)]
pub struct TopN {
    pub partition: Vec<usize>,
    pub sort: Vec<SortColumn>,
    pub function: RankFunction,
    /// The ranks that come out, from 1, both inclusive.
    pub from: u64,
    pub to: u64,
    /// Name and type (BIGINT) of the rank, where somebody asks for it. Without, rows that only change their rank are not
    /// told of.
    pub rank: Option<Field>,
    pub scope: TopNScope,
    /// Whether somebody behind asks for the row as it was before an update (`-U`). It only concerns results with a rank.
    pub update_before: bool,
    /// Column to order ties by, where the input has it; else rows that tie stand in the order of all their columns, so that the
    /// result is a function of the rows.
    pub order: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TopNScope {
    /// Kept up to date at once. Each row of a partition makes it live longer, whether it is shown or not; what a partition
    /// has told is not taken back when it is forgotten.
    Always {
        ttl: Option<StateTtl>,
        /// The input may take rows back: all rows have to be remembered.
        retracts: bool,
    },
    /// Partitions are windows too, which stand in two columns of the input (also where `partition` does not name them):
    /// everything comes out once, when the watermark closes the window. The input only inserts.
    Window { start: usize, end: usize, domain: TimeDomain },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortColumn {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankFunction {
    RowNumber,
    Rank,
    DenseRank,
}

/// One row for each key, by a time attribute: `ROW_NUMBER() OVER (PARTITION BY keys ORDER BY time) = 1`.
///
/// Keep first: a key's row comes out when the watermark has passed its time, so that no earlier one can come, and is never
/// revised; a row behind its mark is late, unless its key has been told. Keep last: comes out at once and is updated; a row
/// older than the one that is kept changes nothing. Rows of the same time and tie stand in the order of all their columns.
/// By processing time the order is that of arrival, and keep first comes out at once. Emits the columns of the input.
///
/// Only rows that are kept make a key live longer. A row that waits is told before its key is forgotten.
#[derive(Debug, Clone)]
pub struct Deduplicate {
    pub keys: Vec<usize>,
    pub time: usize,
    pub domain: TimeDomain,
    pub keep: Keep,
    pub update_before: bool,
    pub ttl: Option<StateTtl>,
    /// Column to order rows of the same time by.
    pub order: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    First,
    Last,
}

/// `CROSS JOIN UNNEST(array)`: a row for each element, appended as columns. With `outer`, one row with NULLs for an
/// empty or NULL array. A ROW element gives one column for each of its fields; a MAP key and value.
#[derive(Debug, Clone)]
pub struct Unnest {
    pub array: Expr,
    pub outer: bool,
    pub with_ordinality: bool,
}

/// Each row once for each of the `rows` of expressions: how GROUPING SETS come about.
#[derive(Debug, Clone)]
pub struct Expand {
    pub rows: Vec<Vec<Expr>>,
}

#[derive(Debug, Clone)]
pub struct SinkNode {
    pub table: TableSpec,
    /// `None`: its columns are only called NOT NULL, and nobody relies on it (a plain SELECT's).
    pub not_null: Option<NotNull>,
}

/// What becomes of a row that brings NULL for a NOT NULL column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotNull {
    /// It fails the job.
    #[default]
    Error,
    /// It is left out and counted as bad.
    Drop,
}

/// A table for rows set aside, with the columns of its schema that it takes, by index into [`late_schema`] or
/// [`bad_schema`].
#[derive(Debug, Clone)]
pub struct SideOutput {
    pub table: TableSpec,
    pub columns: Vec<usize>,
}

/// The columns that a table for late rows may have: `operator STRING, reason STRING, event_time TIMESTAMP(3),
/// watermark TIMESTAMP(3), row STRING` (`row` as JSON).
pub fn late_schema() -> Schema {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    Schema::new(vec![
        Field::new("operator", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("event_time", time.clone(), false),
        Field::new("watermark", time, false),
        Field::new("row", DataType::Utf8, false),
    ])
}

/// The columns that a table for bad rows may have: `source STRING, place STRING, reason STRING, raw STRING`.
pub fn bad_schema() -> Schema {
    Schema::new(vec![
        Field::new("source", DataType::Utf8, false),
        Field::new("place", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("raw", DataType::Utf8, false),
    ])
}
