//! One file a shader: parameters, constants, grid and cost. The only place that includes WGSL text; it touches no device.
