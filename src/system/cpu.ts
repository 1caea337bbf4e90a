/**
 * CPUs: which ones the process may use, and pinning of threads.
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs';
import { bindNative, systemError } from './ffi.ts';

const MASK_BYTES = 128;
const native = {
  schedSetAffinity: bindNative('sched_setaffinity', 'i32', ['i32', 'i64', 'buffer']),
  schedGetAffinity: bindNative('sched_getaffinity', 'i32', ['i32', 'i64', 'buffer']),
  getTid: bindNative('gettid', 'i32', []),
};

/** CPUs that the calling thread may run on, in order. */
export function availableCpus(): readonly number[] {
  const mask = new Uint8Array(MASK_BYTES);
  const { value, errno } = native.schedGetAffinity(0, MASK_BYTES, mask);
  if (value < 0) throw systemError('CPU affinity of this thread', 'sched_getaffinity', errno);
  const cpus: number[] = [];
  for (let cpu = 0; cpu < MASK_BYTES * 8; cpu++) {
    if (((mask[cpu >> 3] ?? 0) & (1 << (cpu & 7))) !== 0) cpus.push(cpu);
  }
  return cpus;
}

/** CPUs of the machine that are on line. */
export function onlineCpus(): number {
  return readdirSync('/sys/devices/system/cpu').filter((name) => /^cpu\d+$/.test(name)).length;
}

/**
 * Pins a thread to CPUs. `thread` 0 is the calling one.
 * @throws VirtioError EINVAL when none of the CPUs may be used
 */
export function pinThread(cpus: readonly number[], thread = 0): void {
  const mask = new Uint8Array(MASK_BYTES);
  for (const cpu of cpus) {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= MASK_BYTES * 8)
      throw new RangeError(`CPU ${String(cpu)} is outside 0..${String(MASK_BYTES * 8 - 1)}`);
    mask[cpu >> 3] = (mask[cpu >> 3] ?? 0) | (1 << (cpu & 7));
  }
  const { value, errno } = native.schedSetAffinity(thread, MASK_BYTES, mask);
  if (value < 0) throw systemError(`CPUs ${cpus.join(',')} for a thread`, 'sched_setaffinity', errno);
}

/** Thread id of the calling thread. */
export function threadId(): number {
  return native.getTid().value;
}

/** Thread ids of this process. */
export function threadIds(): readonly number[] {
  return readdirSync('/proc/self/task').map(Number);
}

/** NUMA nodes of the machine (at least 1). */
export function numaNodes(): number {
  try {
    return Math.max(1, readFileSync('/sys/devices/system/node/online', 'utf8').trim().split(/[,-]/).length);
  } catch {
    return 1;
  }
}
