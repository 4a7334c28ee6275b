//! A line of the table: a kernel on a card.

use serde::Serialize;

use crate::hot_loop::{HotLoop, hottest};
use crate::radv::Compiled;

/// What the compiler says of a kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub card: &'static str,
    pub kernel: String,
    /// Vector registers of an invocation.
    pub vgprs: u64,
    /// Registers that did not fit, and bytes of memory that each invocation takes in their place.
    pub spills: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u64,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// Subgroups of 32 that fit a SIMD; one of 64 counts as two.
    pub waves: u64,
    /// The hottest loop, if one has products.
    #[serde(rename = "loop")]
    pub hot: Option<HotLoop>,
}

impl Row {
    /// Reads a kernel's line. The statistics have the driver's names.
    ///
    /// # Errors
    /// If the driver does not give a statistic.
    pub fn new(card: &'static str, kernel: String, compiled: &Compiled) -> Result<Self, String> {
        let figure = |name: &str| {
            let found = compiled.statistics.get(name).copied();
            found.ok_or_else(|| format!("the driver gives no {name:?}, only {:?}", compiled.statistics.keys()))
        };
        Ok(Self {
            card,
            vgprs: figure("VGPRs")?,
            spills: figure("Spilled VGPRs")? + figure("Spilled SGPRs")? + figure("Scratch size")?,
            workgroup_memory: figure("LDS size")?,
            subgroup: compiled.subgroup_size,
            waves: figure("Subgroups per SIMD")?,
            hot: hottest(&compiled.assembly),
            kernel,
        })
    }

    /// The table's head.
    pub fn head() -> String {
        let columns =
            ["card", "kernel", "registers", "spills", "workgroup memory", "waves", "products", "loads a product", "scalar", "aside"];
        format!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()))
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { card, kernel, vgprs, spills, workgroup_memory, waves, hot, .. } = self;
        write!(f, "| {card} | {kernel} | {vgprs} | {spills} | {workgroup_memory} | {waves} |")?;
        match hot {
            Some(hot) => {
                let HotLoop { all, products, scalars, aside, .. } = hot;
                let percent = 100.0 * hot.share();
                write!(f, " {products} of {all}, {percent:.0} % | {:.2} | {scalars} | {aside} |", hot.loads_per_product())
            }
            None => write!(f, " - | - | - | - |"),
        }
    }
}
