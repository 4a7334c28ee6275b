fn finish(normalised: Pack) -> Pack {
    return normalised;
}
