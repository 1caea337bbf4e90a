/**
 * The library: ports, packets, and engines on lcores. Subpaths (`dpdk-ts/port`, `dpdk-ts/memory` ...) lead to what is underneath.
 * @module
 */
export { createEnvironment, type Environment, type EnvironmentOptions } from './library/environment.ts';
export {
  launch,
  type LaunchedLcores,
  type LaunchedStream,
  type LaunchOptions,
  type LaunchRoute,
  type LcoreChoice,
  type ModuleUrl,
} from './library/launch.ts';
export {
  openPort,
  type DriverOptions,
  type NullOptions,
  type OpenPortOptions,
  type PcapOptions,
  type PciOptions,
  type QtestOptions,
  type TapOptions,
  type VhostOptions,
  type VirtioUserOptions,
} from './library/open-port.ts';
export type { RxOffload, TxOffload } from './library/offloads.ts';
export type { Packet } from './library/packet.ts';
export type { Burst, PacketArena } from './library/packet-arena.ts';
export type { PacketPort, PacketsOptions, SendOptions, WaitForLinkOptions } from './library/packet-port.ts';
export type { Signal } from './library/wait.ts';
export type { EngineStream, ForwardingEngine } from './lcore/engines/engine.ts';
export type { LcoreSleeps, StreamCounters } from './lcore/forwarding-plan.ts';
export type { Topology } from './lcore/streams.ts';
export { parseEthernet, type EthernetHeader } from './net/ethernet.ts';
export type { Latency } from './net/latency.ts';
export { formatMac, parseMac, type MacAddress } from './net/mac-address.ts';
export type { Router } from './net/router.ts';
export type { Capture, CaptureDirection, CaptureOptions, CaptureStatistics } from './port/capture.ts';
export type { ExtendedStatistic, Link, Port, PortEvent, PortInfo, PortState, PortStatistics } from './port/port.ts';
export { VirtioError, type VirtioErrorDetails } from './system/error.ts';
