//! What a scan is: slices in Hounsfield units, their readers, and the way from a slice to an image for the model.
