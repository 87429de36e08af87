// A real model in the page: SmolLM2-135M makes three LoRA steps on the CPU with the losses that the command line has
// from the same run file, answers before and after them, and a main thread that is never held up.

import { test } from './page.mjs';
import { trainSmolLm2 } from './smollm2.mjs';

await test(opened => trainSmolLm2(opened, 3));
