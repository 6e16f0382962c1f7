//! What a scalar function of ours is made of: its parameters, its result type, and one pass over columns.
//!
//! ```text
//!  planning:  argument types ──Kind::accept──▶ types the function sees ──Returns──▶ result type
//!  running:   columns and constants ──Call──▶ accessors (`text`, `longs`, ...) ──▶ one result column
//! ```
//!
//! Always true:
//! - A call whose arguments are all constants runs on one row and gives a constant.
//! - A column of text may be Utf8, LargeUtf8 or Utf8View; results are Utf8.
//! - A value that a function makes is at most [`VALUE_BYTES_MAX`], a column of results at most 2 GiB: past it, an error.

use super::zone::SessionZone;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryBuilder, BinaryViewArray, Float64Array, Int64Array,
    LargeBinaryArray, LargeStringArray, PrimitiveArray, StringArray, StringBuilder, StringViewArray,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::type_coercion::binary::type_union_resolution;
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use millstream_core::multiset::element_of;
use millstream_dataflow::fuse::text::TextColumn;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The longest text or byte string that a function makes. Guards REPEAT, LPAD and their like.
pub(super) const VALUE_BYTES_MAX: usize = 64 << 20;

/// Marks a field that holds JSON text made by a function, so that JSON_OBJECT and JSON_ARRAY nest it as it is.
pub(super) const JSON_MARK: &str = "millstream.json";

/// Takes the value out of an `Option`, or answers NULL for this row.
macro_rules! some {
    ($e:expr) => {
        match $e {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}
pub(super) use some;

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Text,
    /// Text is taken as its UTF-8 bytes.
    Bytes,
    /// Any integer, seen as BIGINT.
    Long,
    /// Any number, seen as DOUBLE.
    Double,
    /// Any number, in its own type.
    Number,
    Bool,
    /// DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ.
    Temporal,
    List,
    Map,
    Any,
}

impl Kind {
    /// The type in which the function sees an argument of type `given`, or `None` if it does not take one.
    fn accept(self, given: &DataType) -> Option<DataType> {
        use DataType::*;
        if let Dictionary(_, values) = given {
            return self.accept(values);
        }
        let null = *given == Null;
        match self {
            Kind::Text if null => Some(Utf8),
            Kind::Text => matches!(given, Utf8 | LargeUtf8 | Utf8View).then(|| given.clone()),
            Kind::Bytes if null => Some(Binary),
            Kind::Bytes => match given {
                FixedSizeBinary(_) => Some(Binary),
                Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => Some(given.clone()),
                _ => None,
            },
            Kind::Long => (null || given.is_integer()).then_some(Int64),
            Kind::Double => (null || given.is_numeric()).then_some(Float64),
            Kind::Number if null => Some(Int32),
            Kind::Number => given.is_numeric().then(|| given.clone()),
            Kind::Bool => (null || *given == Boolean).then_some(Boolean),
            Kind::Temporal if null => Some(Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
            Kind::Temporal => {
                matches!(given, Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(_, _)).then(|| given.clone())
            }
            Kind::List if null => Some(DataType::new_list(Utf8, true)),
            Kind::List => match given {
                List(_) | LargeList(_) => Some(given.clone()),
                FixedSizeList(item, _) => Some(List(item.clone())),
                _ => None,
            },
            Kind::Map => (matches!(given, Map(_, _)) && element_of(given).is_none()).then(|| given.clone()),
            Kind::Any => Some(given.clone()),
        }
    }

    /// The kind as SQL would say it, for messages and documentation.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Kind::Text => "STRING",
            Kind::Bytes => "STRING or BYTES",
            Kind::Long => "BIGINT",
            Kind::Double => "DOUBLE",
            Kind::Number => "number",
            Kind::Bool => "BOOLEAN",
            Kind::Temporal => "DATE, TIME or TIMESTAMP",
            Kind::List => "ARRAY",
            Kind::Map => "MAP",
            Kind::Any => "any",
        }
    }
}

/// How the result type follows from the arguments.
#[derive(Debug, Clone)]
pub(super) enum Returns {
    Is(DataType),
    /// From the argument types.
    By(fn(&[DataType]) -> Result<DataType>),
    /// From the argument types and the constants among the arguments.
    ByConstants(fn(&ReturnFieldArgs) -> Result<DataType>),
}

pub(super) type Run = fn(&Call) -> Result<ArrayRef>;
type Rewrite = fn(Vec<Expr>) -> Result<Option<Expr>>;

/// One scalar function.
#[derive(Debug, Clone)]
pub(super) struct Function {
    name: &'static str,
    aliases: Vec<String>,
    params: &'static [Kind],
    /// How many of the last `params` may be left out.
    optional: usize,
    /// The kind of any further arguments.
    rest: Option<Kind>,
    returns: Returns,
    run: Run,
    zone: SessionZone,
    signature: Signature,
    makes_json: bool,
    /// The arguments from this one on are brought to one type.
    unify: Option<usize>,
    /// An expression that does the same and that the optimizer knows better.
    rewrite: Option<Rewrite>,
}

impl Function {
    pub(super) fn new(name: &'static str, params: &'static [Kind], returns: DataType, run: Run) -> Function {
        Function {
            name,
            aliases: Vec::new(),
            params,
            optional: 0,
            rest: None,
            returns: Returns::Is(returns),
            run,
            zone: SessionZone::UTC,
            signature: Signature::user_defined(Volatility::Immutable),
            makes_json: false,
            unify: None,
            rewrite: None,
        }
    }

    pub(super) fn alias(mut self, name: &str) -> Function {
        self.aliases.push(name.to_string());
        self
    }

    pub(super) fn optional(mut self, last: usize) -> Function {
        self.optional = last;
        self
    }

    pub(super) fn rest(mut self, kind: Kind) -> Function {
        self.rest = Some(kind);
        self
    }

    pub(super) fn returns(mut self, by: fn(&[DataType]) -> Result<DataType>) -> Function {
        self.returns = Returns::By(by);
        self
    }

    pub(super) fn returns_by_constants(mut self, by: fn(&ReturnFieldArgs) -> Result<DataType>) -> Function {
        self.returns = Returns::ByConstants(by);
        self
    }

    pub(super) fn volatile(mut self) -> Function {
        self.signature.volatility = Volatility::Volatile;
        self
    }

    pub(super) fn makes_json(mut self) -> Function {
        self.makes_json = true;
        self
    }

    pub(super) fn unify(mut self, from: usize) -> Function {
        self.unify = Some(from);
        self
    }

    pub(super) fn rewrite(mut self, rewrite: Rewrite) -> Function {
        self.rewrite = Some(rewrite);
        self
    }

    pub(super) fn udf(mut self, zone: &SessionZone) -> Arc<ScalarUDF> {
        self.zone = *zone;
        Arc::new(ScalarUDF::new_from_impl(self))
    }

    /// `NAME(STRING, BIGINT[, STRING])`, for messages and documentation.
    pub(super) fn usage(&self) -> String {
        let required = self.params.len() - self.optional;
        let mut text = format!("{}(", self.name.to_uppercase());
        for (i, kind) in self.params.iter().enumerate() {
            text.push_str(if i >= required { "[" } else { "" });
            text.push_str(if i > 0 { ", " } else { "" });
            text.push_str(kind.sql());
            text.push_str(if i >= required { "]" } else { "" });
        }
        if self.rest.is_some() {
            text.push_str(if self.params.is_empty() { "..." } else { ", ..." });
        }
        text + ")"
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name && self.zone == other.zone
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.zone.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let required = self.params.len() - self.optional;
        if given.len() < required || (given.len() > self.params.len() && self.rest.is_none()) {
            return plan_err!("{} takes other arguments: it was given {}", self.usage(), given.len());
        }
        let kinds = self.params.iter().copied().map(Some).chain(std::iter::repeat(self.rest));
        let mut accepted = Vec::with_capacity(given.len());
        for (i, (data_type, kind)) in given.iter().zip(kinds).enumerate() {
            let Some(kind) = kind else { return internal_err!("{} has no parameter {i}", self.name) };
            match kind.accept(data_type) {
                Some(data_type) => accepted.push(data_type),
                None => {
                    return plan_err!(
                        "{}: argument {} is {data_type}, wanted {}; CAST it if that is what you mean",
                        self.usage(),
                        i + 1,
                        kind.sql()
                    );
                }
            }
        }
        if let Some(from) = self.unify {
            match type_union_resolution(&accepted[from..]) {
                Some(common) => accepted[from..].fill(common),
                None => return plan_err!("{}: the values have no type in common; CAST them to one", self.usage()),
            }
        }
        Ok(accepted)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let Some(rewrite) = self.rewrite
            && let Some(expr) = rewrite(args.clone())?
        {
            return Ok(ExprSimplifyResult::Simplified(expr));
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match &self.returns {
            Returns::Is(data_type) => Ok(data_type.clone()),
            Returns::By(by) => by(given),
            Returns::ByConstants(_) => internal_err!("the type of {} depends on its constants", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = match &self.returns {
            Returns::ByConstants(by) => by(&args)?,
            _ => {
                let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
                self.return_type(&types)?
            }
        };
        let field = Field::new(self.name, data_type, true);
        Ok(Arc::new(match self.makes_json {
            true => field.with_metadata(HashMap::from([(JSON_MARK.to_string(), "true".to_string())])),
            false => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant: Vec<bool> = args.args.iter().map(|a| matches!(a, ColumnarValue::Scalar(_))).collect();
        let fold = constant.iter().all(|c| *c) && self.signature.volatility != Volatility::Volatile;
        let columns = args.args.into_iter().map(|a| match a {
            ColumnarValue::Array(array) => Ok(array),
            ColumnarValue::Scalar(value) => value.to_array(),
        });
        let call = Call {
            name: self.name,
            args: columns.collect::<Result<_>>()?,
            fields: args.arg_fields,
            constant,
            rows: if fold { 1 } else { args.number_rows },
            zone: &self.zone,
            returns: args.return_field.data_type(),
        };
        let result = (self.run)(&call)?;
        if result.len() != call.rows || result.data_type() != call.returns {
            return internal_err!(
                "{} made {} rows of {}, wanted {} of {}",
                self.name,
                result.len(),
                result.data_type(),
                call.rows,
                call.returns
            );
        }
        Ok(match fold {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

/// The arguments of one call, for one batch.
pub(super) struct Call<'a> {
    pub(super) name: &'static str,
    /// A constant is a column of one row.
    pub(super) args: Vec<ArrayRef>,
    pub(super) fields: Vec<FieldRef>,
    pub(super) constant: Vec<bool>,
    /// How many rows the result must have.
    pub(super) rows: usize,
    pub(super) zone: &'a SessionZone,
    pub(super) returns: &'a DataType,
}

impl Call<'_> {
    pub(super) fn has(&self, i: usize) -> bool {
        i < self.args.len()
    }

    /// Argument `i` as a column as long as the batch.
    pub(super) fn whole(&self, i: usize) -> Result<ArrayRef> {
        if !self.constant[i] || self.rows == 1 {
            return Ok(self.args[i].clone());
        }
        ScalarValue::try_from_array(&self.args[i], 0)?.to_array_of_size(self.rows)
    }

    fn cast<T: 'static>(&self, i: usize) -> Result<&T> {
        match self.args.get(i).and_then(|a| a.as_any().downcast_ref::<T>()) {
            Some(array) => Ok(array),
            None => internal_err!("{}: argument {i} was not coerced", self.name),
        }
    }

    pub(super) fn text(&self, i: usize) -> Result<Text<'_>> {
        let constant = self.constant.get(i).copied().unwrap_or_default();
        Ok(Text {
            constant,
            array: match self.args.get(i).map(|a| a.data_type()) {
                Some(DataType::LargeUtf8) => TextArray::Large(self.cast(i)?),
                Some(DataType::Utf8View) => TextArray::View(self.cast(i)?),
                _ => TextArray::Utf8(self.cast(i)?),
            },
        })
    }

    /// Argument `i` as text, or `None` where it was left out.
    pub(super) fn optional_text(&self, i: usize) -> Result<Option<Text<'_>>> {
        if self.has(i) { self.text(i).map(Some) } else { Ok(None) }
    }

    pub(super) fn bytes(&self, i: usize) -> Result<Bytes<'_>> {
        let constant = self.constant.get(i).copied().unwrap_or_default();
        Ok(match self.args.get(i).map(|a| a.data_type()) {
            Some(DataType::Binary) => Bytes::Binary(self.cast(i)?, constant),
            Some(DataType::LargeBinary) => Bytes::Large(self.cast(i)?, constant),
            Some(DataType::BinaryView) => Bytes::View(self.cast(i)?, constant),
            _ => Bytes::Text(self.text(i)?),
        })
    }

    pub(super) fn longs(&self, i: usize) -> Result<Values<'_, arrow::datatypes::Int64Type>> {
        Ok(Values { array: self.cast::<Int64Array>(i)?, constant: self.constant[i] })
    }

    pub(super) fn optional_longs(&self, i: usize) -> Result<Option<Values<'_, arrow::datatypes::Int64Type>>> {
        if self.has(i) { self.longs(i).map(Some) } else { Ok(None) }
    }

    pub(super) fn doubles(&self, i: usize) -> Result<Values<'_, arrow::datatypes::Float64Type>> {
        Ok(Values { array: self.cast::<Float64Array>(i)?, constant: self.constant[i] })
    }

    /// The value of argument `i`, which must be a constant; `None` for NULL.
    pub(super) fn constant_text(&self, i: usize, what: &str) -> Result<Option<&str>> {
        if !self.constant[i] {
            return exec_err!("{}: the {what} must be a constant", self.name.to_uppercase());
        }
        let text = self.text(i)?;
        Ok(text.at(0))
    }

    /// A column of text, row by row: `write` fills the buffer, or answers `None` for NULL.
    pub(super) fn make_text(
        &self,
        mut write: impl FnMut(usize, &mut String) -> Result<Option<()>>,
    ) -> Result<ArrayRef> {
        let mut out = StringBuilder::with_capacity(self.rows, self.rows * 16);
        let (mut buffer, mut total) = (String::new(), 0usize);
        // Row by row: each value has its own length, so there is no column operation to put it in.
        for row in 0..self.rows {
            buffer.clear();
            match write(row, &mut buffer)? {
                Some(()) => {
                    total += buffer.len();
                    self.check_bytes(buffer.len(), total)?;
                    out.append_value(&buffer);
                }
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }

    /// As [`Call::make_text`], where the value is a part of an argument and no buffer is needed.
    pub(super) fn pick_text<'t>(&self, pick: impl Fn(usize) -> Result<Option<&'t str>>) -> Result<ArrayRef> {
        let mut out = TextColumn::with_capacity(self.rows, self.rows * 16);
        let mut total = 0usize;
        for row in 0..self.rows {
            let value = pick(row)?;
            total += value.map_or(0, str::len);
            self.check_bytes(0, total)?;
            match value {
                Some(value) => out.push(value),
                None => out.push_null(),
            }
        }
        Ok(Arc::new(out.finish()?))
    }

    /// A column of byte strings, row by row.
    pub(super) fn make_bytes(
        &self,
        mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<Option<()>>,
    ) -> Result<ArrayRef> {
        let mut out = BinaryBuilder::new();
        let (mut buffer, mut total) = (Vec::new(), 0usize);
        for row in 0..self.rows {
            buffer.clear();
            match write(row, &mut buffer)? {
                Some(()) => {
                    total += buffer.len();
                    self.check_bytes(buffer.len(), total)?;
                    out.append_value(&buffer);
                }
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }

    /// A column of numbers, dates or times, row by row, in the function's result type.
    pub(super) fn make<T: ArrowPrimitiveType>(
        &self,
        mut value: impl FnMut(usize) -> Result<Option<T::Native>>,
    ) -> Result<ArrayRef> {
        let mut out = Vec::with_capacity(self.rows);
        let mut nulls = arrow::array::NullBufferBuilder::new(self.rows);
        for row in 0..self.rows {
            let value = value(row)?;
            nulls.append(value.is_some());
            out.push(value.unwrap_or_default());
        }
        let array = PrimitiveArray::<T>::try_new(out.into(), nulls.finish())?;
        Ok(Arc::new(array.with_data_type(self.returns.clone())))
    }

    pub(super) fn make_bools(&self, mut value: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
        let mut out = arrow::array::BooleanBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            out.append_option(value(row)?);
        }
        Ok(Arc::new(out.finish()))
    }

    /// Refuses a value that is to become longer than [`VALUE_BYTES_MAX`].
    pub(super) fn check_value(&self, bytes: usize) -> Result<()> {
        self.check_bytes(bytes, 0)
    }

    #[inline]
    pub(super) fn check_bytes(&self, value: usize, total: usize) -> Result<()> {
        if value > VALUE_BYTES_MAX {
            return exec_err!("{} would make a value of {value} bytes; the most is {VALUE_BYTES_MAX}", self.name);
        }
        if total > i32::MAX as usize {
            return exec_err!("{} would make more than 2 GiB of text from one batch", self.name);
        }
        Ok(())
    }
}

/// A column of numbers or a constant.
pub(super) struct Values<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    pub(super) constant: bool,
}

impl<T: ArrowPrimitiveType> Values<'_, T> {
    #[inline]
    pub(super) fn at(&self, row: usize) -> Option<T::Native> {
        let row = if self.constant { 0 } else { row };
        (!self.array.is_null(row)).then(|| self.array.value(row))
    }
}

/// A column of text or a constant.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    array: TextArray<'a>,
    pub(super) constant: bool,
}

#[derive(Clone, Copy)]
enum TextArray<'a> {
    Utf8(&'a StringArray),
    Large(&'a LargeStringArray),
    View(&'a StringViewArray),
}

impl<'a> Text<'a> {
    pub(super) fn of(array: &'a ArrayRef) -> Option<Text<'a>> {
        let any = array.as_any();
        let array = match array.data_type() {
            DataType::Utf8 => TextArray::Utf8(any.downcast_ref()?),
            DataType::LargeUtf8 => TextArray::Large(any.downcast_ref()?),
            DataType::Utf8View => TextArray::View(any.downcast_ref()?),
            _ => return None,
        };
        Some(Text { array, constant: false })
    }

    #[inline]
    pub(super) fn at(&self, row: usize) -> Option<&'a str> {
        let row = if self.constant { 0 } else { row };
        match self.array {
            TextArray::Utf8(a) => (!a.is_null(row)).then(|| a.value(row)),
            TextArray::Large(a) => (!a.is_null(row)).then(|| a.value(row)),
            TextArray::View(a) => (!a.is_null(row)).then(|| a.value(row)),
        }
    }
}

/// A column of byte strings, or of text seen as its bytes, or a constant.
pub(super) enum Bytes<'a> {
    Binary(&'a BinaryArray, bool),
    Large(&'a LargeBinaryArray, bool),
    View(&'a BinaryViewArray, bool),
    Text(Text<'a>),
}

impl<'a> Bytes<'a> {
    pub(super) fn at(&self, row: usize) -> Option<&'a [u8]> {
        let of = |constant: bool| if constant { 0 } else { row };
        match self {
            Bytes::Binary(a, c) => (!a.is_null(of(*c))).then(|| a.value(of(*c))),
            Bytes::Large(a, c) => (!a.is_null(of(*c))).then(|| a.value(of(*c))),
            Bytes::View(a, c) => (!a.is_null(of(*c))).then(|| a.value(of(*c))),
            Bytes::Text(text) => text.at(row).map(str::as_bytes),
        }
    }
}

/// What was made from the last key seen: a constant pattern or format is prepared once for each batch.
pub(super) struct Memo<T> {
    last: Option<(String, T)>,
}

impl<T> Memo<T> {
    pub(super) fn new() -> Memo<T> {
        Memo { last: None }
    }

    pub(super) fn get(&mut self, key: &str, make: impl FnOnce(&str) -> Result<T>) -> Result<&T> {
        if self.last.as_ref().is_none_or(|(k, _)| k != key) {
            self.last = Some((key.to_string(), make(key)?));
        }
        match &self.last {
            Some((_, value)) => Ok(value),
            None => internal_err!("nothing was made"),
        }
    }
}
