/**
 * `dpdk-ts/system`: errors, CPUs and huge pages of the machine.
 * @module
 */
export { availableCpus, numaNodes, onlineCpus, pinThread, threadId } from './cpu.ts';
export { VirtioError, type VirtioErrorDetails } from './error.ts';
export { hugeMountAt, hugePagePools, type HugeMount, type HugePagePool } from './hugepages.ts';
