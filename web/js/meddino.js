// MedDINOv3 features of CT scans in a browser, on WebGPU or the CPU. A worker computes, so that the page stays alive; every call
// is a promise. `meddino.d.ts` describes each class.

import { missing } from "./gpu.js";

export class MeddinoError extends Error {
    constructor({ message, kind, failure }) {
        super(message);
        this.name = "MeddinoError";
        this.kind = kind;
        this.failure = failure;
    }
}

export class Meddino {
    #worker;
    #waiting = new Map();
    #next = 1;
    #end;

    constructor(worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" })) {
        this.#worker = worker;
        worker.onmessage = ({ data }) => this.#hear(data);
        worker.onerror = (event) => {
            event.preventDefault();
            this.#stop({ message: `the worker cannot run: ${event.message || "its files cannot be loaded"}`, kind: "broken" });
        };
    }

    /** Why features are computed on the CPU here; undefined if this page has a GPU for them. */
    static missing() {
        return missing();
    }

    async open(files, { name, series, orient } = {}) {
        const listed = [...files].map((file) => (file instanceof Blob ? { path: file.webkitRelativePath || file.name, file } : file));
        const top = listed[0]?.path.split("/")[0];
        const args = { paths: listed.map(({ path }) => path), blobs: listed.map(({ file }) => file), series, orient };
        const { handle, about } = await this.call("open", { name: name ?? top ?? "scan", ...args });
        return new Scan(this, handle, about);
    }

    async phantom() {
        const { handle, about } = await this.call("phantom", {});
        return new Scan(this, handle, about);
    }

    async load(source, { backend, precision, tier, rope, onProgress, signal } = {}) {
        // A worker's relative URLs begin at the worker.
        const absolute = source.url === undefined ? source : { ...source, url: new URL(source.url, document.baseURI).href };
        const { handle, about } = await this.call("load", { source: absolute, backend, precision, tier, rope }, { onProgress, signal });
        return new Model(this, handle, about);
    }

    /** Opens a head that `meddino probe fit` made with label maps. */
    async head(file) {
        const { handle, about } = await this.call("head", { name: file.name ?? "head", file });
        return new Head(this, handle, about);
    }

    /** Colours of a map's values: red, green and blue of 256 steps from the smallest to the largest. */
    scale() {
        return this.call("scale", {});
    }

    /** Bytes of the worker's memory. It grows, and never shrinks. */
    memory() {
        return this.call("memory", {});
    }

    /** Whether the worker has ended, because it was closed or gave up. */
    get ended() {
        return this.#end !== undefined;
    }

    /** Frees what the worker keeps. A worker that has ended keeps nothing. For the classes below. */
    async free(handle) {
        try {
            if (!this.ended) await this.call("close", { handle });
        } catch (error) {
            if (!this.ended) throw error;
        }
    }

    /** Ends the worker; calls that wait are refused. */
    close() {
        this.#stop({ message: "meddino was closed", kind: "cancelled" });
    }

    /** Calls the worker. For the classes below. */
    call(call, args, { onProgress, signal } = {}) {
        if (this.#end) return Promise.reject(new MeddinoError(this.#end));
        if (signal?.aborted) return Promise.reject(new MeddinoError({ message: "cancelled", kind: "cancelled" }));
        const id = this.#next++;
        const cancel = () => this.#worker.postMessage({ call: "cancel", args: { call: id } });
        signal?.addEventListener("abort", cancel);
        const answered = new Promise((resolve, reject) => {
            this.#waiting.set(id, { resolve, reject, onProgress });
            this.#worker.postMessage({ id, call, args });
        });
        return answered.finally(() => signal?.removeEventListener("abort", cancel));
    }

    #hear({ id, answer, error, progress, broken }) {
        const waiting = this.#waiting.get(id);
        if (progress) return waiting?.onProgress?.(progress);
        this.#waiting.delete(id);
        if (broken) this.#stop(error);
        if (error) waiting?.reject(new MeddinoError(error));
        else waiting?.resolve(answer);
    }

    #stop(why) {
        this.#end ??= why;
        this.#worker.terminate();
        for (const { reject } of this.#waiting.values()) reject(new MeddinoError(why));
        this.#waiting.clear();
    }
}

class Kept {
    constructor(meddino, handle, about) {
        this.meddino = meddino;
        this.handle = handle;
        Object.assign(this, about);
    }

    close() {
        return this.meddino.free(this.handle);
    }
}

export class Scan extends Kept {
    slice(index) {
        return this.meddino.call("slice", { scan: this.handle, index });
    }

    async labelMap() {
        const { handle } = await this.meddino.call("labelMap", { scan: this.handle });
        return new LabelMap(this.meddino, handle);
    }
}

export class Head extends Kept {
    labelsOf(features) {
        return this.meddino.call("labels", { head: this.handle, features: features.handle });
    }
}

export class LabelMap extends Kept {
    put(index, labels) {
        return this.meddino.call("putLabels", { map: this.handle, index, labels });
    }

    nifti() {
        return this.meddino.call("nifti", { map: this.handle });
    }
}

export class Model extends Kept {
    plannedBytes(height, width) {
        return this.meddino.call("plannedBytes", { model: this.handle, height, width });
    }

    async features(scan, index, { size = "native", layers = [], signal } = {}) {
        const args = { model: this.handle, scan: scan.handle, index, size: String(size), layers };
        const { handle, about } = await this.meddino.call("features", args, { signal });
        return new Features(this.meddino, handle, about);
    }

    /** Takes the device away, as a driver does that fails. For tests. */
    loseDevice() {
        return this.meddino.call("loseDevice", { model: this.handle });
    }
}

export class Features extends Kept {
    tokens() {
        return this.meddino.call("tokens", { features: this.handle });
    }

    layer(index) {
        return this.meddino.call("layer", { features: this.handle, index });
    }

    patchAt(x, y) {
        return this.meddino.call("patchAt", { features: this.handle, x, y });
    }

    token(patch) {
        return this.meddino.call("token", { features: this.handle, patch });
    }

    similarity(token) {
        return this.meddino.call("similarity", { features: this.handle, token });
    }

    safetensors(metadata = {}) {
        return this.meddino.call("safetensors", { features: this.handle, metadata });
    }

    async colours() {
        const { handle } = await this.meddino.call("colours", { features: this.handle });
        return new Colours(this.meddino, handle);
    }
}

export class Colours extends Kept {
    scores(features) {
        return this.meddino.call("scores", { colours: this.handle, features: features.handle });
    }

    paint(features) {
        return this.meddino.call("paint", { colours: this.handle, features: features.handle });
    }
}
