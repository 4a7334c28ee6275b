/** MedDINOv3 features of CT scans in a browser, on WebGPU or the CPU. A worker computes; every call is a promise. */

/** An error in the library's words: what was expected, what was found, what to do. */
export class MeddinoError extends Error {
    /** `broken`: the worker ended; make a new {@link Meddino}. */
    readonly kind: "checkpoint" | "input" | "output" | "option" | "gpu" | "cancelled" | "mismatch" | "broken" | "error";
    /** Of a GPU error: what failed. After `Lost`, load the model again. */
    readonly failure?: "NoDevice" | "Unsupported" | "FailedSelfTest" | "TooLarge" | "OutOfMemory" | "Refused" | "Lost" | "Misuse";
}

/** A file with its path in the folder that was given, such as `series/IM0001`. */
export interface PathFile {
    path: string;
    file: Blob;
}

export interface OpenOptions {
    /** What messages call a folder of DICOM files; otherwise the first part of the first path. */
    name?: string;
    /** One of several DICOM series: its number, the end of its UID, or `largest`. */
    series?: string;
    /** `lps` (the default): axial slices as DICOM viewers show them. `stored`: as the file has them. */
    orient?: "lps" | "stored";
}

/** Where weights come from. */
export type Source =
    /** Untrained weights, to try things out: `seeded:0`, `seeded:0:tiny`, `seeded:0:micro`. */
    | { seeded: string }
    /** A safetensors file, or a PyTorch file (.pth) as torch.save has written it by default since PyTorch 1.6. */
    | { file: File }
    /** The URL of an index of shards that `meddino convert` wrote. Shards are checked, and kept by the browser. */
    | { url: string };

export interface LoadOptions {
    /** `auto` (the default): the GPU, if the browser has one that is no software and that takes the model; else the CPU. `f16` and tiers need a GPU. */
    backend?: "auto" | "gpu" | "cpu";
    /** `f32` (the default), or `f16` where the GPU has it: half the memory. */
    precision?: "f32" | "f16";
    /** A tier of the GPU's kernels: `baseline`, `direct`, `subgroups`. By default the best that the GPU runs. */
    tier?: string;
    /** The precision of the position embedding, which otherwise follows the kind of checkpoint. */
    rope?: "f32" | "bf16";
    /** Of the shards of a URL: bytes that are here, of all, and bytes of weights that are on the GPU already (0 on the CPU). */
    onProgress?: (progress: { done: number; size: number; cached: boolean; uploaded: number }) => void;
    /** Ends a download; the next one goes on from there. */
    signal?: AbortSignal;
}

export class Meddino {
    /** Starts a worker. Give one if a bundler has to make it (from `worker.js`). */
    constructor(worker?: Worker);
    /** Says why features are computed on the CPU here; `undefined` if there is a GPU for them. */
    static missing(): Promise<string | undefined>;
    /** Opens a scan: NIfTI, NRRD, MetaImage, `.npy`, a DICOM file, or the files of a DICOM folder. */
    open(files: Iterable<File | PathFile>, options?: OpenOptions): Promise<Scan>;
    /** Opens the built-in synthetic thorax slice. */
    phantom(): Promise<Scan>;
    /** Loads weights onto the GPU, or packs them for the CPU. */
    load(source: Source, options?: LoadOptions): Promise<Model>;
    /** Opens a head that `meddino probe fit` made with label maps (`masks`). */
    head(file: File): Promise<Head>;
    /** Colours of a map's values: red, green and blue of 256 steps from the smallest to the largest. */
    scale(): Promise<Uint8Array>;
    /** Bytes of the worker's memory. */
    memory(): Promise<number>;
    /** Whether the worker has ended: it was closed, or gave up. Its objects are gone then; make a new {@link Meddino}. */
    readonly ended: boolean;
    /** Ends the worker. */
    close(): void;
}

interface Kept {
    /** Frees it, when calls that use it have ended. */
    close(): Promise<void>;
}

export interface Scan extends Kept {
    readonly name: string;
    readonly slices: number;
    readonly height: number;
    readonly width: number;
    /** Millimetres from a column, a row and a slice to the next. */
    readonly spacing: [number, number, number] | null;
    readonly format: string | null;
    readonly warnings: string[];
    /** Reads slice `index`, from 0: HU, row by row. */
    slice(index: number): Promise<Float32Array>;
    /** Makes an empty label map on the grid of the scan's file. */
    labelMap(): Promise<LabelMap>;
}

/** A head on patch tokens, which labels the pixels of a slice. */
export interface Head extends Kept {
    readonly name: string;
    readonly labels: number[];
    /** Red, green and blue of each label. */
    readonly colours: [number, number, number][];
    /** How slices were prepared whose features the head was fitted to. Other features are refused. */
    readonly size: string;
    readonly window: string;
    readonly orient: string;
    /** The label of each pixel of the features' slice, row by row. */
    labelsOf(features: Features): Promise<Uint16Array>;
}

/** The labels of a scan. Slices may come in any order; those that never come are 0. */
export interface LabelMap extends Kept {
    put(index: number, labels: Uint16Array): Promise<void>;
    /** A NIfTI file with the geometry of the scan's file, not compressed. */
    nifti(): Promise<Uint8Array>;
}

export interface Model extends Kept {
    readonly weights: string;
    readonly parameters: number;
    /** C: values a token. */
    readonly width: number;
    readonly depth: number;
    readonly patchSize: number;
    readonly backend: "gpu" | "cpu";
    /** With the backend `auto`: why the CPU was taken. */
    readonly why?: string;
    readonly device: string;
    /** What the browser tells of the GPU: its description, or vendor and architecture. On the CPU, its threads and instructions. */
    readonly adapter: string;
    /** The tier of the GPU's kernels. */
    readonly tier: string | null;
    readonly precision: string;
    /** Bytes of the GPU's memory for the weights and the smallest pass; on the CPU, of the weights. */
    readonly weightBytes: number;
    /** The most bytes that the GPU binds at once. */
    readonly maxBinding: number | null;
    /** Of the GPU. */
    readonly abilities: string | null;
    readonly warnings: string[];
    /** Bytes of the GPU's memory for the weights and a pass over an image; null on the CPU. */
    plannedBytes(height: number, width: number): Promise<number | null>;
    /**
     * Computes the features of a slice. `size` is `native`, a side, or `HxW`. `signal` ends a pass: on the CPU between two
     * blocks of the model, on a GPU only before it begins.
     */
    features(scan: Scan, index: number, options?: { size?: string | number; layers?: number[]; signal?: AbortSignal }): Promise<Features>;
    /** Takes the GPU away, as a driver does that fails. For tests. */
    loseDevice(): Promise<void>;
}

export interface Features extends Kept {
    /** Rows and columns of patches. */
    readonly rows: number;
    readonly cols: number;
    /** C: values a token. */
    readonly width: number;
    /** Height and width of the area that the patches cover, in pixels of the slice. */
    readonly covered: [number, number];
    readonly layers: number[];
    /** The slice's token (C), the storage tokens (R x C), the patches' tokens (P x C). */
    tokens(): Promise<{ cls: Float32Array; storage: Float32Array; patches: Float32Array }>;
    /** All tokens of a block that was asked for: T x C. */
    layer(index: number): Promise<Float32Array>;
    /** The patch at a place in pixels of the slice; null where the model saw none. */
    patchAt(x: number, y: number): Promise<number | null>;
    /** A patch's token: C values. */
    token(patch: number): Promise<Float32Array>;
    /** The cosine of the angle between a token, of this or another slice, and that of each patch: P values. */
    similarity(token: Float32Array): Promise<Float32Array>;
    /** A safetensors file with the names and the metadata of `meddino features`, and `metadata`. Hashes are left out. */
    safetensors(metadata?: Record<string, string>): Promise<Uint8Array>;
    /** Fits three principal components. */
    colours(): Promise<Colours>;
}

/** Three principal components, which colour every slice alike. */
export interface Colours extends Kept {
    /** Whitened scores: P x 3. */
    scores(features: Features): Promise<Float32Array>;
    /** Red, green and blue: P x 3 bytes. */
    paint(features: Features): Promise<Uint8Array>;
}
