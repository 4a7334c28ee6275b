//! The forward pass as data: tensors, and the dispatches that write them. This room knows no GPU object and no model.
//!
//! A [`Graph`] is a list of tensors and a list of [`Dispatch`]es in the order in which they run. Each tensor is written
//! once, by one operation. An operation whose buffers or grids would exceed the device's [`Limits`] becomes several
//! dispatches over disjoint [`Operand`]s.

mod plan;
mod tier;
mod tile;
mod unroll;

pub use plan::{BufferPlace, Footprint, Plan, plan};
pub use tier::{Abilities, Elem, Tier};
pub use tile::{AttentionTile, ProductSplit, ProductTile, TileChoice, Tiles};

/// A tensor of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(usize);

impl TensorId {
    /// The tensor's index in [`Graph::tensors`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a tensor is for. The role decides who owns the tensor's buffer and how long the buffer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A parameter: uploaded once, shared by the graphs of every image size.
    Weight,
    /// Written by the caller before each run (the image), or once for this image size (the RoPE table).
    Input,
    /// Lives from its write to its last read.
    Intermediate,
    /// Lives from its write to the end, to be read by the caller.
    Output,
}

/// Name, shape, role and type of a tensor. Elements are row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tap's or the parameter's name, e.g. `blocks.3.attn.qkv`.
    pub label: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Who owns it and how long.
    pub role: Role,
    /// The type of its elements.
    pub elem: Elem,
}

impl TensorInfo {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes, rounded up to whole 32-bit words.
    pub fn bytes(&self) -> u64 {
        self.bytes_of(self.len())
    }

    /// Bytes of `len` elements, rounded up to whole 32-bit words.
    pub fn bytes_of(&self, len: usize) -> u64 {
        (len * self.elem.bytes()).next_multiple_of(4) as u64
    }

    /// The byte offset of element `at` in the tensor's buffer.
    pub fn byte_at(&self, at: usize) -> u64 {
        (at * self.elem.bytes()) as u64
    }
}

/// A contiguous range of a tensor's elements, as one dispatch binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The tensor.
    pub tensor: TensorId,
    /// First element.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
}

/// A compute shader and the constants that specialise it: plain data, and the key under which its pipeline is cached.
///
/// The device compiles the constants (`const NAME: TYPE = VALUE;`, `alias NAME = TYPE;`) followed by `parts` in order.
/// The entry point is `main`. All bindings are in group 0: the reads in order from 0, then the write, then the uniform
/// `params` if there are parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The noun: the shader's file name without its ending.
    pub name: &'static str,
    /// WGSL, shared parts first; each an `include_str!` of `shaders/`.
    pub parts: Vec<&'static str>,
    /// Constants and type aliases that specialise the text.
    pub constants: Vec<(&'static str, Constant)>,
}

/// A value that a shader is specialised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// `u32`
    U32(u32),
    /// `f32`, as bits, so that kernels can be compared and hashed.
    F32(u32),
    /// `bool`
    Bool(bool),
    /// A type of so many elements: `alias NAME = f16;`, `alias NAME = vec4<f16>;`
    Elem(Elem, usize),
    /// A cooperative matrix of this side: `alias NAME = coop_mat8x8<f16, A>;`
    Matrix(u32, Elem, &'static str),
}

impl From<Elem> for Constant {
    fn from(value: Elem) -> Self {
        Self::Elem(value, 1)
    }
}

impl From<u32> for Constant {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Constant {
    fn from(value: f32) -> Self {
        Self::F32(value.to_bits())
    }
}

impl From<bool> for Constant {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Kernel {
    /// The whole WGSL text: extensions, constants, parts.
    pub fn source(&self) -> String {
        let any = |wanted: fn(&Constant) -> bool| self.constants.iter().any(|(_, value)| wanted(value));
        let mut text = String::new();
        if any(|value| matches!(value, Constant::Elem(Elem::F16, _) | Constant::Matrix(_, Elem::F16, _))) {
            text += "enable f16;\n";
        }
        if any(|value| matches!(value, Constant::Matrix(..))) {
            text += "enable wgpu_cooperative_matrix;\n";
        }
        for (name, value) in &self.constants {
            text += &match value {
                Constant::U32(v) => format!("const {name}: u32 = {v}u;\n"),
                Constant::F32(bits) => format!("const {name}: f32 = {:?}f;\n", f32::from_bits(*bits)),
                Constant::Bool(v) => format!("const {name}: bool = {v};\n"),
                Constant::Elem(elem, 1) => format!("alias {name} = {};\n", elem.name()),
                Constant::Elem(elem, width) => format!("alias {name} = vec{width}<{}>;\n", elem.name()),
                Constant::Matrix(side, elem, role) => format!("alias {name} = coop_mat{side}x{side}<{}, {role}>;\n", elem.name()),
            };
        }
        for part in &self.parts {
            text += part;
        }
        text
    }

    /// [`Kernel::source`] with loops unrolled whose first line ends with `{ // unroll` and whose bounds are constants.
    /// Drivers of GPUs need that to keep the arrays that such loops index in registers. Software GPUs have no use for
    /// it, and compile the longer text slowly.
    pub fn unrolled_source(&self) -> String {
        unroll::unrolled(&self.source())
    }
}

/// Arithmetic and memory traffic of a dispatch, as its kernel declares them. Profiles and benchmarks divide them by the
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations (a fused multiply-add is two).
    pub flops: u64,
    /// Fewest bytes moved: every input read once, every output written once.
    pub bytes: u64,
}

impl Cost {
    /// FLOPs that take about as long as moving one byte: 15 to 30 on today's GPUs and CPUs.
    const FLOPS_PER_BYTE: u64 = 30;

    /// One number for how long the work takes, in FLOPs of a matrix product. Operations are cut into dispatches by it.
    pub fn work(self) -> u64 {
        self.flops.saturating_add(self.bytes.saturating_mul(Self::FLOPS_PER_BYTE))
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops.saturating_add(other.flops), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// One run of a kernel.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The tap's name, e.g. `blocks.3.attn.qkv`, which profiles show.
    pub label: String,
    /// The shader.
    pub kernel: Kernel,
    /// Views that the dispatch reads, in binding order.
    pub reads: Vec<Operand>,
    /// The view that the dispatch writes, the next binding.
    pub write: Operand,
    /// The uniform block's bytes (a multiple of 16, or empty for none), the last binding.
    pub params: Vec<u8>,
    /// Workgroups along x, y, z.
    pub workgroups: [u32; 3],
    /// Declared arithmetic and traffic.
    pub cost: Cost,
}

/// What a device allows. Operations are cut to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Alignment of a storage binding's offset in bytes.
    pub alignment: u64,
    /// Most workgroups along one axis of a grid.
    pub max_workgroups: u32,
    /// Most invocations in a workgroup.
    pub max_invocations: u32,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// How kernels are written.
    pub tier: Tier,
    /// Type of the weights of matrix products, and of the tensors between operations. The residual stream stays f32.
    pub elem: Elem,
    /// The most invocations that a subgroup has, for the tiers that need the number; else 0. Kernels are right for smaller
    /// subgroups, too.
    pub subgroup_size: u32,
    /// How products and attention divide their work. The default, unless the device was measured.
    pub tiles: Tiles,
    /// The most [`Cost::work`] of a dispatch, so that no dispatch stalls the desktop or triggers the driver's watchdog;
    /// `None` while the device's speed is unknown. Operations are cut to this limit as far as possible. An operation
    /// that cannot be cut so far is no error.
    pub max_work: Option<u64>,
}

impl Limits {
    /// The largest binding whose elements shaders can index by 32 bits, and whose end is a multiple of every alignment.
    const COUNTABLE: u64 = (u32::MAX as u64 + 1) - 4096;

    /// The same limits with bindings no larger than shaders can index.
    #[must_use]
    pub fn countable(self) -> Self {
        Self { max_binding: self.max_binding.min(Self::COUNTABLE), ..self }
    }

    /// The same limits for kernels of a tier over elements of a type, on a device with these abilities.
    #[must_use]
    pub fn of_tier(self, tier: Tier, elem: Elem, abilities: &Abilities) -> Self {
        Self { tier, elem, subgroup_size: tier.cooperative().and(abilities.subgroups).unwrap_or(0), ..self }
    }

    /// The same limits for kernels without cooperative matrices.
    #[must_use]
    pub fn without_matrices(self) -> Self {
        if self.tier.cooperative().is_some() { Self { tier: Tier::Subgroups, ..self } } else { self }
    }

    /// How many items one axis of a grid covers if a workgroup computes `each` of them.
    pub fn reach(&self, each: usize) -> usize {
        (self.max_workgroups as usize).saturating_mul(each)
    }

    /// The tighter value of each limit. The tier, the type of elements and the tiles are those of `self`.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            max_binding: self.max_binding.min(other.max_binding),
            max_buffer: self.max_buffer.min(other.max_buffer),
            // Alignments are powers of two, so an offset that suits the coarser one suits both.
            alignment: self.alignment.max(other.alignment),
            max_workgroups: self.max_workgroups.min(other.max_workgroups),
            max_invocations: self.max_invocations.min(other.max_invocations),
            workgroup_memory: self.workgroup_memory.min(other.workgroup_memory),
            tier: self.tier,
            elem: self.elem,
            subgroup_size: self.subgroup_size,
            tiles: self.tiles,
            max_work: self.max_work.into_iter().chain(other.max_work).min(),
        }
    }

    /// What every WebGPU device allows: 128 MiB a binding, 256 MiB a buffer, 16 KiB workgroup memory, 256 invocations.
    pub const DEFAULT: Self = Self {
        max_binding: 128 << 20,
        max_buffer: 256 << 20,
        alignment: 256,
        max_workgroups: 65_535,
        max_invocations: 256,
        workgroup_memory: 16 << 10,
        tier: Tier::Baseline,
        elem: Elem::F32,
        subgroup_size: 0,
        tiles: Tiles::DEFAULT,
        max_work: None,
    };
}

/// Tensors, and the dispatches that write them, in running order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    tensors: Vec<TensorInfo>,
    steps: Vec<Dispatch>,
    /// For each step, whether [`Graph::push_unchecked`] appended it.
    trusted: Vec<bool>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new tensor of f32.
    pub fn tensor(&mut self, label: impl Into<String>, shape: impl Into<Vec<usize>>, role: Role) -> TensorId {
        self.tensor_of(Elem::F32, label, shape, role)
    }

    /// A new tensor.
    ///
    /// # Panics
    /// If the tensor's bytes overflow `usize`: a programmer's mistake.
    pub fn tensor_of(&mut self, elem: Elem, label: impl Into<String>, shape: impl Into<Vec<usize>>, role: Role) -> TensorId {
        let info = TensorInfo { label: label.into(), shape: shape.into(), role, elem };
        let bytes = info.shape.iter().try_fold(elem.bytes(), |bytes, &extent| bytes.checked_mul(extent));
        assert!(bytes.and_then(|bytes| bytes.checked_next_multiple_of(4)).is_some(), "{info:?} has more bytes than can be counted");
        self.tensors.push(info);
        TensorId(self.tensors.len() - 1)
    }

    /// Appends a dispatch. Its shader is compiled with all run-time checks that wgpu has for the device's API. (For
    /// OpenGL wgpu has none for private and workgroup arrays.)
    ///
    /// # Panics
    /// If a view exceeds its tensor, if a weight or an input is written, or if one tensor is both read and written (a
    /// device may not bind one buffer both ways). These are mistakes of the kernel's author; the message names the
    /// dispatch's label.
    pub fn push(&mut self, dispatch: Dispatch) {
        self.append(dispatch, false);
    }

    /// Appends a dispatch whose shader needs no run-time checks. A device that omits checks
    /// ([`Context::without_shader_checks`](crate::gpu::Context::without_shader_checks)) compiles the shader without
    /// them.
    ///
    /// # Safety
    /// With these views, these parameters and this grid, the shader must stay inside its bindings and arrays, end its
    /// loops, and write workgroup memory before reading it, whatever values the tensors hold.
    ///
    /// # Panics
    /// As [`Graph::push`].
    #[expect(unsafe_code, reason = "the caller vouches for the shader; nothing is dereferenced here")]
    pub unsafe fn push_unchecked(&mut self, dispatch: Dispatch) {
        self.append(dispatch, true);
    }

    fn append(&mut self, dispatch: Dispatch, trusted: bool) {
        let label = &dispatch.label;
        for view in dispatch.reads.iter().chain([&dispatch.write]) {
            let info = self.info(view.tensor);
            let end = view.offset.checked_add(view.len);
            assert!(end.is_some_and(|end| end <= info.len()), "{label}: {view:?} passes the end of {info:?}");
        }
        let written = self.info(dispatch.write.tensor);
        assert!(matches!(written.role, Role::Intermediate | Role::Output), "{label}: writes {written:?}");
        assert!(dispatch.reads.iter().all(|r| r.tensor != dispatch.write.tensor), "{label}: reads and writes {written:?}");
        assert!(dispatch.params.len().is_multiple_of(16), "{label}: {} bytes of parameters", dispatch.params.len());
        self.steps.push(dispatch);
        self.trusted.push(trusted);
    }

    /// Whether a step's shader may be compiled without run-time checks, because [`Graph::push_unchecked`] appended it.
    pub fn is_trusted(&self, step: usize) -> bool {
        self.trusted[step]
    }

    /// The dispatches, so that tests can plant faults.
    #[cfg(test)]
    pub(crate) fn steps_mut(&mut self) -> &mut [Dispatch] {
        &mut self.steps
    }

    /// Turns an intermediate tensor into an output, which lives to the end in a buffer of its own, for the caller to
    /// read.
    ///
    /// # Panics
    /// If the tensor is a weight or an input: a programmer's mistake.
    pub fn keep(&mut self, id: TensorId) {
        let info = &mut self.tensors[id.0];
        assert!(matches!(info.role, Role::Intermediate | Role::Output), "{info:?} cannot be kept");
        info.role = Role::Output;
    }

    /// Every tensor, by [`TensorId::index`].
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Every tensor's id, in the order of creation.
    pub fn ids(&self) -> impl Iterator<Item = TensorId> + use<> {
        (0..self.tensors.len()).map(TensorId)
    }

    /// One tensor's name, shape and role.
    pub fn info(&self, id: TensorId) -> &TensorInfo {
        &self.tensors[id.0]
    }

    /// The whole of a tensor.
    pub fn whole(&self, id: TensorId) -> Operand {
        Operand { tensor: id, offset: 0, len: self.info(id).len() }
    }

    /// The dispatches in running order.
    pub fn steps(&self) -> &[Dispatch] {
        &self.steps
    }
}
