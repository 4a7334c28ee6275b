//! What is made of tokens on the device: similarity, principal components, and textures of both.

use crate::error::{Error, Result};
use crate::gpu::{Context, Executable, GpuWeights, Readback, TextureCopy, wgpu};
use crate::graph::{Role, TensorId, plan};
use crate::kernels::{Field, Recorder, Values, taps};
use crate::maps::{Basis, Mesh};

/// Some values for every token, on the device: [`rows`, `channels`], f32, row-major, from the buffer's first byte on. The last rows are the patches.
#[derive(Clone, Debug)]
pub struct Map {
    /// Usage `STORAGE` and `COPY_SRC`.
    pub buffer: wgpu::Buffer,
    /// Tokens.
    pub rows: usize,
    /// Values of a token.
    pub channels: usize,
    /// Tokens before the first patch.
    pub prefix: usize,
    pub(super) context: Context,
}

impl Map {
    /// Records a copy to the host's memory, as [`super::Pass::read`] does.
    pub fn read(&self, encoder: &mut wgpu::CommandEncoder) -> Readback {
        Readback::encode(&self.context, encoder, &self.buffer)
    }

    /// An operation on this map, as `record` says, with values for what it reads besides; gives its result.
    fn then(&self, record: impl FnOnce(&mut Recorder, TensorId) -> Result<Operation>) -> Result<(Executable, TensorId)> {
        let mut g = Recorder::new(*self.context.limits());
        let map = g.tensor("map", [self.rows, self.channels], Role::Weight);
        let Operation { result, inputs } = record(&mut g, map)?;
        g.keep(result);
        let graph = g.finish();
        let planned = plan(&graph, self.context.limits())?;
        let mut lent = GpuWeights::default();
        lent.lend("map", self.buffer.clone());
        let executable = Executable::new(&self.context, graph, planned, &lent)?;
        for (id, values) in inputs {
            executable.write(id, 0, &values)?;
        }
        Ok((executable, result))
    }

    fn of(executable: &Executable, result: TensorId, from: &Self, channels: usize) -> Self {
        let buffer = executable.buffer(result).expect("a result is written").clone();
        Self { buffer, channels, ..from.clone() }
    }
}

/// What an operation gives, and the values of its inputs.
struct Operation {
    result: TensorId,
    inputs: Vec<(TensorId, Vec<f32>)>,
}

/// How alike the tokens are to one of them.
#[derive(Debug)]
pub struct Similarity {
    executable: Executable,
    tokens: Map,
    query: wgpu::Buffer,
    map: Map,
}

impl Similarity {
    /// Prepares it for these tokens.
    ///
    /// # Errors
    /// If it does not fit the device.
    pub fn new(tokens: &Map) -> Result<Self> {
        let mut query = None;
        let (executable, result) = tokens.then(|g, map| {
            let id = *query.insert(g.tensor("query", [tokens.channels], Role::Input));
            Ok(Operation { result: g.similarity("similarity", map, id)?, inputs: vec![] })
        })?;
        let query = query.and_then(|id| executable.buffer(id)).expect("the query is read").clone();
        Ok(Self { map: Map::of(&executable, result, tokens, 1), executable, tokens: tokens.clone(), query })
    }

    /// Records the cosine of the angle between each token and the one of this number (patches are numbered from [`Map::prefix`] on), from -1 to 1.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, token: usize) -> Result<()> {
        if token >= self.tokens.rows {
            return Err(Error::option("token", format!("there is no token {token}: there are {}, from 0 on", self.tokens.rows)));
        }
        let bytes = 4 * self.tokens.channels as u64;
        encoder.copy_buffer_to_buffer(&self.tokens.buffer, token as u64 * bytes, &self.query, 0, bytes);
        self.executable.encode(encoder);
        Ok(())
    }

    /// The buffer of the token that others are compared with, `[C]` of f32: for one from elsewhere (`COPY_DST`), and [`Similarity::encode_query`].
    pub fn query(&self) -> &wgpu::Buffer {
        &self.query
    }

    /// Records the comparison with what [`Similarity::query`] holds.
    pub fn encode_query(&self, encoder: &mut wgpu::CommandEncoder) {
        self.executable.encode(encoder);
    }

    /// One value a token.
    pub fn map(&self) -> &Map {
        &self.map
    }
}

/// The whitened scores of the tokens along principal components.
#[derive(Debug)]
pub struct Scores {
    executable: Executable,
    map: Map,
}

impl Scores {
    /// Prepares it for these tokens and a basis: [`Basis`] says how one is fitted, or stored.
    ///
    /// # Errors
    /// If the basis is of another width, or it does not fit the device.
    pub fn new(tokens: &Map, basis: &Basis) -> Result<Self> {
        if basis.width() != tokens.channels {
            return Err(Error::option("basis", format!("it is for tokens {} wide, and these are {}", basis.width(), tokens.channels)));
        }
        let whitened = basis.whitened();
        let (executable, result) = tokens.then(|g, map| {
            let mean = g.tensor("mean", basis.mean().shape(), Role::Input);
            let directions = g.tensor("directions", whitened.shape(), Role::Input);
            let inputs = vec![(mean, basis.mean().data().to_vec()), (directions, whitened.data().to_vec())];
            Ok(Operation { result: g.basis("basis", map, mean, directions)?, inputs })
        })?;
        Ok(Self { map: Map::of(&executable, result, tokens, whitened.rows()), executable })
    }

    /// Records the projection.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.executable.encode(encoder);
    }

    /// Three values a token, as [`Basis::scores`].
    pub fn map(&self) -> &Map {
        &self.map
    }
}

/// A map of up to four channels as a texture of the slice's size, or of any other: bilinear between the patches' centres.
#[derive(Debug)]
pub struct Picture {
    executable: Executable,
    pixels: TensorId,
    size: [usize; 2],
    writer: TextureCopy,
}

impl Picture {
    /// Prepares it: `mesh` says where the patches lie on the texture ([`super::Pass::mesh`], or one of its own for another size), `range` which values
    /// become 0 and 1; what is beyond is cut off.
    ///
    /// # Errors
    /// If the map has other patches or more than four channels, the range is empty, or it does not fit the device.
    pub fn new(map: &Map, mesh: &Mesh, range: (f32, f32)) -> Result<Self> {
        let (lo, hi) = range;
        if !(lo.is_finite() && hi.is_finite() && lo < hi) {
            return Err(Error::option("range", format!("{lo} to {hi}; expected two finite values in order")));
        }
        if !(1..=4).contains(&map.channels) || map.prefix + mesh.grid.patches() != map.rows {
            return Err(Error::option(
                "map",
                format!(
                    "{} tokens of {} channels; expected {} + {} tokens of 1 to 4",
                    map.rows,
                    map.channels,
                    map.prefix,
                    mesh.grid.patches()
                ),
            ));
        }
        let channels = map.channels;
        let field = Field { first: map.prefix * channels, height: mesh.grid.rows, width: mesh.grid.cols, channels };
        let values = Values { lo, hi, mean: lo, divisor: hi - lo, ..Values::SAME };
        let size = [mesh.slice.0, mesh.slice.1];
        let (executable, pixels) = map.then(|g, id| {
            let inputs = mesh.lines().map(|lines| (lines.len(), taps(&lines)));
            let tables = inputs.each_ref().map(|(lines, table)| g.tensor("taps", [*lines, table.len() / lines], Role::Input));
            let result = g.resize("picture", id, field, tables, values, [size[0], size[1], channels])?;
            Ok(Operation { result, inputs: tables.into_iter().zip(inputs.map(|(_, table)| table)).collect() })
        })?;
        Ok(Self { executable, pixels, size, writer: TextureCopy::writer(&map.context, channels)? })
    }

    /// Records the making of the texture: `Rgba16Float`, of the mesh's size, usage `STORAGE_BINDING`. Channels that the map has not are 0, the fourth 1;
    /// all that it has are 0 where the model saw nothing.
    ///
    /// # Errors
    /// If the texture is of another size or format, or may not be written.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, texture: &wgpu::TextureView) -> Result<()> {
        self.executable.encode(encoder);
        self.writer.encode(encoder, self.pixels(), texture, self.size)
    }

    /// The same values as a buffer: [H, W, channels] of f32.
    pub fn pixels(&self) -> &wgpu::Buffer {
        self.executable.buffer(self.pixels).expect("a result is written")
    }
}
