/**
 * `dpdk-ts/port`: the ethdev and its drivers, without the library's conveniences.
 * @module
 */
export type { PortContext } from './context.ts';
export { parseDevargs, readDevargs, type DeviceArgument, type Devargs, type DevargsReader, type UnsignedRange } from './devargs.ts';
export { createPort, createPorts, driverNames, type FailedPort, type PortDriver } from './drivers.ts';
export { RX_OFFLOAD_SCATTER, TX_OFFLOAD_MULTI_SEGS } from './offloads.ts';
export type {
  DescriptorLimits,
  ExtendedStatistic,
  InterruptCoalescing,
  Link,
  Port,
  PortConfiguration,
  PortEvent,
  PortInfo,
  PortState,
  PortStatistics,
  QueueInfo,
  RssState,
  RxQueueConfiguration,
  TxQueueConfiguration,
} from './port.ts';
export { hasInterrupts, openQueue, type QueueFunctions, type QueueInterrupt } from './queue-functions.ts';
export type { QueueHandle, QueueKind } from './queue.ts';
export * from './rss.ts';
