//! Which accesses to workgroup memory wait for each other.
//!
//! Workgroup memory has 32 banks of 4 bytes, on NVIDIA's cards as on AMD's, and serves 128 bytes at a time: 32, 16 or 8
//! neighbours that access 4, 8 or 16 bytes each. If some of them access different words of one bank, they take turns. A
//! matrix is accessed by rows, as many as fit 128 bytes: eight times 16 bytes of f16; of f32 four times 32 bytes, or two
//! times 64. The order of rows within a matrix and of lanes within a quarter differ among cards, but what is here is
//! what all of them have in common.
//!
//! The accesses are read from the kernels' own text, so a new pitch or a new tile is judged as it is written.

use std::collections::{BTreeSet, HashMap, HashSet};

use meddino::graph::{Elem, Graph, Kernel, Limits, Role, Tier, TileChoice, Tiles};
use meddino::kernels::{Recorder, attention_tiles, product_tiles};

use crate::accesses::{Access, Accesses, accesses};
use crate::expression::Moment;
use crate::{gpu, product};

const BANKS: u32 = 32;
const WORD: u32 = 4;
/// Bytes that are served at a time.
const AT_A_TIME: u32 = BANKS * WORD;
/// The most lanes that are looked at: the largest subgroup.
const LANES: u32 = 64;
/// Rounds of loops that are looked at. A further round moves all lanes alike.
const ROUNDS: u32 = 3;

/// How many turns the accesses of some bytes each take that begin at these bytes.
fn turns(starts: &[u32], bytes: u32) -> usize {
    let words: HashSet<u32> = starts.iter().flat_map(|&start| start / WORD..(start + bytes).div_ceil(WORD)).collect();
    let mut of_bank = HashMap::new();
    words.iter().for_each(|word| *of_bank.entry(word % BANKS).or_insert(0) += 1);
    of_bank.into_values().max().unwrap_or(0)
}

/// The most turns of an access, over all rounds and neighbours.
fn most_turns(access: &Access, lanes: u32) -> usize {
    let Some((side, stride)) = access.matrix else {
        let together = (AT_A_TIME / access.bytes).min(32) as usize;
        let rounds = (0..ROUNDS).map(|round| {
            let starts: Vec<u32> = (0..lanes.min(LANES)).map(|lane| access.index.at(Moment { lane, round }) * access.bytes).collect();
            starts.chunks(together).map(|starts| turns(starts, access.bytes)).max().unwrap_or(0)
        });
        return rounds.max().unwrap_or(0);
    };
    let starts: Vec<u32> = (0..side).map(|row| row * stride * access.bytes).collect();
    let pieces: &[u32] = if access.scalar == 2 { &[16] } else { &[32, 64] };
    let of_piece = |&bytes: &u32| {
        let bytes = bytes.min(side * access.scalar);
        starts.chunks((AT_A_TIME / bytes) as usize).map(|starts| turns(starts, bytes)).max().unwrap_or(0)
    };
    pieces.iter().map(of_piece).max().unwrap_or(0)
}

fn attention(limits: Limits) -> Graph {
    let mut g = Recorder::new(limits);
    let qkv = [(); 3].map(|()| g.tensor_of(limits.elem, "t", [1, 12, 1029, 64], Role::Input));
    let qkv = g.heads("attention", qkv);
    g.attention("attention", qkv).expect("an attention that fits");
    g.finish()
}

/// Operations whose invocations add up a row together.
fn sums_of_rows(limits: Limits) -> Graph {
    let mut g = Recorder::new(limits);
    let mut tensor = |shape: &[usize]| g.tensor("t", shape, Role::Input);
    let (tokens, vector, directions) = (tensor(&[1029, 768]), tensor(&[768]), tensor(&[3, 768]));
    let (image, weight, bias) = (tensor(&[1, 3, 224, 224]), tensor(&[768, 3, 16, 16]), tensor(&[768]));
    g.layernorm("layernorm", tokens, vector, vector, 1e-6).expect("recorded");
    g.similarity("similarity", tokens, vector).expect("recorded");
    g.basis("basis", tokens, vector, directions).expect("recorded");
    g.patch_embed("patch_embed", image, weight, bias).expect("recorded");
    g.finish()
}

/// Every kernel with workgroup memory once, in every geometry that a GPU runs, with a name.
fn kernels() -> Vec<(String, Kernel)> {
    let mut found: Vec<(String, Kernel)> = Vec::new();
    for (tier, subgroup_size) in [(Tier::Baseline, 0), (Tier::Subgroups, 0), (Tier::Cooperative16, 32), (Tier::Cooperative16, 64)] {
        for elem in [Elem::F32, Elem::F16] {
            let limits = Limits { subgroup_size, ..gpu(tier, elem) };
            let with = |choice| Limits { tiles: Tiles::all(choice), ..limits };
            let products = product_tiles(&limits, elem).into_iter();
            let products = products.map(|tile| (format!("matmul {tile}"), product(with(TileChoice::of_products(tile)), [1029, 768, 768])));
            let attentions = attention_tiles(&limits, 64, elem).into_iter();
            let attentions = attentions.map(|tile| (format!("attention {tile}"), attention(with(TileChoice::of_attention(tile)))));
            for (what, graph) in products.chain(attentions).chain([(String::new(), sums_of_rows(limits))]) {
                for step in graph.steps().iter().filter(|step| step.kernel.source().contains("var<workgroup>")) {
                    let what = if what.is_empty() { step.kernel.name } else { &what };
                    let of = if subgroup_size == 64 { " in subgroups of 64" } else { "" };
                    if !found.iter().any(|(_, kernel)| *kernel == step.kernel) {
                        found.push((format!("{tier}/{} {what}{of}", elem.name()), step.kernel.clone()));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn accesses_to_workgroup_memory_take_two_turns_at_most() {
    let mut conflicts = String::new();
    let kernels = kernels();
    for (name, kernel) in &kernels {
        let Accesses { lanes, all } = accesses(&kernel.source());
        assert!(!all.is_empty(), "{name} has workgroup memory");
        let slow: BTreeSet<(usize, &str)> =
            all.iter().map(|access| (most_turns(access, lanes), access.text.as_str())).filter(|(turns, _)| *turns > 2).collect();
        slow.iter().for_each(|(turns, text)| conflicts += &format!("{name}: {turns} turns, {text}\n"));
    }
    assert!(conflicts.is_empty(), "these want another pitch, or exchanged places:\n{conflicts}");
}

/// Drivers load rows of matrices 16 bytes at a time.
#[test]
fn rows_of_matrices_begin_at_multiples_of_16_bytes() {
    let mut matrices = 0;
    for (name, kernel) in kernels() {
        for Access { text, bytes, index, matrix, .. } in accesses(&kernel.source()).all {
            let Some((_, stride)) = matrix else { continue };
            let starts = (0..LANES).map(|lane| index.at(Moment { lane, round: 1 }) * bytes);
            assert!(starts.chain([stride * bytes]).all(|start| start.is_multiple_of(16)), "{name}: {text}");
            matrices += 1;
        }
    }
    assert!(matrices > 0, "no kernel has matrices");
}

#[test]
fn turns_are_words_of_one_bank() {
    let lanes = |stride: u32, count: u32| (0..count).map(|lane| lane * stride).collect::<Vec<_>>();
    assert_eq!(turns(&lanes(4, 32), 4), 1, "one word each");
    assert_eq!(turns(&lanes(0, 32), 4), 1, "all the same word");
    assert_eq!(turns(&lanes(8, 32), 4), 2);
    assert_eq!(turns(&lanes(128, 32), 4), 32, "all in one bank");
    assert_eq!(turns(&lanes(128, 8), 16), 8);
    assert_eq!(turns(&lanes(128 + 16, 8), 16), 1, "the rows are padded");
}
