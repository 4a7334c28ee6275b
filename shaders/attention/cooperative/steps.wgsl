    // The steps.
    if BUFFERS == 2u {
        buffer = 0u;
        other = 1u;
    }
    workgroupBarrier();
    for (var start = 0u; start < end; start += KEYS) {
