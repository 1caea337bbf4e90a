/**
 * `dpdk-ts/ring`: virtqueues of both sides, their state in the arena, and the kernels that work on them.
 * @module
 */
export { loadKernels, prepareKernels, type BurstKernel, type KernelContext, type Kernels, type KernelTarget } from './kernels.ts';
export * from './queue-layout.ts';
export * from './split-layout.ts';
export {
  checkSplitSize,
  DeviceQueue,
  DriverQueue,
  MAIN_LCORE_SLOT,
  NO_DESCRIPTOR,
  QueueState,
  splitRingBytes,
  type DeviceRing,
  type DriverQueueOptions,
} from './virtqueue.ts';
