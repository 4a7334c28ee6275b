//! A checkpoint file as named tensors: containers, layouts, seeded weights. It knows names and shapes, not what the model does with them.
