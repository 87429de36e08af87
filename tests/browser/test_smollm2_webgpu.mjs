// The same real model on WebGPU: its weights stream to the device, and a step there is the command line's on the CPU.

import { testOnGpu } from './page.mjs';
import { trainSmolLm2 } from './smollm2.mjs';

await testOnGpu(opened => trainSmolLm2(opened, 1, { 'train.sample_rows': 0 }));
