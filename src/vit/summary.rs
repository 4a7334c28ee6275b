//! Summarises what a checkpoint holds, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::config::Config;
use super::model::Model;
use crate::checkpoint::{Container, Dtype, Layout};

/// Number of example names that are shown of the tensors ignored for one reason.
const EXAMPLES: usize = 3;

/// A summary of a model's checkpoint. [`Display`](fmt::Display) writes it as a few lines of text, [`Summary::to_json`]
/// as JSON.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The file's name as the user gave it, or `seeded:N`.
    pub source_name: String,
    /// The layout of the file's names.
    pub layout: Layout,
    /// The format in which the tensors are stored.
    pub container: Container,
    /// The model's configuration.
    pub config: Config,
    /// Number of parameters.
    pub parameters: usize,
    /// Number of tensors that are stored in each type.
    pub dtypes: BTreeMap<Dtype, usize>,
    /// For each reason, the names of the tensors that are left out.
    pub ignored: BTreeMap<&'static str, Vec<String>>,
    /// Facts that may surprise a user.
    pub warnings: Vec<String>,
}

impl Model {
    /// Summarises the model's checkpoint. No weight is read.
    pub fn summary(&self) -> Summary {
        let checkpoint = self.checkpoint();
        let mut dtypes = BTreeMap::new();
        for entry in checkpoint.entries() {
            *dtypes.entry(entry.dtype).or_default() += 1;
        }
        let mut ignored: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for tensor in checkpoint.ignored() {
            ignored.entry(tensor.reason).or_default().push(tensor.name.clone());
        }
        Summary {
            source_name: checkpoint.source_name().into(),
            layout: checkpoint.layout().clone(),
            container: checkpoint.container(),
            config: self.config().clone(),
            parameters: self.parameters(),
            dtypes,
            ignored,
            warnings: self.warnings().to_vec(),
        }
    }
}

impl Summary {
    /// Returns `{source, layout, wrapped_under | trainer, container, config, parameters, dtypes, ignored, warnings}`.
    pub fn to_json(&self) -> Value {
        let dtypes: BTreeMap<_, _> = self.dtypes.iter().map(|(dtype, n)| (dtype.name(), n)).collect();
        let mut summary = json!({
            "source": self.source_name,
            "layout": self.layout.name(),
            "container": self.container.to_string(),
            "config": self.config.to_json(),
            "parameters": self.parameters,
            "dtypes": dtypes,
            "ignored": self.ignored,
            "warnings": self.warnings,
        });
        match &self.layout {
            Layout::Wrapped { key } => summary["wrapped_under"] = json!(key),
            Layout::NnUnet { trainer } => summary["trainer"] = json!(trainer),
            _ => {}
        }
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.config;
        writeln!(f, "checkpoint  {}", self.source_name)?;
        writeln!(f, "layout      {}", self.layout)?;
        writeln!(f, "container   {}", self.container)?;
        writeln!(f, "model       {} wide, {} deep, {} heads of {}, MLP {}", c.embed_dim, c.depth, c.num_heads, c.head_dim(), c.ffn_dim)?;
        writeln!(f, "tokens      patches of {p} x {p} x {}, {} registers", c.in_chans, c.n_storage_tokens, p = c.patch_size)?;
        let (bias, mask) = (if c.qkv_bias { "qkv bias" } else { "no qkv bias" }, if c.mask_token { "mask token" } else { "no mask token" });
        writeln!(f, "            {bias}, {mask}")?;
        writeln!(f, "arithmetic  LayerNorm epsilon {:e}, RoPE in {} (base {})", c.norm_eps, c.rope.name(), c.rope_base)?;
        let dtypes: Vec<_> = self.dtypes.iter().map(|(dtype, n)| format!("{n} {dtype}")).collect();
        write!(f, "parameters  {} in {} tensors ({})", self.parameters, self.dtypes.values().sum::<usize>(), dtypes.join(", "))?;
        for (reason, names) in &self.ignored {
            let more = if names.len() > EXAMPLES { ", ..." } else { "" };
            write!(f, "\nignored     {} ({reason}): {}{more}", names.len(), names[..names.len().min(EXAMPLES)].join(", "))?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning     {warning}")?;
        }
        Ok(())
    }
}
