//! Maps that the device computes from tokens, with a few values per token: similarity and principal components.

use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Context, Executable, GpuWeights, Readback, wgpu};
use crate::graph::{Role, TensorId, plan};
use crate::kernels::Recorder;
use crate::maps::Basis;

/// A few values for every token of a batch, on the device: [`images`, `tokens`, `channels`] of f32, row-major, from the
/// buffer's first byte.
#[derive(Clone, Debug)]
pub struct TokenMap {
    /// The values; usages `STORAGE` and `COPY_SRC`.
    pub buffer: wgpu::Buffer,
    /// Images of the batch.
    pub images: usize,
    /// Tokens of an image; the last ones are its patches.
    pub tokens: usize,
    /// Values of a token.
    pub channels: usize,
    /// Tokens of an image before its first patch.
    pub prefix: usize,
    pub(super) context: Context,
}

impl TokenMap {
    /// Returns the number of tokens of all images together.
    pub fn rows(&self) -> usize {
        self.images * self.tokens
    }

    /// Records a copy to the host's memory. Returns a future of `images` x `tokens` x `channels` values. It is ready
    /// after the host has submitted the encoder, the device has run the commands, and the host has polled the device.
    pub fn read(&self, encoder: &mut wgpu::CommandEncoder) -> Readback {
        Readback::encode(&self.context, encoder, &self.buffer)
    }

    /// Prepares the operation on this map that `record` records, writes its other inputs, and returns its result.
    pub(super) async fn then(&self, record: impl FnOnce(&mut Recorder, TensorId) -> Result<Operation>) -> Result<(Executable, TensorId)> {
        let mut g = Recorder::new(*self.context.limits());
        let map = g.tensor("map", [self.rows(), self.channels], Role::Weight);
        let Operation { result, inputs } = record(&mut g, map)?;
        g.keep(result);
        let graph = g.finish();
        let planned = plan(&graph, self.context.limits())?;
        let mut lent = GpuWeights::default();
        lent.lend("map", self.buffer.clone());
        let executable = Executable::new_async(&self.context, graph, planned, &lent).await?;
        for (id, values) in inputs {
            executable.write(id, 0, &values)?;
        }
        Ok((executable, result))
    }

    /// Returns the result of an operation on this map, with `channels` values per token.
    fn result(&self, executable: &Executable, result: TensorId, channels: usize) -> Self {
        let buffer = executable.buffer(result).expect("a result is written").clone();
        Self { buffer, channels, ..self.clone() }
    }
}

/// An operation's result, and the values of its inputs.
pub(super) struct Operation {
    pub result: TensorId,
    pub inputs: Vec<(TensorId, Vec<f32>)>,
}

/// The similarity of the tokens of a batch to one token.
#[derive(Debug)]
pub struct Similarity {
    executable: Executable,
    tokens: TokenMap,
    query: wgpu::Buffer,
    map: TokenMap,
}

impl Similarity {
    /// Prepares the comparison of the tokens.
    ///
    /// # Errors
    /// If the comparison does not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(tokens: &TokenMap) -> Result<Self> {
        block_on(Self::new_async(tokens))
    }

    /// [`Similarity::new`] as a future.
    ///
    /// # Errors
    /// If the comparison does not fit the device.
    pub async fn new_async(tokens: &TokenMap) -> Result<Self> {
        let mut query = None;
        let operation = tokens.then(|g, map| {
            let id = *query.insert(g.tensor("query", [tokens.channels], Role::Input));
            Ok(Operation { result: g.similarity("similarity", map, id)?, inputs: vec![] })
        });
        let (executable, result) = operation.await?;
        let query = query.and_then(|id| executable.buffer(id)).expect("the query is read").clone();
        Ok(Self { map: tokens.result(&executable, result, 1), executable, tokens: tokens.clone(), query })
    }

    /// Records the cosine of the angle between each token and the token in row `row` of the buffer, from -1 to 1.
    /// [`super::TokenLayout::patch_row`] gives the row of a patch.
    ///
    /// # Errors
    /// If the row does not exist.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, row: usize) -> Result<()> {
        if row >= self.tokens.rows() {
            return Err(Error::option("token", format!("there is no token {row}: there are {}, counted from 0", self.tokens.rows())));
        }
        let bytes = 4 * self.tokens.channels as u64;
        encoder.copy_buffer_to_buffer(&self.tokens.buffer, row as u64 * bytes, &self.query, 0, bytes);
        self.executable.encode(encoder);
        Ok(())
    }

    /// Returns the buffer of the token that all tokens are compared with, `[C]` of f32 (usage `COPY_DST`). A host may
    /// write any token into it and then record [`Similarity::encode_query`].
    pub fn query(&self) -> &wgpu::Buffer {
        &self.query
    }

    /// Records the comparison with the token in [`Similarity::query`].
    pub fn encode_query(&self, encoder: &mut wgpu::CommandEncoder) {
        self.executable.encode(encoder);
    }

    /// Returns the map of similarities, one value per token.
    pub fn map(&self) -> &TokenMap {
        &self.map
    }
}

/// The whitened scores of the tokens along three principal components.
#[derive(Debug)]
pub struct Components {
    executable: Executable,
    map: TokenMap,
}

impl Components {
    /// Prepares the projection of the tokens on a basis. [`Basis`] explains how to fit and store one.
    ///
    /// # Errors
    /// If the basis is for tokens of another width, or the projection does not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(tokens: &TokenMap, basis: &Basis) -> Result<Self> {
        block_on(Self::new_async(tokens, basis))
    }

    /// [`Components::new`] as a future.
    ///
    /// # Errors
    /// If the basis is for tokens of another width, or the projection does not fit the device.
    pub async fn new_async(tokens: &TokenMap, basis: &Basis) -> Result<Self> {
        if basis.width() != tokens.channels {
            return Err(Error::option("basis", format!("it is for tokens {} wide, and these are {}", basis.width(), tokens.channels)));
        }
        let whitened = basis.whitened();
        let operation = tokens.then(|g, map| {
            let mean = g.tensor("mean", basis.mean().shape(), Role::Input);
            let directions = g.tensor("directions", whitened.shape(), Role::Input);
            let inputs = vec![(mean, basis.mean().data().to_vec()), (directions, whitened.data().to_vec())];
            Ok(Operation { result: g.basis("basis", map, mean, directions)?, inputs })
        });
        let (executable, result) = operation.await?;
        Ok(Self { map: tokens.result(&executable, result, whitened.rows()), executable })
    }

    /// Records the projection.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.executable.encode(encoder);
    }

    /// Returns the map of scores, three values per token, as [`Basis::scores`] computes them.
    pub fn map(&self) -> &TokenMap {
        &self.map
    }
}
