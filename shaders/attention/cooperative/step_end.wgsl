        workgroupBarrier();
        if BUFFERS == 2u {
            let last = other;
            other = buffer;
            buffer = last;
        }
    }
