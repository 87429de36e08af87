// The timed training step in jax-js: a Llama-like decoder, LoRA on all its linear layers, Adam.
import { blockUntilReady, defaultDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from './index.js';
import { each, inputs } from './small_inputs.js';

/** Seconds of each step, and the losses. `ids` are one row's tokens and the one after; see small_inputs.js for more. */
export async function train({ shape, rank, batch, length, steps, learningRate, ids: row, model }) {
  if (!(await init()).includes('webgpu')) throw new Error('jax-js finds no WebGPU');
  defaultDevice('webgpu');
  const { hidden_size: d, num_attention_heads: heads, vocab_size: vocab } = shape;
  const width = d / heads;
  const { base, lora, still } = each(inputs({ shape, rank, length, model }), ({ shape, values }) => np.array(values).reshape(shape));

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
    const wanted = nn.oneHot(targets, vocab).mul(still.counted.ref);
    tree.dispose(still);
    const logits = np.matmul(rms(x, base.norm), base.head); // [batch, length, vocab]
    return np.sum(nn.logSoftmax(logits, -1).mul(wanted)).mul(-1 / (batch * (length - 1)));
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

  const rows = begin => np.array(Int32Array.from({ length: batch * length }, (_, i) => row[begin + i % length])).reshape([batch, length]);
  const [ids, targets] = [rows(0), rows(1)];
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
