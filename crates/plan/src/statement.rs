//! The statements of a script, parsed.

use crate::catalog::{FunctionDef, Span, TableDef, ViewDef};
use arrow::datatypes::DataType;
use datafusion_sql::sqlparser::ast;
use millstream_core::{Millis, Place};
use millstream_dataflow::graph::NotNull;

/// One statement with where it starts.
#[derive(Debug, Clone)]
pub struct Statement {
    pub span: Span,
    pub kind: StatementKind,
}

#[derive(Debug, Clone)]
pub enum StatementKind {
    CreateTable {
        table: TableDef,
        if_not_exists: bool,
    },
    CreateView {
        view: ViewDef,
        if_not_exists: bool,
    },
    CreateFunction {
        function: FunctionDef,
        if_not_exists: bool,
    },
    DropFunction {
        name: String,
        if_exists: bool,
    },
    DropTable {
        name: String,
        if_exists: bool,
    },
    DropView {
        name: String,
        if_exists: bool,
    },
    /// `SET 'key' = 'value'`; `value` `None` for a bare `SET 'key'` or `RESET 'key'`.
    Set {
        key: String,
        value: Option<String>,
    },
    Insert(Insert),
    /// `EXECUTE STATEMENT SET BEGIN ... END`.
    StatementSet(Vec<Insert>),
    /// A plain `SELECT` (or `VALUES`, `WITH`): its result is printed.
    Query(Box<ast::Query>),
    Explain {
        mermaid: bool,
        statement: Box<Statement>,
    },
}

/// `INSERT INTO table [(columns)] query`.
#[derive(Debug, Clone)]
pub struct Insert {
    pub span: Span,
    pub table: String,
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
}

/// What `SET` changes. Flink's keys under Flink's names; our own under `millstream.`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `table.local-time-zone`: an IANA name or an offset; `UTC` unless set (also for Flink's `default`).
    pub local_time_zone: String,
    /// `table.exec.source.idle-timeout`: a silent partition leaves the watermark's minimum. 0 ms: never.
    pub idle_timeout: Millis,
    /// `millstream.watermark.wall-clock-fallback`: when all partitions are silent, the watermark follows the clock this
    /// far behind. `None`: off.
    pub wall_clock_fallback: Option<Millis>,
    /// `table.exec.emit.allow-lateness`: how long a closed window still takes rows. Default 0 ms.
    pub allowed_lateness: Millis,
    /// `table.exec.emit.early-fire.enabled`: windows are told before they close.
    pub early_fire: bool,
    /// `table.exec.emit.early-fire.delay`: how often, by the clock; 0 ms: with each row. `None` unless set.
    pub early_fire_delay: Option<Millis>,
    /// `table.exec.emit.late-fire.enabled`: late rows within the allowed lateness change what was told.
    pub late_fire: bool,
    /// `table.exec.emit.late-fire.delay`: how often, by the clock; 0 ms: with each row. `None` unless set.
    pub late_fire_delay: Option<Millis>,
    /// A bounded job in batch mode, run by our own operators: no row is late, and windows are told once, when they close,
    /// whatever `EMIT` says.
    pub final_results: bool,
    /// `table.exec.source.cdc-events-duplicate`: the rows of tables that bring changes are remembered by their primary key, so that
    /// changes may come twice, and need not say what they replace.
    pub changes_by_key: bool,
    /// `table.exec.state.ttl`: how long a key is remembered after its last row, by event time. `None`: for ever.
    pub state_ttl: Option<Millis>,
    /// `millstream.late-rows.table`: the declared table that late rows go to.
    pub late_rows_table: Option<String>,
    /// `millstream.bad-rows.table`: the declared table that bad rows go to. Setting it makes every source set bad rows
    /// aside instead of failing.
    pub bad_rows_table: Option<String>,
    /// `table.exec.sink.not-null-enforcer`: what becomes of a row with NULL for a NOT NULL column of its table.
    pub not_null: NotNull,
    /// `parallelism.default`: `None` unless set.
    pub parallelism: Option<usize>,
    /// `execution.runtime-mode`: streaming unless set to `batch`.
    pub batch: bool,
    /// `pipeline.name`.
    pub job_name: Option<String>,
    /// `execution.checkpointing.dir`, or Flink 1.20's `state.checkpoints.dir`: where the job keeps its state.
    pub checkpoint_dir: Option<String>,
    /// `execution.checkpointing.interval`: from the start of one checkpoint to the start of the next.
    pub checkpoint_interval: Option<Millis>,
    /// `execution.checkpointing.timeout`: a checkpoint that takes longer is given up.
    pub checkpoint_timeout: Option<Millis>,
    /// `execution.checkpointing.min-pause`: from the end of one to the start of the next, at least.
    pub checkpoint_min_pause: Option<Millis>,
    /// `execution.checkpointing.num-retained`, or `state.checkpoints.num-retained`: how many are kept.
    pub checkpoints_kept: Option<usize>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            local_time_zone: "UTC".into(),
            idle_timeout: 0,
            wall_clock_fallback: None,
            allowed_lateness: 0,
            early_fire: false,
            early_fire_delay: None,
            late_fire: false,
            late_fire_delay: None,
            final_results: false,
            changes_by_key: false,
            state_ttl: None,
            late_rows_table: None,
            bad_rows_table: None,
            not_null: NotNull::Error,
            parallelism: None,
            batch: false,
            job_name: None,
            checkpoint_dir: None,
            checkpoint_interval: None,
            checkpoint_timeout: None,
            checkpoint_min_pause: None,
            checkpoints_kept: None,
        }
    }
}

/// A type as declared, for messages: `DECIMAL(10, 2)`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredType {
    pub data_type: DataType,
    pub nullable: bool,
}

impl Statement {
    /// `file:line:column` of the statement.
    pub fn place(&self, file: &str) -> Place {
        Place::line_column(file, self.span.line, self.span.column)
    }
}
