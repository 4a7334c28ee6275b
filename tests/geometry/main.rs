//! Facts about kernels that follow from their geometry alone: how many of a GPU's cores a product keeps busy, and which
//! accesses to workgroup memory wait for each other.

mod accesses;
mod banks;
mod cores;
mod expression;

use meddino::graph::{Elem, Graph, Limits, Role, Tier};
use meddino::kernels::{Epilogue, Recorder};

/// What GPUs allow whose tiers these are.
fn gpu(tier: Tier, elem: Elem) -> Limits {
    let subgroup_size = if tier.cooperative().is_some() { 32 } else { 0 };
    Limits { tier, elem, subgroup_size, workgroup_memory: 48 << 10, max_invocations: 1024, max_binding: 1 << 30, ..Limits::DEFAULT }
}

/// The graph of one product of [m, k] and [n, k].
fn product(limits: Limits, [m, n, k]: [usize; 3]) -> Graph {
    let mut g = Recorder::new(limits);
    let [x, weight] = [[m, k], [n, k]].map(|shape| g.tensor_of(limits.elem, "t", shape, Role::Input));
    g.matmul("matmul", x, weight, Epilogue::None).expect("a product that fits");
    g.finish()
}
