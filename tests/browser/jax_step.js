// The training step of bench_training.mjs in jax-js: a Llama-like decoder, LoRA on all its linear layers, AdamW.
import { blockUntilReady, defaultDevice, init, jit, nn, numpy as np, random, tree, valueAndGrad } from './index.js';

/** Seconds of each step, and the losses. `shape` is the model's configuration in Hugging Face's names. */
export async function train({ shape, rank, batch, length, steps, learningRate }) {
  if (!(await init()).includes('webgpu')) throw new Error('jax-js finds no WebGPU');
  defaultDevice('webgpu');
  const { hidden_size: d, intermediate_size: wide, num_hidden_layers: layers, num_attention_heads: heads, vocab_size: vocab } = shape;
  const width = d / heads;
  let seed = 0;
  const normal = (...dims) => random.normal(random.key(seed++), dims).mul(0.02);
  const linear = (a, b) => normal(a, b);
  const base = {
    embed: normal(vocab, d), head: normal(d, vocab), norm: np.ones([d]),
    layers: Array.from({ length: layers }, () => ({
      norms: [np.ones([d]), np.ones([d])],
      q: linear(d, d), k: linear(d, d), v: linear(d, d), o: linear(d, d),
      gate: linear(d, wide), up: linear(d, wide), down: linear(wide, d),
    })),
  };
  const pair = (a, b) => [normal(a, rank), np.zeros([rank, b])];
  const lora = Array.from({ length: layers }, () => ({
    q: pair(d, d), k: pair(d, d), v: pair(d, d), o: pair(d, d), gate: pair(d, wide), up: pair(d, wide), down: pair(wide, d),
  }));
  // Rotary angles [length, width / 2] and the causal mask [length, length].
  const angle = (t, i) => t / 10000 ** (2 * i / width);
  const table = f => np.array(new Float32Array(length * width / 2).map((_, n) => f(angle(Math.floor(n / (width / 2)), n % (width / 2))))).reshape([1, length, 1, width / 2]);
  const still = { cos: table(Math.cos), sin: table(Math.sin), mask: np.array(new Float32Array(length * length).map((_, n) => (n % length > Math.floor(n / length) ? -1e9 : 0))).reshape([1, 1, length, length]) };

  const rms = (x, weight) => x.ref.mul(np.reciprocal(np.sqrt(np.mean(np.square(x), -1, { keepdims: true }).add(1e-6)))).mul(weight);
  const apply = (x, weight, [a, b]) => np.matmul(x.ref, weight).add(np.matmul(np.matmul(x, a), b).mul(2));
  const rotate = (x, cos, sin) => {
    const [first, second] = np.split(x, 2, -1);
    return np.concatenate([first.ref.mul(cos.ref).sub(second.ref.mul(sin.ref)), second.mul(cos).add(first.mul(sin))], -1);
  };
  const lossOf = (lora, base, still, ids, targets) => {
    let x = np.matmul(nn.oneHot(ids, vocab), base.embed); // [batch, length, d]
    base.layers.forEach((layer, i) => {
      const h = rms(x.ref, layer.norms[0]);
      const split = y => y.reshape([batch, length, heads, width]);
      const turned = y => np.transpose(rotate(y, still.cos.ref, still.sin.ref), [0, 2, 1, 3]);
      const q = turned(split(apply(h.ref, layer.q, lora[i].q)));
      const k = turned(split(apply(h.ref, layer.k, lora[i].k)));
      const v = np.transpose(split(apply(h, layer.v, lora[i].v)), [0, 2, 1, 3]);
      const scores = np.matmul(q, np.transpose(k, [0, 1, 3, 2])).div(Math.sqrt(width)).add(still.mask.ref);
      const mixed = np.transpose(np.matmul(nn.softmax(scores, -1), v), [0, 2, 1, 3]).reshape([batch, length, d]);
      x = x.add(apply(mixed, layer.o, lora[i].o));
      const m = rms(x.ref, layer.norms[1]);
      const gated = nn.silu(apply(m.ref, layer.gate, lora[i].gate)).mul(apply(m, layer.up, lora[i].up));
      x = x.add(apply(gated, layer.down, lora[i].down));
    });
    tree.dispose(still);
    const logits = np.matmul(rms(x, base.norm), base.head); // [batch, length, vocab]
    return np.sum(nn.logSoftmax(logits, -1).mul(nn.oneHot(targets, vocab))).mul(-1 / (batch * length));
  };
  const update = (w, g, m, v, t) => {
    const m2 = m.mul(0.9).add(g.ref.mul(0.1)), v2 = v.mul(0.999).add(np.square(g).mul(0.001));
    const scale = m2.ref.div(np.subtract(1, np.power(0.9, t.ref))).div(np.sqrt(v2.ref.div(np.subtract(1, np.power(0.999, t)))).add(1e-8));
    return [w.sub(scale.mul(learningRate)), m2, v2];
  };
  const step = jit((lora, m, v, t, base, still, ids, targets) => {
    const [loss, grads] = valueAndGrad(lossOf)(tree.ref(lora), base, still, ids, targets);
    const [w, def] = tree.flatten(lora);
    const [gs, ms, vs] = [grads, m, v].map(each => tree.flatten(each)[0]);
    const all = w.map((each, i) => update(each, gs[i], ms[i], vs[i], t.ref));
    t.dispose();
    return [loss, ...[0, 1, 2].map(part => tree.unflatten(def, all.map(each => each[part])))];
  });

  const draw = new Int32Array(batch * (length + 1)).map((_, i) => (i * 7919 + (i % 13) * 31) % vocab);
  const ids = np.array(draw.slice(0, batch * length)).reshape([batch, length]);
  const targets = np.array(draw.slice(1, batch * length + 1)).reshape([batch, length]);
  let [w, m, v] = [lora, tree.map(np.zerosLike, tree.ref(lora)), tree.map(np.zerosLike, tree.ref(lora))];
  const seconds = [], losses = [];
  for (let t = 1; t <= steps; t++) {
    const begun = performance.now();
    let loss;
    [loss, w, m, v] = step(w, m, v, np.array(t), tree.ref(base), tree.ref(still), ids.ref, targets.ref);
    losses.push((await loss.data())[0]);
    await blockUntilReady(tree.ref(w));
    seconds.push((performance.now() - begun) / 1000);
  }
  return { seconds, losses };
}
