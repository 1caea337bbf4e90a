/**
 * The port: what the field calls an ethdev. One interface for every driver.
 *
 * Control calls run on the main thread and may be asynchronous; the bursts run on the thread that owns the queue (the
 * main thread here, a Worker after `QueueHandle`s were sent to it). Driver files live beside this one, one a driver, and
 * are listed in drivers.ts.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import type { Mempool } from '../memory/mempool.ts';
import type { QueueInterrupt } from './queue-functions.ts';
import type { QueueHandle } from './queue.ts';

export interface Link {
  readonly up: boolean;
  /** Mbit/s; 0 when unknown. */
  readonly speed: number;
  readonly fullDuplex: boolean;
  readonly autonegotiation: boolean;
}

export interface DescriptorLimits {
  readonly min: number;
  readonly max: number;
  readonly align: number;
}

/** Fixed properties and limits of a device, as testpmd's `show port info` prints them. */
export interface PortInfo {
  readonly driverName: string;
  readonly maxRxQueues: number;
  readonly maxTxQueues: number;
  readonly minRxBufferSize: number;
  /** Longest packet that can be received, in bytes; 4294967295 when unlimited. */
  readonly maxRxPacketLength: number;
  readonly maxLroPacketSize: number;
  readonly minMtu: number;
  readonly maxMtu: number;
  readonly maxMacAddresses: number;
  readonly maxHashMacAddresses: number;
  readonly rxDescriptors: DescriptorLimits;
  readonly txDescriptors: DescriptorLimits;
  /** Entries of the RSS redirection table; 0 when there is none. */
  readonly redirectionTableSize: number;
  /** Bytes of the RSS key; 0 when there is none. */
  readonly hashKeySize: number;
  /** Names of the RSS flow types; empty when RSS is not supported. */
  readonly rssFlowTypes: readonly string[];
  /** RTE_ETH_RX_OFFLOAD_* bits (offloads.ts). */
  readonly rxOffloadCapabilities: number;
  /** RTE_ETH_TX_OFFLOAD_* bits (offloads.ts). */
  readonly txOffloadCapabilities: number;
  readonly maxSegmentsPerPacket: number;
  readonly maxSegmentsPerMtu: number;
}

export interface PortConfiguration {
  readonly rxQueues: number;
  readonly txQueues: number;
  readonly rxOffloads: number;
  readonly txOffloads: number;
  readonly mtu?: number | undefined;
  /** Bytes of the largest packet that LRO may make; 0 or undefined: the port's own limit. */
  readonly maxLroPacketSize?: number | undefined;
  /**
   * RSS_* bits (rss.ts): packets that are spread over several receive queues by a hash; what the device cannot hash is left out. 0n: by
   * the device's own lights. Default RSS_IP.
   */
  readonly rssTypes?: bigint | undefined;
}

/** How packets are hashed. */
export interface RssState {
  readonly key: Uint8Array;
  /** RSS_* bits (rss.ts). */
  readonly types: bigint;
}

/** When a device interrupts: after so many packets, or so many microseconds after the first. Zeros: at once. */
export interface InterruptCoalescing {
  readonly packets: number;
  readonly microseconds: number;
}

export interface RxQueueConfiguration {
  /** 0 takes the driver's default. */
  readonly descriptors: number;
  readonly pool: Mempool;
}

export interface TxQueueConfiguration {
  /** 0 takes the driver's default. */
  readonly descriptors: number;
}

/** What `show rxq info` and `show txq info` print. */
export interface QueueInfo {
  readonly descriptors: number;
  readonly poolName: string | undefined;
  /**
   * By which path packets are moved: `Scalar in order mergeable, WebAssembly` (docs/paths.md). Undefined where the driver has one path
   * only, and while there is no device to agree on one with.
   */
  readonly burstMode?: string | undefined;
}

export interface PortStatistics {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly rxMissed: number;
  readonly rxErrors: number;
  readonly rxNoMbuf: number;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly txErrors: number;
}

export interface ExtendedStatistic {
  readonly name: string;
  readonly value: number;
}

/** `intr_lsc`: the link went up or down. `queue_state`: a queue was enabled or disabled by the peer. */
export type PortEvent =
  | { readonly type: 'intr_lsc' }
  | { readonly type: 'queue_state'; readonly queue: number; readonly rx: boolean; readonly enabled: boolean }
  | { readonly type: 'intr_rmv' };

/**
 * What a descriptor of a ring is about, counted from the place where the lcore goes on (rte_eth_rx_descriptor_status(),
 * rte_eth_tx_descriptor_status()). Receiving: `available` for the device, `done`: a packet that has not been taken yet. Transmitting:
 * `full`: with the device, `done`: free.
 */
export type DescriptorStatus = 'available' | 'full' | 'done' | 'unavailable';

export type PortState = 'stopped' | 'started' | 'closed';

export interface Port {
  /** Position in the port list; set when the port is attached. */
  readonly id: number;
  /** Device name: `net_vhost0`, `virtio_user0`, `0000:00:04.0`. */
  readonly name: string;
  /** The text after the first comma of --vdev, as typed. */
  readonly devargs: string;
  /** `vdev` or `pci`. */
  readonly bus: string;
  readonly info: PortInfo;
  readonly state: PortState;
  readonly mac: MacAddress;
  readonly mtu: number;
  /** What is received besides group addresses, the port's own address first. */
  readonly macAddresses: readonly MacAddress[];
  readonly multicastAddresses: readonly MacAddress[];
  readonly promiscuous: boolean;
  readonly allMulticast: boolean;
  /** The configuration in force, or undefined before the first configure(). */
  readonly configuration: PortConfiguration | undefined;

  /**
   * Sets queue counts and offloads; only when stopped. Every queue must be set up again afterwards.
   * @throws VirtioError EINVAL when a count or offload exceeds what `info` allows
   */
  configure(configuration: PortConfiguration): Promise<void>;
  setupRxQueue(queue: number, configuration: RxQueueConfiguration): Promise<void>;
  setupTxQueue(queue: number, configuration: TxQueueConfiguration): Promise<void>;
  rxQueueInfo(queue: number): QueueInfo | undefined;
  txQueueInfo(queue: number): QueueInfo | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Releases everything, once; later calls do nothing. */
  close(): Promise<void>;
  /** Stops, re-initialises the device and leaves it stopped. @throws VirtioError EOPNOTSUPP where the driver has no reset */
  reset(): Promise<void>;

  /**
   * Stops one queue of a started port, while the others go on: what it holds is freed, and nothing comes or goes by it until
   * startQueue(). It runs again when the port is started.
   * @throws VirtioError EOPNOTSUPP where the driver or the device cannot, EINVAL for a queue that is not there
   */
  stopQueue(direction: 'rx' | 'tx', queue: number): Promise<void>;
  /** Starts it again; one that runs is no error. */
  startQueue(direction: 'rx' | 'tx', queue: number): Promise<void>;

  /**
   * Packets that have come and were not taken yet, at about this moment (rte_eth_rx_queue_count()).
   * @throws VirtioError EOPNOTSUPP where the driver cannot tell, EINVAL for a queue that is not there
   */
  rxQueueCount(queue: number): number;
  /**
   * @param offset descriptors behind the one that comes next
   * @throws VirtioError EOPNOTSUPP where the driver cannot tell, EINVAL for a queue or descriptor that is not there
   */
  descriptorStatus(direction: 'rx' | 'tx', queue: number, offset: number): DescriptorStatus;

  link(): Link;
  /** @throws VirtioError EOPNOTSUPP where the driver cannot */
  setLink(up: boolean): Promise<void>;
  /** @throws VirtioError EOPNOTSUPP where the driver cannot */
  setPromiscuous(on: boolean): Promise<void>;
  /** @throws VirtioError EOPNOTSUPP where the driver cannot */
  setAllMulticast(on: boolean): Promise<void>;
  /** @throws VirtioError EINVAL outside minMtu..maxMtu or beyond the receive buffers, EOPNOTSUPP where the driver cannot */
  setMtu(mtu: number): Promise<void>;
  /** @throws VirtioError EINVAL for a multicast or zero address, EOPNOTSUPP where the driver cannot */
  setMac(mac: MacAddress): Promise<void>;
  /** @throws VirtioError EINVAL for a zero address, ENOSPC beyond maxMacAddresses, EPERM where the device, EOPNOTSUPP where the driver cannot */
  addMac(mac: MacAddress): Promise<void>;
  /** An address that is not there is no error. @throws VirtioError EADDRINUSE for the port's own */
  removeMac(mac: MacAddress): Promise<void>;
  /** Receives these group addresses and no others, all-multicast and promiscuous mode aside. @throws VirtioError EOPNOTSUPP */
  setMulticastAddresses(addresses: readonly MacAddress[]): Promise<void>;
  /**
   * Receives packets with this tag, or no longer, where RX_OFFLOAD_VLAN_FILTER is on.
   * @throws VirtioError ENOSYS while it is off, EINVAL beyond 4095, EOPNOTSUPP where the driver cannot
   */
  setVlanFilter(vlan: number, on: boolean): Promise<void>;

  /** @throws VirtioError EOPNOTSUPP where packets are not spread by a hash */
  rss(): RssState;
  /** What is left out stays. @throws VirtioError EINVAL for a key of another length or what the device cannot hash, EOPNOTSUPP */
  updateRss(change: Partial<RssState>): Promise<void>;
  /** Receive queues by the low bits of the hash. @throws VirtioError EOPNOTSUPP where there is no such table */
  rssTable(): readonly number[];
  /** Entries that are undefined stay. @throws VirtioError EINVAL for another size or a queue that is not there, EOPNOTSUPP */
  updateRssTable(entries: readonly (number | undefined)[]): Promise<void>;
  /**
   * @param queue undefined: all of that direction
   * @throws VirtioError EOPNOTSUPP where the device cannot
   */
  setInterruptCoalescing(direction: 'rx' | 'tx', coalescing: InterruptCoalescing, queue?: number): Promise<void>;

  /**
   * Switches the VLAN offloads (RX_OFFLOAD_VLAN of offloads.ts) to those of `rxOffloads`, whether the port is started or not; what
   * else is configured stays. They are in force until the next configure().
   * @throws VirtioError EINVAL beyond what `info` allows, EOPNOTSUPP where the driver cannot
   */
  setVlanOffloads(rxOffloads: number): Promise<void>;

  statistics(): PortStatistics;
  resetStatistics(): void;
  extendedStatistics(): readonly ExtendedStatistic[];
  resetExtendedStatistics(): void;

  /** Calls `listener` on every event until the returned function is called. */
  onEvent(listener: (event: PortEvent) => void): () => void;

  /** Handles by which a Worker opens the queue; plain data. Only after the queue was set up. */
  rxQueueHandle(queue: number): QueueHandle;
  txQueueHandle(queue: number): QueueHandle;

  /**
   * How a receive queue tells that packets have come, for the thread that owns it and wants to sleep (rte_eth_dev_rx_intr_enable and
   * its like); undefined where the driver has to be polled. Only after the queue was set up.
   */
  rxInterrupt(queue: number): QueueInterrupt | undefined;

  /**
   * Receives up to `count` packets into the u32 array at arena offset `mbufs`; returns how many (0 when nothing is there).
   * Only on the thread that owns the queue.
   */
  rxBurst(queue: number, mbufs: number, count: number): number;
  /**
   * Sends the `count` mbufs listed at arena offset `mbufs`; returns how many were taken. The caller keeps the others.
   */
  txBurst(queue: number, mbufs: number, count: number): number;
  /**
   * Gives the packets that have been sent back to their pool (rte_eth_tx_done_cleanup); bursts do so only where their ring is short of
   * room. On the main thread; a queue that an lcore has, or that does not run, is left alone.
   */
  txDoneCleanup(queue: number): void;

  [Symbol.asyncDispose](): Promise<void>;
}
