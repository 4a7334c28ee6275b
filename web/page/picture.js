// The picture: a slice in shades of gray, a map of its patches over it, and the place of a patch.

export const PRESETS = {
    "Soft tissue": [40, 400],
    Lung: [-600, 1500],
    Bone: [400, 1800],
    Liver: [60, 160],
    Brain: [40, 80],
    "All that the model sees": [0, 2000],
};

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

export class Picture {
    #canvas;
    #gray = document.createElement("canvas");
    #map = document.createElement("canvas");
    #place = { x: 0, y: 0, scale: [1, 1] };
    /** {hu, height, width, spacing} */
    slice;
    level = 40;
    width = 400;
    /** {pixels: RGBA bytes, rows, cols, covered, sharp}: sharp maps are never smoothed. */
    map;
    opacity = 0.5;
    smooth = true;
    /** Where a patch is held: [x, y] in pixels of the slice. */
    mark;

    constructor(canvas) {
        this.#canvas = canvas;
        new ResizeObserver(() => this.draw()).observe(canvas);
    }

    /** A drag over the whole side changes the level by 1000 HU, or the width four times. */
    adjust(dx, dy) {
        const side = Math.min(this.#canvas.clientWidth, this.#canvas.clientHeight);
        this.level = clamp(this.level - (dy / side) * 1000, -1024, 3071);
        this.width = clamp(this.width * 2 ** ((2 * dx) / side), 1, 4096);
        this.shade();
    }

    /** Shows another slice. */
    show(slice) {
        this.slice = slice;
        this.shade();
    }

    /** Shows nothing, where a slice cannot be read. */
    clear() {
        this.slice = this.map = this.mark = undefined;
        this.#canvas.getContext("2d").clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    }

    /** Computes the shades of gray, and draws. */
    shade() {
        const { hu, height, width } = this.slice ?? {};
        if (!hu) return;
        const pixels = new Uint32Array(hu.length);
        const [low, factor] = [this.level - this.width / 2, 255 / this.width];
        for (let i = 0; i < hu.length; i++) {
            const shade = clamp((hu[i] - low) * factor + 0.5, 0, 255) | 0;
            pixels[i] = 0xff000000 | (shade << 16) | (shade << 8) | shade;
        }
        put(this.#gray, new Uint8ClampedArray(pixels.buffer), width, height);
        this.draw();
    }

    /** Lays a map over the slice, or none. */
    lay(map) {
        this.map = map;
        if (map) put(this.#map, map.pixels, map.cols, map.rows);
        this.draw();
    }

    draw() {
        if (!this.slice) return;
        const ratio = devicePixelRatio;
        this.#canvas.width = Math.round(this.#canvas.clientWidth * ratio);
        this.#canvas.height = Math.round(this.#canvas.clientHeight * ratio);
        const { height, width, spacing } = this.slice;
        const [across, down] = spacing ?? [1, 1];
        const fit = Math.min(this.#canvas.width / (width * across), this.#canvas.height / (height * down));
        const scale = [fit * across, fit * down];
        const [x, y] = [(this.#canvas.width - width * scale[0]) / 2, (this.#canvas.height - height * scale[1]) / 2];
        this.#place = { x, y, scale };
        this.paint(this.#canvas.getContext("2d"), x, y, scale);
    }

    /** Paints the slice and what is over it, its corner at (x, y). */
    paint(context, x, y, [across, down]) {
        const { height, width } = this.slice;
        context.imageSmoothingEnabled = true;
        context.globalAlpha = 1;
        context.drawImage(this.#gray, x, y, width * across, height * down);
        if (this.map) {
            const [rows, cols] = this.map.covered;
            context.imageSmoothingEnabled = this.smooth && !this.map.sharp;
            context.globalAlpha = this.opacity;
            context.drawImage(this.#map, x, y, cols * across, rows * down);
            context.globalAlpha = 1;
        }
        if (!this.mark) return;
        for (const [line, colour] of [[3, "black"], [1.5, "white"]]) {
            context.beginPath();
            context.arc(x + this.mark[0] * across, y + this.mark[1] * down, 7, 0, 2 * Math.PI);
            context.lineWidth = line;
            context.strokeStyle = colour;
            context.stroke();
        }
    }

    /** The picture as PNG, with the pixels of the slice. */
    png() {
        const { height, width } = this.slice;
        const canvas = Object.assign(document.createElement("canvas"), { width, height });
        this.paint(canvas.getContext("2d"), 0, 0, [1, 1]);
        return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    }

    /** The place of a mouse event in pixels of the slice; undefined beside it. */
    at(event) {
        if (!this.slice) return undefined;
        const { x, y, scale } = this.#place;
        const place = [(event.offsetX * devicePixelRatio - x) / scale[0], (event.offsetY * devicePixelRatio - y) / scale[1]];
        return place[0] >= 0 && place[1] >= 0 && place[0] < this.slice.width && place[1] < this.slice.height ? place : undefined;
    }

    /** The HU at a place. */
    hu([x, y]) {
        return this.slice.hu[Math.floor(y) * this.slice.width + Math.floor(x)];
    }
}

function put(canvas, pixels, width, height) {
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
}
