        workgroupBarrier();
        if BUFFERS == 2u {
            let swapped = other;
            other = buffer;
            buffer = swapped;
        }
    }
