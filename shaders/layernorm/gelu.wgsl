fn finish(normalised: Pack) -> Pack {
    return gelu(normalised);
}
