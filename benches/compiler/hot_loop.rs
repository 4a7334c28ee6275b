//! What a shader's hottest loop consists of, read from AMD's assembly.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use serde::Serialize;

/// Counts of a loop's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HotLoop {
    /// All instructions.
    pub all: u32,
    /// Products of matrices; in a loop that has none, fused multiply-adds and dot products.
    pub products: u32,
    /// Whether products are those of matrices.
    pub by_matrices: bool,
    /// Loads from workgroup memory.
    pub loads: u32,
    /// Scalar instructions, waits and hints included.
    pub scalars: u32,
    /// Instructions of the loops inside it, which have no product and are not counted above.
    pub aside: u32,
}

impl HotLoop {
    /// The share of products among all instructions.
    pub fn share(&self) -> f64 {
        f64::from(self.products) / f64::from(self.all)
    }

    /// Loads from workgroup memory a product.
    pub fn loads_per_product(&self) -> f64 {
        f64::from(self.loads) / f64::from(self.products)
    }
}

/// Finds the loop with most products, matrices before others, among the loops that contain no other loop with products.
/// `None` if no loop has a product.
pub fn hottest(assembly: &str) -> Option<HotLoop> {
    let lines: Vec<&str> = assembly.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let loops = loops(&lines);
    let of = |found: &RangeInclusive<usize>| count(lines[found.clone()].iter().copied());
    let inside = |outer: &RangeInclusive<usize>| {
        let outer = outer.clone();
        loops.iter().filter(move |inner| **inner != outer && outer.contains(inner.start()) && outer.contains(inner.end()))
    };
    let innermost = loops.iter().filter(|outer| inside(outer).all(|inner| of(inner).products == 0));
    let counted = innermost.map(|outer| {
        let is_aside = |at: &usize| inside(outer).any(|inner| inner.contains(at));
        let own = outer.clone().filter(|at| !is_aside(at)).map(|at| lines[at]);
        HotLoop { aside: count(outer.clone().filter(is_aside).map(|at| lines[at])).all, ..count(own) }
    });
    counted.filter(|found| found.products > 0).max_by_key(|found| (found.by_matrices, found.products))
}

/// The lines of each loop. A branch backwards closes a loop; the last of several branches to one label closes the whole
/// loop.
fn loops(lines: &[&str]) -> Vec<RangeInclusive<usize>> {
    let labels: HashMap<&str, usize> = lines.iter().enumerate().filter_map(|(at, line)| Some((label(line)?, at))).collect();
    let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(&start) = branch_target(line).and_then(|name| labels.get(name)).filter(|start| **start < at) {
            ends.insert(start, at);
        }
    }
    ends.into_iter().map(|(start, end)| start..=end).collect()
}

fn label(line: &str) -> Option<&str> {
    line.strip_suffix(':').filter(|name| name.starts_with("BB"))
}

fn branch_target(line: &str) -> Option<&str> {
    let (operation, rest) = line.split_once(' ')?;
    (operation == "s_branch" || operation.starts_with("s_cbranch_")).then(|| rest.split_whitespace().next())?
}

fn count<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> HotLoop {
    let operations = lines.filter(|line| label(line).is_none()).filter_map(|line| line.split_whitespace().next());
    let number =
        |begins: &[&str]| operations.clone().filter(|operation| begins.iter().any(|begin| operation.starts_with(begin))).count() as u32;
    let matrices = number(&["v_wmma"]);
    // RDNA3 may join two operations to one instruction, which then counts once.
    let fused = number(&["v_fma", "v_pk_fma", "v_mad_f", "v_mad_mix", "v_mac_f", "v_dot2", "v_dual_fma"]);
    HotLoop {
        all: number(&[""]),
        products: if matrices > 0 { matrices } else { fused },
        by_matrices: matrices > 0,
        loads: number(&["ds_load", "ds_read"]),
        scalars: number(&["s_"]),
        aside: 0,
    }
}
