// The timed training step in TensorFlow.js, on its WebGPU backend: the same as in jax_step.js. The page has loaded `tf`.
import { each, inputs } from './small_inputs.js';

/** Seconds of each step, and the losses; see jax_step.js. */
export async function train({ shape, rank, batch, length, steps, learningRate, ids: row, model }) {
  if (!(await tf.setBackend('webgpu'))) throw new Error('TensorFlow.js finds no WebGPU');
  await tf.ready();
  const { hidden_size: d, num_attention_heads: heads, vocab_size: vocab } = shape;
  const width = d / heads;
  const given = inputs({ shape, rank, length, model });
  const array = ({ shape, values }) => tf.tensor(values, shape);
  const base = each(given.base, array), still = each(given.still, array);
  const lora = each(given.lora, factor => tf.variable(array(factor)));

  const rms = (x, weight) => x.mul(x.square().mean(-1, true).add(1e-6).rsqrt()).mul(weight);
  const apply = (x, weight, [a, b]) => x.matMul(weight).add(x.matMul(a).matMul(b).mul(2));
  const rotate = x => {
    const [first, second] = tf.split(x, 2, -1);
    return tf.concat([first.mul(still.cos).sub(second.mul(still.sin)), second.mul(still.cos).add(first.mul(still.sin))], -1);
  };
  const rows = begin => tf.tensor(Array.from({ length: batch * length }, (_, i) => row[begin + i % length]), [batch * length], 'int32');
  const [ids, targets] = [rows(0), rows(1)];
  const lossOf = () => {
    // Gradients of products know no broadcasting: all positions stand in one dimension.
    let x = tf.gather(base.embed, ids); // [batch * length, d]
    base.layers.forEach((layer, i) => {
      const h = rms(x, layer.norms[0]);
      const split = y => y.reshape([batch, length, heads, width]);
      const turned = y => rotate(y).transpose([0, 2, 1, 3]);
      const q = turned(split(apply(h, layer.q, lora[i].q)));
      const k = turned(split(apply(h, layer.k, lora[i].k)));
      const v = split(apply(h, layer.v, lora[i].v)).transpose([0, 2, 1, 3]);
      const scores = tf.matMul(q, k, false, true).div(Math.sqrt(width)).add(still.mask);
      const mixed = tf.softmax(scores).matMul(v).transpose([0, 2, 1, 3]).reshape([batch * length, d]);
      x = x.add(apply(mixed, layer.o, lora[i].o));
      const m = rms(x, layer.norms[1]);
      const gate = apply(m, layer.gate, lora[i].gate);
      x = x.add(apply(gate.mul(gate.sigmoid()).mul(apply(m, layer.up, lora[i].up)), layer.down, lora[i].down));
    });
    const wanted = tf.oneHot(targets, vocab).reshape([batch, length, vocab]).mul(still.counted);
    const logits = rms(x, base.norm).matMul(base.head).reshape([batch, length, vocab]);
    return tf.logSoftmax(logits).mul(wanted).sum().mul(-1 / (batch * (length - 1)));
  };

  const trained = lora.flatMap(layer => Object.values(layer).flat());
  const adam = tf.train.adam(learningRate, 0.9, 0.999, 1e-8);
  const seconds = [], losses = [];
  for (let t = 1; t <= steps; t++) {
    const begun = performance.now();
    const loss = adam.minimize(lossOf, true, trained);
    losses.push((await loss.data())[0]);
    // The GPU works in order: after the last factor's update nothing is left.
    await trained.at(-1).data();
    seconds.push((performance.now() - begun) / 1000);
    loss.dispose();
  }
  return { seconds, losses };
}
