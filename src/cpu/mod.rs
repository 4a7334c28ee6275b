//! The model on the CPU, straight-line: the reference for every kernel, and the backend where there is no GPU.
