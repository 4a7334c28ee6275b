// The browser's GPU, as far as the browser tells.

/** Words in what a browser tells of a GPU that is software. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render|\bwarp\b/i;

/** Why features are computed on the CPU here; undefined if there is a GPU for them. Pages and workers may ask. */
export async function missing() {
    if (!globalThis.isSecureContext) return "WebGPU needs a secure page: open it by https, or from this machine (localhost).";
    if (!navigator.gpu) {
        return "This browser has no WebGPU. Chrome and Edge have it since 113, Safari since 26, Firefox since 141 on Windows and 145 on Apple silicon.";
    }
    const adapter = await navigator.gpu.requestAdapter().catch(() => null);
    if (!adapter) return "This browser has WebGPU, but finds no GPU for it: see chrome://gpu or about:support.";
    const told = ofAdapter(adapter);
    const isSoftware = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
    if (!isSoftware && !SOFTWARE.test(told)) return undefined;
    return `This browser's GPU is software (${told}), which is slower than the CPU. If the machine has a card, its driver may be missing: see chrome://gpu or about:support.`;
}

/** What the browser tells of an adapter. */
export function ofAdapter(adapter) {
    const { vendor, architecture, description } = adapter?.info ?? {};
    return description || [vendor, architecture].filter(Boolean).join(" ") || "GPU";
}
