//! What would become of saved state if a script were run on it: asked before the job is stopped or started.

use super::{job_name, job_stores, manifest};
use crate::connectors::Tables;
use crate::program::Plan;
use millstream_checkpoint::Manifest;
use millstream_checkpoint::compare::{Comparison, compare};
use millstream_core::key::KEY_GROUPS;
use millstream_core::{Error, Place, Result};
use millstream_runtime::JobConfig;
use millstream_runtime::checkpoint::shapes;

/// What would become of one job's state.
#[derive(Debug)]
pub struct Against {
    pub job: String,
    /// The checkpoint that the job would go on from; `None`: it would start from the beginning.
    pub saved: Option<Manifest>,
    pub comparison: Comparison,
}

/// Compares the queries of a script, as [`Program::check`](crate::Program::check) planned them, with the latest
/// checkpoints of their jobs in `location`. Second: jobs there that no query of the script goes on with.
///
/// # Errors
/// `location` holds no state, or a checkpoint there cannot be read. State that would be lost is none:
/// [`Comparison::accept`] tells.
pub fn against(plans: &[Plan], file: &str, tables: &Tables, location: &str) -> Result<(Vec<Against>, Vec<String>)> {
    let stores = job_stores(location)?;
    let mut compared: Vec<Against> = Vec::new();
    // As `run` counts them: neither batch jobs nor what is only explained.
    for plan in plans.iter().filter(|p| !p.only_shown && !p.planned.dataflow.nodes.is_empty()) {
        let job = job_name(&plan.settings, file, compared.len());
        let saved = match stores.iter().find(|(name, _)| name.is_empty() || *name == job) {
            None => None,
            Some((name, store)) => {
                let saved = manifest(store.as_ref(), None)?;
                if saved.job != job && name.is_empty() {
                    return Err(Error::usage(format!(
                        "this is the state of job `{}`, the query is job `{job}`",
                        saved.job
                    ))
                    .at(Place(store.name()))
                    .remedy(format!("SET 'pipeline.name' = '{}' before it, or give what --state named", saved.job)));
                }
                Some(saved)
            }
        };
        let parallelism = plan.settings.parallelism.unwrap_or(JobConfig::default().parallelism);
        let shapes = shapes(&plan.planned.dataflow, tables, parallelism)?;
        let nothing = Manifest::first(&job, KEY_GROUPS, parallelism, 0);
        let comparison = compare(saved.as_ref().unwrap_or(&nothing), &shapes);
        compared.push(Against { job, saved, comparison });
    }
    let left = stores.into_iter().map(|(name, _)| name);
    let left = left.filter(|name| !name.is_empty() && !compared.iter().any(|c| c.job == *name)).collect();
    Ok((compared, left))
}
