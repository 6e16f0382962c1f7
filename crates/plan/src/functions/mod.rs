//! Every function of the SQL dialect, by name.
//!
//! ```text
//!  DataFusion's defaults ──▶ taken over as they are
//!  Flink's own           ──▶ replace those of the same name, and add what is missing
//! ```
//!
//! Always true:
//! - A function that has the name of one of Flink's means what Flink means, but where `docs/functions.md` says otherwise.
//! - NULL in, NULL out, unless the function is about NULLs (COALESCE, IF, CONCAT_WS, ...).
//! - Nothing reads the environment, but for the functions whose meaning is the clock (NOW, CURRENT_DATE, ...): the session's
//!   time zone is an argument of [`register`].
//!
//! Whoever plans a query asks in this order: [`plain_calls`] over the parsed text, [`FlinkExprPlanner`] before DataFusion's
//! planners, [`FlinkOperators`] before type coercion, and, after it, [`FlinkCasts`] over every expression. IF becomes CASE
//! when expressions are simplified.

mod aggregate;
mod cast;
mod collection;
mod conditional;
mod encode;
mod field;
mod floats;
mod interval;
mod json;
mod kernel;
mod math;
mod operators;
mod pattern;
mod planner;
mod printf;
mod regex;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod url;
mod wall;
mod zone;

pub use cast::{CastTo, FlinkCasts};
pub use floats::compare_floats;
pub use operators::FlinkOperators;
pub use planner::{FlinkExprPlanner, plain_calls};
pub use zone::SessionZone;

use crate::catalog::FunctionDef;
use datafusion_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All functions there are. A later entry replaces an earlier one in each name or alias they share, so whoever fills a map
/// from these in order gets the right one; [`FunctionRegistry::scalar`] and its siblings look up in the same way.
#[derive(Debug, Clone)]
pub struct FunctionRegistry {
    pub scalars: Vec<Arc<ScalarUDF>>,
    pub aggregates: Vec<Arc<AggregateUDF>>,
    pub windows: Vec<Arc<WindowUDF>>,
    scalars_by_name: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates_by_name: BTreeMap<String, Arc<AggregateUDF>>,
    windows_by_name: BTreeMap<String, Arc<WindowUDF>>,
}

/// The functions of a session whose time zone is `zone`.
pub fn register(zone: &SessionZone) -> FunctionRegistry {
    let mut scalars = datafusion_functions::all_default_functions();
    scalars.extend(datafusion_functions_nested::all_default_nested_functions());
    let ours = [
        text::functions(),
        regex::functions(),
        encode::functions(),
        time::functions(),
        math::functions(),
        conditional::functions(),
        collection::functions(),
        json::functions(),
    ];
    let row = datafusion_functions::core::r#struct().as_ref().clone().with_aliases(["row"]);
    replace(&mut scalars, [Arc::new(row)].into_iter(), |f| (f.name(), f.aliases()));
    replace(&mut scalars, ours.into_iter().flatten().map(|f| f.udf(zone)), |f| (f.name(), f.aliases()));
    let mut aggregates = datafusion_functions_aggregate::all_default_aggregate_functions();
    // Its t-digest depends on the order of the rows, and there is no sketch of ours with weights.
    aggregates.retain(|f| f.name() != "approx_percentile_cont_with_weight");
    replace(&mut aggregates, aggregate::functions().into_iter().map(Arc::new), |f| (f.name(), f.aliases()));
    let windows = datafusion_functions_window::all_default_window_functions();
    FunctionRegistry::new(scalars, aggregates, windows)
}

/// Classes of functions that scripts for Flink name, and the built-in function that does the same.
const CLASSES: &[(&str, &str)] = &[("com.github.nexmark.flink.udf.CountChar", "count_char")];

/// The built-in function that a created one stands for.
///
/// # Errors
/// There is none of this name; the new name is that of another built-in function.
pub fn built_in(function: &FunctionDef) -> Result<&str> {
    let class = CLASSES.iter().find(|(class, _)| *class == function.target);
    let target = class.map_or(function.target.as_str(), |(_, name)| *name);
    let registry = register(&SessionZone::UTC);
    if !registry.has(target) {
        let names = [registry.scalar_names(), registry.aggregate_names(), registry.window_names()].concat();
        let e = Error::sql(format!("there is no built-in function '{target}'"));
        return Err(match did_you_mean(target, names.iter().map(String::as_str)) {
            Some(meant) => e.remedy(format!("did you mean '{meant}'?")),
            None => e.remedy(
                "name a function of docs/functions.md: code of your own, in a class or a script, cannot be run",
            ),
        });
    }
    let same = function.name.eq_ignore_ascii_case(target);
    if registry.has(&function.name) && !function.system && !same {
        return Err(Error::sql(format!("`{}` is a built-in function, which is the one that is called", function.name))
            .remedy("choose another name, or write CREATE TEMPORARY SYSTEM FUNCTION to take its place"));
    }
    Ok(target)
}

/// Takes away the functions whose name a new one has, be it as an alias; then adds the new ones.
fn replace<F>(all: &mut Vec<Arc<F>>, new: impl Iterator<Item = Arc<F>>, names: impl Fn(&F) -> (&str, &[String])) {
    let new: Vec<Arc<F>> = new.collect();
    all.retain(|old| {
        let (old, _) = names(old);
        !new.iter().any(|n| names(n).0 == old || names(n).1.iter().any(|alias| alias == old))
    });
    all.extend(new);
}

impl FunctionRegistry {
    fn new(
        scalars: Vec<Arc<ScalarUDF>>,
        aggregates: Vec<Arc<AggregateUDF>>,
        windows: Vec<Arc<WindowUDF>>,
    ) -> FunctionRegistry {
        FunctionRegistry {
            scalars_by_name: by_name(&scalars, |f| (f.name(), f.aliases())),
            aggregates_by_name: by_name(&aggregates, |f| (f.name(), f.aliases())),
            windows_by_name: by_name(&windows, |f| (f.name(), f.aliases())),
            scalars,
            aggregates,
            windows,
        }
    }

    /// The scalar function of this name or alias; case does not matter.
    pub fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars_by_name.get(&name.to_lowercase()).cloned()
    }

    /// The aggregate function of this name or alias; case does not matter.
    pub fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates_by_name.get(&name.to_lowercase()).cloned()
    }

    /// The window function of this name or alias; case does not matter.
    pub fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows_by_name.get(&name.to_lowercase()).cloned()
    }

    fn has(&self, name: &str) -> bool {
        self.scalar(name).is_some() || self.aggregate(name).is_some() || self.window(name).is_some()
    }

    /// All names and aliases of scalar functions, sorted.
    pub fn scalar_names(&self) -> Vec<String> {
        self.scalars_by_name.keys().cloned().collect()
    }

    /// All names and aliases of aggregate functions, sorted.
    pub fn aggregate_names(&self) -> Vec<String> {
        self.aggregates_by_name.keys().cloned().collect()
    }

    /// All names and aliases of window functions, sorted.
    pub fn window_names(&self) -> Vec<String> {
        self.windows_by_name.keys().cloned().collect()
    }
}

fn by_name<F>(all: &[Arc<F>], names: impl Fn(&F) -> (&str, &[String])) -> BTreeMap<String, Arc<F>> {
    let mut map = BTreeMap::new();
    for function in all {
        let (name, aliases) = names(function);
        map.insert(name.to_lowercase(), function.clone());
        for alias in aliases {
            map.insert(alias.to_lowercase(), function.clone());
        }
    }
    map
}
