// Files of the tests: scans that are made here, the fuzzer's seeds, and what the command computes on the CPU.

import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

export const DESK = "target/web-tests";

/** What was made, or is being made, by its name: tests that run at the same time share it. */
const made = new Map();

/** Makes something once. */
export function once(name, make) {
    if (!made.has(name)) made.set(name, make());
    return made.get(name);
}

/** Writes a file of a test. Tests run at the same time, so each has names of its own. */
export function write(name, bytes) {
    const path = join(DESK, "files", name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
    return path;
}

/** Whether a voxel of a made scan is in its body, and in its bone. */
function parts(s, r, c, rows, cols) {
    const inside = Math.hypot((r / rows - 0.5) * 2.2, (c / cols - 0.45) * 2.4) < 1;
    const bone = Math.hypot(r / rows - 0.3 - 0.02 * s, c / cols - 0.6) < 0.1;
    return { inside, bone: inside && bone };
}

/** HU of a made scan, and its labels. */
const hu = ({ inside, bone }, s, r, c) => (inside ? (bone ? 700 : 40 + ((r * 7 + c * 13 + s * 29) % 50)) : -1000);
const label = ({ inside, bone }) => (bone ? 2 : inside ? 1 : 0);

/** A NIfTI-1 file of 16-bit values with axes to the right, anterior and superior, gzipped: HU, or labels. */
export function nifti(slices, rows, cols, value = hu) {
    const bytes = Buffer.alloc(352 + 2 * slices * rows * cols);
    bytes.writeInt32LE(348, 0);
    [3, cols, rows, slices, 1, 1, 1, 1].forEach((n, i) => bytes.writeInt16LE(n, 40 + 2 * i));
    bytes.writeInt16LE(4, 70);
    bytes.writeInt16LE(16, 72);
    [1, 0.8, 0.8, 2.5].forEach((n, i) => bytes.writeFloatLE(n, 76 + 4 * i));
    bytes.writeFloatLE(352, 108);
    bytes.writeFloatLE(1, 112);
    bytes.writeInt16LE(1, 254);
    [0.8, 0, 0, -30, 0, 0.8, 0, -20, 0, 0, 2.5, 5].forEach((n, i) => bytes.writeFloatLE(n, 280 + 4 * i));
    bytes.write("n+1\0", 344, "latin1");
    let at = 352;
    for (let s = 0; s < slices; s++) {
        for (let r = 0; r < rows; r++) {
            for (let c = 0; c < cols; c++, at += 2) {
                bytes.writeInt16LE(value(parts(s, r, c, rows, cols), s, r, c), at);
            }
        }
    }
    return gzipSync(bytes);
}

/** The files of a seed of the fuzzer's that is a folder. */
export function seedFolder(name) {
    const between = Buffer.from("\xFF{file}\xFF", "latin1");
    let rest = readFileSync(`fuzz/seeds/dicom_folder/${name}`);
    const files = [];
    for (let at; (at = rest.indexOf(between)) >= 0; rest = rest.subarray(at + between.length)) files.push(rest.subarray(0, at));
    return [...files, rest];
}

/** Runs the command. */
export async function meddino(...args) {
    return (await promisify(execFile)(process.env.MEDDINO_COMMAND, args)).stdout;
}

/** The command's features on the CPU, by tensor name: `{shape, values}`. */
export async function reference(name, ...args) {
    const path = join(DESK, "files", `${name}.safetensors`);
    await once(path, () => meddino("features", ...args, "--backend", "cpu", "--overwrite", "-o", path));
    return tensors(readFileSync(path));
}

/** What `reference` computes, without the instructions that only some CPUs have: the browser's module has none of them. */
export async function portable(name, ...args) {
    const path = join(DESK, "files", `${name}.safetensors`);
    const env = { ...process.env, MEDDINO_CPU: "portable" };
    await once(path, () => promisify(execFile)(process.env.MEDDINO_COMMAND, ["features", ...args, "--backend", "cpu", "--overwrite", "-o", path], { env }));
    return tensors(readFileSync(path));
}

/** Makes a scan, its label map, and a head on the tokens of the micro model; returns where they are. */
export const fitted = () =>
    once("head", async () => {
        const at = (name) => join(DESK, "files", name);
        const scan = write("scans/a.nii.gz", nifti(3, 96, 80));
        write("masks/a.nii.gz", nifti(3, 96, 80, label));
        mkdirSync(at("features"), { recursive: true });
        await meddino("features", scan, "-c", "seeded:0:micro", "--backend", "cpu", "--size", "128", "-o", at("features/a.safetensors"));
        await meddino("probe", "fit", at("features"), "--masks", at("masks"), "-o", at("head.safetensors"), "--c", "1");
        return { at, scan };
    });

/** The header of a safetensors file, and its length. */
function headerOf(bytes) {
    const length = Number(bytes.readBigUInt64LE(0));
    return { length, header: JSON.parse(bytes.toString("utf8", 8, 8 + length)) };
}

/** The metadata of a safetensors file. */
export const metadata = (bytes) => headerOf(bytes).header.__metadata__;

/** The tensors of a safetensors file of f32. */
export function tensors(bytes) {
    const { length, header } = headerOf(bytes);
    const read = ([name, { shape, data_offsets: [from, to] }]) => {
        const values = new Float32Array(Uint8Array.from(bytes.subarray(8 + length + from, 8 + length + to)).buffer);
        return [name, { shape, values }];
    };
    return Object.fromEntries(Object.entries(header).filter(([name]) => name !== "__metadata__").map(read));
}

/** The relative L2 distance of two lists of numbers of one length. */
export function distance(got, want) {
    if (got.length !== want.length) return Infinity;
    let [apart, size] = [0, 0];
    for (let i = 0; i < want.length; i++) {
        apart += (got[i] - want[i]) ** 2;
        size += want[i] ** 2;
    }
    return Math.sqrt(apart / size);
}
