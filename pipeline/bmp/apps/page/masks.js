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

// Returns {canvas, x, y, has(column, row)} of the part of the image that the mask covers, or null for an empty one.
export function maskOf(segmentation, colour) {
  if (!segmentation || typeof segmentation.counts !== "string") return null;
  const height = segmentation.size[0], runs = runsOf(segmentation.counts);
  let left = Infinity, top = height, right = -1, bottom = -1;
  for (let number = 1, at = runs[0]; number < runs.length; at += runs[number] + (runs[number + 1] ?? 0), number += 2) {
    if (!runs[number]) continue;
    const last = at + runs[number] - 1, first = Math.floor(at / height), end = Math.floor(last / height);
    if (first < left) left = first;
    if (end > right) right = end;
    // A run that goes on in the next column has touched the lower edge, and touches the upper one there.
    top = Math.min(top, first === end ? at - first * height : 0);
    bottom = Math.max(bottom, first === end ? last - first * height : height - 1);
  }
  if (right < 0) return null;
  const wide = right - left + 1, high = bottom - top + 1, bits = new Uint8Array(wide * high);
  for (let number = 1, at = runs[0]; number < runs.length; at += runs[number] + (runs[number + 1] ?? 0), number += 2) {
    let x = Math.floor(at / height) - left, y = at - (x + left) * height - top;
    for (let count = runs[number]; count > 0; count--) {
      bits[y * wide + x] = 1;
      if (++y + top === height) { y = -top; x++; }
    }
  }
  const canvas = new OffscreenCanvas(wide, high), context = canvas.getContext("2d"), picture = context.createImageData(wide, high);
  const pixels = new Uint32Array(picture.data.buffer);
  const [whole, faint] = [255, 110].map((alpha) => new Uint32Array(new Uint8ClampedArray([...colour, alpha]).buffer)[0]);
  for (let y = 0, place = 0; y < high; y++) {
    for (let x = 0; x < wide; x++, place++) {
      if (!bits[place]) continue;
      const inner = x && y && x < wide - 1 && y < high - 1 && bits[place - wide] && bits[place + wide] && bits[place - 1] && bits[place + 1];
      pixels[place] = inner ? faint : whole;
    }
  }
  context.putImageData(picture, 0, 0);
  const has = (column, row) => column >= left && row >= top && column <= right && row <= bottom && bits[(row - top) * wide + column - left] === 1;
  return { canvas, x: left, y: top, has };
}
