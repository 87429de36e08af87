// Still WebP images of one size as one animated image.
// Format: https://developers.google.com/speed/webp/docs/riff_container

const chunk = (kind, data) => {
  const head = Buffer.alloc(8);
  head.write(kind);
  head.writeUInt32LE(data.length, 4);
  return Buffer.concat([head, data, Buffer.alloc(data.length % 2)]);
};
const u24 = n => Buffer.from([n & 255, (n >> 8) & 255, n >> 16]);

/** The chunks of pixels of a still image: what a frame holds. */
function pixels(still) {
  if (still.toString('latin1', 0, 4) !== 'RIFF' || still.toString('latin1', 8, 12) !== 'WEBP') throw new Error('no WebP image');
  const found = [];
  for (let at = 12; at + 8 <= still.length; ) {
    const size = still.readUInt32LE(at + 4);
    const end = at + 8 + size + (size % 2);
    if (['ALPH', 'VP8 ', 'VP8L'].includes(still.toString('latin1', at, at + 4))) found.push(still.subarray(at, end));
    at = end;
  }
  return Buffer.concat(found);
}

/** Frames are `{ bytes, ms }`; the image begins again for ever. */
export function animated(frames, { width, height }) {
  const size = Buffer.concat([u24(width - 1), u24(height - 1)]);
  const ANIMATION = 2;
  const header = chunk('VP8X', Buffer.concat([Buffer.from([ANIMATION, 0, 0, 0]), size]));
  const control = chunk('ANIM', Buffer.from([255, 255, 255, 255, 0, 0]));
  const parts = frames.map(({ bytes, ms }) =>
    // At the corner, in place of the frame before.
    chunk('ANMF', Buffer.concat([u24(0), u24(0), size, u24(ms), Buffer.from([2]), pixels(bytes)])));
  const body = Buffer.concat([Buffer.from('WEBP'), header, control, ...parts]);
  const head = Buffer.alloc(8);
  head.write('RIFF');
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body]);
}
