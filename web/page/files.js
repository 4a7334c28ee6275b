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

export function save(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
