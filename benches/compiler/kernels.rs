//! The kernels that a card gets: those of a ViT-B and its decoder, in every tier and tile geometry that a real GPU with
//! these abilities runs.

use std::collections::{HashMap, HashSet};

use meddino::graph::{Abilities, AttentionTile, Elem, Graph, Kernel, Limits, ProductTile, Role, Tier, TileChoice, Tiles};
use meddino::kernels::{Field, Recorder, Values, attention_tiles, product_tiles, texture_read, texture_write};
use meddino::vit::config::Config;
use meddino::vit::decoder::Shape;
use meddino::vit::features::Request;
use meddino::vit::forward::{self, BatchShape};
use meddino::vit::scores;

/// The side of the image, in pixels.
const SIDE: usize = 896;

/// Returns every kernel once, with a name that says its tier, type, operation and tile; an operation's default tile
/// comes first. A kernel that several operations or tiers share has the name of the first.
pub fn kernels(abilities: &Abilities, limits: Limits) -> Vec<(String, Kernel)> {
    let mut found = Found::default();
    for elem in [Elem::F32, Elem::F16] {
        // Simplest first, so that a kernel that needs no more is named by the simplest tier.
        for tier in Tier::ALL.into_iter().filter(|&tier| tier != Tier::Direct && abilities.run(tier, elem)) {
            found.add_tier(limits.of_tier(tier, elem, abilities));
        }
    }
    for channels in 1..=4 {
        found.add(format!("texture_write {channels}"), &texture_write(channels));
    }
    found.add("texture_read".to_owned(), &texture_read());
    found.named
}

#[derive(Default)]
struct Found {
    named: Vec<(String, Kernel)>,
    kernels: HashSet<Kernel>,
    /// How many kernels have a name: an operation may have several, such as one for each of its inputs.
    uses: HashMap<String, u32>,
}

impl Found {
    fn add(&mut self, name: String, kernel: &Kernel) {
        if self.kernels.insert(kernel.clone()) {
            let uses = self.uses.entry(name.clone()).or_default();
            *uses += 1;
            let name = if *uses == 1 { name } else { format!("{name} #{uses}") };
            self.named.push((name, kernel.clone()));
        }
    }

    fn add_tier(&mut self, limits: Limits) {
        let config = Config { depth: 1, ..Config::vit_base() };
        let products: Vec<ProductTile> = product_tiles(&limits, limits.elem);
        let attentions: Vec<AttentionTile> = attention_tiles(&limits, config.head_dim(), limits.elem);
        let at = |what: &str| format!("{}/{} {what}", limits.tier, limits.elem.name());
        let with = |choice| Limits { tiles: Tiles::all(choice), ..limits };
        for tile in products {
            for graph in model(&config, with(TileChoice::of_products(tile))) {
                for (operation, kernel) in operations(&graph).filter(|(_, kernel)| ["matmul", "rope"].contains(&kernel.name)) {
                    self.add(at(&format!("{operation} {tile}")), kernel);
                }
            }
        }
        for tile in attentions {
            for graph in model(&config, with(TileChoice::of_attention(tile))) {
                for (operation, kernel) in operations(&graph).filter(|(_, kernel)| kernel.name == "attention") {
                    self.add(at(&format!("{operation} {tile}")), kernel);
                }
            }
        }
        for graph in model(&config, limits).into_iter().chain([around_the_model(&config, limits)]) {
            for (operation, kernel) in operations(&graph) {
                self.add(at(operation), kernel);
            }
        }
    }
}

/// The kernels of a graph, each with its operation: the dispatch's label without the block.
fn operations(graph: &Graph) -> impl Iterator<Item = (&str, &Kernel)> {
    graph.steps().iter().map(|step| (step.label.trim_start_matches("blocks.0.").trim_start_matches("up_projection."), &step.kernel))
}

/// A pass with every kind of output, and one with a decoder.
fn model(config: &Config, limits: Limits) -> [Graph; 2] {
    let input = BatchShape { batch: 1, channels: 1, height: SIDE, width: SIDE, masked: true };
    let request = Request { prenorm: true, layers: vec![0], taps: true };
    let shape = Shape { layers: vec![0], channels: vec![config.embed_dim, 384, 192, 96, 48], classes: 14 };
    let features = forward::record(config, limits, input, &request).expect("a pass that a GPU has room for");
    let scores = scores::record(config, &shape, limits, BatchShape { masked: false, ..input }, [SIDE, SIDE]).expect("a decoder with room");
    [features.0, scores.0]
}

/// The kernels before and after the model: those that prepare a slice, and those that draw maps of tokens.
fn around_the_model(config: &Config, limits: Limits) -> Graph {
    let mut g = Recorder::new(limits);
    let c = config.embed_dim;
    let mut tensor = |shape: &[usize]| g.tensor("t", shape, Role::Input);
    let (slice, taps, tokens) = (tensor(&[512, 512]), tensor(&[SIDE, 5]), tensor(&[3141, c]));
    let (query, mean, directions) = (tensor(&[c]), tensor(&[c]), tensor(&[3, c]));
    let hidden = tensor(&[3141, config.ffn_dim]);
    let field = Field { first: 0, height: 512, width: 512, channels: 1 };
    g.resize("resize", slice, field, [taps; 2], Values::SAME, [1, 1, SIDE, SIDE]).expect("recorded");
    g.similarity("similarity", tokens, query).expect("recorded");
    g.basis("basis", tokens, mean, directions).expect("recorded");
    g.gelu("gelu", hidden).expect("recorded");
    g.finish()
}
