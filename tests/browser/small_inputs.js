// What each side of the benchmark begins with: the weights of the small Llama, an adapter and tables, as plain values.
// Runs in a browser and in Node.js.

/**
 * `{ base, lora, still }`, whose leaves are `{ shape, values }`; linear layers are [inputs, outputs]. `shape` is the
 * model's configuration in Hugging Face's names, `model` the bytes of its model.safetensors.
 */
export function inputs({ shape, rank, length, model }) {
  const { hidden_size: d, intermediate_size: wide, num_hidden_layers: layers, num_attention_heads: heads } = shape;
  const stored = tensors(model);
  const linear = name => turned(stored[`${name}.weight`]);
  const at = i => `model.layers.${i}.`;
  const base = {
    embed: stored['model.embed_tokens.weight'], head: linear('lm_head'), norm: stored['model.norm.weight'],
    layers: Array.from({ length: layers }, (_, i) => ({
      norms: ['input_layernorm', 'post_attention_layernorm'].map(name => stored[`${at(i)}${name}.weight`]),
      ...Object.fromEntries(['q', 'k', 'v', 'o'].map(name => [name, linear(`${at(i)}self_attn.${name}_proj`)])),
      ...Object.fromEntries(['gate', 'up', 'down'].map(name => [name, linear(`${at(i)}mlp.${name}_proj`)])),
    })),
  };
  const draw = generator(1);
  const pair = (a, b) => [filled([a, rank], () => (draw() - 0.5) * 2 / Math.sqrt(a)), filled([rank, b], () => 0)];
  const lora = Array.from({ length: layers }, () => ({
    q: pair(d, d), k: pair(d, d), v: pair(d, d), o: pair(d, d), gate: pair(d, wide), up: pair(d, wide), down: pair(wide, d),
  }));
  const half = d / heads / 2;
  const angles = f => filled([1, length, 1, half], i => f(Math.floor(i / half) / 10000 ** (i % half / half)));
  const still = {
    cos: angles(Math.cos), sin: angles(Math.sin),
    mask: filled([1, 1, length, length], i => (i % length > Math.floor(i / length) ? -1e9 : 0)),
    // The last token is asked for nothing.
    counted: filled([1, length, 1], i => (i < length - 1 ? 1 : 0)),
  };
  return { base, lora, still };
}

/** The same tree with `f` of each leaf. */
export function each(tree, f) {
  if (tree.values instanceof Float32Array) return f(tree);
  if (Array.isArray(tree)) return tree.map(branch => each(branch, f));
  return Object.fromEntries(Object.entries(tree).map(([name, branch]) => [name, each(branch, f)]));
}

const filled = (shape, f) => {
  const n = shape.reduce((product, n) => product * n, 1);
  return { shape, values: Float32Array.from({ length: n }, (_, i) => f(i)) };
};

/** Lehmer's generator, from 0 to 1. */
const generator = seed => () => (seed = (seed * 48271) % 2147483647) / 2147483647;

/** The tensors of a safetensors file, all f32. */
function tensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const named = Object.entries(header).map(([name, { shape, data_offsets: [begin, end] }]) =>
    [name, { shape, values: new Float32Array(buffer.slice(8 + length + begin, 8 + length + end)) }]);
  return Object.fromEntries(named);
}

function turned({ shape: [rows, columns], values }) {
  return filled([columns, rows], i => values[(i % rows) * columns + Math.floor(i / rows)]);
}
