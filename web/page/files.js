// Files that the user drops or chooses, and files that the page saves.

/** The files of a drop, with those in dropped folders: `{path, file}` each. */
export async function dropped(transfer) {
    // The entries must be taken before the first wait, because the list is empty after it.
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (entries.length === 0) return [...transfer.files].map((file) => ({ path: file.name, file }));
    return (await Promise.all(entries.map(inside))).flat();
}

async function inside(entry) {
    const path = entry.fullPath.replace(/^\//, "");
    if (entry.isFile) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
    const reader = entry.createReader();
    const found = [];
    // A reader gives some entries at a time, and none at the end.
    for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (some.length === 0) return (await Promise.all(found.map(inside))).flat();
        found.push(...some);
    }
}

/** Whether a file is a head: safetensors whose metadata describe one. */
export async function isHead(file) {
    const prefix = new DataView(await file.slice(0, 8).arrayBuffer());
    if (!file.name.endsWith(".safetensors") || prefix.byteLength < 8) return false;
    const length = Math.min(Number(prefix.getBigUint64(0, true)), 16 << 20);
    try {
        const { __metadata__ } = JSON.parse(await file.slice(8, 8 + length).text());
        return __metadata__?.head !== undefined;
    } catch {
        return false;
    }
}

export function save(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
