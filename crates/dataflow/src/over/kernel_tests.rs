//! Aggregates of DataFusion over frames: one that can take rows back, and one that is computed anew.

use super::tests::{aggregate, over};
use crate::graph::{AggregateFunction, Frame};
use crate::testing::{Timeline, timestamp};
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::Column;
use std::sync::Arc;

type Outcome<T> = datafusion_common::Result<T>;

/// All values joined by exclusive or; taken back by doing it again.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Xor {
    signature: Signature,
    retracts: bool,
}

#[derive(Debug)]
struct State {
    value: i64,
    retracts: bool,
}

impl AggregateUDFImpl for Xor {
    fn name(&self) -> &str {
        "xor"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Outcome<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Outcome<Box<dyn Accumulator>> {
        Ok(Box::new(State { value: 0, retracts: self.retracts }))
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Outcome<Vec<arrow::datatypes::FieldRef>> {
        Ok(vec![Arc::new(Field::new("value", DataType::Int64, false))])
    }
}

impl Accumulator for State {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Outcome<()> {
        self.value = values[0].as_primitive::<Int64Type>().iter().flatten().fold(self.value, |x, v| x ^ v);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Outcome<()> {
        assert!(self.retracts, "not asked of one that cannot");
        self.update_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.retracts
    }

    fn evaluate(&mut self) -> Outcome<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.value)))
    }

    fn size(&self) -> usize {
        size_of::<State>()
    }

    fn state(&mut self) -> Outcome<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(Some(self.value))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Outcome<()> {
        self.update_batch(states)
    }
}

#[test]
fn an_aggregate_of_datafusion_gives_the_same_taken_back_or_anew() {
    let timeline = Timeline::new(&[("ts", timestamp()), ("who", DataType::Utf8), ("n", DataType::Int64)]).keyed(&[1]);
    let kernel = |retracts| {
        let signature = Signature::any(1, Volatility::Immutable);
        let function = Arc::new(AggregateUDF::new_from_impl(Xor { signature, retracts }));
        let schema: Arc<Schema> = timeline.schema();
        let built =
            AggregateExprBuilder::new(function, vec![Arc::new(Column::new("n", 2))]).schema(schema).alias("xor");
        AggregateFunction::Kernel(Arc::new(built.build().expect("an aggregate")))
    };
    let range = Frame::Range { preceding: Some(10) };
    let call = |retracts, frame| aggregate(kernel(retracts), &[2], DataType::Int64, frame);
    let calls = vec![
        call(true, range),
        call(false, range),
        call(false, Frame::Rows { preceding: None }),
        call(true, Frame::Rows { preceding: Some(0) }),
    ];
    let spec = over(&[1], 0, None, calls);
    timeline.check(
        || Box::new(super::tests::build(&spec, &timeline.schema())),
        "
        rows       10 ann 1, 15 ann 2, 20 ann 4, 21 ann 8, 21 bob 7, 50 ann null
        watermark  60     -> 10 ann 1 1 1 1 1, 15 ann 2 3 3 3 2, 20 ann 4 7 7 7 4, 21 ann 8 14 14 15 8
                          -> 21 bob 7 7 7 7 7, 50 ann null 0 0 15 0
        end",
    );
}
