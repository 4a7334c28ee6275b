        workgroupBarrier();
        if BUFFERS == 2u {
            buffer = 1u - buffer;
            other = 1u - other;
        }
    }

