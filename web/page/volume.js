// Features of slices: computed once, kept while there is room, for one slice or for the whole volume.

/** The most bytes of features that are kept, in the worker's memory. */
const ROOM = 2 ** 30;

export class Volume {
    #kept = new Map();
    #stopped = true;
    /** What ends each pass that runs, by its slice. */
    #running = new Map();
    /** The slice that is computed for the whole volume. */
    #background;
    /** How many slices there is room for; known from the first slice on. */
    #most = Infinity;
    /** The slice that is shown. Slices far from it make room for others. */
    center = 0;

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
        const end = new AbortController();
        const computed = this.model.features(this.scan, index, { size: this.size, signal: end.signal });
        this.#kept.set(index, computed);
        this.#running.set(index, end);
        const settled = () => this.#running.get(index) === end && this.#running.delete(index);
        computed.then(
            (features) => (settled(), this.#makeRoom(features)),
            () => settled() && this.#kept.delete(index),
        );
        return computed;
    }

    /** Ends the passes for slices that nobody waits for: neither slice `index` nor, while it runs, the whole volume. */
    only(index) {
        for (const [other, end] of this.#running) {
            if (other === index || (other === this.#background && !this.#stopped)) continue;
            this.#running.delete(other);
            this.#kept.delete(other);
            end.abort();
        }
    }

    /** Lets go of the slices farthest from the one that is shown, until the kept ones fit. */
    #makeRoom({ rows, cols, width }) {
        // The tokens are there twice: all of them, and the patches' alone.
        this.#most = Math.max(1, Math.floor(ROOM / (2 * 4 * rows * cols * width)));
        for (const far of this.#fromCenter([...this.#kept.keys()]).slice(this.#most)) {
            this.#kept.get(far).then((features) => features.close(), () => {});
            this.#kept.delete(far);
        }
    }

    /** Sorts slices by how far they are from the one that is shown. */
    #fromCenter(slices) {
        return slices.sort((a, b) => Math.abs(a - this.center) - Math.abs(b - this.center));
    }

    /**
     * Computes every slice that there is room for, those near the one that is shown first. `said` is called with how many
     * are done. Returns why not all are there, if so.
     */
    async whole(said) {
        this.#stopped = false;
        const order = this.#fromCenter(Array.from({ length: this.scan.slices }, (_, index) => index));
        let done = 0;
        for (const index of order) {
            if (this.#stopped) return "stopped";
            if (!this.has(index) && this.count >= this.#most) return "no room for more";
            this.#background = index;
            try {
                await this.features(index);
            } catch (error) {
                if (this.#stopped && error.kind === "cancelled") return "stopped";
                throw error;
            }
            said(++done);
        }
        this.#stopped = true;
        return undefined;
    }

    stop() {
        this.#stopped = true;
        this.only(this.center);
    }

    close() {
        this.#stopped = true;
        this.only(undefined);
        for (const features of this.#kept.values()) features.then((of) => of.close(), () => {});
        this.#kept.clear();
    }
}
