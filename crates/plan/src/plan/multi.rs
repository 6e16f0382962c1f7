//! Joins that follow each other on one key become one.
//!
//! ```text
//!  Join(LEFT on k = k)                            MultiJoin(k: INNER k, LEFT k)
//!  ├─ Calc(a, b, k)   columns alone               ├─ A
//!  │  └─ Join(INNER on k = k)              ──▶    ├─ B
//!  │     ├─ A   └─ B                              └─ C
//!  └─ C
//! ```
//!
//! What the first join makes is then neither remembered nor looked up again. It takes that the second one asks for the key of
//! an input that has a row in every result (no outer one, whose NULLs find nothing), that neither has another condition, and
//! that nobody else reads the first. Rows that leave by a time to live do so join by join, and such joins stay as they are.

use millstream_dataflow::graph::{Dataflow, Exchange, Input, Join, JoinKind, JoinScope, MultiJoin, Node, NodeKind};

/// Makes one join of those that follow each other, wherever that is the same.
pub fn merge(dataflow: &mut Dataflow) {
    let mut gone = vec![false; dataflow.nodes.len()];
    for at in 0..dataflow.nodes.len() {
        if let Some(merged) = merged(&dataflow.nodes, at) {
            merged.gone.iter().for_each(|node| gone[*node] = true);
            dataflow.nodes[at] = merged.node;
        }
    }
    if !gone.contains(&true) {
        return;
    }
    let mut to = Vec::with_capacity(gone.len());
    let mut stayed = 0;
    for gone in &gone {
        to.push(stayed);
        stayed += usize::from(!gone);
    }
    let mut at = 0;
    dataflow.nodes.retain(|_| {
        at += 1;
        !gone[at - 1]
    });
    for input in dataflow.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        input.node = to[input.node];
    }
}

struct Merged {
    node: Node,
    /// The nodes that it stands for.
    gone: Vec<usize>,
}

/// A join of some inputs, on the way to be one of more.
struct Parts {
    join: MultiJoin,
    inputs: Vec<Input>,
}

fn merged(nodes: &[Node], at: usize) -> Option<Merged> {
    let second = &nodes[at];
    let NodeKind::Join(join) = &second.kind else { return None };
    let right = of_join(join)?;
    let (first, columns, gone) = behind(nodes, second.inputs.first()?.node)?;
    let Parts { join: mut all, mut inputs } = parts(nodes, first)?;
    // Of each column of the left: the input and the column that it is.
    let left: Vec<(usize, usize)> = columns.iter().map(|c| all.columns.get(*c).copied()).collect::<Option<_>>()?;
    let mut keys: Vec<Option<usize>> = vec![None; all.keys[0].len()];
    if join.keys.len() != keys.len() {
        return None;
    }
    for (l, r) in &join.keys {
        let (input, column) = *left.get(*l)?;
        let is_free = |(place, key): &(usize, &usize)| **key == column && keys[*place].is_none();
        let (place, _) = all.keys[input].iter().enumerate().find(is_free).filter(|_| !all.outer[input])?;
        keys[place] = Some(*r);
    }
    let input = second.inputs.get(1)?;
    let width = nodes[input.node].schema.fields().len();
    all.columns = left.into_iter().chain((0..width).map(|c| (inputs.len(), c))).collect();
    all.keys.push(keys.into_iter().collect::<Option<_>>()?);
    all.outer.push(right.outer);
    all.retracts.push(right.retracts[1]);
    // In the order of the keys of all, whichever order the second join named them in.
    let exchange = Exchange::Hash(all.keys[inputs.len()].clone());
    inputs.push(Input { exchange, ..input.clone() });
    let label = label(nodes, &all, &inputs);
    let id = format!("multi-{}", second.id.strip_prefix("multi-").unwrap_or(&second.id));
    Some(Merged { node: Node { id, label, kind: NodeKind::MultiJoin(all), inputs, ..second.clone() }, gone })
}

struct OfJoin {
    outer: bool,
    retracts: [bool; 2],
}

/// What a join says that can be part of one of more inputs.
fn of_join(join: &Join) -> Option<OfJoin> {
    let JoinScope::Always { ttl: None, retracts } = join.scope else { return None };
    let outer = match join.kind {
        JoinKind::Inner => false,
        JoinKind::Left => true,
        JoinKind::Right | JoinKind::Full | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => return None,
    };
    let plain = join.residual.is_none() && !join.keys.is_empty() && !join.null_equals_null.contains(&true);
    plain.then_some(OfJoin { outer, retracts })
}

/// The node that hands these rows on as they are, behind nodes that only choose columns: it, its columns in their order, and
/// all that is passed on the way. Each has one reader.
fn behind(nodes: &[Node], from: usize) -> Option<(usize, Vec<usize>, Vec<usize>)> {
    let readers = |node: usize| nodes.iter().flat_map(|n| &n.inputs).filter(|input| input.node == node).count();
    let (mut at, mut passed) = (from, Vec::new());
    let mut columns: Vec<usize> = (0..nodes[from].schema.fields().len()).collect();
    loop {
        if readers(at) != 1 {
            return None;
        }
        passed.push(at);
        let NodeKind::Calc(calc) = &nodes[at].kind else { return Some((at, columns, passed)) };
        if calc.filter.is_some() {
            return None;
        }
        if let Some(chosen) = &calc.columns {
            columns = columns.iter().map(|c| chosen[*c].as_column()).collect::<Option<_>>()?;
        }
        at = nodes[at].inputs.first()?.node;
    }
}

fn parts(nodes: &[Node], at: usize) -> Option<Parts> {
    let node = &nodes[at];
    let inputs = node.inputs.clone();
    let join = match &node.kind {
        NodeKind::MultiJoin(join) => join.clone(),
        NodeKind::Join(join) => {
            let of = of_join(join)?;
            let width = |input: usize| nodes[inputs[input].node].schema.fields().len();
            MultiJoin {
                keys: vec![join.keys.iter().map(|k| k.0).collect(), join.keys.iter().map(|k| k.1).collect()],
                outer: vec![false, of.outer],
                retracts: of.retracts.to_vec(),
                columns: (0..2).flat_map(|input| (0..width(input)).map(move |c| (input, c))).collect(),
            }
        }
        _ => return None,
    };
    Some(Parts { join, inputs })
}

/// `MultiJoin(k: INNER k, LEFT id)`.
fn label(nodes: &[Node], join: &MultiJoin, inputs: &[Input]) -> String {
    let names = |input: usize| {
        let schema = &nodes[inputs[input].node].schema;
        join.keys[input].iter().map(|k| schema.field(*k).name().as_str()).collect::<Vec<_>>().join(", ")
    };
    let joined = |input: usize| format!("{} {}", if join.outer[input] { "LEFT" } else { "INNER" }, names(input));
    let others = (1..inputs.len()).map(joined).collect::<Vec<_>>().join(", ");
    format!("MultiJoin({}: {others})", names(0))
}
