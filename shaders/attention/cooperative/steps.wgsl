    // The steps.
    if BUFFERS == 2u {
        other = 1u;
    }
    workgroupBarrier();
    for (var start = 0u; start < end; start += KEYS) {
