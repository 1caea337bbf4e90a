/**
 * One end of the core-to-core round trip: plain JavaScript, so that a Worker starts it without a loader. Its caller is core-distance.ts.
 * The spinning itself is WebAssembly (core-distance-wasm.ts), and between measurements the thread sleeps in its event loop.
 * @module
 */
import { readlinkSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const { code, memory, role } = workerData;
const instance = new WebAssembly.Instance(new WebAssembly.Module(code), { bench: { memory } });
const run = instance.exports[role];

parentPort.on('message', ({ first, rounds, batches }) => {
  const nanoseconds = [];
  let round = first;
  for (let batch = 0; batch < batches; batch += 1) {
    const end = round + rounds;
    const before = process.hrtime.bigint();
    if (run(round, end) !== end) {
      parentPort.postMessage({ nanoseconds: undefined });
      return;
    }
    nanoseconds.push(Number(process.hrtime.bigint() - before) / rounds);
    round = end;
  }
  parentPort.postMessage({ nanoseconds });
});

// Read on this very thread, so the link names it: the caller pins it by this id.
parentPort.postMessage({ thread: Number(readlinkSync('/proc/thread-self').split('/').at(-1)) });
