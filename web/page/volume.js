// Features of slices: computed once, kept while there is room, for one slice or for the whole volume.

/** The most bytes of features that are kept, in the worker's memory. */
const ROOM = 1 << 30;

export class Volume {
    #kept = new Map();
    #stopped = true;

    /** `model.features(scan, index, {size})` for slices of one scan. */
    constructor(scan, model, size) {
        Object.assign(this, { scan, model, size });
    }

    has(index) {
        return this.#kept.has(index);
    }

    get count() {
        return this.#kept.size;
    }

    /** The features of a slice. Those that are asked for while they are computed are computed once. */
    features(index) {
        const known = this.#kept.get(index);
        if (known) return known;
        const computed = this.model.features(this.scan, index, { size: this.size });
        this.#kept.set(index, computed);
        computed.then((features) => this.#make(features, index), () => this.#kept.delete(index));
        return computed;
    }

    /** Lets go of the slices farthest from `index` until the kept ones fit. */
    #make({ rows, cols, width }, index) {
        const most = Math.max(1, Math.floor(ROOM / (2 * 4 * rows * cols * width)));
        const farthest = [...this.#kept.keys()].sort((a, b) => Math.abs(b - index) - Math.abs(a - index));
        for (const far of farthest.slice(0, Math.max(0, this.#kept.size - most))) {
            this.#kept.get(far).then((features) => features.close(), () => {});
            this.#kept.delete(far);
        }
    }

    /** Computes every slice, the nearest to `from` first. `said` is called with how many are done. */
    async whole(from, said) {
        this.#stopped = false;
        const order = Array.from({ length: this.scan.slices }, (_, index) => index).sort((a, b) => Math.abs(a - from) - Math.abs(b - from));
        let done = 0;
        for (const index of order) {
            if (this.#stopped) return false;
            await this.features(index);
            said(++done);
        }
        this.#stopped = true;
        return true;
    }

    stop() {
        this.#stopped = true;
    }

    close() {
        this.stop();
        for (const features of this.#kept.values()) features.then((of) => of.close(), () => {});
        this.#kept.clear();
    }
}
