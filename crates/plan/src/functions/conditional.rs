//! Choosing between values, and what type a value has.

use super::kernel::{Call, Function, Kind};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{and, is_not_null, nullif, prep_null_mask_filter};
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{Expr, when};

pub(super) fn functions() -> Vec<Function> {
    use Kind::{Any, Bool};
    vec![
        Function::new("if", &[Bool, Any, Any], DataType::Null, choose).unify(1).returns(last).rewrite(|args| {
            match <[Expr; 3]>::try_from(args) {
                Ok([condition, yes, no]) => Ok(Some(when(condition, yes).otherwise(no)?)),
                Err(_) => Ok(None),
            }
        }),
        Function::new("greatest", &[Any], DataType::Null, |c| extreme(c, true)).rest(Any).unify(0).returns(last),
        Function::new("least", &[Any], DataType::Null, |c| extreme(c, false)).rest(Any).unify(0).returns(last),
        Function::new("typeof", &[Any, Bool], DataType::Utf8, type_of).optional(1),
    ]
}

fn last(types: &[DataType]) -> Result<DataType> {
    match types.last() {
        Some(data_type) => Ok(data_type.clone()),
        None => plan_err!("an argument is missing"),
    }
}

/// A condition that is NULL chooses the second value. (The optimizer makes CASE of it, which leaves the other value alone.)
fn choose(c: &Call) -> Result<ArrayRef> {
    let condition = c.whole(0)?;
    let condition = condition.as_boolean();
    let condition = if condition.null_count() > 0 { prep_null_mask_filter(condition) } else { condition.clone() };
    Ok(arrow::compute::kernels::zip::zip(&condition, &c.whole(1)?, &c.whole(2)?)?)
}

/// NULL as soon as one of the values is.
fn extreme(c: &Call, greatest: bool) -> Result<ArrayRef> {
    let mut best = c.whole(0)?;
    for i in 1..c.args.len() {
        let next = c.whole(i)?;
        let better = if greatest { cmp::gt(&next, &best)? } else { cmp::lt(&next, &best)? };
        let both: BooleanArray = and(&is_not_null(&next)?, &is_not_null(&best)?)?;
        let better = if better.null_count() > 0 { prep_null_mask_filter(&better) } else { better };
        let chosen = arrow::compute::kernels::zip::zip(&better, &next, &best)?;
        best = nullif(&chosen, &arrow::compute::not(&both)?)?;
    }
    Ok(best)
}

fn type_of(c: &Call) -> Result<ArrayRef> {
    let mut name = super::cast::sql_type(c.args[0].data_type());
    if !c.fields[0].is_nullable() {
        name.push_str(" NOT NULL");
    }
    c.make_text(|_, out| {
        out.push_str(&name);
        Ok(Some(()))
    })
}
