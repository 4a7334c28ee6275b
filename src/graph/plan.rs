//! Which buffer each tensor lives in: liveness, then slots. The plan depends on sizes and the device's limits alone.
//!
//! A slot is a whole buffer that intermediate tensors use one after another. Two tensors may share a slot if the last
//! read of the first comes *before* the dispatch that first writes the second. The same dispatch may not do both,
//! because a device may not bind one buffer both as read and as read_write, not even on disjoint ranges.

use super::{Dispatch, Graph, Limits, Role, TensorId};
use crate::advice::{CPU, LESS};
use crate::error::{Error, GpuFailure, Result};

/// Where a tensor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferPlace {
    /// In the buffer that the shared weights have under the tensor's name.
    Weight,
    /// In a buffer that no other tensor uses: inputs and outputs.
    Own,
    /// In this slot, from its start.
    Slot(usize),
    /// In no buffer: an intermediate tensor that no dispatch touches.
    Nowhere,
}

/// What a graph needs, in bytes, before anything is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Parameters; shared with the plans of other image sizes.
    pub weights: u64,
    /// Buffers that the caller writes.
    pub inputs: u64,
    /// Buffers that the caller reads.
    pub outputs: u64,
    /// The sum of all slots. A slot lives as long as the plan, so this is the peak.
    pub slots: u64,
    /// The least sum of slots that any assignment can reach. The k-th largest slot must hold the k-th largest tensor
    /// alive at any one time, so the bound is the sum of these maxima over k.
    pub lower_bound: u64,
    /// The most bytes of intermediate tensors alive at one time. Not even an allocator that may place tensors anywhere
    /// needs less.
    pub live: u64,
}

impl Footprint {
    /// All that is allocated: weights, inputs, outputs and slots.
    pub fn total(&self) -> u64 {
        self.weights + self.inputs + self.outputs + self.slots
    }
}

/// A place for every tensor of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    places: Vec<BufferPlace>,
    slots: Vec<u64>,
    bytes: Footprint,
}

impl Plan {
    /// Where this tensor lives.
    pub fn place(&self, id: TensorId) -> BufferPlace {
        self.places[id.index()]
    }

    /// The size of each slot in bytes.
    pub fn slots(&self) -> &[u64] {
        &self.slots
    }

    /// What the graph needs.
    pub fn bytes(&self) -> Footprint {
        self.bytes
    }
}

/// Assigns every tensor of `graph` a place, within `limits`.
///
/// # Errors
/// If a tensor is larger than the largest buffer, or a dispatch binds more or runs wider than the device allows.
///
/// # Panics
/// If a dispatch reads an intermediate tensor or an output that no earlier dispatch has written: a mistake of the
/// recorder.
pub fn plan(graph: &Graph, limits: &Limits) -> Result<Plan> {
    for info in graph.tensors() {
        if info.bytes() > limits.max_buffer {
            return Err(Error::gpu(
                GpuFailure::TooLarge,
                format!(
                    "{} {:?} takes {} bytes, and this device's largest buffer is {}; {LESS}, or {CPU}",
                    info.label,
                    info.shape,
                    info.bytes(),
                    limits.max_buffer
                ),
            ));
        }
    }
    for step in graph.steps() {
        check_step(graph, step, limits)?;
    }
    let lives = lives(graph);
    let (slots, slot_of) = assign(graph, &lives);
    let places = graph.ids().map(|id| place(graph.info(id).role, slot_of[id.index()])).collect();
    let total = |role: Role| graph.tensors().iter().filter(|t| t.role == role).map(super::TensorInfo::bytes).sum();
    let (lower_bound, live) = lower_bounds(graph, &lives);
    let bytes = Footprint {
        weights: total(Role::Weight),
        inputs: total(Role::Input),
        outputs: total(Role::Output),
        slots: slots.iter().sum(),
        lower_bound,
        live,
    };
    Ok(Plan { places, slots, bytes })
}

fn place(role: Role, slot: Option<usize>) -> BufferPlace {
    match role {
        Role::Weight => BufferPlace::Weight,
        Role::Input | Role::Output => BufferPlace::Own,
        Role::Intermediate => slot.map_or(BufferPlace::Nowhere, BufferPlace::Slot),
    }
}

fn check_step(graph: &Graph, step: &Dispatch, limits: &Limits) -> Result<()> {
    let refuse =
        |what: String| Err(Error::gpu(GpuFailure::TooLarge, format!("{}: {what}; use a smaller image (`size`), or {CPU}", step.label)));
    for view in step.reads.iter().chain([&step.write]) {
        let info = graph.info(view.tensor);
        let (offset, bytes) = (info.byte_at(view.offset), info.bytes_of(view.len));
        if bytes > limits.max_binding {
            return refuse(format!("binds {bytes} bytes, and this device binds at most {}", limits.max_binding));
        }
        if !offset.is_multiple_of(limits.alignment) {
            return refuse(format!("binds at byte {offset}, and this device binds at multiples of {}", limits.alignment));
        }
    }
    if step.workgroups.iter().any(|&n| n > limits.max_workgroups) {
        return refuse(format!(
            "runs {:?} workgroups, and this device runs at most {} along an axis",
            step.workgroups, limits.max_workgroups
        ));
    }
    Ok(())
}

/// The first and the last dispatch that touches a tensor.
#[derive(Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

impl Life {
    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The life of every intermediate tensor that is touched at all.
fn lives(graph: &Graph) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; graph.tensors().len()];
    let mut written = vec![false; graph.tensors().len()];
    for (at, step) in graph.steps().iter().enumerate() {
        for view in &step.reads {
            let info = graph.info(view.tensor);
            let ready = matches!(info.role, Role::Weight | Role::Input) || written[view.tensor.index()];
            assert!(ready, "{}: reads {} before it is written", step.label, info.label);
        }
        written[step.write.tensor.index()] = true;
        for view in step.reads.iter().chain([&step.write]) {
            if graph.info(view.tensor).role == Role::Intermediate {
                lives[view.tensor.index()].get_or_insert(Life { first: at, last: at }).last = at;
            }
        }
    }
    lives
}

/// Greedy by size: takes the largest tensor first, and puts each into the smallest slot that is free throughout the
/// tensor's life, or into a new slot.
fn assign(graph: &Graph, lives: &[Option<Life>]) -> (Vec<u64>, Vec<Option<usize>>) {
    let bytes = |tensor: usize| graph.tensors()[tensor].bytes();
    let mut order: Vec<(usize, Life)> = lives.iter().enumerate().filter_map(|(t, life)| Some((t, (*life)?))).collect();
    order.sort_by_key(|&(t, life)| (std::cmp::Reverse(bytes(t)), life.first));
    // Slots are created in decreasing size, so the last free one is the smallest.
    let mut slots: Vec<(u64, Vec<Life>)> = Vec::new();
    let mut slot_of = vec![None; lives.len()];
    for (t, life) in order {
        let free = slots.iter().rposition(|(_, taken)| taken.iter().all(|l| !l.overlaps(life)));
        let slot = free.unwrap_or_else(|| {
            slots.push((bytes(t), Vec::new()));
            slots.len() - 1
        });
        slots[slot].1.push(life);
        slot_of[t] = Some(slot);
    }
    (slots.into_iter().map(|(size, _)| size).collect(), slot_of)
}

/// [`Footprint::lower_bound`] and [`Footprint::live`].
fn lower_bounds(graph: &Graph, lives: &[Option<Life>]) -> (u64, u64) {
    let (mut least, mut most_live): (Vec<u64>, u64) = (Vec::new(), 0);
    for at in 0..graph.steps().len() {
        let here = Life { first: at, last: at };
        let alive = |(t, life): (usize, &Option<Life>)| life.is_some_and(|l| l.overlaps(here)).then(|| graph.tensors()[t].bytes());
        let mut sizes: Vec<u64> = lives.iter().enumerate().filter_map(alive).collect();
        sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
        most_live = most_live.max(sizes.iter().sum());
        least.resize(least.len().max(sizes.len()), 0);
        for (bound, size) in least.iter_mut().zip(sizes) {
            *bound = (*bound).max(size);
        }
    }
    (least.iter().sum(), most_live)
}
