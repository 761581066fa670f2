// COCO's compressed run lengths as canvases. Knows nothing of people.

// Five bits a character, the lowest first; from the fourth number on, differences to the last but one.
export function runsOf(counts) {
  const runs = [];
  let place = 0;
  while (place < counts.length) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = counts.charCodeAt(place++) - 48;
      value |= (code & 0x1f) << shift;
      more = (code & 0x20) !== 0;
      shift += 5;
      if (!more && (code & 0x10)) value |= shift < 32 ? -1 << shift : 0;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

// Returns {canvas, x, y, width, height, bits} of the part of the image that the mask covers, or null for an empty one.
export function maskOf(segmentation, colour) {
  if (!segmentation || typeof segmentation.counts !== "string") return null;
  const [height, width] = segmentation.size;
  const runs = runsOf(segmentation.counts);
  const bits = new Uint8Array(height * width);
  let left = width, top = height, right = -1, bottom = -1, at = 0;
  for (let number = 0; number < runs.length; number++) {
    const end = at + runs[number];
    if (number % 2) {
      for (let place = at; place < end; place++) {
        const x = Math.floor(place / height), y = place - x * height;
        bits[y * width + x] = 1;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
        if (x < left) left = x;
        if (x > right) right = x;
      }
    }
    at = end;
  }
  if (right < 0) return null;
  const wide = right - left + 1, high = bottom - top + 1;
  const canvas = new OffscreenCanvas(wide, high);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(wide, high);
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      if (!bits[(y + top) * width + x + left]) continue;
      const place = 4 * (y * wide + x);
      const inner = x && y && x < wide - 1 && y < high - 1 && bits[(y + top - 1) * width + x + left]
        && bits[(y + top + 1) * width + x + left] && bits[(y + top) * width + x + left - 1] && bits[(y + top) * width + x + left + 1];
      picture.data.set([...colour, inner ? 110 : 255], place);
    }
  }
  context.putImageData(picture, 0, 0);
  return { canvas, x: left, y: top, width, height, bits };
}
